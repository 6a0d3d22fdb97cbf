"""Units: calibration by hand, what a band says of itself, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import UnitMismatch
from sarwater.manifest import Channel
from sarwater.request import Request, Window
from sarwater.scenes.readers import open_model_input
from tests.support.deliveries import whole, write_hdf5, write_k5_folder, write_safe
from tests.support.rasters import lake_scene, write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
SIGMA0 = (Channel("sar", "sigma0_linear"),)
SIGMA0_DB = (Channel("sar", "sigma0_db"),)


def test_kompsat5_sigma0_of_a_projected_product_by_hand(tmp_path: Path) -> None:
    """C = 4 is above 1, so inverted: 0.25 / (1.25 * 1.25) * 0.5^2 * 100^2 = 400, or 26.02 dB."""
    for path in (
        write_hdf5(tmp_path / "a.h5", "L1D", np.full((8, 8), 100, np.uint16)),
        write_k5_folder(tmp_path / "product", np.full((8, 8), 100, np.uint16)),
    ):
        with open_model_input(path, SIGMA0) as scene:
            assert whole(scene) == pytest.approx(400)
        with open_model_input(path, SIGMA0_DB) as scene:
            assert whole(scene) == pytest.approx(26.0206, abs=1e-3)


def test_kompsat5_sigma0_in_radar_geometry_has_the_sine_by_hand(tmp_path: Path) -> None:
    """Halfway between 30 and 50 degrees the angle is 40: 400 * sin(40) = 257.115."""
    path = write_hdf5(tmp_path / "a.h5", "L1B", np.full((8, 9), 100, np.uint16))
    with open_model_input(path, SIGMA0) as scene:
        assert whole(scene)[0, :, 4] == pytest.approx(257.115, abs=1e-2)
    with open_model_input(path, SIGMA0, Request(window=Window(4, 0, 1, 8))) as scene:
        assert whole(scene)[0, :, 0] == pytest.approx(257.115, abs=1e-2), "also where a window is cut"


def test_kompsat5_sigma0_with_an_incidence_mask_by_hand(tmp_path: Path) -> None:
    """GIM 192 is 192 * 180 / 256 - 90 = 45 degrees: 400 * sin(45) = 282.843; WEC has no calibration."""
    gim = np.full((8, 9), 192, np.uint8)
    path = write_hdf5(tmp_path / "a.h5", "L1C", np.full((8, 9), 100, np.uint16), gim=gim, product_type="GEC_A")
    with open_model_input(path, SIGMA0) as scene:
        assert whole(scene) == pytest.approx(282.843, abs=1e-2)
    wide = write_hdf5(tmp_path / "w.h5", "L1C", np.full((8, 9), 100, np.uint16), product_type="WEC_B")
    with pytest.raises(UnitMismatch, match="uncalibrated"):
        open_model_input(wide, SIGMA0)


def test_sentinel1_sigma0_by_hand(tmp_path: Path) -> None:
    """In the middle, A = (100 + 200 + 300 + 400) / 4 = 250: 500^2 / 250^2 = 4; at the first pixel (500/100)^2 = 25."""
    pixels = np.full((41, 61), 500, np.uint16)
    pixels[7, 7] = 0
    with open_model_input(write_safe(tmp_path / "a.SAFE", {"vv": pixels}), SIGMA0) as scene:
        rows, valid = scene.read(0, 41)
    assert rows[0, 20, 30] == pytest.approx(4)
    assert rows[0, 0, 0] == pytest.approx(25)
    assert valid is not None
    assert np.array_equal(valid, pixels != 0)


def test_an_uncalibrated_scene_is_refused_by_a_model_for_sigma0(tmp_path: Path) -> None:
    folder = write_safe(tmp_path / "a.SAFE", {"vv": lake_scene(8, 8)}, calibrated=False)
    with pytest.raises(UnitMismatch, match="no calibration"):
        open_model_input(folder, SIGMA0_DB)


@pytest.mark.parametrize(
    ("description", "unit"),
    [("Sigma0_VV_db", "sigma0_db"), ("Sigma0_VV", "sigma0_linear"), ("Amplitude_VV", "amplitude_dn")],
)
def test_float_bands_say_their_unit_by_name(tmp_path: Path, description: str, unit: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 1.5, np.float32), descriptions=[description])
    with open_model_input(path, (Channel("vv", unit),)) as scene:
        assert whole(scene) == pytest.approx(1.5)


def test_float_pixels_without_a_unit_must_be_stated_for_sigma0(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), -10, np.float32))
    with pytest.raises(UnitMismatch, match="--unit"):
        open_model_input(path, SIGMA0_DB)
    with open_model_input(path, SIGMA0_DB, Request(unit="sigma0_db")) as scene:
        assert whole(scene) == pytest.approx(-10)
    with open_model_input(path, SIGMA0, Request(unit="sigma0_db")) as scene:
        assert whole(scene) == pytest.approx(0.1)


@pytest.mark.parametrize("quantity", ["Gamma0_VV", "Intensity_VV"])
def test_other_quantities_are_refused_by_a_model_for_sigma0(tmp_path: Path, quantity: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 0.5, np.float32), descriptions=[quantity])
    with pytest.raises(UnitMismatch):
        open_model_input(path, SIGMA0)


@pytest.mark.parametrize(
    ("description", "stored", "amplitude"),
    [
        ("Sigma0_VV", 0.01, 40),  # 400 DN at 0 dB
        ("Sigma0_VV_db", -20, 40),
        ("Gamma0_VV", 0.0625, 100),
        ("Beta0_VH_db", 6.0206, 800),
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
    with open_model_input(path, SAR) as scene:
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
    with open_model_input(path, SAR, Request(unit="gamma0_db")) as scene:
        _, valid = scene.read(0, 8)
    assert valid is not None
    assert np.array_equal(valid, pixels == -12)


def test_backscatter_that_does_not_say_so_is_refused_with_the_option_to_give(tmp_path: Path) -> None:
    """As amplitude, all of it would be water."""
    path = write_geotiff(tmp_path / "a.tif", (lake_scene(60, 70) / np.float32(400)) ** 2)
    with (
        open_model_input(path, SAR) as scene,
        pytest.raises(UnitMismatch, match="linear backscatter: state that with --unit"),
    ):
        whole(scene)
    with open_model_input(path, SAR, Request(unit="sigma0_linear")) as scene:
        assert whole(scene)[0] == pytest.approx(lake_scene(60, 70), rel=1e-5)


@pytest.mark.parametrize(
    ("stored", "stated", "reason"),
    [
        (np.full((8, 8), -1234, np.int16), "sigma0_db", "decibels times 100"),
        (np.full((8, 8), -12.5, np.float32), "sigma0_linear", "looks like decibels"),
        (np.full((8, 8), 0.05, np.float32), "gamma0_db", "looks like linear"),
        (np.full((8, 8), 50, np.uint16), "gamma0_linear", "looks like amplitude"),
        (np.full((8, 8), 50, np.uint16), "sigma0_db", "above 10 dB"),
    ],
)
def test_a_unit_that_cannot_be_is_refused(tmp_path: Path, stored: np.ndarray, stated: str, reason: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", stored)
    with open_model_input(path, SAR, Request(unit=stated)) as scene, pytest.raises(UnitMismatch, match=reason):
        whole(scene)


def test_decibels_as_integers_are_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), -1234, np.int16))
    with open_model_input(path, SAR) as scene, pytest.raises(UnitMismatch, match="-1234"):
        whole(scene)


def test_a_few_integers_that_have_overflowed_are_no_decibels(tmp_path: Path) -> None:
    pixels = np.full((8, 8), 120, np.int16)
    pixels[0, :3] = -32000
    with open_model_input(write_geotiff(tmp_path / "a.tif", pixels), SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)


def test_dark_water_is_still_an_amplitude(tmp_path: Path) -> None:
    """A float product in DN whose open water is below 1 here and there."""
    pixels = np.full((8, 8), 7, np.float32)
    pixels[:, :3] = 0.4
    with open_model_input(write_geotiff(tmp_path / "a.tif", pixels), SAR) as scene:
        assert np.array_equal(whole(scene)[0], pixels)
