from __future__ import annotations

import numpy as np
import pytest

from runtime.products import sheet
from runtime.products.sheet import HIDDEN, PAPER, UNSURE, WATER_LINE, Caption, Layers, round_length, sheet_of

CORNERS = ("37.0 N 126.0 E",) * 4


def layers(height: int = 900, width: int = 1000, **given: np.ndarray) -> Layers:
    """Even grey, all of it seen; `given` is in shares of 1."""
    nothing = np.zeros((height, width), np.uint8)
    shares = {name: np.uint8(255) * share for name, share in ({"seen": nothing + 1} | given).items()}
    return Layers(**{"grey": nothing + 128, "water": nothing, "unsure": nothing, "hidden": nothing} | shares)


def box(height: int = 900, width: int = 1000) -> np.ndarray:
    share = np.zeros((height, width), np.uint8)
    share[100:400, 200:700] = 1
    return share


def picture_of(drawn: Layers) -> np.ndarray:
    return sheet._picture(drawn, 1)


def are(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.asarray(np.all(picture == colour, axis=2))


def test_water_has_an_outline_and_what_it_covers_stays_visible() -> None:
    scene = layers(water=box())
    scene.grey[200:300, 300:500] = 200
    picture = picture_of(scene)
    assert are(picture, WATER_LINE)[[99, 100, 399, 400], 300:600].all()
    assert not are(picture, WATER_LINE)[102:398, 202:698].any()
    assert picture[250, 400].mean() - picture[150, 400].mean() > 50


def test_the_end_of_the_measurement_is_no_shore() -> None:
    seen = np.ones((900, 1000), np.uint8)
    seen[:, 450:] = 0
    picture = picture_of(layers(water=box(), seen=seen))
    assert not are(picture, WATER_LINE)[110:390, 440:].any()
    assert are(picture, PAPER)[:, 450:].all()


@pytest.mark.parametrize(("name", "colour"), [("unsure", UNSURE), ("hidden", HIDDEN)])
def test_what_is_not_sure_is_hatched_not_covered(name: str, colour: tuple[int, int, int]) -> None:
    hatched = are(picture_of(layers(**{name: box()})), colour)
    assert 0.1 < hatched[100:400, 200:700].mean() < 0.4
    assert not hatched[:100].any()


@pytest.mark.parametrize("size", [(1, 1), (256, 256), (3, 1600), (1600, 3), (1600, 1600)])
@pytest.mark.parametrize("title", ["a", "K5_20240726_" * 40, "한강 2024", "a\nb\x1b[31m", ""])
def test_a_sheet_of_any_size_and_title_is_readable(size: tuple[int, int], title: str) -> None:
    image = sheet_of(layers(*size), Caption(title, ("GeoTIFF   hh", "water 12 %", "a model"), CORNERS, 1.25))
    assert 640 <= image.width <= 1600
    assert image.height < max(size[0], 800) + 500


def test_a_long_title_keeps_its_beginning_and_its_end() -> None:
    lines = [text for text, _ in sheet._wrapped(f"begin {'x' * 5000} end", 18, 640)]
    assert len(lines) <= 4
    assert lines[0].startswith("begin")
    assert lines[-1].endswith("end")


def test_what_no_font_has_is_escaped() -> None:
    text, _ = sheet._lettered("a\U000100a0", 15)
    assert text == "a\\U000100a0"


@pytest.mark.parametrize(("metres", "expected"), [(999, 500), (1000, 1000), (2300, 2000), (7, 5), (0.3, 0.2)])
def test_scale_bars_are_round(metres: float, expected: float) -> None:
    assert round_length(metres) == pytest.approx(expected)
