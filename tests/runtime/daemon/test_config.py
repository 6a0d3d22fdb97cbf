"""Where settings come from, and how a wrong one is explained."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.daemon.config import Config, load
from runtime.daemon.config_text import config_text
from runtime.daemon.worker_process import request_of
from sarwater.errors import ConfigurationError
from sarwater.request import Request

FOLDERS = {"incoming": "in", "outgoing": "out", "state": "state"}


def written(folder: Path, text: str) -> Path:
    path = folder / "watch.toml"
    path.write_text(text)
    return path


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = written(
        tmp_path, 'incoming = "in"\noutgoing = "out"\nstate = "state"\nsettle_s = 1\nscan_s = 1\nmax_claimed = 1\n'
    )
    environment = {"SARWATER_SCAN_S": "2", "SARWATER_MAX_CLAIMED": "2"}
    config = load(file, {**FOLDERS, "max_claimed": "3"}, environment)
    assert (config.settle_s, config.scan_s, config.max_claimed) == (1, 2, 3)


def test_an_unknown_key_is_refused_with_the_key_and_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "setle_s = 1\n")
    with pytest.raises(ConfigurationError, match=r"watch\.toml: unknown key 'setle_s'"):
        load(file, FOLDERS, {})


def test_an_unknown_key_of_a_rule_is_refused_with_its_path(tmp_path: Path) -> None:
    file = written(tmp_path, '[[priority]]\nglob = "*"\nprio = 1\n')
    with pytest.raises(ConfigurationError, match=r"priority\.0\.prio"):
        load(file, FOLDERS, {})


def test_a_wrong_value_names_the_variable_it_came_from() -> None:
    with pytest.raises(ConfigurationError, match=r"SARWATER_SETTLE_S: settle_s = 'soon'"):
        load(None, FOLDERS, {"SARWATER_SETTLE_S": "soon"})


def test_an_unknown_unit_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"unit = 'decibel'.*sigma0_db"):
        load(None, {**FOLDERS, "unit": "decibel"}, {})


def test_a_scenes_request_can_be_set_as_for_predict_and_reaches_the_worker() -> None:
    asked = {
        "sieve_px": 25, "minimum_area_m2": 500.0, "simplify_m": 2.0, "upsampling_factor": 1, "max_pixels": 10**6,
        "polarisations": "VV,vh", "products": "mask,quicklook", "window": "0,0,64,64",
    }  # fmt: skip
    flags = load(None, {**FOLDERS, **{key: str(value) for key, value in asked.items()}}, {})
    environment = load(None, FOLDERS, {f"SARWATER_{key.upper()}": str(value) for key, value in asked.items()})
    for config in (flags, environment):
        assert Request(**request_of(config)) == Request(**asked)


def test_the_daemon_makes_every_product_unless_some_are_named() -> None:
    config = load(None, FOLDERS, {})
    assert request_of(config) == request_of(Config(**FOLDERS))
    assert Request(**request_of(config)) == Request()


@pytest.mark.parametrize(
    ("flags", "match"),
    [
        ({"upsampling_factor": "5"}, r"command line: upsampling_factor = '5'.*less than or equal to 4"),
        ({"products": "mask,quiklook"}, r"command line: product 'quiklook' is unknown;.*did you mean 'quicklook'"),
        ({"window": "1,2,3"}, "X,Y,WIDTH,HEIGHT"),
        ({"treshold": "0.5"}, "unknown key 'treshold'; did you mean 'threshold'"),
        ({"accept": "[1"}, "not valid JSON"),
    ],
)
def test_a_value_that_cannot_be_is_refused(flags: dict[str, str], match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        load(None, {**FOLDERS, **flags}, {})


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('[[product]]\nfolder = "K5_*"\nmain = ["*.tif"]\n', r"watch\.toml: product is no setting.*readers.*delete"),
        ("product = []\n", "delete"),
        ("enlarge = 1\n", r"watch\.toml: enlarge.*upsampling_factor"),
    ],
)
def test_a_setting_of_an_earlier_version_is_refused_with_what_to_do(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ConfigurationError, match=match):
        load(written(tmp_path, text), FOLDERS, {})
    with pytest.raises(ConfigurationError, match="SARWATER_PRODUCT"):
        load(None, FOLDERS, {"SARWATER_PRODUCT": "[]"})


def test_a_misspelt_folder_is_told_by_its_name_rather_than_as_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"watch\.toml: unknown key 'incomming'; did you mean 'incoming'"):
        load(written(tmp_path, 'incomming = "in"\n'), {}, {})


def test_a_missing_folder_says_how_to_set_it() -> None:
    with pytest.raises(ConfigurationError, match=r"incoming is missing.*SARWATER_INCOMING"):
        load(None, {"outgoing": "out", "state": "state"}, {})


def test_broken_toml_names_the_file_and_the_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"watch\.toml: not valid TOML.*line 1"):
        load(written(tmp_path, "settle_s == 1"), FOLDERS, {})


def test_an_outgoing_folder_inside_the_inbox_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected folders apart"):
        load(None, {**FOLDERS, "outgoing": "in/out"}, {})


def test_lists_can_be_given_with_commas_and_rules_as_json() -> None:
    flags = {**FOLDERS, "accept": "*.tif, *.h5", "priority": '[{"glob": "*", "priority": 3}]'}
    config = load(None, flags, {})
    assert config.accept == ("*.tif", "*.h5")
    assert config.priority[0].priority == 3
    assert load(None, {**FOLDERS, "products": '["mask", "stac"]'}, {}).products == ("mask", "stac")


def test_every_setting_explains_itself() -> None:
    assert [key for key, field in Config.model_fields.items() if not field.description] == []


VALUES = st.sampled_from(["1", "-1", "1e999", "nan", "inf", "true", '""', '"x"', "[]", "[[1]]", "{}", "1979-05-27"])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from([*Config.model_fields, "x", "a.b", '""']), VALUES), max_size=5))
def test_whatever_a_file_says_ends_in_settings_or_one_line(tmp_path: Path, lines: list[tuple[str, str]]) -> None:
    file = written(tmp_path, "".join(f"{key} = {value}\n" for key, value in lines))
    with contextlib.suppress(ConfigurationError):
        load(file, FOLDERS, {})


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text("[]{}=\"'.,#ab1\n\\", max_size=60).map(str.encode))
def test_a_file_that_is_no_toml_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.toml").write_bytes(content)
    with contextlib.suppress(ConfigurationError):
        load(tmp_path / "x.toml", FOLDERS, {})


def test_brackets_without_end_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        load(written(tmp_path, "x = " + "[" * 100_000), FOLDERS, {})


def test_a_misspelt_key_is_answered_with_the_one_that_is_meant_at_any_depth(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="'setle_s'; did you mean 'settle_s'"):
        load(written(tmp_path, "setle_s = 1\n"), FOLDERS, {})
    with pytest.raises(ConfigurationError, match=r"'priority.0.priorty'; did you mean 'priority.0.priority'"):
        load(written(tmp_path, '[[priority]]\nglob = "*"\npriorty = 1\n'), FOLDERS, {})


def as_text(file: Path | None, flags: dict[str, str]) -> str:
    return config_text(file, flags, {"all": list(Config.model_fields)})


def test_settings_that_are_printed_are_the_same_when_they_are_read_again(tmp_path: Path) -> None:
    flags = {
        **FOLDERS, "settle_s": "1.5", "window": "0,0,64,64", "priority": '[{"glob": "\\"*\\\\", "priority": 3}]',
        "accept": "*.tif,한강\x7f*", "require_marker": "true", "scene_s": "inf", "products": "mask", "page": "8040",
        "tell": '[{"name": "a", "to": "https://h/x", "secret_file": "/s"}]',
    }  # fmt: skip
    text = as_text(None, flags)
    again = load(written(tmp_path, text), {}, {})
    assert again == load(None, flags, {})
    assert "# scan_s = 10.0" in text
    assert "(from command line)\nsettle_s = 1.5" in text


def test_settings_are_printed_where_no_folder_is_named_yet() -> None:
    text = as_text(None, {})
    assert '(required)\n# incoming = "DIR"' in text
    with pytest.raises(ConfigurationError, match="settle_s"):
        as_text(None, {"settle_s": "soon"})
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        as_text(None, {"state": "caf\udce9"})
