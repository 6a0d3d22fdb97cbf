"""What texts say of how stored values become backscatter."""

from __future__ import annotations

import pytest

from sarwater.scenes.formula import constant_db_in, linear_in


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Sigma0 VV in dB; dB = DN * 0.2 - 40", (0.2, -40)),
        ("sigma0_dB = 0.01*DN-50", (0.01, -50)),
        ("backscatter in decibels: pixel value x 0.1", (0.1, 0)),
        ("dB = DN / 100 - 60", (0.01, -60)),
        ("gamma0 in decibels, scale_factor=0.001, add_offset=-50", (0.001, -50)),
        ("Sigma0_VV_db, scale 0.2, offset -40", (0.2, -40)),
        ("Decibels, scaling factor of 1e-2", (0.01, 0)),
        ("dB = DN × 0.5 − 30", (0.5, -30)),
    ],
)
def test_scale_and_offset_of_decibels(text: str, expected: tuple[float, float]) -> None:
    assert linear_in(text) == pytest.approx(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sigma0 VV in dB",
        "reflectance, scale 0.0001, offset -0.1",
        "DBSCAN clusters, value * 2",
        "backscatter_dB = 10*log10(backscatter_linear)",
        "noise in dB per pixel",
    ],
)
def test_a_text_that_lacks_either_says_nothing(text: str) -> None:
    assert linear_in(text) is None
    assert constant_db_in(text) is None


@pytest.mark.parametrize(
    ("text", "constant_db"),
    [
        ("gamma0 [dB] = 20*log10(DN) - 83.0", -83),
        ("10*log10(DN^2) - 83", -83),
        ("sigma0 (dB) = 10 log10 (DN**2) -83.0 dB", -83),
        ("20log10(DN)+3", 3),
    ],
)
def test_the_constant_of_amplitudes(text: str, constant_db: float) -> None:
    assert constant_db_in(text) == constant_db
