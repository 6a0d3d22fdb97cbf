"""Scale, offset, unit and calibration constant as bands, tags and names state them; advice, followed."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from osgeo import gdal

from sarwater.errors import UnitMismatch, UsageError
from sarwater.manifest import Channel
from sarwater.request import MASK_SETTINGS, Request
from sarwater.scenes.radiometry import BandFacts, radiometry_of
from sarwater.scenes.readers import open_model_input, open_scene
from sarwater.scenes.units import SCENE_UNITS, UNKNOWN_UNIT
from tests.support.rasters import write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
SIGMA0_DB = (Channel("sar", "sigma0_db"),)


def stated(
    path: Path,
    pixels: np.ndarray,
    *,
    name: str = "",
    unit: str = "",
    scale: float | None = None,
    offset: float | None = None,
    band_tags: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    nodata: float | None = None,
) -> Path:
    write_geotiff(path, pixels, descriptions=[name] if name else [], metadata=tags, nodata=nodata)
    dataset = gdal.Open(str(path), gdal.GA_Update)
    band = dataset.GetRasterBand(1)
    band.SetUnitType(unit)
    if scale is not None:
        band.SetScale(scale)
    if offset is not None:
        band.SetOffset(offset)
    band.SetMetadata(band_tags or {})
    dataset.FlushCache()
    return path


def amplitude(path: Path, **choices: object) -> float:
    """Of the first pixel, as a model of amplitudes sees it."""
    with open_model_input(path, SAR, Request(**choices)) as scene:  # type: ignore[arg-type]
        rows, _ = scene.read(0, scene.height_px)
    return float(rows[0, 0, 0])


@pytest.mark.parametrize(
    ("stored", "dtype", "said"),
    [
        (-2000, np.int16, {"name": "Sigma0_VV_db", "scale": 0.01, "unit": "dB"}),
        (-2000, np.int16, {"name": "VV", "scale": 0.01, "unit": "dB"}),
        (-200, np.int16, {"name": "Sigma0_VV", "band_tags": {"units": "dB", "scale_factor": "0.1"}}),
        (-2000, np.int16, {"name": "Gamma0_VV_dB_x100"}),
        (-2000, np.int16, {"tags": {"UNITS": "dB * 100", "quantity": "gamma nought"}}),
        (-2000, np.int16, {"unit": "dB", "tags": {"SCALE_FACTOR": "0.01"}}),
        (50, np.uint8, {"unit": "decibel", "scale": 0.5, "offset": -45.0}),
        (3000, np.uint16, {"unit": "dB", "scale": 0.01, "offset": -50.0}),
        (100, np.uint8, {"tags": {"TIFFTAG_IMAGEDESCRIPTION": "Sigma0 VV; dB = DN * 0.2 - 40"}}),
        (100, np.uint8, {"name": "Sigma0_VV_db, scale 0.2, offset -40"}),
        (1000, np.uint16, {"tags": {"description": "gamma0 [dB] = 20*log10(DN) - 80"}}),
        (10, np.uint16, {"name": "Gamma0_VV", "scale": 0.001}),
        (100, np.uint16, {"name": "Sigma0_VV_amplitude", "scale": 0.001}),
        (0.01, np.float32, {"tags": {"PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_NORMALIZATION_CONVENTION": "gamma0"}}),
        (-20, np.float64, {"name": "VV", "unit": "dB"}),
        (-20, np.float32, {"name": "VV", "tags": {"radiometry": "gamma0", "units": "dB"}}),
    ],
)
def test_minus_20_db_is_40_dn_however_it_is_stored(tmp_path: Path, stored: float, dtype: type, said: dict) -> None:
    path = stated(tmp_path / "a.tif", np.full((8, 8), stored, dtype), **said)
    assert amplitude(path) == pytest.approx(40, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "stored", "unit"),
    [
        ("S1A_IW_20240716T093112_DVP_RTC10_G_gpuned_1A2B_VV.tif", 0.01, "gamma0_linear"),
        ("S1A_IW_20240716T093112_DVP_RTC30_G_sdufem_1A2B_VH.tif", -20, "sigma0_db"),
        ("S1B_IW_20240716T093112_SVP_RTC20_G_gawncd_1A2B_VV.tif", 0.1, "gamma0_amplitude"),
        ("S1A_IW_RT30_20170708T161200_G_gpn_VV.tif", 0.01, "gamma0_linear"),
        ("OPERA_L2_RTC-S1_T054-114794-IW1_20240716T093112Z_20240716T170022Z_S1A_30_v1.0_VV.tif", 0.01, "gamma0_linear"),
        ("scene_gamma0_decibel_VV.tif", -20, "gamma0_db"),
    ],
)
def test_the_name_says_it_where_tags_are_silent(tmp_path: Path, name: str, stored: float, unit: str) -> None:
    path = write_geotiff(tmp_path / name, np.full((8, 8), stored, np.float32))
    with open_scene(path) as scene:
        assert scene.bands[0].unit == unit
    assert amplitude(path) == pytest.approx(40, rel=1e-5)


def test_tags_overrule_the_name(tmp_path: Path) -> None:
    path = tmp_path / "S1A_IW_20240716T093112_DVP_RTC10_G_gpuned_1A2B_VV.tif"
    assert amplitude(stated(path, np.full((8, 8), -20, np.float32), unit="dB")) == pytest.approx(40)


def test_the_equation_of_decibels_and_the_noise_are_no_unit(tmp_path: Path) -> None:
    tags = {
        "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_NORMALIZATION_CONVENTION": "gamma0",
        "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_EXPRESSION_CONVENTION": "linear backscatter intensity",
        "PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_DECIBEL_CONVERSION_EQUATION": "backscatter_dB = 10*log10(linear)",
        "NOISE_UNIT": "dB",
    }
    path = stated(tmp_path / "a.tif", np.full((8, 8), 0.01, np.float32), tags=tags)
    assert amplitude(path) == pytest.approx(40)


def test_nodata_is_compared_as_it_is_stored(tmp_path: Path) -> None:
    pixels = np.full((8, 8), -2000, np.int16)
    pixels[2:4] = -32768
    path = stated(tmp_path / "a.tif", pixels, name="Sigma0_VV_db", scale=0.01, nodata=-32768)
    with open_model_input(path, SAR) as scene:
        rows, valid = scene.read(0, 8)
        notes = " ".join(scene.notes)
    assert valid is not None
    assert np.array_equal(valid, pixels != -32768)
    assert rows[0][valid] == pytest.approx(40, rel=1e-5)
    assert "stored values were multiplied by 0.01 to be sigma0_db, as the band says" in notes
    with open_model_input(path, SIGMA0_DB) as scene:
        assert scene.read(0, 8)[0][0, 0, 0] == pytest.approx(-20)


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        ({"CALIBRATION_FACTOR": "1e-6"}, "ICEYE_X12_GRD_SM_20240716T093112.tif"),
        ({"ICEYE_PROPERTIES": json.dumps({"iceye:calibration_factor": 1e-6, "iceye:orbit_states": [{}]})}, "a.tif"),
        (
            {
                "TIFFTAG_IMAGEDESCRIPTION": json.dumps(
                    {"collect": {"image": {"scale_factor": 1e-3, "radiometry": "gamma_nought", "calibration": "full"}}}
                )
            },
            "CAPELLA_C10_SM_GEO_HH_20240716093112_20240716093119.tif",
        ),
        ({"CalibrationFactor": "-60.0"}, "a.tif"),
        ({"CALIBRATION_CONSTANT_DB": "-60"}, "a.tif"),
    ],
)
def test_a_calibration_constant_in_the_tags_is_applied(tmp_path: Path, tags: dict[str, str], name: str) -> None:
    """20 log10(100) - 60 = -20 dB, which is 40 DN."""
    path = write_geotiff(tmp_path / name, np.full((8, 8), 100, np.uint16), metadata=tags)
    assert amplitude(path) == pytest.approx(40, rel=1e-5)
    with open_model_input(path, (Channel("sar", "amplitude_dn"),), Request(unit="amplitude_dn")) as scene:
        assert scene.read(0, 1)[0][0, 0, 0] == 100, "who says that it is DN gets DN"


ICEYE = {"CALIBRATION_FACTOR": "1e-6"}


@pytest.mark.parametrize(
    ("dtype", "stored", "said"),
    [
        (np.complex64, 60 + 80j, {}),
        (np.float32, 100, {"name": "amplitude"}),
        (np.float32, 100, {"band_tags": {"NAME": "amplitude"}}),
        (np.uint16, 50, {"scale": 2.0}),
        (np.uint16, 90, {"scale": 1.0, "offset": 10.0}),
    ],
)
def test_a_calibration_constant_is_of_complex_and_of_scaled_amplitudes_too(
    tmp_path: Path, dtype: type, stored: complex, said: dict
) -> None:
    """power = factor * |amplitude|^2, of an amplitude of 100: -20 dB, which is 40 DN."""
    path = stated(tmp_path / "a.tif", np.full((8, 8), stored, dtype), tags=ICEYE, **said)
    with open_model_input(path, SIGMA0_DB) as scene:
        assert scene.read(0, 8)[0] == pytest.approx(-20, abs=1e-4)
    assert amplitude(path) == pytest.approx(40, rel=1e-5)


def test_of_amplitude_and_phase_of_iceye_the_amplitude_is_taken(tmp_path: Path) -> None:
    bands = np.stack([np.full((8, 8), 100), np.full((8, 8), -3)]).astype(np.float32)
    tags = {"ICEYE_PROPERTIES": json.dumps({"iceye:calibration_factor": 1e-6, "sar:polarizations": ["VV"]})}
    path = write_geotiff(tmp_path / "ICEYE_SLC.tif", bands, metadata=tags)
    dataset = gdal.Open(str(path), gdal.GA_Update)
    for number, name in enumerate(("amplitude", "phase"), 1):
        dataset.GetRasterBand(number).SetMetadata({"NAME": name})
    dataset.FlushCache()
    del dataset
    with open_scene(path) as scene:
        assert [(band.polarisation, band.unit) for band in scene.bands] == [("vv", "sigma0_amplitude")]
    assert amplitude(path) == pytest.approx(40, rel=1e-5)


def test_amplitudes_that_were_mapped_to_a_curve_are_not_calibrated_by_a_factor(tmp_path: Path) -> None:
    properties = {"iceye:calibration_factor": 1e-6, "iceye:amplitude_mapping": {"function": "power"}}
    tags = {"ICEYE_PROPERTIES": json.dumps(properties)}
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 100, np.uint8), metadata=tags)
    with open_scene(path) as scene:
        assert scene.bands[0].unit == "amplitude_dn"


def test_complex_dn_of_jaxa_have_minus_115_db(tmp_path: Path) -> None:
    path = write_geotiff(
        tmp_path / "IMG-HH-ALOS2235250730-180928-HBQR1.1.tif", np.full((8, 8), 8e4 + 6e4j, np.complex64)
    )
    with open_model_input(path, SIGMA0_DB) as scene:
        assert scene.read(0, 8)[0] == pytest.approx(100 - 115, abs=1e-4)


@pytest.mark.parametrize(
    "name",
    ["IMG-HH-ALOS2235250730-180928-FBDR1.5RUA.tif", "N36E127_20_sl_HH_F02DAR.tif", "N36E127_2015_HH_ALOS2x.tif"],
)
def test_dn_of_jaxa_have_minus_83_db(tmp_path: Path, name: str) -> None:
    """20 log10(2000) - 83 = -16.979 dB: 400 * 10^(-16.979 / 20) = 56.63."""
    path = write_geotiff(tmp_path / name, np.full((8, 8), 2000, np.uint16))
    expected = 2000 if "ALOS2x" in name else 56.64
    assert amplitude(path) == pytest.approx(expected, rel=1e-3)
    assert amplitude(path, calibration_constant_db=-83) == pytest.approx(56.64, rel=1e-3)


def test_a_stated_constant_gives_sigma0_to_models_of_sigma0_and_is_part_of_the_key(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), 1000, np.uint16))
    with open_model_input(path, SIGMA0_DB, Request(calibration_constant_db=-80)) as scene:
        assert scene.read(0, 8)[0] == pytest.approx(-20, abs=1e-4)
    assert {"scale", "offset", "calibration_constant_db"} <= set(MASK_SETTINGS)


def test_a_constant_of_what_is_no_dn_is_a_usage_error(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((8, 8), -12, np.float32), descriptions=["Sigma0_VV_db"])
    with pytest.raises(UsageError, match="leave --calibration-constant-db"):
        open_model_input(path, SAR, Request(calibration_constant_db=-83))


def _db_times_100() -> np.ndarray:
    return np.random.default_rng(0).normal(-1400, 300, (60, 70)).astype(np.int16)


@pytest.mark.parametrize(
    ("pixels", "choices", "expected_db"),
    [
        (_db_times_100(), {}, _db_times_100() / 100),
        (_db_times_100(), {"unit": "gamma0_db"}, _db_times_100() / 100),
        ((_db_times_100() / 10).astype(np.int16), {}, (_db_times_100() / 10).astype(np.int16) / 10),
        ((_db_times_100() / 100).astype(np.float32), {}, _db_times_100() / 100),
        ((_db_times_100() / 100).astype(np.float32), {"unit": "sigma0_linear"}, _db_times_100() / 100),
        (10 ** (_db_times_100() / 1000).astype(np.float32), {"unit": "sigma0_db"}, _db_times_100() / 100),
        (10 ** (_db_times_100() / 1000).astype(np.float32), {}, _db_times_100() / 100),
    ],
)
def test_the_advice_of_a_refusal_works(
    tmp_path: Path, pixels: np.ndarray, choices: dict[str, str], expected_db: np.ndarray
) -> None:
    path = write_geotiff(tmp_path / "a.tif", pixels)
    with open_model_input(path, SAR, Request(**choices)) as scene, pytest.raises(UnitMismatch) as refused:
        scene.read(0, 60)
    advice = re.search(r"--unit [\w]+(?: --scale [\d.e-]+)?", str(refused.value))
    assert advice is not None
    words = advice[0].split()
    follow = {flag.strip("-"): value for flag, value in zip(words[::2], words[1::2], strict=True)}
    with open_model_input(path, SAR, Request(**follow)) as scene:
        rows, _ = scene.read(0, 60)
    assert rows[0] == pytest.approx(400 * 10 ** (expected_db / 20), rel=1e-3)


def test_the_advice_counts_with_the_scale_that_was_applied(tmp_path: Path) -> None:
    """Some divide by `scale_factor`, where CF multiplies."""
    path = stated(tmp_path / "a.tif", _db_times_100(), unit="dB", band_tags={"scale_factor": "100"}, nodata=-9999)
    with open_model_input(path, SAR) as scene, pytest.raises(UnitMismatch, match=r"--unit sigma0_db --scale 0\.01$"):
        scene.read(0, 60)
    with open_model_input(path, SAR, Request(unit="sigma0_db", scale=0.01)) as scene:
        rows, _ = scene.read(0, 60)
    assert rows[0] == pytest.approx(400 * 10 ** (_db_times_100() / 100 / 20), rel=1e-3)


def test_bytes_called_decibels_want_scale_and_offset(tmp_path: Path) -> None:
    level_db = _db_times_100() / 100
    path = stated(tmp_path / "a.tif", ((level_db + 40) / 0.2).round().astype(np.uint8), name="Sigma0_VV_db")
    with open_model_input(path, SAR) as scene, pytest.raises(UnitMismatch, match=r"--scale 0\.2 --offset -40"):
        scene.read(0, 60)
    with open_model_input(path, SAR, Request(unit="sigma0_db", scale=0.2, offset=-40)) as scene:
        rows, _ = scene.read(0, 60)
    assert np.abs(20 * np.log10(rows[0] / 400) - level_db).max() <= 0.101


TAGS = st.dictionaries(
    st.sampled_from(["scale_factor", "add_offset", "units", "CALIBRATION_FACTOR", "TIFFTAG_IMAGEDESCRIPTION", "image"])
    | st.text(max_size=9),
    st.text(max_size=30)
    | st.sampled_from(["{" * 5000, '{"a":' * 5000, "1e999", "nan", "-0", "1" * 400, "sigma0 dB x 100"]),
    max_size=4,
)


@settings(deadline=None)
@given(TAGS, TAGS, st.sampled_from(["u1", "u2", "i2", "f4", "f8", "c8"]), st.text(max_size=20), st.text(max_size=20))
def test_whatever_a_product_says_its_scale_is_a_number(
    tags: dict[str, str], file_tags: dict[str, str], dtype: str, description: str, name: str
) -> None:
    said = radiometry_of(BandFacts(np.dtype(dtype), description, description, tags), file_tags, name)
    assert said.unit in (*SCENE_UNITS, UNKNOWN_UNIT)
    assert math.isfinite(said.scale)
    assert said.scale != 0
    assert math.isfinite(said.offset)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.uint16, np.float32])
def test_intensity_in_any_type_is_the_square_of_an_amplitude(tmp_path: Path, dtype: type) -> None:
    path = stated(tmp_path / "a.tif", np.full((70, 70), 120**2, dtype), name="Intensity_VV")
    assert amplitude(path) == pytest.approx(120)


@pytest.mark.parametrize(("name", "band_tags"), [("", {"description": "Power in VV"}), ("S1_Intensity_VV", {})])
def test_intensity_in_32_bits_is_told_by_a_tag_or_the_files_name(
    tmp_path: Path, name: str, band_tags: dict[str, str]
) -> None:
    path = stated(tmp_path / f"{name or 'a'}.tif", np.full((70, 70), 120**2, np.uint32), band_tags=band_tags)
    assert amplitude(path) == pytest.approx(120)


def test_eight_bits_of_intensity_are_a_picture_of_amplitude(tmp_path: Path) -> None:
    path = stated(tmp_path / "a.tif", np.full((70, 70), 120, np.uint8), name="Intensity_VV")
    assert amplitude(path) == 120
