from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from osgeo import gdal

from runtime.backends import Backend, open_backend
from runtime.formats import hash_input
from runtime.job import SceneLimits, SceneOptions, Window
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from runtime.scene import Scene, open_scene
from sarwater.errors import ChannelMissing, SceneTruncated, SceneUnreadable, SceneUnsafe, UnitMismatch
from sarwater.manifest import Channel
from tests.runtime.formats.files import CORNERS, write_hdf5, write_k5_folder, write_safe
from tests.runtime.models import box_model
from tests.runtime.rasters import lake_scene, read_raster, write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
SIGMA0 = (Channel("sar", "sigma0_linear"),)
SIGMA0_DB = (Channel("sar", "sigma0_db"),)
WITH_GIM = (Channel("sar", "amplitude_dn"), Channel("gim", "incidence_dn"))


def whole(scene: Scene) -> np.ndarray:
    rows, _ = scene.read(0, scene.height_px)
    return rows


@pytest.mark.parametrize("mission", ["KMPS", "CSK", "CSG"])
@pytest.mark.parametrize("level", ["L1C", "L1D"])
def test_geocoded_hdf5_has_its_pixels_and_place(tmp_path: Path, mission: str, level: str) -> None:
    pixels = lake_scene(40, 60)
    path = write_hdf5(tmp_path / "a.h5", level, pixels, mission=mission, spacing_m=(1.25, 2.5))
    with open_scene(path, SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)
        assert scene.dtype == np.uint16
        assert scene.nodata == 0
        assert scene.georeference.geotransform == (300000, 1.25, 0, 4000000, 0, -2.5), "width and height not swapped"
        assert scene.georeference.epsg == 32652
        assert scene.product.acquired == "2024-07-26T09:15:30Z"
        assert scene.layers[0].polarisation == "hh"
        assert level in scene.product.format


def test_gdal_itself_would_swap_the_pixel_size(tmp_path: Path) -> None:
    """Why the georeference is computed here; when this fails, GDAL was mended and our own way can go."""
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(8, 9), spacing_m=(1.25, 2.5))
    assert gdal.Open(f'HDF5:"{path}"://S01/SBI').GetGeoTransform()[1] == 2.5


@pytest.mark.parametrize("level", ["L1A", "L1B"])
def test_products_in_radar_geometry_have_their_corners_as_control_points(tmp_path: Path, level: str) -> None:
    pixels = np.ones((40, 60, 2), np.int16) if level == "L1A" else lake_scene(40, 60)
    with open_scene(write_hdf5(tmp_path / "a.h5", level, pixels), SAR) as scene:
        georeference = scene.georeference
    assert georeference.geotransform is None
    places = {(gcp.pixel, gcp.line): (gcp.y, gcp.x) for gcp in georeference.gcps}
    assert places == dict(zip([(0, 0), (60, 0), (0, 40), (60, 40)], CORNERS.values(), strict=True))


def test_single_look_complex_comes_as_amplitude(tmp_path: Path) -> None:
    pixels = np.zeros((10, 12, 2), np.int16)
    pixels[..., 0], pixels[..., 1] = 30, -40
    pixels[0, 0] = 0
    with open_scene(write_hdf5(tmp_path / "a.h5", "L1A", pixels), SAR) as scene:
        rows, valid = scene.read(0, 10)
    assert rows.dtype == np.float32
    assert rows[0, 1, 1] == 50
    assert valid is not None
    assert not valid[0, 0]
    assert valid[1, 1]


def test_a_product_folder_is_one_scene(tmp_path: Path) -> None:
    pixels, gim = lake_scene(40, 60), np.full((40, 60), 190, np.uint8)
    folder = write_k5_folder(tmp_path / "product", pixels, gim)
    with open_scene(folder, WITH_GIM) as scene:
        rows = whole(scene)
        assert np.array_equal(rows[0], pixels)
        assert np.array_equal(rows[1], gim)
        assert scene.product.acquired == "2024-07-26T09:15:30Z"


def test_a_model_with_incidence_angles_refuses_a_scene_without(tmp_path: Path) -> None:
    with pytest.raises(ChannelMissing, match="GIM"):
        open_scene(write_k5_folder(tmp_path / "product", lake_scene(8, 8)), WITH_GIM)


def test_nodata_is_told_by_backscatter_and_not_by_incidence_angles(tmp_path: Path) -> None:
    pixels = lake_scene(40, 60)
    pixels[:, :10] = 0
    folder = write_k5_folder(tmp_path / "product", pixels, np.full((40, 60), 190, np.uint8))
    with open_scene(folder, WITH_GIM) as scene:
        _, valid = scene.read(0, 40)
        assert scene.nodata is None
    assert valid is not None
    assert np.array_equal(valid, pixels != 0)


def test_sentinel1_polarisations_are_chosen_by_name(tmp_path: Path) -> None:
    vv, vh = lake_scene(40, 60, seed=1), lake_scene(40, 60, seed=2)
    folder = write_safe(tmp_path / "S1A_IW_GRDH_1SDV_20240726T091530.SAFE", {"vv": vv, "vh": vh})
    with open_scene(folder, SAR) as scene:
        assert np.array_equal(whole(scene)[0], vv)
        assert len(scene.georeference.gcps) == 9
        assert scene.product.acquired == "2024-07-26T09:15:30Z"
    with open_scene(folder, SAR, SceneOptions(polarisations=("vh",))) as scene:
        assert np.array_equal(whole(scene)[0], vh)
    both = (Channel("vv", "amplitude_dn"), Channel("vh", "amplitude_dn"))
    with open_scene(folder, both) as scene:
        assert np.array_equal(whole(scene), np.stack([vv, vh]))
    with pytest.raises(ChannelMissing, match="'hh'; it has vh, vv"):
        open_scene(folder, (Channel("hh", "amplitude_dn"),))


def test_kompsat5_sigma0_of_a_projected_product_by_hand(tmp_path: Path) -> None:
    """C = 4 is above 1, so inverted: 0.25 / (1.25 * 1.25) * 0.5^2 * 100^2 = 400, or 26.02 dB."""
    for path in (
        write_hdf5(tmp_path / "a.h5", "L1D", np.full((8, 8), 100, np.uint16)),
        write_k5_folder(tmp_path / "product", np.full((8, 8), 100, np.uint16)),
    ):
        with open_scene(path, SIGMA0) as scene:
            assert whole(scene) == pytest.approx(400)
        with open_scene(path, SIGMA0_DB) as scene:
            assert whole(scene) == pytest.approx(26.0206, abs=1e-3)


def test_kompsat5_sigma0_in_radar_geometry_has_the_sine_by_hand(tmp_path: Path) -> None:
    """Halfway between 30 and 50 degrees the angle is 40: 400 * sin(40) = 257.115."""
    path = write_hdf5(tmp_path / "a.h5", "L1B", np.full((8, 9), 100, np.uint16))
    with open_scene(path, SIGMA0) as scene:
        assert whole(scene)[0, :, 4] == pytest.approx(257.115, abs=1e-2)
    with open_scene(path, SIGMA0, SceneOptions(window=Window(4, 0, 1, 8))) as scene:
        assert whole(scene)[0, :, 0] == pytest.approx(257.115, abs=1e-2), "also where a window is cut"


def test_kompsat5_sigma0_with_an_incidence_mask_by_hand(tmp_path: Path) -> None:
    """GIM 192 is 192 * 180 / 256 - 90 = 45 degrees: 400 * sin(45) = 282.843; WEC has no calibration."""
    gim = np.full((8, 9), 192, np.uint8)
    path = write_hdf5(tmp_path / "a.h5", "L1C", np.full((8, 9), 100, np.uint16), gim=gim, product_type="GEC_A")
    with open_scene(path, SIGMA0) as scene:
        assert whole(scene) == pytest.approx(282.843, abs=1e-2)
    wide = write_hdf5(tmp_path / "w.h5", "L1C", np.full((8, 9), 100, np.uint16), product_type="WEC_B")
    with pytest.raises(UnitMismatch, match="uncalibrated"):
        open_scene(wide, SIGMA0)


def test_sentinel1_sigma0_by_hand(tmp_path: Path) -> None:
    """In the middle, A = (100 + 200 + 300 + 400) / 4 = 250: 500^2 / 250^2 = 4; at the first pixel (500/100)^2 = 25."""
    pixels = np.full((41, 61), 500, np.uint16)
    pixels[7, 7] = 0
    with open_scene(write_safe(tmp_path / "a.SAFE", {"vv": pixels}), SIGMA0) as scene:
        rows, valid = scene.read(0, 41)
    assert rows[0, 20, 30] == pytest.approx(4)
    assert rows[0, 0, 0] == pytest.approx(25)
    assert valid is not None
    assert np.array_equal(valid, pixels != 0)


def test_an_uncalibrated_scene_is_refused_by_a_model_for_sigma0(tmp_path: Path) -> None:
    folder = write_safe(tmp_path / "a.SAFE", {"vv": lake_scene(8, 8)}, calibrated=False)
    with pytest.raises(UnitMismatch, match="no calibration"):
        open_scene(folder, SIGMA0_DB)


@pytest.mark.parametrize(
    ("description", "unit"),
    [("Sigma0_VV_db", "sigma0_db"), ("Sigma0_VV", "sigma0_linear"), ("Amplitude_VV", "amplitude_dn")],
)
def test_float_bands_say_their_unit_by_name(tmp_path: Path, description: str, unit: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 1.5, np.float32), descriptions=[description])
    with open_scene(path, (Channel("vv", unit),)) as scene:
        assert whole(scene) == pytest.approx(1.5)


def test_float_pixels_without_a_unit_must_be_stated_for_sigma0(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), -10, np.float32))
    with pytest.raises(UnitMismatch, match="--unit"):
        open_scene(path, SIGMA0_DB)
    with open_scene(path, SIGMA0_DB, SceneOptions(unit="sigma0_db")) as scene:
        assert whole(scene) == pytest.approx(-10)
    with open_scene(path, SIGMA0, SceneOptions(unit="sigma0_db")) as scene:
        assert whole(scene) == pytest.approx(0.1)


@pytest.mark.parametrize("quantity", ["Gamma0_VV", "Intensity_VV"])
def test_other_quantities_are_refused_by_a_model_for_sigma0(tmp_path: Path, quantity: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 0.5, np.float32), descriptions=[quantity])
    with pytest.raises(UnitMismatch):
        open_scene(path, SIGMA0)


@pytest.mark.parametrize(
    ("description", "stored", "amplitude"),
    [
        ("Sigma0_VV", 0.01, 40),  # 400 DN at 0 dB
        ("Sigma0_VV_db", -20, 40),
        ("Gamma0_VV", 0.0625, 100),
        ("Beta0_VH_db", 0, 400),
        ("Intensity_VV", 900, 30),
        ("Intensity_VV_db", 20, 10),
        ("Sigma0_VV", -0.001, 1),  # noise was subtracted: dark, not nodata
    ],
)
def test_backscatter_becomes_amplitude_by_hand(
    tmp_path: Path, description: str, stored: float, amplitude: float
) -> None:
    pixels = np.full((8, 8), stored, np.float32)
    pixels[2, 3] = np.nan
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=[description])
    with open_scene(path, SAR) as scene:
        rows, valid = scene.read(0, 8)
        notes = " ".join(scene.notes)
    assert valid is not None
    assert np.array_equal(valid, np.isfinite(pixels))
    assert rows[0][valid] == pytest.approx(amplitude, rel=1e-5)
    assert "was converted to amplitude_dn" in notes


def test_declared_nodata_of_backscatter_stays_nodata(tmp_path: Path) -> None:
    pixels = np.full((8, 8), -12, np.float32)
    pixels[:3] = -9999
    path = write_geotiff(tmp_path / "a.tif", pixels, nodata=-9999)
    with open_scene(path, SAR, SceneOptions(unit="gamma0_db")) as scene:
        _, valid = scene.read(0, 8)
    assert valid is not None
    assert np.array_equal(valid, pixels == -12)


def test_backscatter_that_does_not_say_so_is_refused_with_the_option_to_give(tmp_path: Path) -> None:
    """As amplitude, all of it would be water."""
    path = write_geotiff(tmp_path / "a.tif", (lake_scene(60, 70) / np.float32(400)) ** 2)
    with (
        open_scene(path, SAR) as scene,
        pytest.raises(UnitMismatch, match="linear backscatter: state that with --unit"),
    ):
        whole(scene)
    with open_scene(path, SAR, SceneOptions(unit="sigma0_linear")) as scene:
        assert whole(scene)[0] == pytest.approx(lake_scene(60, 70), rel=1e-5)


@pytest.mark.parametrize(
    ("stored", "stated", "reason"),
    [
        (np.full((8, 8), -1234, np.int16), "sigma0_db", "decibels times 100"),
        (np.full((8, 8), -12.5, np.float32), "sigma0_linear", "looks like decibels"),
        (np.full((8, 8), 0.05, np.float32), "gamma0_db", "looks like linear"),
        (np.full((8, 8), 50, np.uint16), "gamma0_linear", "looks like amplitude"),
        (np.full((8, 8), 50, np.uint16), "sigma0_db", "looks like amplitude"),
    ],
)
def test_a_unit_that_cannot_be_is_refused(tmp_path: Path, stored: np.ndarray, stated: str, reason: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", stored)
    with open_scene(path, SAR, SceneOptions(unit=stated)) as scene, pytest.raises(UnitMismatch, match=reason):
        whole(scene)


def test_decibels_as_integers_are_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), -1234, np.int16))
    with open_scene(path, SAR) as scene, pytest.raises(UnitMismatch, match="-1234"):
        whole(scene)


def test_a_few_integers_that_have_overflowed_are_no_decibels(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 120, np.int16)
    pixels[0, :3] = -32000
    with open_scene(write_geotiff(tmp_path / "a.tif", pixels), SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)


def test_dark_water_is_still_an_amplitude(tmp_path: Path) -> None:
    """A float product in DN whose open water is below 1 here and there."""
    pixels = np.full((8, 8), 7, np.float32)
    pixels[:, :3] = 0.4
    with open_scene(write_geotiff(tmp_path / "a.tif", pixels), SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)


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
        open_scene(external, SAR)

    stored = write_hdf5(tmp_path / "b.h5", "L1D", lake_scene(8, 8))
    with h5py.File(stored, "a") as file:
        file["S01"].create_dataset("MBI", (2, 2), "u1", external=[("/etc/hostname", 0, 4)])
    with pytest.raises(SceneUnsafe, match="other files"):
        open_scene(stored, SAR)

    virtual = write_hdf5(tmp_path / "c.h5", "L1D", lake_scene(8, 8))
    layout = h5py.VirtualLayout((8, 8), "u2")
    layout[:] = h5py.VirtualSource(str(stored), "S01/SBI", (8, 8))
    with h5py.File(virtual, "a") as file:
        file.create_virtual_dataset("S01/MBI", layout)
    with pytest.raises(SceneUnsafe, match="other files"):
        open_scene(virtual, SAR)


def test_hdf5_of_something_else_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["temperature"] = np.zeros((4, 4))
    with pytest.raises(SceneUnreadable, match="KOMPSAT-5"):
        open_scene(tmp_path / "a.h5", SAR)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_truncated_hdf5_is_refused(tmp_path: Path, share: float) -> None:
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(100, 100))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises((SceneTruncated, SceneUnreadable)):
        open_scene(path, SAR)


def test_hdf5_beyond_a_limit_is_unsafe(tmp_path: Path) -> None:
    path = write_hdf5(tmp_path / "a.h5", "L1D", lake_scene(100, 100))
    with pytest.raises(SceneUnsafe, match="10,000 pixels"):
        open_scene(path, SAR, SceneOptions(limits=SceneLimits(pixels=9_999)))


def test_a_symbolic_link_in_a_product_folder_is_refused(tmp_path: Path) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    os.symlink("/etc/hostname", folder / "K5_GIM.tif")
    with pytest.raises(SceneUnsafe, match="symbolic link"):
        open_scene(folder, SAR)


@pytest.mark.parametrize(
    "text", ["<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "<!-- fine --><!DOCTYPE a SYSTEM '/etc/hostname'><a/>"]
)
def test_xml_with_entities_is_refused(tmp_path: Path, text: str) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    next(folder.glob("*_Aux.xml")).write_text(text)
    with pytest.raises(SceneUnsafe, match="entities"):
        open_scene(folder, SAR)


def test_the_hash_of_a_folder_covers_names_and_contents(tmp_path: Path) -> None:
    folder = write_k5_folder(tmp_path / "product", lake_scene(8, 8))
    first = hash_input(folder)
    assert hash_input(folder) == first
    (folder / "more.txt").write_text("x")
    second = hash_input(folder)
    (folder / "more.txt").rename(folder / "other.txt")
    assert len({first, second, hash_input(folder)}) == 3
