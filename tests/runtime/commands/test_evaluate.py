from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.commands.evaluate import main, pair_files, read_label
from sarwater.classes import NODATA
from sarwater.errors import DataError
from sarwater.models import Model
from tests.support.rasters import lake_scene, write_geotiff


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two scenes whose labels are what a box mean over them says, one of them off by a stripe."""
    for folder in ("img", "mask"):
        (tmp_path / folder).mkdir()
    for number in (1, 2):
        land = np.full((100, 100), 200, np.uint16)
        land[30:70, 30:70] = 10
        write_geotiff(tmp_path / "img" / f"WTR0000{number}_K5.tif", land)
        label = np.where(land == 10, 255, 0).astype(np.uint16)
        if number == 2:
            label[30:70, 70:80] = 255
        write_geotiff(tmp_path / "mask" / f"WTR0000{number}_K5_label.tif", label)
    return tmp_path


def test_the_report_names_both_averages_and_every_tile(data: Path, model: Model, tmp_path: Path) -> None:
    assert main([str(data), "--model", str(model.path), "--json", str(tmp_path / "scores.json")]) == 0
    report = json.loads((tmp_path / "scores.json").read_text())
    first, second = report["tiles"]
    assert first["name"] == "WTR00001_K5"
    assert first["iou"] > 0.85
    assert second["iou"] < 0.75
    assert second["iou"] < report["pooled_iou"] < first["iou"]
    assert report["mean_tile_iou"] == pytest.approx((first["tile_iou"] + second["tile_iou"]) / 2)


def test_an_image_without_a_mask_is_named(data: Path) -> None:
    (data / "mask" / "WTR00002_K5_label.tif").unlink()
    with pytest.raises(DataError, match="WTR00002_K5"):
        pair_files(data)


def test_a_mask_of_another_size_is_named(data: Path, model: Model) -> None:
    write_geotiff(data / "mask" / "WTR00001_K5_label.tif", lake_scene(99, 100))
    with pytest.raises(DataError, match="100 x 99"):
        main([str(data), "--model", str(model.path)])


def test_a_folder_of_another_layout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="img"):
        pair_files(tmp_path)


def test_declared_nodata_of_a_label_is_left_out(tmp_path: Path) -> None:
    label = np.array([[0, 1, 7]], np.uint8)
    path = write_geotiff(tmp_path / "label.tif", label, nodata=7)
    assert read_label(path).tolist() == [[0, 1, NODATA]]
