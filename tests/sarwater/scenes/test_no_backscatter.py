"""What lies beside SAR scenes is refused with the reason; what merely looks like it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal, osr

from sarwater.errors import SceneError, SceneIsProduct, SceneNoBackscatter
from sarwater.scenes.readers import open_scene
from tests.support.rasters import lake_scene, write_geotiff

HYP3 = "S1A_IW_20240716T093112_DVP_RTC10_G_gpuned_1A2B"
OPERA = "OPERA_L2_RTC-S1_T054-114794-IW1_20240716T093112Z_20240716T170022Z_S1A_30_v1.0"
STATIC = "OPERA_L2_RTC-S1-STATIC_T054-114794-IW1_20140403_S1A_30_v1.0"


def patches(*values: int) -> np.ndarray:
    pixels = np.full((200, 300), values[0], np.uint8)
    for number, value in enumerate(values[1:]):
        pixels[20 + 40 * number : 60 + 40 * number, 40:250] = value
    return pixels


def hills() -> np.ndarray:
    y, x = np.mgrid[:200, :300]
    heights: np.ndarray = (
        400 + 80 * np.sin(x / 60) + 60 * np.cos(y / 45) + np.random.default_rng(1).normal(0, 1, x.shape)
    )
    return heights


@pytest.mark.parametrize(
    ("name", "pixels", "why"),
    [
        (f"{HYP3}_ls_map.tif", patches(1, 17, 5), "layover and shadow"),
        (f"{HYP3}_dem.tif", hills().astype(np.int16), "heights"),
        (f"{HYP3}_inc_map.tif", np.full((200, 300), 0.66, np.float32), "angles"),
        (f"{HYP3}_area.tif", hills().astype(np.float32), "beside the backscatter"),
        (f"{OPERA}_mask.tif", patches(0, 3, 255), "mask"),
        (f"{STATIC}_local_incidence_angle.tif", np.full((200, 300), 38, np.float32), "angles"),
        (f"{STATIC}_number_of_looks.tif", hills().astype(np.float32), "beside the backscatter"),
        ("N36E127_20_linci_F02DAR.tif", patches(38, 39), "smoothly|angles"),
        ("dem.tif", hills().astype(np.float32), "heights"),
        ("whatever.tif", hills().astype(np.float32), "as heights or angles"),
        ("whatever.tif", hills().astype(np.int16), "as heights or angles"),
        ("whatever.tif", patches(0, 1, 255), "classes"),
        ("whatever.tif", patches(1, 17, 5), "1, 5, 17"),
    ],
)
def test_what_is_no_backscatter_is_refused(tmp_path: Path, name: str, pixels: np.ndarray, why: str) -> None:
    with pytest.raises(SceneNoBackscatter, match=why) as refused:
        open_scene(write_geotiff(tmp_path / name, pixels))
    assert refused.value.exit_code == 1


@pytest.mark.parametrize(
    ("description", "why"),
    [
        ("localIncidenceAngle", "angles"),
        ("projectedLocalIncidenceAngle", "angles"),
        ("elevation", "heights"),
        ("layover_shadow_mask", "layover and shadow|mask"),
    ],
)
def test_bands_as_snap_calls_them_are_refused(tmp_path: Path, description: str, why: str) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(80, 90).astype(np.float32), descriptions=[description])
    with pytest.raises(SceneNoBackscatter, match=why):
        open_scene(path)


def test_a_colour_table_and_named_flags_are_classes(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(80, 90).clip(0, 250).astype(np.uint8))
    dataset = gdal.Open(str(path), gdal.GA_Update)
    dataset.GetRasterBand(1).SetMetadata({"flag_values": "0,1,2", "flag_meanings": "land water shadow"})
    del dataset
    with pytest.raises(SceneNoBackscatter, match="flags"):
        open_scene(path)
    coloured = gdal.GetDriverByName("GTiff").Create(str(tmp_path / "b.tif"), 90, 80, 1, gdal.GDT_Byte)
    table = gdal.ColorTable()
    table.SetColorEntry(1, (0, 0, 255))
    coloured.GetRasterBand(1).SetColorTable(table)
    coloured.GetRasterBand(1).WriteArray(lake_scene(80, 90).clip(0, 250).astype(np.uint8))
    del coloured
    with pytest.raises(SceneNoBackscatter, match="colour table"):
        open_scene(tmp_path / "b.tif")


@pytest.mark.parametrize("bands", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_in_rgb_are_refused_and_polarisations_in_bytes_are_not(
    tmp_path: Path, bands: int, dtype: type
) -> None:
    pixels = np.stack([lake_scene(80, 90).clip(0, 250).astype(dtype)] * bands)
    options = ["PHOTOMETRIC=RGB"]
    with pytest.raises(SceneNoBackscatter, match="red, green and blue"):
        open_scene(write_geotiff(tmp_path / "a.tif", pixels, options=options))
    named = ["VV", "VH", "ratio", "x"][:bands]
    open_scene(write_geotiff(tmp_path / "b.tif", pixels, options=options, descriptions=named)).close()


@pytest.mark.parametrize(
    "name",
    [
        "T52SCG_20240716T021611_B08_10m.tif",
        "S2A_MSIL2A_20240716T021611_N0510_R003_T52SCG_20240716T050000.tif",
        "LC08_L2SP_116034_20240716_20240720_02_T1_SR_B5.TIF",
        "HLS.S30.T52SCG.2024198T021611.v2.0.B08.tif",
        "20240716_021611_12_24b0_3B_AnalyticMS_SR.tif",
    ],
)
def test_optical_products_are_told_by_their_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(SceneNoBackscatter, match="an optical image"):
        open_scene(write_geotiff(tmp_path / name, lake_scene(80, 90)))


@pytest.mark.parametrize("names", [["B2", "B3", "B4", "B8"], ["blue", "green", "red", "nir"], ["B03", "B8A"]])
def test_bands_of_optical_sensors_are_told_by_theirs(tmp_path: Path, names: list[str]) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.stack([lake_scene(80, 90)] * len(names)), descriptions=names)
    with pytest.raises(SceneNoBackscatter, match="an optical image"):
        open_scene(path)


def test_bands_that_are_numbered_from_1_say_nothing(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.stack([lake_scene(80, 90)] * 4), descriptions=["B1", "B2", "B3", "B4"])
    with open_scene(path) as scene:
        assert len(scene.bands) == 4


def test_our_products_of_any_version_are_refused(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", patches(0, 1), metadata={"SARWATER_JOB_KEY": "0" * 64})
    with pytest.raises(SceneIsProduct):
        open_scene(path)


@pytest.mark.parametrize("name", ["internal_mask.tif", "dem.tif", "K5_20240726_HH_GTC.tif", "flood.tif", "S1_area.tif"])
@pytest.mark.parametrize("dtype", [np.uint16, np.uint8, np.float32])
def test_a_scene_with_speckle_is_read_whatever_it_is_called(tmp_path: Path, name: str, dtype: type) -> None:
    path = write_geotiff(tmp_path / name, lake_scene(200, 300).clip(1, 250).astype(dtype))
    open_scene(path).close()


def test_a_stack_with_an_angle_is_read(tmp_path: Path) -> None:
    stack = np.stack([np.full((80, 90), 0.1, np.float32), np.full((80, 90), 38, np.float32)])
    with open_scene(write_geotiff(tmp_path / "a.tif", stack, descriptions=["Gamma0_VV", "angle"])) as scene:
        assert len(scene.bands) == 2


def test_dark_water_in_bytes_is_no_map_of_classes(tmp_path: Path) -> None:
    speckle = np.random.default_rng(0).rayleigh(3, (200, 300)).astype(np.uint8).clip(0, 11)
    open_scene(write_geotiff(tmp_path / "a.tif", speckle)).close()


def test_the_refusal_is_an_error_of_the_scene() -> None:
    assert issubclass(SceneNoBackscatter, SceneError)


def test_a_compound_crs_is_about_heights_and_the_bands_are_not(tmp_path: Path) -> None:
    """GDAL calls the unit of the vertical axis that of every band."""
    path = write_geotiff(tmp_path / "a.tif", lake_scene(90, 110))
    dataset = gdal.Open(str(path), gdal.GA_Update)
    compound = osr.SpatialReference()
    compound.SetFromUserInput("EPSG:32652+5773")
    dataset.SetProjection(compound.ExportToWkt())
    del dataset
    assert gdal.Open(str(path)).GetRasterBand(1).GetUnitType() == "metre"
    with open_scene(path) as scene:
        assert scene.bands[0].unit == "amplitude_dn"
