"""Masks of several scenes in one cell of a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.products.mosaic import Grid, write_mosaic
from sarwater.errors import UsageError
from sarwater.scenes.raster import gdal
from tests.support.rasters import write_geotiff

GRID = Grid.parse("EPSG:32652,10,1000")
LEFT, TOP = 300_000.0, 4_000_000.0


def mask(folder: Path, name: str, values: np.ndarray, x: float = LEFT, y: float = TOP, epsg: int = 32652) -> Path:
    return write_geotiff(folder / name, values.astype(np.uint8), epsg=epsg, transform=(x, 10, 0, y, 0, -10), nodata=255)


def read(path: Path) -> np.ndarray:
    pixels: np.ndarray = gdal.Open(str(path)).ReadAsArray()
    return pixels


def test_the_later_mask_lies_over_the_earlier_and_no_data_over_nothing(tmp_path: Path) -> None:
    earlier = np.ones((40, 60))
    later = np.zeros((40, 60))
    later[:, :10] = 255
    masks = [mask(tmp_path, "a.tif", earlier), mask(tmp_path, "b.tif", later, x=LEFT + 300)]
    out = tmp_path / "mosaic.tif"
    assert write_mosaic(masks, GRID, (300, 3999), out, {"SARWATER_MOSAIC_OF": "a,b"})
    pixels = read(out)
    assert pixels.shape == (100, 100)
    expected = np.full((100, 100), 255)
    expected[:40, :60] = 1
    expected[:40, 40:90] = 0
    np.testing.assert_array_equal(pixels, expected)
    dataset = gdal.Open(str(out))
    assert dataset.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE") == "COG"
    assert dataset.GetMetadataItem("SARWATER_MOSAIC_OF") == "a,b"
    assert [path.name for path in tmp_path.glob("*.work.tif")] == []


def test_a_cell_without_data_gets_no_mosaic(tmp_path: Path) -> None:
    assert not write_mosaic([mask(tmp_path, "a.tif", np.ones((40, 60)))], GRID, (310, 3999), tmp_path / "m.tif", {})
    assert not (tmp_path / "m.tif").exists()


def test_cells_are_those_that_a_box_in_degrees_touches() -> None:
    degrees = Grid.parse("epsg:4326,0.5,10")
    assert list(degrees.cells((126, 33, 131, 34))) == [(12, 3), (13, 3)]
    assert list(degrees.cells((179, -1, -179, 1))) == [(-18, -1), (-18, 0), (17, -1), (17, 0), (18, -1), (18, 0)]
    assert GRID.bounds((300, 3999)) == (300_000, 3_999_000, 301_000, 4_000_000)


_NO_GRIDS = (
    *("", "EPSG:32652", "32652,10,1000", "EPSG:1,10,1000", "EPSG:x,1,1"),
    *("EPSG:32652,10,1005", "EPSG:32652,0,10", "EPSG:32652,-10,-1000", "EPSG:32652,1,1000000", "EPSG:32652,nan,1"),
)


@pytest.mark.parametrize("text", _NO_GRIDS)
def test_a_grid_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected EPSG:CODE,PIXEL,CELL"):
        Grid.parse(text)
