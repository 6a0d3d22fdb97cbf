from __future__ import annotations

import pytest

from sarwater.scenes.sensor import sensor_of


def test_a_sentinel1_name_tells_mode_type_and_orbits() -> None:
    name = "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054321_069C11_ABCD.SAFE"
    sensor = sensor_of(name, "Sentinel-1 GRD")
    assert sensor
    assert (sensor.platform, sensor.mode, sensor.product_type) == ("sentinel-1a", "IW", "GRD")
    assert (sensor.absolute_orbit, sensor.relative_orbit) == (54321, (54321 - 73) % 175 + 1)
    assert sensor.frequency_band == "C"


def test_a_kompsat5_name_tells_mode_type_and_pass() -> None:
    sensor = sensor_of("K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D", "KOMPSAT-5 L1D")
    assert sensor
    assert (sensor.platform, sensor.mode, sensor.product_type) == ("kompsat-5", "ES", "GTC")
    assert (sensor.orbit_state, sensor.absolute_orbit, sensor.relative_orbit) == ("descending", 12345, None)


@pytest.mark.parametrize(
    ("name", "format", "platform"),
    [
        ("TDX1_SAR__MGD_SE___SM_S", "TerraSAR-X MGD", "tandem-x"),
        ("scene.h5", "COSMO-SkyMed L1D HDF5", "cosmo-skymed"),
        ("CSKS2_GEC_B.h5", "COSMO-SkyMed L1C HDF5", "cosmo-skymed2"),
        ("RCM1_OK1", "RCM GRD", "rcm-1"),
        ("renamed.zip", "Sentinel-1 GRD", "sentinel-1"),
    ],
)
def test_format_or_name_tell_the_satellite(name: str, format: str, platform: str) -> None:
    sensor = sensor_of(name, format)
    assert sensor
    assert sensor.platform == platform
    assert sensor.mode is None


@pytest.mark.parametrize("name", ["scene.tif", "", "lake_K5_x.tif"])
def test_what_names_no_satellite_has_none(name: str) -> None:
    assert sensor_of(name, "GeoTIFF") is None
