"""Rasters that are not read are named, and the command of the refusal makes a scene of them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from osgeo import gdal

from sarwater.errors import SceneUnreadable
from sarwater.scenes.readers import open_scene
from tests.support.advice import translated
from tests.support.rasters import lake_scene, write_geotiff

PIXELS = lake_scene(96, 80)
DRIVERS = {
    "VRT": ("scene 1.vrt", "a VRT"),
    "HFA": ("scene.img", "ERDAS Imagine"),
    "JP2OpenJPEG": ("scene.jp2", "JPEG 2000"),
    "PCIDSK": ("scene.pix", "PCIDSK"),
    "PNG": ("scene.png", "PNG"),
    "AAIGrid": ("scene.asc", "ESRI grid"),
    "ERS": ("scene.ers", "ER Mapper"),
}


def refused(path: Path) -> str:
    with pytest.raises(SceneUnreadable) as error:
        open_scene(path)
    return str(error.value)


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_advice_makes_the_same_scene_of_it(tmp_path: Path, driver: str) -> None:
    name, kind = DRIVERS[driver]
    if gdal.GetDriverByName(driver) is None:
        pytest.skip(f"this GDAL has no {driver}")
    source = gdal.Open(str(write_geotiff(tmp_path / "source.tif", PIXELS)))
    gdal.GetDriverByName(driver).CreateCopy(
        str(tmp_path / name), source, options=["REVERSIBLE=YES", "QUALITY=100"] if driver == "JP2OpenJPEG" else []
    )
    message = refused(tmp_path / name)
    assert f"{name}: " in message
    assert kind in message
    with open_scene(translated(message, tmp_path)) as scene:
        assert np.array_equal(scene.read((0, 0, 80, 96)), PIXELS)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\1\x32\xc0\x12\x12", "a file of a CEOS product"),
        (b'PRODUCT="ASA_IMP_1P', "Envisat"),
        (b"CDF\1", "netCDF-3"),
    ],
)
def test_what_gdal_cannot_write_is_named_too(tmp_path: Path, head: bytes, kind: str) -> None:
    (tmp_path / "scene.dat").write_bytes(head + bytes(2000))
    message = refused(tmp_path / "scene.dat")
    assert kind in message
    assert message.endswith("gdal_translate scene.dat scene.tif")


def test_a_raster_of_an_hdf5_file_of_no_known_kind_can_be_taken_out(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "my scene.h5", "w") as file:
        file["grd/GRD_Amplitude"], file["quicklook"], file["time"] = PIXELS, PIXELS[::4, ::4], np.arange(96)
    message = refused(tmp_path / "my scene.h5")
    assert "with the rasters grd/GRD_Amplitude, quicklook;" in message
    with open_scene(translated(message, tmp_path)) as scene:
        assert np.array_equal(scene.read((0, 0, 80, 96)), PIXELS)


def test_a_variable_of_a_netcdf_file_that_does_not_say_what_it_is_can_be_taken_out(tmp_path: Path) -> None:
    if gdal.GetDriverByName("netCDF") is None:
        pytest.skip("this GDAL has no netCDF")
    source = gdal.Open(str(write_geotiff(tmp_path / "source.tif", PIXELS)))
    gdal.GetDriverByName("netCDF").CreateCopy(str(tmp_path / "scene.nc"), source, options=["FORMAT=NC4"])
    message = refused(tmp_path / "scene.nc")
    with open_scene(translated(message, tmp_path)) as scene:
        assert np.array_equal(scene.read((0, 0, 80, 96)), PIXELS)


def test_a_file_of_no_kind_at_all_is_told_what_is_looked_for(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("to do")
    assert "looked for: " in refused(tmp_path / "note.txt")
