from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from runtime.pipeline import scene_sha256
from sarwater.errors import (
    ChannelMissing,
    SceneEmpty,
    SceneMissing,
    SceneTruncated,
    SceneUnreadable,
    SceneUnsafe,
    UnitMismatch,
    UsageError,
)
from sarwater.manifest import Channel
from sarwater.request import Limits, Request, Window
from sarwater.scenes.readers import open_model_input, open_scene
from sarwater.tiling import TilePlan
from tests.support.rasters import TRANSFORM, lake_scene, write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
VV = (Channel("vv", "amplitude_dn"),)


def read_all(path: Path, channels: tuple[Channel, ...] = SAR, **choices: object) -> np.ndarray:
    with open_model_input(path, channels, Request(**choices)) as scene:  # type: ignore[arg-type]
        rows, _ = scene.read(0, scene.height_px)
    return rows


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_pixels_come_in_the_sensors_own_type(tmp_path: Path, dtype: type) -> None:
    pixels = lake_scene(30, 40).clip(1, 250).astype(dtype)
    rows = read_all(write_geotiff(tmp_path / "a.tif", pixels))
    assert rows.dtype == dtype
    assert np.array_equal(rows[0], pixels)


def test_complex_pixels_come_as_amplitude(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 3 + 4j, np.complex64)
    rows = read_all(write_geotiff(tmp_path / "slc.tif", pixels))
    assert rows.dtype == np.float32
    assert np.all(rows == 5)


def test_strips_overlap_as_the_plan_says_and_hold_the_scene(tmp_path: Path) -> None:
    pixels = lake_scene(200, 70)
    path = write_geotiff(tmp_path / "a.tif", pixels)
    plan = TilePlan(200, 70, 64, 16)
    with open_model_input(path, SAR) as scene:
        for span, (rows, valid) in zip(plan.rows, scene.strips(plan), strict=True):
            assert valid is None
            assert np.array_equal(rows[0], pixels[span.start : span.start + 64])


@pytest.mark.parametrize(("declared", "expected"), [(None, 0.0), (255, 255.0), (-9999, 0.0), (65535, 0.0)])
def test_nodata_is_the_declared_value_else_zero_for_integers(
    tmp_path: Path, declared: float | None, expected: float
) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.ones((8, 8), np.uint8), nodata=declared)
    with open_model_input(path, SAR) as scene:
        assert scene.nodata == expected


def test_a_declared_nodata_that_no_pixel_can_have_counts_as_nothing(tmp_path: Path) -> None:
    pixels = np.full((40, 50), 200, np.uint16)
    pixels[:, :12] = 0
    with open_model_input(write_geotiff(tmp_path / "a.tif", pixels, nodata=-9999), SAR) as scene:
        _, valid = scene.read_valid(0, 40)
    assert np.array_equal(valid, pixels != 0)


def test_a_stated_nodata_that_no_pixel_can_have_is_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 200, np.uint16))
    with pytest.raises(UsageError, match="nodata -9999: no pixel of uint16 has it; leave --nodata out"):
        open_model_input(path, SAR, Request(nodata=-9999))


def test_nan_and_infinity_are_nodata_and_enter_as_zero(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 5, np.float32)
    pixels[0, :3] = np.nan, np.inf, -np.inf
    with open_model_input(write_geotiff(tmp_path / "a.tif", pixels), SAR) as scene:
        rows, valid = scene.read(0, 8)
    assert valid is not None
    assert np.array_equal(~valid, ~np.isfinite(pixels))
    assert np.all(rows[0, 0, :3] == 0)


STRIP = np.full((6, 10), 90, np.uint8)
STRIP[:, :3], STRIP[:, 3], STRIP[2, 6] = 0, 255, 0


def test_zeros_beyond_the_valid_extent_are_nodata_and_zeros_inside_are_not(tmp_path: Path) -> None:
    with open_model_input(write_geotiff(tmp_path / "a.tif", STRIP, nodata=255), SAR) as scene:
        rows, _ = scene.read(0, scene.height_px)
        notes = " ".join(scene.notes)
    assert (rows[0, :, :4] == 255).all()
    assert np.array_equal(rows[0, :, 4:], STRIP[:, 4:])
    assert "zeros that reach in" in notes


def test_zeros_at_the_edge_of_a_window_are_kept_unless_they_go_on_to_the_edge_of_the_scene(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", STRIP, nodata=255)
    assert (read_all(path, window=Window(2, 1, 4, 3))[0, :, 0] == 255).all()
    assert np.array_equal(read_all(path, window=Window(6, 1, 3, 3))[0], STRIP[1:4, 6:9])


def test_who_names_the_nodata_value_keeps_zeros(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", STRIP, nodata=255)
    assert np.array_equal(read_all(path, nodata=255)[0], STRIP)


def test_decibels_may_be_zero_inside_the_valid_extent(tmp_path: Path) -> None:
    level_db = np.full((4, 6), -12, np.float32)
    level_db[1:3, 2:4] = 0
    path = write_geotiff(tmp_path / "sigma0.tif", level_db)
    with open_model_input(path, (Channel("sar", "sigma0_db"),), Request(unit="sigma0_db")) as scene:
        rows, valid = scene.read(0, scene.height_px)
    assert valid is None or valid.all()
    assert np.array_equal(rows[0], level_db)


def test_a_float_scene_filled_with_zeros_needs_no_declared_nodata(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", STRIP.astype(np.float32))
    with open_model_input(path, SAR) as scene:
        _, valid = scene.read(0, scene.height_px)
    assert valid is not None
    assert np.array_equal(valid, np.tile(np.arange(10) >= 3, (6, 1)))


def masked_geotiff(path: Path, mask: np.ndarray) -> Path:
    """A scene of fives whose internal mask is `mask`."""
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
    try:
        write_geotiff(path, np.full(mask.shape, 5, np.uint16))
        dataset = gdal.Open(str(path), gdal.GA_Update)
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(mask)
        dataset.FlushCache()
        del dataset
    finally:
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", None)
    return path


def test_an_internal_mask_marks_nodata(tmp_path: Path) -> None:
    mask = np.full((8, 8), 255, np.uint8)
    mask[2:4] = 0
    with open_model_input(masked_geotiff(tmp_path / "a.tif", mask), SAR) as scene:
        _, valid = scene.read(0, 8)
    assert valid is not None
    assert np.array_equal(valid, mask != 0)


def test_a_scene_holds_no_band_that_its_dataset_could_leave_behind(tmp_path: Path) -> None:
    """Reading such a band ends the process with a segmentation fault."""
    with open_scene(masked_geotiff(tmp_path / "a.tif", np.full((8, 8), 255, np.uint8))) as scene:
        assert scene.read_mask(Window(0, 0, 8, 8)) is not None
        held = [*vars(scene).values(), *(value for band in scene.bands for value in vars(band).values())]
    assert not any(isinstance(value, gdal.Band) for value in held)


def test_a_damaged_mask_names_the_scene(tmp_path: Path) -> None:
    random = np.random.default_rng(0).integers(0, 2, (400, 400), np.uint8) * 255
    path = masked_geotiff(tmp_path / "a.tif", random)
    dataset = gdal.Open(str(path))
    offset = int(dataset.GetRasterBand(1).GetMaskBand().GetMetadataItem("BLOCK_OFFSET_0_0", "TIFF"))
    del dataset
    damaged = bytearray(path.read_bytes())
    damaged[offset : offset + 400] = b"\xff" * 400
    path.write_bytes(damaged)
    with open_model_input(path, SAR) as scene, pytest.raises(SceneUnreadable, match=r"a\.tif"):
        scene.read(0, 400)


def test_decibels_are_refused_by_a_model_for_amplitude(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "db.tif", np.full((8, 8), -17.5, np.float32))
    with pytest.raises(UnitMismatch, match=r"-17\.5"):
        read_all(path)


def test_an_amplitude_scene_is_refused_by_a_model_for_sigma0(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(8, 8))
    with pytest.raises(UnitMismatch, match="sigma0_db"):
        read_all(path, (Channel("sar", "sigma0_db"),))


def test_a_named_channel_is_found_by_band_description(tmp_path: Path) -> None:
    pixels = np.stack([np.full((8, 8), 1, np.uint16), np.full((8, 8), 2, np.uint16)])
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=["Amplitude_VH", "Amplitude_VV"])
    assert np.all(read_all(path, VV) == 2)
    assert np.all(read_all(path, SAR) == 2), "of several, the co-polarised one"
    assert np.all(read_all(path, SAR, polarisations=("vh",)) == 1)


def test_a_named_channel_is_found_by_file_name(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "K5_20240726_HH_GTC_B.tif", lake_scene(8, 8))
    assert read_all(path, (Channel("hh", "amplitude_dn"),)).shape == (1, 8, 8)
    with pytest.raises(ChannelMissing, match=r"no channel 'vv'; it has hh"):
        read_all(path, VV)


def test_bands_without_names_must_be_chosen(tmp_path: Path) -> None:
    pixels = np.stack([np.full((8, 8), n, np.uint16) for n in (1, 2, 3)])
    path = write_geotiff(tmp_path / "a.tif", pixels)
    with pytest.raises(ChannelMissing, match="--polarisations"):
        read_all(path)
    assert np.all(read_all(path, polarisations=("3",)) == 3)


def test_a_window_shifts_the_georeference(tmp_path: Path) -> None:
    pixels = lake_scene(40, 50)
    path = write_geotiff(tmp_path / "a.tif", pixels)
    with open_model_input(path, SAR, Request(window=Window(10, 20, 30, 15))) as scene:
        rows, _ = scene.read(0, 15)
        transform = scene.georeference.geotransform
    assert np.array_equal(rows[0], pixels[20:35, 10:40])
    assert transform == (TRANSFORM[0] + 12.5, 1.25, 0, TRANSFORM[3] - 25, 0, -1.25)


@pytest.mark.parametrize("window", [Window(0, 0, 51, 10), Window(-1, 0, 10, 10), Window(0, 0, 0, 5)])
def test_a_window_outside_the_scene_is_a_usage_error(tmp_path: Path, window: Window) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(40, 50))
    with pytest.raises(UsageError, match="50 x 40"):
        open_model_input(path, SAR, Request(window=window))


def test_what_is_not_there_or_empty_or_no_raster_has_its_own_error(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("Dear Sir or Madam")
    (tmp_path / "folder").mkdir()
    for name, error in (("absent.tif", SceneMissing), ("empty.tif", SceneEmpty), ("text.tif", SceneUnreadable)):
        with pytest.raises(error, match=name):
            open_model_input(tmp_path / name, SAR)
    with pytest.raises(SceneUnreadable, match=r"folder: a folder of no kind .*looked for: .*SAFE.*_Aux\.xml"):
        open_model_input(tmp_path / "folder", SAR)
    with pytest.raises(SceneMissing):
        scene_sha256(tmp_path / "absent.tif")


def test_a_truncated_scene_is_refused_at_once(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(300, 300), options=["COMPRESS=DEFLATE"])
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(SceneTruncated):
        open_model_input(path, SAR)


def test_a_corrupt_block_is_named_with_its_rows(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(300, 300), options=["COMPRESS=DEFLATE"])
    data = bytearray(path.read_bytes())
    # Much of a block: a few bytes may decode to wrong pixels without an error, as libtiff checks no checksum.
    data[len(data) // 2 : len(data) // 2 + 10_000] = bytes(10_000)
    path.write_bytes(data)
    with pytest.raises(SceneUnreadable, match=r"rows 0\.\.299"):
        read_all(path)


@pytest.mark.parametrize("extra", ["scene.tif.ovr", "scene.tif.aux.xml", "scene.tfw"])
def test_files_beside_the_scene_are_not_read(tmp_path: Path, extra: str) -> None:
    path = write_geotiff(tmp_path / "scene.tif", lake_scene(64, 64), transform=None)
    (tmp_path / extra).write_text("1\n0\n0\n-1\n100\n100\n" if extra.endswith("tfw") else "<VRTDataset/>")
    with open_model_input(path, SAR) as scene:
        assert not scene.georeference.known
        assert scene.scene.bands[0].dataset.GetFileList() == [str(path)]


def test_a_vrt_named_tif_is_refused(tmp_path: Path) -> None:
    secret = write_geotiff(tmp_path / "secret.tif", lake_scene(8, 8))
    gdal.Translate(str(tmp_path / "x.vrt"), str(secret), format="VRT")
    (tmp_path / "x.vrt").rename(tmp_path / "x.tif")
    with pytest.raises(SceneUnreadable):
        open_model_input(tmp_path / "x.tif", SAR)


@pytest.mark.parametrize(
    ("limits", "what"),
    [
        (Limits(max_pixels=9_999), "pixels"),
        (Limits(max_width_px=99), "columns"),
        (Limits(max_input_bytes=1000), "bytes"),
        (Limits(max_block_bytes=1000), "strip"),
        (Limits(max_bands=1), "bands"),
    ],
)
def test_a_scene_beyond_a_limit_is_unsafe(tmp_path: Path, limits: Limits, what: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.stack([lake_scene(100, 100)] * 2))
    with pytest.raises(SceneUnsafe, match=what):
        open_scene(path, limits)


def test_a_small_file_that_declares_80_gigabytes_is_unsafe(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    options = ["TILED=YES", "BLOCKXSIZE=1024", "BLOCKYSIZE=1024", "COMPRESS=DEFLATE", "SPARSE_OK=TRUE", "BIGTIFF=YES"]
    gdal.GetDriverByName("GTiff").Create(str(path), 200_000, 200_000, 1, gdal.GDT_UInt16, options)
    assert path.stat().st_size < 7_000_000
    with pytest.raises(SceneUnsafe, match="40,000,000,000 pixels"):
        open_model_input(path, SAR)


@pytest.mark.parametrize("description", ["Sigma0_VV_db", "Sigma0_VV"])
@pytest.mark.parametrize("nodata", [None, -9999])
@pytest.mark.parametrize("rows_at_a_time", [300, 7])
def test_zeros_from_any_of_the_four_edges_are_nodata(
    tmp_path: Path, description: str, nodata: float | None, rows_at_a_time: int
) -> None:
    """Notches from above and below are reached by no row; what is read in strips is what is read at once."""
    level = -12 if description.endswith("db") else 0.1
    pixels = np.full((300, 80), level, np.float32)
    pixels[:90, 30:40] = pixels[250:, 50:55] = 0  # notches from above and from below
    pixels[100:110, :5] = pixels[120:130, 75:] = 0  # from the left and from the right
    measured = pixels != 0
    pixels[140:260, 20:22] = 0  # inside: a level
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=[description], nodata=nodata)
    with open_model_input(path, SAR) as scene:
        valid = np.concatenate(
            [scene.read_valid(row, min(rows_at_a_time, 300 - row))[1] for row in range(0, 300, rows_at_a_time)]
        )
        notes = " ".join(scene.notes)
    assert np.array_equal(valid, measured)
    assert "zeros that reach in from an edge" in notes
    with open_model_input(path, SAR) as scene:
        scene.look_through(64)
        assert np.array_equal(scene.read_valid(0, 300)[1], measured), "also for those who read in small windows"


def test_a_level_of_0_db_inside_is_bright_land(tmp_path: Path) -> None:
    pixels = np.full((20, 20), -12, np.float32)
    pixels[5:8, 5:8] = pixels[19, 19] = 0  # one pixel at an edge is no fill
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=["Sigma0_VV_db"])
    rows = read_all(path)[0]
    assert rows[6, 6] == rows[19, 19] == pytest.approx(400)
