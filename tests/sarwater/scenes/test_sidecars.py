"""Files beside an image that say where it lies are left out on purpose, and the record says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.backends import Backend, open_backend
from runtime.daemon.config import Config
from runtime.daemon.inbox import Inbox
from runtime.daemon.kinds import Kind
from runtime.pipeline import process_scene, scene_sha256
from runtime.products.publish import publish
from sarwater.errors import SceneIncomplete, SceneNoBackscatter
from sarwater.request import Request
from sarwater.scenes.raster import osr
from sarwater.scenes.readers import open_scene
from tests.support.models import box_model
from tests.support.rasters import lake_scene, write_geotiff

WORLD = "10\n0\n0\n-10\n600005\n4139995\n"
PAM = (
    "<PAMDataset><SRS>EPSG:32652</SRS><GeoTransform>6e5, 10, 0, 4.14e6, 0, -10</GeoTransform><PAMRasterBand band='1'>"
    "<NoDataValue>7</NoDataValue></PAMRasterBand></PAMDataset>"
)


def wkt() -> str:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32652)
    return str(reference.ExportToWkt())


SIDECARS: dict[str, Callable[[], str]] = {
    "scene.tfw": lambda: WORLD,
    "scene.tifw": lambda: WORLD,
    "scene.TFW": lambda: WORLD,
    "scene.wld": lambda: WORLD,
    "scene.tif.aux.xml": lambda: PAM,
    "scene.aux.xml": lambda: PAM,
    "scene.prj": wkt,
    "scene.rpb": lambda: "satId = 'x';",
    "scene_RPC.TXT": lambda: "LINE_OFF: 1",
}


def unplaced(folder: Path) -> Path:
    return write_geotiff(folder / "scene.tif", lake_scene(80, 80), transform=None)


@pytest.mark.parametrize("name", SIDECARS)
def test_a_sidecar_is_named_in_the_notes_and_changes_nothing(tmp_path: Path, name: str) -> None:
    path = unplaced(tmp_path)
    before = scene_sha256(path)
    (tmp_path / name).write_text(SIDECARS[name]())
    (tmp_path / "scene_2.tfw").write_text(WORLD)
    assert scene_sha256(path) == before
    with open_scene(path) as scene:
        assert not scene.georeference.known
        assert scene.nodata == 0
        (note,) = scene.notes
    assert f"not read, though beside it: {name};" in note
    assert "scene_2" not in note


def test_the_record_and_the_catalogue_entry_say_so(tmp_path: Path) -> None:
    path = unplaced(tmp_path)
    (tmp_path / "scene.tfw").write_text(WORLD)
    with open_backend(box_model(tmp_path / "box.onnx")) as backend:
        publish(process_scene(path, backend, tmp_path / "out", Request(products=("mask", "stac"))))
    record = json.loads((tmp_path / "out" / "scene_water.json").read_text())["properties"]["sarwater:latency"]
    assert any("scene.tfw" in note for note in record["notes"])


@pytest.mark.parametrize("name", ["scene.tfw", "scene.tif.aux.xml"])
def test_the_advice_puts_it_into_the_file(tmp_path: Path, name: str) -> None:
    path = unplaced(tmp_path)
    (tmp_path / name).write_text(SIDECARS[name]())
    with open_scene(path) as scene:
        command = scene.notes[0].partition("as gdal_translate ")[2].split()
    translate = "import sys; from osgeo import gdal; gdal.UseExceptions(); gdal.Translate(sys.argv[2], sys.argv[1])"
    subprocess.run([sys.executable, "-c", translate, *command], check=True, cwd=tmp_path)
    with open_scene(tmp_path / command[1]) as scene:
        assert scene.georeference.geotransform == (600000, 10, 0, 4140000, 0, -10)
        assert scene.notes == ()


def test_a_file_that_says_itself_where_it_lies_has_no_note(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "scene.tif", lake_scene(80, 80))
    (tmp_path / "scene.tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    with open_scene(path) as scene:
        assert scene.georeference.geotransform[1] != 1
        assert scene.notes == ()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("scene.tfw", "a GeoTIFF has to say so itself"),
        ("scene.tif.msk", "a GeoTIFF has to hold that itself"),
        ("scene.tif.ovr", "the overviews of an image"),
    ],
)
def test_the_daemon_leaves_it_alone_and_says_why(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(WORLD.encode() if name == "scene.tfw" else b"II*\0" + bytes(100))
    box = Inbox(Config(incoming=tmp_path / "in", outgoing=tmp_path / "out", state=tmp_path / "state"))
    box.scan()
    assert box.candidates[name].kind is Kind.IGNORED
    assert why in box.candidates[name].why


def test_the_mask_of_a_claimed_image_is_missed_too(tmp_path: Path, backend: Backend) -> None:
    path = write_geotiff(tmp_path / "claimed", lake_scene(60, 70))
    with pytest.raises(SceneIncomplete, match=r"in scene\.tif\.msk"):
        process_scene(path, backend, tmp_path / "out", name="scene.tif", sidecars=["scene.tif.msk"])


def test_overviews_are_no_scene(tmp_path: Path) -> None:
    with pytest.raises(SceneNoBackscatter, match=r"give the image, scene\.tif"):
        open_scene(write_geotiff(tmp_path / "scene.tif.ovr", lake_scene(60, 70)))
