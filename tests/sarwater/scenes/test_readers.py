from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from osgeo import gdal

from runtime.backends import Backend, open_backend
from runtime.pipeline import process_scene, scene_sha256
from runtime.products.publish import publish
from sarwater.errors import ChannelMissing, SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import open_model_input, open_scene
from tests.support.deliveries import CORNERS, whole, write_hdf5, write_k5_folder, write_safe
from tests.support.models import box_model
from tests.support.rasters import lake_scene, read_raster, write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
WITH_GIM = (Channel("sar", "amplitude_dn"), Channel("gim", "incidence_dn"))


@pytest.mark.parametrize("mission", ["KMPS", "CSK", "CSG"])
@pytest.mark.parametrize("level", ["L1C", "L1D"])
def test_geocoded_hdf5_has_its_pixels_and_place(tmp_path: Path, mission: str, level: str) -> None:
    pixels = lake_scene(40, 60)
    path = write_hdf5(tmp_path / "a.h5", level, pixels, mission=mission, spacing_m=(1.25, 2.5))
    with open_model_input(path, SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)
        assert scene.dtype == np.uint16
        assert scene.nodata == 0
        assert scene.georeference.geotransform == (300000, 1.25, 0, 4000000, 0, -2.5), "width and height not swapped"
        assert scene.georeference.epsg == 32652
        assert scene.scene.acquired == "2024-07-26T09:15:30Z"
        assert scene.bands[0].polarisation == "hh"
        assert level in scene.scene.format


def test_gdal_itself_would_swap_the_pixel_size(tmp_path: Path) -> None:
    """Why the georeference is computed here; when this fails, GDAL was mended and our own way can go."""
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(8, 9), spacing_m=(1.25, 2.5))
    assert gdal.Open(f'HDF5:"{path}"://S01/SBI').GetGeoTransform()[1] == 2.5


@pytest.mark.parametrize("level", ["L1A", "L1B"])
def test_products_in_radar_geometry_have_their_corners_as_control_points(tmp_path: Path, level: str) -> None:
    pixels = np.ones((40, 60, 2), np.int16) if level == "L1A" else lake_scene(40, 60)
    with open_model_input(write_hdf5(tmp_path / "a.h5", level, pixels), SAR) as scene:
        georeference = scene.georeference
    assert georeference.geotransform is None
    places = {(gcp.pixel, gcp.line): (gcp.y, gcp.x) for gcp in georeference.gcps}
    assert places == dict(zip([(0, 0), (60, 0), (0, 40), (60, 40)], CORNERS.values(), strict=True))


def test_single_look_complex_comes_as_amplitude(tmp_path: Path) -> None:
    pixels = np.zeros((10, 12, 2), np.int16)
    pixels[..., 0], pixels[..., 1] = 30, -40
    pixels[0, 0] = 0
    with open_model_input(write_hdf5(tmp_path / "a.h5", "L1A", pixels), SAR) as scene:
        rows, valid = scene.read(0, 10)
    assert rows.dtype == np.float32
    assert rows[0, 1, 1] == 50
    assert valid is not None
    assert not valid[0, 0]
    assert valid[1, 1]


def test_a_product_folder_is_one_scene(tmp_path: Path) -> None:
    pixels, gim = lake_scene(40, 60), np.full((40, 60), 190, np.uint8)
    folder = write_k5_folder(tmp_path / "product", pixels, gim)
    with open_model_input(folder, WITH_GIM) as scene:
        rows = whole(scene)
        assert np.array_equal(rows[0], pixels)
        assert np.array_equal(rows[1], gim)
        assert scene.scene.acquired == "2024-07-26T09:15:30Z"


def test_a_model_with_incidence_angles_refuses_a_scene_without(tmp_path: Path) -> None:
    with pytest.raises(ChannelMissing, match="GIM"):
        open_model_input(write_k5_folder(tmp_path / "product", lake_scene(8, 8)), WITH_GIM)


def test_nodata_is_told_by_backscatter_and_not_by_incidence_angles(tmp_path: Path) -> None:
    pixels = lake_scene(40, 60)
    pixels[:, :10] = 0
    folder = write_k5_folder(tmp_path / "product", pixels, np.full((40, 60), 190, np.uint8))
    with open_model_input(folder, WITH_GIM) as scene:
        _, valid = scene.read(0, 40)
        assert scene.nodata is None
    assert valid is not None
    assert np.array_equal(valid, pixels != 0)


def test_sentinel1_polarisations_are_chosen_by_name(tmp_path: Path) -> None:
    vv, vh = lake_scene(40, 60, seed=1), lake_scene(40, 60, seed=2)
    folder = write_safe(tmp_path / "S1A_IW_GRDH_1SDV_20240726T091530.SAFE", {"vv": vv, "vh": vh})
    with open_model_input(folder, SAR) as scene:
        assert np.array_equal(whole(scene)[0], vv)
        assert len(scene.georeference.gcps) == 9
        assert scene.scene.acquired == "2024-07-26T09:15:30Z"
    with open_model_input(folder, SAR, Request(polarisations=("vh",))) as scene:
        assert np.array_equal(whole(scene)[0], vh)
    both = (Channel("vv", "amplitude_dn"), Channel("vh", "amplitude_dn"))
    with open_model_input(folder, both) as scene:
        assert np.array_equal(whole(scene), np.stack([vv, vh]))
    with pytest.raises(ChannelMissing, match="'hh'; it has vh, vv"):
        open_model_input(folder, (Channel("hh", "amplitude_dn"),))


def test_shadow_and_layover_are_marked_apart(tmp_path: Path, backend: Backend, out: Path) -> None:
    pixels, gim = np.full((80, 90), 20, np.uint16), np.full((80, 90), 190, np.uint8)
    pixels[:10, :10] = 0
    gim[20:30] = 255  # 89.3 degrees, the largest value: shadow
    gim[40:50] = 100  # -19.7 degrees: layover
    gim[60:70] = 0  # not known
    staged = process_scene(write_k5_folder(tmp_path / "product", pixels, gim), backend, out)
    publish(staged)
    mask = read_raster(out / "product_water.tif")
    assert np.all(mask[20:30] == 2)
    assert np.all(mask[40:50] == 2)
    assert np.all(mask[60:70] == 1)
    assert np.all(mask[:10, :10] == 255)
    assert np.all(read_raster(out / "product_confidence.tif")[20:30] == 255)
    polygons = gdal.OpenEx(str(out / "product_water.gpkg"))
    pixels_in_polygons = sum(feature["pixels"] for feature in polygons.GetLayer())
    assert pixels_in_polygons == np.count_nonzero(mask == 1)


@pytest.mark.parametrize(
    "kind",
    ["strips", "tiles", "bigtiff", "cog", "jpeg-free-lzw", "h5-l1a", "h5-l1b", "h5-l1c", "h5-l1d", "folder", "safe"],
)
def test_every_format_goes_all_the_way(tmp_path: Path, backend: Backend, out: Path, kind: str) -> None:
    pixels = lake_scene(150, 170)
    options = {
        "strips": [],
        "tiles": ["TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
        "bigtiff": ["BIGTIFF=YES", "COMPRESS=DEFLATE", "PREDICTOR=2"],
        "jpeg-free-lzw": ["COMPRESS=LZW"],
    }
    if kind in options:
        path = write_geotiff(tmp_path / "a.tif", pixels, options=options[kind])
    elif kind == "cog":
        source = write_geotiff(tmp_path / "source.tif", pixels)
        path = tmp_path / "a.tif"
        gdal.Translate(str(path), str(source), format="COG")
    elif kind.startswith("h5"):
        level = kind[3:].upper()
        complex_ = np.stack([pixels, np.zeros_like(pixels)], axis=2).astype(np.int16)
        path = write_hdf5(tmp_path / "a.h5", level, complex_ if level == "L1A" else pixels)
    elif kind == "folder":
        path = write_k5_folder(tmp_path / "a", pixels)
    else:
        path = write_safe(tmp_path / "a.SAFE", {"vv": pixels, "vh": pixels})
    publish(process_scene(path, backend, out))
    plain = write_geotiff(tmp_path / "plain.tif", pixels)
    publish(process_scene(plain, backend, out))
    assert np.array_equal(read_raster(out / "a_water.tif"), read_raster(out / "plain_water.tif"))


def test_two_polarisations_feed_a_two_channel_model(tmp_path: Path, out: Path) -> None:
    model = box_model(tmp_path / "dual.onnx", channels=("vv", "vh"))
    folder = write_safe(tmp_path / "a.SAFE", {"vv": lake_scene(90, 90), "vh": lake_scene(90, 90, seed=1)})
    with open_backend(model) as backend:
        publish(process_scene(folder, backend, out))
    assert np.any(read_raster(out / "a_water.tif") == 1)


def test_hdf5_that_points_to_other_files_is_refused(tmp_path: Path) -> None:
    external = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(8, 8))
    with h5py.File(external, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(SceneUnsafe, match="link to another file"):
        open_model_input(external, SAR)

    stored = write_hdf5(tmp_path / "b.h5", "L1D", lake_scene(8, 8))
    with h5py.File(stored, "a") as file:
        file["S01"].create_dataset("MBI", (2, 2), "u1", external=[("/etc/hostname", 0, 4)])
    with pytest.raises(SceneUnsafe, match="other files"):
        open_model_input(stored, SAR)

    virtual = write_hdf5(tmp_path / "c.h5", "L1D", lake_scene(8, 8))
    layout = h5py.VirtualLayout((8, 8), "u2")
    layout[:] = h5py.VirtualSource(str(stored), "S01/SBI", (8, 8))
    with h5py.File(virtual, "a") as file:
        file.create_virtual_dataset("S01/MBI", layout)
    with pytest.raises(SceneUnsafe, match="other files"):
        open_model_input(virtual, SAR)


def test_hdf5_of_something_else_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperature"] = np.zeros((4, 4))
    with pytest.raises(SceneUnreadable, match="KOMPSAT-5"):
        open_model_input(tmp_path / "a.h5", SAR)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_hdf5_is_refused(tmp_path: Path, share: float) -> None:
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(100, 100))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((SceneTruncated, SceneUnreadable)):
        open_model_input(path, SAR)


def test_hdf5_beyond_a_limit_is_unsafe(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(100, 100))
    with pytest.raises(SceneUnsafe, match="10,000 pixels"):
        open_model_input(path, SAR, Request(max_pixels=9_999))


def test_a_symbolic_link_in_a_product_folder_is_refused(tmp_path: Path) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    os.symlink("/etc/hostname", folder / "K5_GIM.tif")
    with pytest.raises(SceneUnsafe, match="a link or a special file"):
        open_model_input(folder, SAR)


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<!-- fine --><!DOCTYPE a SYSTEM '/etc/hostname'><a/>"]
)
def test_xml_with_entities_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    next(folder.glob("*_Aux.xml")).write_text(text)
    with pytest.raises(SceneUnsafe, match="entities"):
        open_model_input(folder, SAR)


def test_the_hash_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    first = scene_sha256(folder)
    assert scene_sha256(folder) == first
    (folder / "more_GIM.tif").write_text("x")
    second = scene_sha256(folder)
    (folder / "more_GIM.tif").rename(folder / "other_GIM.tif")
    assert len({first, second, scene_sha256(folder)}) == 3


def test_what_is_not_read_of_a_kompsat5_folder_is_no_part_of_its_identity(tmp_path: Path) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    first = scene_sha256(folder)
    (folder / "MD5SUM").write_text("x")
    (folder / "K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D_QL.png").unlink()
    assert scene_sha256(folder) == first


def test_two_bands_of_gaofen3_l1a_are_one_complex_image(tmp_path: Path) -> None:
    parts = np.random.default_rng(3).integers(-900, 900, (2, 90, 110)).astype(np.int16)
    path = write_geotiff(tmp_path / "GF3_MYN_FSI_012345_E130.1_N37.4_20240716_L1A_HH_L10001234567.tiff", parts)
    with open_scene(path) as scene:
        (band,) = scene.bands
        assert (band.polarisation, band.unit) == ("hh", "amplitude_dn")
        assert np.allclose(scene.read(), np.hypot(*parts.astype(np.float32)))
