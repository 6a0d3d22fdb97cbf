from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from runtime.backends import Backend
from runtime.backends.fake import FakeBackend
from runtime.pipeline import process_scene
from runtime.products.publish import StagedProducts, mask_key_of, publish
from sarwater.classes import NODATA
from sarwater.errors import OutputError, SceneUnreadable, SettingInvalid
from sarwater.identity import mask_key, stem_of
from sarwater.request import Request, Window
from tests.support.models import box_probability
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, write_geotiff


def make(path: Path, backend: Backend, out: Path, **options: object) -> Path:
    """Process and publish one scene; the path of its mask."""
    staged = process_scene(path, backend, out, Request(products=("mask", "stac"), **options))  # type: ignore[arg-type]
    publish(staged)
    return staged.paths[-1]


def test_the_mask_is_the_networks_answer_over_the_whole_scene(tmp_path: Path, backend: Backend, out: Path) -> None:
    pixels = lake_scene(200, 250)
    mask = read_raster(make(write_geotiff(tmp_path / "a.tif", pixels), backend, out))
    expected = box_probability(pixels)
    clear = np.abs(expected - 0.5) > 1e-3
    inside = np.zeros_like(clear)
    inside[2:-2, 2:-2] = True
    assert np.array_equal(mask[clear & inside], (expected >= 0.5)[clear & inside])


def test_the_mask_is_a_cog_that_keeps_the_georeference_exactly(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(600, 700), metadata={"AREA_OR_POINT": "Point"})
    source, mask = gdal.Open(str(path)), gdal.Open(str(make(path, backend, out)))
    assert mask.GetMetadataItem("LAYOUT", "IMAGE_STRUCTURE") == "COG"
    assert mask.GetGeoTransform() == source.GetGeoTransform() == TRANSFORM
    assert mask.GetProjection() == source.GetProjection()
    assert mask.GetMetadataItem("AREA_OR_POINT") == "Point"
    assert (mask.RasterXSize, mask.RasterYSize) == (700, 600)
    band = mask.GetRasterBand(1)
    assert band.DataType == gdal.GDT_Byte
    assert band.GetNoDataValue() == NODATA
    assert band.GetOverviewCount() >= 1
    assert band.GetColorTable().GetColorEntry(1)[2] > band.GetColorTable().GetColorEntry(1)[0], "water is blue"


def test_ground_control_points_are_kept(tmp_path: Path, backend: Backend, out: Path) -> None:
    corners = ((0, 0), (100, 0), (0, 80), (100, 80))
    gcps = [gdal.GCP(127 + x * 1e-4, 36 - y * 1e-4, 12.5, x, y, "", str(i)) for i, (x, y) in enumerate(corners)]
    path = write_geotiff(tmp_path / "a.tif", lake_scene(80, 100), gcps=gcps)
    mask = gdal.Open(str(make(path, backend, out)))
    found = [(g.GCPX, g.GCPY, g.GCPZ, g.GCPPixel, g.GCPLine) for g in mask.GetGCPs()]
    assert found == [(g.GCPX, g.GCPY, g.GCPZ, g.GCPPixel, g.GCPLine) for g in gcps]
    assert mask.GetGCPProjection() == gdal.Open(str(path)).GetGCPProjection()


def test_a_scene_without_georeference_gives_a_mask_and_an_item_that_says_so(
    tmp_path: Path, backend: Backend, out: Path
) -> None:
    mask = make(write_geotiff(tmp_path / "a.tif", lake_scene(80, 90), transform=None), backend, out)
    assert gdal.Open(str(mask)).GetGeoTransform(can_return_null=True) is None
    assert json.loads((out / "a_water.json").read_text())["geometry"] is None


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1), (63, 64), (65, 65), (20, 30)])
def test_scenes_of_any_size_work(tmp_path: Path, backend: Backend, out: Path, shape: tuple[int, int]) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full(shape, 20, np.uint16))
    mask = read_raster(make(path, backend, out))
    assert mask.shape == shape
    assert np.all(mask == 1)


def test_nodata_stays_nodata_in_the_mask(tmp_path: Path, backend: Backend, out: Path) -> None:
    pixels = lake_scene(150, 200)
    pixels[:, 120:] = 0
    pixels[5, 5] = 0
    mask = read_raster(make(write_geotiff(tmp_path / "a.tif", pixels), backend, out))
    assert np.array_equal(mask == NODATA, pixels == 0)


def test_a_scene_of_nothing_but_nodata_is_not_dry_land(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.zeros((150, 100), np.uint16))
    staged = process_scene(path, backend, out)
    publish(staged)
    assert np.all(read_raster(staged.paths[-1]) == NODATA)
    assert staged.record["tiles"] == 0


def test_two_runs_give_the_same_bytes(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(300, 200))
    first, second = make(path, backend, out / "1"), make(path, backend, out / "2")
    assert first.read_bytes() == second.read_bytes()


def test_a_higher_threshold_gives_less_water(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(100, 100))
    areas = [
        np.count_nonzero(read_raster(make(path, backend, out / str(p), threshold=p)) == 1) for p in (0.1, 0.5, 0.9)
    ]
    assert areas[0] > areas[1] > areas[2]


def test_a_window_gives_that_part_of_the_scene(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(200, 200))
    mask = gdal.Open(str(make(path, backend, out, window=Window(40, 60, 100, 64))))
    assert (mask.RasterXSize, mask.RasterYSize) == (100, 64)
    assert mask.GetGeoTransform()[0] == TRANSFORM[0] + 40 * 1.25


def test_progress_reaches_the_number_of_tiles(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(200, 130))
    seen: list[tuple[int, int]] = []
    staged = process_scene(path, backend, out, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))
    assert staged.record["tiles"] + staged.record["tiles_skipped"] == seen[-1][1]


def test_staged_products_cross_a_process_boundary_as_json(tmp_path: Path, backend: Backend, out: Path) -> None:
    staged = process_scene(write_geotiff(tmp_path / "a.tif", lake_scene(64, 64)), backend, out)
    again = StagedProducts.from_dict(json.loads(json.dumps(staged.to_dict())))
    assert again == staged
    assert publish(again) == "published"
    assert mask_key_of(out / "a_water.tif") == staged.mask_key


def test_nothing_is_visible_before_publishing_and_nothing_hidden_after(
    tmp_path: Path, backend: Backend, out: Path
) -> None:
    staged = process_scene(write_geotiff(tmp_path / "a.tif", lake_scene(64, 64)), backend, out)
    assert [path.name for path in out.iterdir() if not path.name.startswith(".")] == []
    publish(staged)
    names = ["a_confidence.qml", "a_confidence.tif", "a_quicklook.png", "a_water.gpkg", "a_water.json"]
    names += ["a_water.qml", "a_water.tif"]
    assert sorted(path.name for path in out.iterdir()) == names


@pytest.mark.parametrize("error", [RuntimeError("broken"), KeyboardInterrupt()])
def test_an_error_in_the_middle_leaves_nothing_behind(
    tmp_path: Path, backend: Backend, out: Path, error: BaseException
) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(300, 100))

    def stop(done: int, total: int) -> None:
        if done == total // 2:
            raise error

    with pytest.raises(type(error)):
        process_scene(path, backend, out, progress=stop)
    assert list(out.iterdir()) == []


def test_a_corrupt_block_leaves_nothing_behind(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(300, 300), options=["COMPRESS=DEFLATE"])
    data = bytearray(path.read_bytes())
    data[-30000:-20000] = bytes(10000)
    path.write_bytes(data)
    with pytest.raises(SceneUnreadable):
        process_scene(path, backend, out)
    assert not out.exists() or list(out.iterdir()) == []


def test_an_output_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path, backend: Backend) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(64, 64))
    with pytest.raises(OutputError):
        process_scene(path, backend, path / "below-a-file")


def test_the_mask_key_changes_with_each_of_its_parts() -> None:
    keys = {
        mask_key("a" * 64, "b" * 64, Request()),
        mask_key("c" * 64, "b" * 64, Request()),
        mask_key("a" * 64, "c" * 64, Request()),
        mask_key("a" * 64, "b" * 64, Request(threshold=0.4)),
        mask_key("a" * 64, "b" * 64, Request(window=Window(0, 0, 1, 1))),
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("K5_20240726_HH.tif", "K5_20240726_HH"),
        ("../../etc/passwd", "passwd"),
        (".hidden.tif", "hidden"),
        ("a b;rm -rf *.tif", "a_b_rm_-rf_"),
        ("한강 2024.tif", "한강_2024"),
        ("---.tif", "scene"),
        ("가" * 80 + ".tif", "가" * 40),
    ],
)
def test_product_names_come_from_a_sanitised_stem(name: str, stem: str) -> None:
    assert stem_of(Path(name)) == stem


def test_senseless_options_are_usage_errors() -> None:
    with pytest.raises(SettingInvalid, match="cake"):
        process_scene(Path("never-opened.tif"), FakeBackend(), Path("out"), Request(products=("mask", "cake")))
    with pytest.raises(SettingInvalid, match=r"threshold = 1\.5"):
        Request(threshold=1.5)


def test_the_fake_backend_marks_dark_as_water(tmp_path: Path, out: Path) -> None:
    pixels = np.full((300, 300), 100, np.uint16)
    pixels[100:200, 100:200] = 10
    mask = read_raster(make(write_geotiff(tmp_path / "a.tif", pixels), FakeBackend(), out))
    assert np.all(mask[104:196, 104:196] == 1)
    assert np.all(mask[:96] == 0)


@pytest.mark.realdata
def test_a_kompsat5_tile_keeps_its_georeference(realdata: Path, backend: Backend, out: Path) -> None:
    path = next((realdata / "k5" / "img").glob("*.tif"))
    source, mask = gdal.Open(str(path)), gdal.Open(str(make(path, backend, out)))
    assert mask.GetGeoTransform() == source.GetGeoTransform()
    assert mask.GetProjection() == source.GetProjection()
    assert mask.GetMetadataItem("AREA_OR_POINT") == "Point"
