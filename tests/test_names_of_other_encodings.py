"""Names whose bytes are no UTF-8, as a Windows client in Korea sends them, are worked off like any other."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.products.polygons import read_polygons
from sarwater.cli import cli
from sarwater.errors import SceneUnreadable
from sarwater.scenes.readers import open_scene
from tests.support.deliveries import write_hdf5
from tests.support.models import box_model
from tests.support.product_folders import write_envi
from tests.support.rasters import lake_scene, write_geotiff

CP949 = os.fsdecode("한강_홍수".encode("cp949"))
PIXELS = lake_scene(96, 96)


def archived(folder: Path) -> Path:
    with zipfile.ZipFile(folder / f"{CP949}.zip", "w") as archive:
        archive.write(write_geotiff(folder / "scene.tif", PIXELS), "scene.tif")
    return folder / f"{CP949}.zip"


def envi(folder: Path) -> Path:
    written = write_envi(folder / "scene.img", PIXELS)
    written.with_suffix(".hdr").rename(folder / f"{CP949}.hdr")
    return written.rename(folder / f"{CP949}.img")


KINDS: dict[str, Callable[[Path], Path]] = {
    "GeoTIFF": lambda folder: write_geotiff(folder / "scene.tif", PIXELS).rename(folder / f"{CP949}.tif"),
    "HDF5": lambda folder: write_hdf5(folder / f"{CP949}.h5", "L1D", PIXELS),
    "ENVI": envi,
    "archive": archived,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_read(tmp_path: Path, kind: str) -> None:
    with open_scene(KINDS[kind](tmp_path)) as scene:
        assert np.array_equal(scene.read((0, 0, 96, 96)), PIXELS)


def test_all_products_are_made_in_a_folder_of_such_a_name(tmp_path: Path) -> None:
    scene, model, out = KINDS["GeoTIFF"](tmp_path), box_model(tmp_path / "box.onnx").path, tmp_path / CP949
    assert cli(["predict", str(scene), "-o", str(out), "--model", str(model)]) == 0
    (item,) = out.glob("*_water.json")
    said = json.loads(item.read_bytes())
    assert said["properties"]["sarwater:latency"]["input"] == r"\xc7Ѱ\xad_ȫ\xbc\xf6.tif"
    assert not [note for note in said["properties"]["sarwater:notes"] if "could not be made" in note]
    (polygons,) = out.glob("*.gpkg")
    assert read_polygons(polygons)
    assert {file.suffix for file in out.iterdir()} >= {".tif", ".gpkg", ".png", ".qml", ".json"}


def test_a_refusal_says_the_name_once(tmp_path: Path) -> None:
    path = tmp_path / f"{CP949}.tif"
    path.write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(SceneUnreadable) as refused:
        open_scene(path)
    assert str(refused.value).count(r"\xc7") == 1
