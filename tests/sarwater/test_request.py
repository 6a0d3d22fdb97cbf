"""One record of what is asked: from Python, JSON, TOML's values and flags' text, with one validation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sarwater.errors import SettingInvalid, UsageError
from sarwater.identity import mask_key
from sarwater.request import MASK_SETTINGS, REQUEST_FIELDS, Limits, Request, Window
from sarwater.scenes.units import SCENE_UNITS

WINDOWS = st.builds(Window, *[st.integers(0, 10_000)] * 4)
POLARISATIONS = st.lists(st.sampled_from(["vv", "vh", "1", "2"]), max_size=3, unique=True).map(tuple)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "threshold": st.floats(0.01, 0.99),
        "window": WINDOWS,
        "polarisations": POLARISATIONS,
        "unit": st.sampled_from(SCENE_UNITS),
        "nodata": st.floats(-1e6, 1e6),
        "level": st.sampled_from(["given", "usual"]),
        "off_level": st.sampled_from(["note", "refuse"]),
        "upsampling_factor": st.integers(1, 4),
        "sieve_px": st.integers(0, 2000),
        "minimum_area_m2": st.floats(0, 1e6),
        "simplify_m": st.floats(0, 1e3),
        "products": st.sampled_from([("mask",), ("mask", "stac")]),
        "max_pixels": st.integers(1, 10**12),
    },
)


@given(REQUESTS)
def test_a_request_survives_json(values: dict[str, Any]) -> None:
    request = Request(**values)
    assert Request(**json.loads(request.model_dump_json())) == request


@given(REQUESTS)
def test_a_request_survives_the_text_of_flags_and_of_the_environment(values: dict[str, Any]) -> None:
    text = {name: ",".join(value) if isinstance(value, tuple) else str(value) for name, value in values.items()}
    assert Request(**text) == Request(**values)


@given(REQUESTS)
def test_changing_nothing_gives_an_equal_request(values: dict[str, Any]) -> None:
    request = Request(**values)
    assert request.but() == request


@given(REQUESTS, REQUESTS)
def test_the_key_is_that_of_what_changes_the_mask_and_of_nothing_else(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    first, second = Request(**one), Request(**other)
    same = all(getattr(first, name) == getattr(second, name) for name in MASK_SETTINGS)
    assert (mask_key("a", "b", first) == mask_key("a", "b", second)) == same


@pytest.mark.parametrize(
    "window", ["1,2,3,4", " 1, 2,3 ,4", (1, 2, 3, 4), [1, 2, 3, 4], Window(1, 2, 3, 4), {"x_px": 1, "y_px": 2}]
)
def test_a_window_is_four_whole_numbers(window: object) -> None:
    if isinstance(window, dict):
        with pytest.raises(SettingInvalid):
            Request(window=window)
    else:
        assert Request(window=window).window == Window(1, 2, 3, 4)


@pytest.mark.parametrize(
    ("values", "key", "match"),
    [
        ({"treshold": 0.4}, "treshold", "did you mean 'threshold'"),
        ({"seive_px": 4}, "seive_px", "did you mean 'sieve_px'"),
        ({"colour": "blue"}, "colour", "known keys: max_input_bytes"),
        ({"threshold": 0}, "threshold", "threshold = 0"),
        ({"threshold": "high"}, "threshold", "threshold = 'high'"),
        ({"threshold": float("nan")}, "threshold", "threshold = nan"),
        ({"window": "1,2,3"}, "window", "X,Y,WIDTH,HEIGHT"),
        ({"window": (1, 2, 3)}, "window", "X,Y,WIDTH,HEIGHT"),
        ({"window": (None, 2, 3, 4)}, "window", "X,Y,WIDTH,HEIGHT"),
        ({"unit": "decibels"}, "unit", "sigma0_db"),
        ({"upsampling_factor": 5}, "upsampling_factor", "less than or equal to 4"),
        ({"sieve_px": -1}, "sieve_px", "greater than or equal to 0"),
        ({"sieve_px": 2001}, "sieve_px", "2000"),
        ({"simplify_m": -1}, "simplify_m", "simplify_m = -1"),
        ({"max_pixels": 0}, "max_pixels", "greater than 0"),
        ({"threshold": 2, "sieve_px": -1}, "threshold", "and 1 more"),
    ],
)
def test_a_value_that_cannot_be_names_its_setting(values: dict[str, Any], key: str, match: str) -> None:
    with pytest.raises(SettingInvalid, match=match) as found:
        Request(**values)
    assert found.value.key == key
    assert isinstance(found.value, UsageError)


def test_limits_refuse_what_is_no_limit() -> None:
    with pytest.raises(SettingInvalid, match="did you mean 'max_pixels'"):
        Limits(max_pixel=5)
    with pytest.raises(SettingInvalid, match="known keys"):
        Limits(threshold=0.5)
    assert set(Limits.model_fields) < set(REQUEST_FIELDS)


def test_a_record_is_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Request().threshold = 0.3


def test_every_field_says_what_it_is() -> None:
    assert all(field.description for field in Request.model_fields.values())
