"""The one command: what it says of itself, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import click
import pytest
from pydantic import Field

from sarwater import __version__
from sarwater.cli import COMMANDS, cli
from sarwater.command import LazyGroup, command, given, invoke, option, record_options, run
from sarwater.errors import DeviceUnavailable, SarwaterError, UsageError
from sarwater.record import Record
from tests.conftest import CHECKOUT

MINE = ("predict", "watch", "status", "queue", "evaluate", "benchmark")


def ends(*arguments: str) -> int:
    return cli(list(arguments))


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("--version") == 0
    assert capsys.readouterr().out == f"sarwater, version {__version__}\n"


def test_help_lists_every_command_without_importing_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("--help") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in COMMANDS)
    for said in ("examples:", "exit codes:", "0 done, 1 failed, 2 wrong usage, 78 settings", "_SARWATER_COMPLETE="):
        assert said in text
    done = python("import sys; from sarwater.cli import cli; cli(['--help']); print(*sys.modules)")
    modules = set(done.splitlines()[-1].split())
    assert not {"numpy", "pydantic", "rich", "runtime", "train", "export"} & modules


def test_no_command_is_wrong_usage_and_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends() == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["pedict"], "did you mean 'predict'?"),
        (["bild-engine"], "did you mean 'build-engine'?"),
        (["xyz"], "expected one of: predict, watch, status, queue"),
        (["queue", "lst"], "did you mean 'list'?"),
        (["watch", "chekc", "x.toml"], "did you mean 'check'?"),
        (["predict", "a.tif", "-o", "x", "--treshold", "0.4"], "--threshold"),
        (["watch", "--setle-s", "1"], "--settle-s"),
        (["predict", "a.tif", "-o", "x", "--products", "poligons"], "did you mean 'polygons'?"),
        (["predict", "a.tif", "-o", "x", "--device", "gpuu"], "did you mean 'gpu'?"),
        (["predict", "a.tif", "-o", "x", "--unit", "sigm0_db"], "did you mean 'sigma0_db'?"),
        (["predict", "a.tif", "-o", "x", "--model", "hrnt"], "did you mean 'hrnet'?"),
        (["predict", "a.tif", "-o", "x", "--model", "hrnt/x.onnx"], "no such model file"),
        (["predict", "a.tif"], "--output"),
        (["predict", "-o", "x"], "SCENE"),
        (["evaluate", "--labels", "land=1"], "DATA_DIR"),
        (["evaluate", "x", "--labels", "land=1"], "water"),
        (["benchmark", "--batch", "0"], "'0'"),
    ],
)
def test_what_is_misspelt_is_one_line_with_what_was_meant(
    arguments: list[str],
    meant: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ends(*arguments) == 2
    said = capsys.readouterr()
    assert meant in said.err
    assert len(said.err.splitlines()) == 1
    assert said.out == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [[name, "--help"] for name in MINE] + [["watch", "check", "--help"]])
def test_every_help_has_groups_examples_and_exit_codes(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert ends(*arguments) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: sarwater {' '.join(arguments[:-1])} ")
    assert f"\nexamples:\n  sarwater {arguments[0]}" in text
    assert "\nexit codes:\n  0 " in text
    assert "\nothers:\n" in text


def test_the_settings_of_watch_are_all_there_in_groups(capsys: pytest.CaptureFixture[str]) -> None:
    from runtime.daemon.config import Config

    assert ends("watch", "--help") == 0
    text = capsys.readouterr().out
    for key in Config.model_fields:
        assert f"  --{key.replace('_', '-')}" in text, key
    for group in ("folders", "model and scenes", "inbox", "attempts and time limits", "limits of a scene", "records"):
        assert f"\n{group}:\n" in text


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sarwater e", {"evaluate", "export"}),
        ("sarwater predict --dev", {"--device"}),
        ("sarwater predict --device c", {"cpu"}),
        ("sarwater predict --model hrnet-w18", {"hrnet-w18-small", "hrnet-w18-small-int8"}),
        ("sarwater queue re", {"rebuild", "requeue", "restore"}),
        ("sarwater --ver", {"--version"}),
    ],
)
def test_bash_completes(words: str, offered: set[str]) -> None:
    environment = {"_SARWATER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = python("import sys; sys.argv = ['sarwater']; from sarwater.cli import cli; sys.exit(cli())", **environment)
    assert {line.split(",")[1] for line in done.split()} == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    done = python("from sarwater.cli import cli; cli([])", _SARWATER_COMPLETE=f"{shell}_source")
    assert "_SARWATER_COMPLETE" in done


def test_a_command_whose_module_lacks_it_spoils_neither_help_nor_the_others(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lazy = {"gone": ("sarwater.cli:nothing", "not there"), "predict": COMMANDS["predict"]}
    group = LazyGroup("group", lazy=lazy)
    assert run(group, ["--help"], "group") == 0
    assert run(group, ["predict", "--help"], "group") == 0
    assert "not there" in capsys.readouterr().out
    with pytest.raises(AttributeError):
        run(group, ["gone"], "group")


def test_a_library_that_is_missing_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "runtime.commands.evaluate", raising=False)
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert ends("evaluate", "x") == 78
    assert "evaluate needs numpy, which is not installed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SarwaterError("x"), 1),
        (UsageError("x"), 2),
        (DeviceUnavailable("x"), 78),
        (KeyboardInterrupt(), 130),
        (click.UsageError("x"), 2),
        (click.Abort(), 130),
    ],
)
def test_each_way_to_end_has_its_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    @command("fail", "Fail.", examples="fail")
    def fail() -> int:
        raise error

    assert run(fail, [], "fail") == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_bug_keeps_its_traceback() -> None:
    @command("fail", "Fail.", examples="fail")
    def fail() -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(fail, [], "fail")


class Example(Record):
    """Of every kind of field."""

    size_px: int = Field(3, ge=1)
    """How large."""
    folder: Path | None = None
    """Where."""
    names: tuple[str, ...] = ("a", "b")
    """Which."""
    after: Literal["keep", "drop"] = "keep"
    """What then."""
    careful: bool = False
    """Whether to look twice."""


def seen(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @command("example", "Show.", examples="example")
    @record_options(Example, {"all": tuple(Example.model_fields)}, {"size_px": ("--size",)})
    def example(**options: Any) -> int:
        found.update(given(options))
        return 0

    assert invoke(example, list(arguments)) == 0
    return found


def test_options_follow_from_a_record_and_only_what_is_given_arrives() -> None:
    assert seen() == {}
    assert seen("--size-px", "5", "--after", "drop") == {"size_px": "5", "after": "drop"}
    assert seen("--size=7") == {"size_px": "7"}


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        (["--careful"], "true"),
        (["--careful=true"], "true"),
        (["--careful", "false"], "false"),
        (["--no-careful"], "false"),
        (["--careful", "--size-px", "3"], "true"),
    ],
)
def test_a_switch_takes_a_value_or_none(arguments: list[str], value: str) -> None:
    assert seen(*arguments)["careful"] == value


def test_help_shows_unit_default_and_docstring_of_each_field(capsys: pytest.CaptureFixture[str]) -> None:
    @command("example", "Show.", examples="example")
    @option("--more", group="others", help="More.")
    @record_options(Example, {"all": tuple(Example.model_fields)})
    def example(**options: Any) -> int:
        return 0

    assert run(example, ["--help"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    for line in (
        "--size-px PX How large. [default: 3]",
        "--folder PATH Where.",
        "--names LIST Which. [default: a,b]",
        "--after keep|drop What then. [default: keep]",
        "--careful / --no-careful Whether to look twice. [default: false]",
    ):
        assert line in lines


def python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, **environment},
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout
