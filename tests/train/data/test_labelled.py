from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal, osr

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import ChannelMissing, DataError, SceneError, UnitMismatch, UsageError
from sarwater.request import Request
from sarwater.scenes.labels import Coding
from tests.support.deliveries import write_hdf5, write_k5_folder, write_safe
from tests.support.lakes import lake, write_lakes, write_raster
from train.data.labelled import channels_named, find_labelled


def names(data: Path | str) -> list[str]:
    return [tile.name for tile in find_labelled(str(data))]


def truth_values(data: str, coding: Coding | None = None) -> set[int]:
    tile = find_labelled(data, coding=coding)[0]
    return set(np.unique(tile.read(0, 0, tile.width_px, tile.height_px)[1]).tolist())


def pair(folder: Path, image: np.ndarray, mask: np.ndarray, nodata: float | None = None) -> str:
    return f"{write_raster(folder / 'a.tif', image, nodata=nodata)}:{write_raster(folder / 'b.tif', mask)}"


def test_the_pixel_spacing_is_that_on_the_ground(tmp_path: Path) -> None:
    image, mask = lake(64, 0)
    write_raster(tmp_path / "b.tif", mask)
    metric = write_raster(tmp_path / "metric.tif", image, west_north=(500_000, 5_000_000), pixel_m=12.5)
    degrees = write_raster(tmp_path / "degrees.tif", image)
    raster = gdal.Open(str(degrees), gdal.GA_Update)
    system = osr.SpatialReference()
    system.ImportFromEPSG(4326)
    raster.SetProjection(system.ExportToWkt())
    raster.SetGeoTransform((20, 0.002, 0, 60.1, 0, -0.001))  # at 60 degrees north, as wide as high
    del raster
    unknown = write_raster(tmp_path / "unknown.tif", image)
    spacing = [find_labelled(f"{path}:{tmp_path / 'b.tif'}")[0].pixel_m for path in (metric, degrees, unknown)]
    assert spacing == [pytest.approx(12.5, rel=1e-3), pytest.approx(111.2, rel=0.01), None]


def test_a_folder_in_the_k5_layout_is_found_without_lists(tmp_path: Path) -> None:
    assert names(write_lakes(tmp_path)) == ["WTR0", "WTR1"]


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    known = names(tmp_path)
    (tmp_path / "img" / "._WTR1_K5_T.tif").write_bytes(b"what a Mac writes beside a file")
    (tmp_path / "img" / ".WTR9_K5_T.tmp.tif").write_bytes(b"half a file")
    assert names(tmp_path) == known


def test_a_list_file_decides_what_is_used_and_a_val_list_what_is_held_out(tmp_path: Path) -> None:
    write_lakes(tmp_path, 3)
    (tmp_path / "train.txt").write_text(
        "# image, mask, gim\nimg/WTR1_K5_T.tif, mask/WTR1_K5_T_label.tif, gim/WTR1_GIM_K5_T.tif\n"
    )
    (tmp_path / "val.txt").write_text("img/WTR2_K5_T.tif mask/WTR2_K5_T_label.tif\n")
    assert [(tile.name, tile.held_out) for tile in find_labelled(str(tmp_path))] == [("WTR1", False), ("WTR2", True)]


def test_a_list_file_by_itself_is_data(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    (tmp_path / "some.txt").write_text("img/WTR1_K5_T.tif\tmask/WTR1_K5_T_label.tif\n")
    assert names(tmp_path / "some.txt") == ["WTR1"]


def test_a_listed_file_that_is_missing_is_named_with_its_line(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    (tmp_path / "train.txt").write_text("\nimg/WTR9.tif, mask/WTR1_K5_T_label.tif\n")
    with pytest.raises(DataError, match=r"WTR9\.tif: no such file \(named by .*train\.txt:2\)"):
        find_labelled(str(tmp_path))


def test_a_pair_of_rasters_is_one_tile(tmp_path: Path) -> None:
    assert names(pair(tmp_path, *lake(64, 0))) == ["a"]


def test_tiles_that_share_their_first_part_keep_their_whole_names(tmp_path: Path) -> None:
    for number in (1, 2):
        amplitude, label = lake(32, number)
        write_raster(tmp_path / "img" / f"scene_{number}.tif", amplitude)
        write_raster(tmp_path / "mask" / f"scene_{number}_mask.tif", label)
    tiles = find_labelled(str(tmp_path))
    assert [(tile.name, tile.label.name) for tile in tiles] == [
        ("scene_1", "scene_1_mask.tif"),
        ("scene_2", "scene_2_mask.tif"),
    ]


def test_gim_is_the_last_channel(tmp_path: Path) -> None:
    tile = find_labelled(str(write_lakes(tmp_path)), channels_named("sar", "gim"))[1]
    pixels, _ = tile.read(10, 20, 8, 4)
    assert pixels.shape == (2, 4, 8)
    assert (pixels[1] == 101).all()


def test_two_polarisations_are_two_bands_of_the_image(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    tile = find_labelled(pair(tmp_path, np.stack([amplitude, amplitude * 2]), label), channels_named("vv", "vh"))[0]
    pixels, _ = tile.read(0, 0, 32, 32)
    assert np.array_equal(pixels[1], 2 * pixels[0])


def test_too_few_bands_are_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(ChannelMissing, match=r"a\.tif"):
        find_labelled(pair(tmp_path, *lake(32, 0)), channels_named("vv", "vh"))


def test_gim_anywhere_but_last_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`gim` comes last"):
        find_labelled(str(tmp_path), channels_named("gim", "sar"))


def test_water_is_255_in_a_two_valued_mask(tmp_path: Path) -> None:
    assert truth_values(pair(tmp_path, *lake(32, 0))) == {LAND, WATER}


def test_where_1_is_water_255_is_left_out_also_in_a_tile_without_water(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    ignored = np.zeros_like(label)
    ignored[:4] = 255
    for name, mask in (("one", label // 255), ("two", ignored)):
        write_raster(tmp_path / "img" / f"{name}.tif", amplitude)
        write_raster(tmp_path / "mask" / f"{name}.tif", mask)
    dry = find_labelled(str(tmp_path))[1]
    assert set(np.unique(dry.read(0, 0, 32, 32)[1]).tolist()) == {LAND, NODATA}


def test_other_label_values_can_be_declared(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    label = np.where(label > 0, 7, 0).astype(np.uint8)
    label[0] = 9
    assert truth_values(pair(tmp_path, amplitude, label), Coding.parse("land=0,water=7,ignore=9")) == {
        LAND,
        WATER,
        NODATA,
    }


def test_an_unexpected_label_value_is_refused_by_file_and_value(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    label[3, 3] = 17
    with pytest.raises(DataError, match=r"b\.tif: label values 0, 17, 255, of which 17 is not declared; .*--labels"):
        find_labelled(pair(tmp_path, amplitude, label))


def test_nodata_has_no_truth_and_reads_as_zero(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    amplitude[:5] = 9999
    pixels, truth = find_labelled(pair(tmp_path, amplitude, label, nodata=9999))[0].read(0, 0, 32, 10)
    assert (truth[:5] == NODATA).all()
    assert (truth[5:] != NODATA).all()
    assert (pixels[0, :5] == 0).all()


def test_declared_nan_is_nodata(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    image = amplitude.astype(np.float32)
    image[2, 2] = np.nan
    pixels, truth = find_labelled(pair(tmp_path, image, label, nodata=np.nan))[0].read(0, 0, 32, 32)
    assert truth[2, 2] == NODATA
    assert np.isfinite(pixels).all()


def test_undeclared_nan_is_nodata_as_at_run_time(tmp_path: Path) -> None:
    amplitude, label = lake(32, 0)
    image = amplitude.astype(np.float32)
    image[2, 7] = np.nan
    pixels, truth = find_labelled(pair(tmp_path, image, label))[0].read(0, 0, 32, 32)
    assert pixels[0, 2, 7] == 0
    assert np.argwhere(truth == NODATA).tolist() == [[2, 7]]


def test_a_label_of_another_size_is_refused_by_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.tif: 32 x 16 px, expected 32 x 32 px as a\.tif"):
        find_labelled(pair(tmp_path, lake(32, 0)[0], lake(32, 0)[1][:16]))


def test_an_image_without_a_mask_is_refused_by_file(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    (tmp_path / "mask" / "WTR1_K5_T_label.tif").unlink()
    with pytest.raises(DataError, match=r"img/WTR1_K5_T\.tif: no mask"):
        find_labelled(str(tmp_path))


def test_an_image_without_gim_is_refused_by_file(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    (tmp_path / "gim" / "WTR0_GIM_K5_T.tif").unlink()
    with pytest.raises(DataError, match=r"img/WTR0_K5_T\.tif: no incidence angle"):
        find_labelled(str(tmp_path), channels_named("sar", "gim"))


def test_an_empty_and_a_missing_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/img: no such folder; expected {tmp_path} to hold img/ and mask/"):
        find_labelled(str(tmp_path))
    with pytest.raises(DataError, match=r"nowhere: no such folder"):
        find_labelled(str(tmp_path / "nowhere"))


def test_a_file_that_is_no_raster_is_named(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    (tmp_path / "img" / "WTR0_K5_T.tif").write_text("not a raster")
    with pytest.raises(SceneError, match=r"WTR0_K5_T\.tif: "):
        find_labelled(str(tmp_path))


def test_a_truncated_raster_is_found_before_training(tmp_path: Path) -> None:
    write_lakes(tmp_path)
    path = tmp_path / "img" / "WTR0_K5_T.tif"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(SceneError, match=r"WTR0_K5_T\.tif: "):
        find_labelled(str(tmp_path))


FORKED = """
import os, sys
from train.data.labelled import _opened, find_labelled

scene = find_labelled(sys.argv[1])[0]
mine, _ = _opened(scene, os.getpid())
child = os.fork()
if child == 0:
    os._exit(0 if _opened(scene, os.getpid())[0] is not mine else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_reader_opens_its_own_handle(tmp_path: Path) -> None:
    data = str(write_lakes(tmp_path))
    assert subprocess.run([sys.executable, "-c", FORKED, data], timeout=60).returncode == 0


@pytest.mark.realdata
def test_the_k5_tiles_are_found_with_their_angles(realdata: Path) -> None:
    tiles = find_labelled(str(realdata / "k5"), channels_named("sar", "gim"))
    assert [tile.name for tile in tiles] == ["WTR00001", "WTR00003", "WTR00004", "WTR00006"]
    assert tiles[0].read(0, 0, 16, 16)[0].shape == (2, 16, 16)


@pytest.mark.realdata
def test_the_etci_pair_is_one_large_tile(realdata: Path) -> None:
    (tile,) = find_labelled(f"{realdata}/etci/vv.tif:{realdata}/etci/flood_label.tif")
    assert (tile.width_px, tile.height_px) == (11264, 8192)


def test_zeros_beyond_the_swath_are_nodata_and_zeros_inside_are_not(tmp_path: Path) -> None:
    image = np.full((5, 8), 90, np.uint8)
    image[:, :2] = 0  # beyond the swath
    image[:, 2] = 255
    image[2, 5] = 0  # calm water
    data = pair(tmp_path, image, np.zeros((5, 8), np.uint8), nodata=255)
    (tile,) = find_labelled(data)
    pixels, truth = tile.read(1, 1, 6, 3)
    assert (truth[:, :2] == NODATA).all()
    assert (truth[:, 2:] == LAND).all()
    assert (pixels[0, :, :2] == 0).all()


DB = 10.0 ** np.linspace(-2.5, 0, 32 * 32).reshape(32, 32)  # sigma0, linear


@pytest.mark.parametrize(
    ("pixels", "unit"),
    [(DB, "sigma0_linear"), (10 * np.log10(DB), "sigma0_db"), (np.sqrt(DB) * 400, "amplitude_dn")],
)
def test_backscatter_of_any_unit_becomes_the_amplitude_that_the_model_takes(
    tmp_path: Path, pixels: np.ndarray, unit: str
) -> None:
    data = pair(tmp_path, pixels.astype(np.float32), lake(32, 0)[1])
    read, truth = find_labelled(data, request=Request(unit=unit))[0].read(0, 0, 32, 32)
    np.testing.assert_allclose(read[0], np.sqrt(DB) * 400, rtol=1e-3)
    assert set(np.unique(truth).tolist()) == {LAND, WATER}


def test_decibels_that_nobody_declared_are_refused_with_the_option(tmp_path: Path) -> None:
    with pytest.raises(UnitMismatch, match=r"a\.tif: .*--unit"):
        find_labelled(pair(tmp_path, (10 * np.log10(DB) - 5).astype(np.float32), lake(32, 0)[1]))


def test_product_folders_and_hdf5_files_are_images(tmp_path: Path) -> None:
    images, masks = tmp_path / "img", tmp_path / "mask"
    images.mkdir()
    amplitude, label = lake(64, 0)
    write_safe(images / "S1A_IW_GRDH_1SDV_20240726.SAFE", {"vv": amplitude, "vh": amplitude // 2})
    write_k5_folder(images / "K5_FOLDER", amplitude)
    write_hdf5(images / "K5_FILE.h5", "L1D", amplitude)
    for name in ("S1A_IW_GRDH_1SDV_20240726", "K5_FOLDER", "K5_FILE"):
        write_raster(masks / f"{name}_label.tif", label)
    scenes = find_labelled(str(tmp_path))
    assert [scene.image.name for scene in scenes] == ["K5_FILE.h5", "K5_FOLDER", "S1A_IW_GRDH_1SDV_20240726.SAFE"]
    for scene in scenes:
        pixels, truth = scene.read(0, 0, 64, 64)
        assert pixels[0][truth == WATER].mean() < 0.6 * pixels[0][truth == LAND].mean()
    safe = scenes[2].files
    (cross,) = find_labelled(f"{safe.image}:{safe.label}", request=Request(polarisations=("vh",)))
    assert cross.read(0, 0, 64, 64)[0].mean() < scenes[2].read(0, 0, 64, 64)[0].mean()


def test_labels_are_paired_by_the_whole_name(tmp_path: Path) -> None:
    for name in ("a_1", "a_10"):
        amplitude, label = lake(32, len(name))
        write_raster(tmp_path / "img" / f"{name}.tif", amplitude)
        write_raster(tmp_path / "mask" / f"{name}_gt.tif", label)
    assert [scene.label.name for scene in find_labelled(str(tmp_path))] == ["a_1_gt.tif", "a_10_gt.tif"]
