"""Fill that nobody declared, on real files: what is nodata, and what is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.array import scene_of_array
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.readers import open_model_input
from tests.support.rasters import write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
ROWS, COLUMNS = np.mgrid[:200, :240]
COLLARS = {
    "left": COLUMNS < 40,
    "slanted": COLUMNS < 3 + ROWS / 20,
    "rotated": (COLUMNS + ROWS < 90) | (COLUMNS - ROWS > 150) | (ROWS - COLUMNS > 110) | (COLUMNS + ROWS > 350),
    "one corner": COLUMNS + ROWS > 380,
}


def backscatter_db() -> np.ndarray:
    """(200, 240) float32: speckled land with a calm lake, also at the upper edge, and bright targets."""
    rng = np.random.default_rng(3)
    level_db = np.where((ROWS < 60) & (np.abs(COLUMNS - 120) < 50), -22, -9).astype(np.float32)
    level_db += 10 * np.log10(rng.gamma(4.4, 1 / 4.4, level_db.shape)).astype(np.float32)
    level_db[rng.random(level_db.shape) < 0.002] = 6.5
    return level_db


def in_unit(unit: str) -> tuple[np.ndarray, dict[str, object]]:
    """Pixels, and what a request has to say of them."""
    level_db = backscatter_db()
    amplitude = 400 * 10 ** (level_db / 20)
    if unit == "sigma0_db":
        return level_db, {"unit": unit}
    if unit == "sigma0_linear":
        return (10 ** (level_db / 10)).astype(np.float32), {"unit": unit}
    if unit == "int16 dB x 100":
        return np.round(level_db * 100).astype(np.int16), {"unit": "sigma0_db", "scale": 0.01}
    if unit == "uint8":
        return np.clip(np.round(amplitude / 4), 1, 250).astype(np.uint8), {}
    return np.clip(np.round(amplitude), 1, 30_000).astype(unit), {}


def measured_in(path: Path, **request: object) -> tuple[np.ndarray, str]:
    with open_model_input(path, SAR, Request(**request)) as scene:  # type: ignore[arg-type]
        _, valid = scene.read_valid(0, scene.height_px)
        return valid, " ".join(scene.notes)


@pytest.mark.parametrize("collar", COLLARS)
@pytest.mark.parametrize(
    ("unit", "fill"),
    [
        *(("sigma0_db", fill) for fill in (-9999, -99, -40, -32768, 1e-30, -3.4e38, 255)),
        *(("sigma0_linear", fill) for fill in (-9999, -99, -1, 1e-30, 1e-10)),
        *(("int16 dB x 100", fill) for fill in (-9999, -32768, 32767)),
        *(("float32", fill) for fill in (-9999, -1, 1e-30)),
        *(("int16", fill) for fill in (-9999, -32768, -1)),
        *(("uint16", fill) for fill in (65535, 1)),
        ("uint8", 255),
    ],
)
def test_a_constant_that_fills_corners_is_nodata_with_and_without_zeros_beside_it(
    tmp_path: Path, unit: str, fill: float, collar: str
) -> None:
    pixels, request = in_unit(unit)
    beyond = COLLARS[collar]
    pixels[beyond] = np.array(fill).astype(pixels.dtype)
    for name in ("pure", "mixed"):
        if name == "mixed":
            pixels[beyond & (ROWS % 7 == 6)] = 0
        measured, notes = measured_in(write_geotiff(tmp_path / f"{name}.tif", pixels), **request)
        assert np.array_equal(measured, ~beyond), name
        assert "fills a corner" in notes


@pytest.mark.parametrize("nodata", [None, -32768.0])
def test_zeros_nan_and_a_declared_value_may_all_lie_beyond(tmp_path: Path, nodata: float | None) -> None:
    pixels, request = in_unit("sigma0_db")
    beyond = COLLARS["rotated"]
    pixels[beyond] = np.resize([0, np.nan, -np.inf, -9999, nodata or 0], int(beyond.sum()))
    path = write_geotiff(tmp_path / "a.tif", pixels, nodata=nodata)
    assert np.array_equal(measured_in(path, **request)[0], ~beyond)


@pytest.mark.parametrize(
    ("unit", "low", "high"),
    [("sigma0_db", -22.0, -6.0), ("sigma0_linear", 0.0063, 0.25), ("uint8", 8, 40), ("uint16", 32, 200)],
)
def test_calm_water_and_cities_that_were_clipped_are_measured(
    tmp_path: Path, unit: str, low: float, high: float
) -> None:
    """A clipped corner is constant too, but what is beside it nearly reaches the same level."""
    pixels, request = in_unit(unit)
    pixels[:100, :100] = pixels[5:105, 80:180]  # water reaches in from a corner
    pixels[-20:, -20:] = pixels.max()
    clipped = np.clip(pixels, low, high).astype(pixels.dtype)
    measured, notes = measured_in(write_geotiff(tmp_path / "a.tif", clipped), **request)
    assert measured.all()
    assert "fills" not in notes


def test_zeros_inside_are_measured_beside_an_undeclared_fill(tmp_path: Path) -> None:
    pixels, _ = in_unit("int16")
    pixels[COLLARS["left"]] = -9999
    pixels[100:110, 100:110] = 0
    path = write_geotiff(tmp_path / "a.tif", pixels.astype(np.float32))
    assert np.array_equal(measured_in(path)[0], ~COLLARS["left"])


def test_who_names_the_nodata_value_knows_better(tmp_path: Path) -> None:
    pixels, request = in_unit("sigma0_db")
    pixels[COLLARS["left"]] = -40
    assert measured_in(write_geotiff(tmp_path / "a.tif", pixels), nodata=-9999, **request)[0].all()


def test_an_array_is_left_as_it_is(tmp_path: Path) -> None:
    pixels, _ = in_unit("uint16")
    pixels[COLLARS["left"]] = 65535
    before = pixels.copy()
    opened = ModelInput.of(scene_of_array(pixels), SAR, Request())
    assert np.array_equal(opened.read_valid(0, 200)[1], ~COLLARS["left"])
    assert np.array_equal(pixels, before)


@pytest.mark.parametrize(
    ("unit", "fill"),
    [
        ("sigma0_db", -99),
        ("sigma0_db", 1e-30),
        ("sigma0_linear", -1),
        ("float32", -9999),
        ("uint16", 65535),
        ("uint8", 255),
    ],
)
@pytest.mark.parametrize("place", [(100, 60), (60, 430), (420, 30), (430, 420)])
def test_fill_that_covers_corners_and_centre_is_nodata(
    tmp_path: Path, unit: str, fill: float, place: tuple[int, int]
) -> None:
    inside, request = in_unit(unit)
    pixels = np.full((760, 800), np.array(fill).astype(inside.dtype))
    where = np.s_[place[0] : place[0] + 200, place[1] : place[1] + 240]
    pixels[where] = inside
    measured, notes = measured_in(write_geotiff(tmp_path / "a.tif", pixels), **request)
    assert measured[where].all()
    assert np.count_nonzero(measured) == inside.size
    assert "fills a corner" in notes
