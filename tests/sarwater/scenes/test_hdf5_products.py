"""NISAR GCOV, OPERA RTC-S1, netCDF-4 and COSMO-SkyMed of the second generation: value, unit, place, time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from runtime.backends import Backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.errors import SceneError, SceneUnreadable, SceneUnsafe
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import open_model_input, open_scene
from tests.support.deliveries import CORNERS, whole, write_hdf5
from tests.support.hdf5_products import (
    FREQUENCY_A,
    write_gcov,
    write_netcdf,
    write_opera,
    write_plain,
    write_snap_netcdf,
)
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
SIGMA0 = (Channel("sar", "sigma0_linear"),)
HEIGHT, WIDTH = 90, 110
TIME = "2024-07-26T09:15:30Z"


def gamma0(seed: int = 0) -> np.ndarray:
    """(H, W) float32 power, with a border that nothing measured."""
    power = np.square(lake_scene(HEIGHT, WIDTH, seed=seed) / np.float32(400)).astype(np.float32)
    power[:9], power[:, -7:] = np.nan, np.nan
    return power


def gcov(path: Path) -> Path:
    return write_gcov(path, {"HHHH": gamma0(), "HVHV": gamma0(1), "HHHV": np.zeros((HEIGHT, WIDTH), np.complex64)})


def gcov_of_the_s_band(path: Path) -> Path:
    return write_gcov(path, {"VVVV": gamma0(), "VHVH": gamma0(1)}, radar="SSAR")


def opera(path: Path) -> Path:
    return write_opera(path, {"VV": gamma0(), "VH": gamma0(1)})


def opera_of_2022(path: Path) -> Path:
    return write_opera(path, {"VV": gamma0(), "VH": gamma0(1)}, group="/science/SENTINEL1/RTC/grids/frequencyA")


def netcdf(path: Path) -> Path:
    return write_netcdf(path, {"gamma0_vv": gamma0(), "gamma0_vh": gamma0(1), "incidence_angle": gamma0(2)})


KINDS: dict[str, tuple[Callable[[Path], Path], str, str, str]] = {
    "NISAR GCOV": (gcov, "hh", "hv", "NISAR GCOV HDF5, L band"),
    "NISAR GCOV of the S band": (gcov_of_the_s_band, "vv", "vh", "NISAR GCOV HDF5, S band"),
    "OPERA RTC-S1": (opera, "vv", "vh", "OPERA RTC-S1 HDF5"),
    "OPERA RTC-S1 of 2022": (opera_of_2022, "vv", "vh", "OPERA RTC-S1 HDF5"),
    "netCDF-4": (netcdf, "vv", "vh", "netCDF-4"),
}


def mask_of(path: Path, backend: Backend, out: Path, request: Request | None = None) -> np.ndarray:
    publish(process_scene(path, backend, out, request))
    return read_raster(out / f"{path.stem}_water.tif")


@pytest.mark.parametrize("kind", KINDS)
def test_value_unit_polarisation_time_and_place(tmp_path: Path, kind: str) -> None:
    write, co, cross, called = KINDS[kind]
    with open_scene(write(tmp_path / "a.h5")) as scene:
        assert {band.polarisation: band.unit for band in scene.bands} == {co: "gamma0_linear", cross: "gamma0_linear"}
        for polarisation, seed in ((co, 0), (cross, 1)):
            pixels = scene.read(band=polarisation)
            assert np.array_equal(pixels, gamma0(seed), equal_nan=True)
            assert pixels.dtype == np.float32
        assert scene.georeference.geotransform == pytest.approx(TRANSFORM), "of edges, not of centres"
        assert scene.georeference.epsg == 32652
        assert scene.acquired == TIME
        assert scene.format == called
        assert scene.nodata is None
        assert scene.declared_nodata is not None
        assert math.isnan(scene.declared_nodata)


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_is_that_of_a_geotiff_of_the_same_pixels(
    tmp_path: Path, backend: Backend, out: Path, kind: str
) -> None:
    write, co, *_ = KINDS[kind]
    found = mask_of(write(tmp_path / "a.h5"), backend, out)
    plain = write_plain(tmp_path / "plain.tif", gamma0(), name=f"Gamma0_{co.upper()}")
    assert np.array_equal(found, mask_of(plain, backend, out))
    assert set(np.unique(found)) == {0, 1, 255}
    assert np.array_equal(found == 255, np.isnan(gamma0()))


def measured_throughout() -> np.ndarray:
    """No constant takes the place of what is missing: in a corner, that is fill."""
    power = gamma0()
    speckle = np.random.default_rng(5).uniform(0.04, 0.06, power.shape).astype(np.float32)
    return np.where(np.isnan(power), speckle, power)


def test_the_nisar_mask_says_what_was_not_measured(tmp_path: Path, backend: Backend, out: Path) -> None:
    """0 is invalid or partly focused, 255 fill, the others are subswaths."""
    codes = np.ones((HEIGHT, WIDTH), np.uint8)
    codes[:, 50:] = 2
    codes[20:25], codes[40:43] = 0, 255
    power = measured_throughout()
    found = mask_of(write_gcov(tmp_path / "a.h5", {"HHHH": power}, mask=codes), backend, out)
    assert np.array_equal(found == 255, (codes == 0) | (codes == 255))
    assert not (found == 2).any()
    masked = write_plain(tmp_path / "plain.tif", np.where(np.isin(codes, (0, 255)), np.nan, power).astype(np.float32))
    assert np.array_equal(found, mask_of(masked, backend, out))


@pytest.mark.parametrize("group", ["/data", "/science/SENTINEL1/RTC/grids/frequencyA"])
def test_the_opera_mask_says_shadow_layover_and_what_was_not_measured(
    tmp_path: Path, backend: Backend, out: Path, group: str
) -> None:
    codes = np.zeros((HEIGHT, WIDTH), np.uint8)
    codes[20:25], codes[30:35], codes[36:39], codes[50:55] = 1, 2, 3, 255
    path = write_opera(tmp_path / "a.h5", {"VV": measured_throughout()}, mask=codes, group=group)
    found = mask_of(path, backend, out)
    assert np.array_equal(found == 2, np.isin(codes, (1, 2, 3)))
    assert np.array_equal(found == 255, codes == 255)


def test_a_mask_of_another_size_is_not_used(tmp_path: Path) -> None:
    path = write_gcov(tmp_path / "a.h5", {"HHHH": gamma0()}, mask=np.ones((9, 9), np.uint8))
    with open_scene(path) as scene:
        assert not scene.masked
        assert "mask differs in size" in scene.notes[0]


def test_frequency_a_is_taken_and_the_note_says_so(tmp_path: Path, backend: Backend, out: Path) -> None:
    path = write_gcov(tmp_path / "a.h5", {"HHHH": gamma0()})
    write_gcov(path, {"HHHH": gamma0()[::2, ::2]}, frequency="B")
    write_gcov(path, {"VVVV": gamma0()}, radar="SSAR")
    staged = process_scene(path, backend, out)
    assert staged.record["notes"][:2] == ["frequencyB of LSAR is not used", "frequencyA of SSAR is not used"]
    with open_scene(path) as scene:
        assert (scene.height_px, scene.width_px) == (HEIGHT, WIDTH)


def test_frequency_b_is_taken_where_it_is_the_only_one(tmp_path: Path) -> None:
    with open_scene(write_gcov(tmp_path / "a.h5", {"VVVV": gamma0()}, frequency="B")) as scene:
        assert scene.bands[0].polarisation == "vv"
        assert scene.notes == ()


def test_compact_polarimetry_has_its_own_polarisations(tmp_path: Path) -> None:
    with open_scene(write_gcov(tmp_path / "a.h5", {"RHRH": gamma0(), "RVRV": gamma0(1)}, radar="SSAR")) as scene:
        assert [band.polarisation for band in scene.bands] == ["rh", "rv"]


@pytest.mark.parametrize("quantity", ["sigma0", "beta0"])
def test_a_product_without_terrain_correction_says_another_quantity(tmp_path: Path, quantity: str) -> None:
    path = write_gcov(tmp_path / "a.h5", {"HHHH": gamma0()})
    convention = (
        "/science/LSAR/GCOV/metadata/processingInformation/parameters/rtc/outputBackscatterNormalizationConvention"
    )
    replace(path, convention, np.bytes_(quantity))
    with open_scene(path) as scene:
        assert scene.bands[0].unit == f"{quantity}_linear"


def test_a_bare_gcov_is_gamma0_and_its_time_is_that_of_the_name(tmp_path: Path) -> None:
    """Cut out of the product, as tools do it: backscatter, coordinates and projection only."""
    path = tmp_path / "NISAR_L2_PR_GCOV_001_030_A_019_2000_SHNA_A_20240726T091530_20240726T091545_D00402_N_F_J_001.h5"
    write_gcov(path, {"HHHH": gamma0()})
    with h5py.File(path, "a") as file:
        del file["/science/LSAR/identification"], file["/science/LSAR/GCOV/metadata"]
        for name in ("listOfPolarizations", "listOfCovarianceTerms", "numberOfLooks", "xCoordinateSpacing"):
            del file[f"{FREQUENCY_A}/{name}"]
    with open_scene(path) as scene:
        assert scene.bands[0].unit == "gamma0_linear"
        assert scene.acquired == TIME


def test_a_fill_value_that_is_a_number_is_nodata(tmp_path: Path, backend: Backend, out: Path) -> None:
    power = np.nan_to_num(gamma0(), nan=-9999)
    found = mask_of(write_gcov(tmp_path / "a.h5", {"HHHH": power}, fill=-9999), backend, out)
    assert np.array_equal(found, mask_of(write_plain(tmp_path / "plain.tif", power, nodata=-9999), backend, out))
    assert np.array_equal(found == 255, power == -9999)


@pytest.mark.parametrize("geographic", [True, False])
def test_snap_netcdf_has_its_place_in_both_forms(tmp_path: Path, geographic: bool) -> None:
    power = np.nan_to_num(gamma0(), nan=0)
    planes = {"Sigma0_VH": power, "Sigma0_VV": power + 1, "localIncidenceAngle": power}
    path = write_snap_netcdf(tmp_path / "a.nc", planes, geographic=geographic)
    with open_scene(path) as scene:
        expected = (127.0, 1e-4, 0, 36.0, 0, -1e-4) if geographic else TRANSFORM
        assert scene.georeference.geotransform == pytest.approx(expected, rel=1e-9)
        assert scene.georeference.epsg == (4326 if geographic else 32652)
        assert {band.polarisation: band.unit for band in scene.bands} == {"vh": "sigma0_linear", "vv": "sigma0_linear"}
        assert np.array_equal(scene.read(band="vv"), power + 1)
        assert scene.acquired == TIME
        assert scene.nodata == 0


def test_netcdf_tells_by_its_attributes_and_may_begin_in_the_south(tmp_path: Path, backend: Backend, out: Path) -> None:
    """As GDAL writes netCDF: `Band1`, rows from south to north."""
    path = write_netcdf(tmp_path / "a.nc", {"Band1": gamma0()[::-1], "Band2": gamma0()[::-1]})
    with h5py.File(path, "a") as file:
        file["y"][...] = file["y"][:][::-1]
        file["Band1"].attrs["long_name"] = np.bytes_("Gamma0_VH")
        file["Band2"].attrs["long_name"] = np.bytes_("projected local incidence angle")
    with open_scene(path) as scene:
        assert [(band.polarisation, band.unit) for band in scene.bands] == [("vh", "gamma0_linear")]
        x, column, _, y, _, row = TRANSFORM
        assert scene.georeference.geotransform == pytest.approx((x, column, 0, y + HEIGHT * row, 0, -row))
    plain = write_plain(tmp_path / "plain.tif", gamma0()[::-1], name="Gamma0_VH")
    assert np.array_equal(mask_of(path, backend, out), mask_of(plain, backend, out))


def test_a_time_of_one_in_netcdf_is_passed_over(tmp_path: Path) -> None:
    path = write_netcdf(tmp_path / "a.nc", {"gamma0_vv": gamma0()})
    with h5py.File(path, "a") as file:
        attributes = dict(file["gamma0_vv"].attrs)
        del file["gamma0_vv"]
        file.create_dataset("gamma0_vv", data=gamma0()[None], chunks=(1, 32, 32)).attrs.update(attributes)
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), gamma0(), equal_nan=True)
        assert scene.georeference.geotransform == pytest.approx(TRANSFORM)


def test_packed_decibels_in_netcdf_are_unpacked(tmp_path: Path, backend: Backend, out: Path) -> None:
    """CF's scale_factor: int16 of hundredths of decibels."""
    stored = np.nan_to_num(1000 * np.log10(gamma0()), nan=-32768).astype(np.int16)
    path = write_netcdf(tmp_path / "a.nc", {"sigma0_vv_db": stored}, fill=-32768)
    with h5py.File(path, "a") as file:
        file["sigma0_vv_db"].attrs["scale_factor"], file["sigma0_vv_db"].attrs["units"] = 0.01, np.bytes_("dB")
    with open_scene(path) as scene:
        assert (scene.bands[0].unit, scene.bands[0].scale) == ("sigma0_db", 0.01)
    assert set(np.unique(mask_of(path, backend, out))) == {0, 1, 255}


def csg(path: Path, level: str, pixels: np.ndarray, **attributes: Any) -> Path:
    """The image is IMG, the polarisation in the root, the rescaling factor with the image."""
    write_hdf5(path, level, pixels, mission="CSG", spacing_m=(1.25, 2.5))
    with h5py.File(path, "a") as file:
        file.move("S01/SBI", "S01/IMG")
        del file["S01"].attrs["Polarisation"], file.attrs["Rescaling Factor"]
        file.attrs["Polarization"] = np.bytes_("VV")
        file["S01/IMG"].attrs["Rescaling Factor"] = 2.0
        file.create_group("LRHM").create_dataset("IMG", data=np.zeros((5, 5), np.float32))
        for name, value in attributes.items():
            file.attrs[name.replace("_", " ")] = np.bytes_(value) if isinstance(value, str) else value
    return path


COMPENSATED: dict[str, Any] = {
    "Range_Spreading_Loss_Compensation_Geometry": "ELLIPSOID",
    "Reference_Slant_Range": 100.0,
    "Reference_Slant_Range_Exponent": 0.5,
    "Incidence_Angle_Compensation_Geometry": "ELLIPSOID",
    "Reference_Incidence_Angle": 30.0,
    "Calibration_Constant_Compensation_Flag": 0,
}


@pytest.mark.parametrize("level", ["L1B", "L1C", "L1D"])
def test_cosmo_skymed_of_the_second_generation(tmp_path: Path, backend: Backend, out: Path, level: str) -> None:
    pixels = lake_scene(HEIGHT, WIDTH)
    path = csg(tmp_path / "CSG.h5", level, pixels)
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), pixels)
        assert scene.bands[0].polarisation == "vv"
        assert scene.bands[0].unit == "amplitude_dn"
        assert scene.acquired == TIME
        assert scene.format == f"COSMO-SkyMed 2 {level} HDF5"
        if level == "L1B":
            assert [(gcp.y, gcp.x) for gcp in scene.georeference.gcps] == list(CORNERS.values())
        else:
            assert scene.georeference.geotransform == (300000, 1.25, 0, 4000000, 0, -2.5)
            assert scene.georeference.epsg == 32652
            assert scene.georeference.gcps == (), "the corners, which it has as well, are not needed"
    plain = write_geotiff(tmp_path / "plain.tif", pixels)
    assert np.array_equal(mask_of(path, backend, out), mask_of(plain, backend, out))


def test_a_geocoded_product_without_a_projection_has_its_corners(tmp_path: Path) -> None:
    path = csg(tmp_path / "CSG.h5", "L1C", lake_scene(HEIGHT, WIDTH), Projection_ID="SOMETHING")
    with open_scene(path) as scene:
        assert [(gcp.y, gcp.x) for gcp in scene.georeference.gcps] == list(CORNERS.values())


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_single_look_complex_of_the_second_generation_comes_as_amplitude(tmp_path: Path, dtype: type) -> None:
    pixels = np.zeros((10, 12, 2), dtype)
    pixels[..., 0], pixels[..., 1] = 30, -40
    with open_scene(csg(tmp_path / "CSG.h5", "L1A", pixels)) as scene:
        assert np.array_equal(scene.read(), np.full((10, 12), 50, np.float32))
        assert len(scene.georeference.gcps) == 4


@pytest.mark.parametrize("generation", ["CSK", "CSG"])
def test_cosmo_skymed_sigma0_by_hand(tmp_path: Path, generation: str) -> None:
    """100^(2 * 0.5) * sin(30) / (F^2 * K) * 10^2 with K = 4: 312.5 for F = 2, 5000 for F = 0.5."""
    pixels = np.full((8, 9), 10, np.uint16)
    if generation == "CSG":
        path, expected = csg(tmp_path / "a.h5", "L1B", pixels, **COMPENSATED), 312.5
    else:
        root = {
            name.replace("_", " "): np.bytes_(value) if isinstance(value, str) else value
            for name, value in COMPENSATED.items()
        }
        path, expected = write_hdf5(tmp_path / "a.h5", "L1B", pixels, mission="CSK", root=root), 5000
    with open_model_input(path, SIGMA0) as scene:
        assert whole(scene) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"Calibration_Constant_Compensation_Flag": 1}, 1250),
        ({"Range_Spreading_Loss_Compensation_Geometry": "NONE"}, 3.125),
        ({"Incidence_Angle_Compensation_Geometry": "NONE"}, 625),
    ],
)
def test_cosmo_skymed_sigma0_has_the_factors_that_apply(
    tmp_path: Path, changed: dict[str, Any], expected: float
) -> None:
    path = csg(tmp_path / "a.h5", "L1B", np.full((8, 9), 10, np.uint16), **{**COMPENSATED, **changed})
    with open_model_input(path, SIGMA0) as scene:
        assert whole(scene) == pytest.approx(expected)


@pytest.mark.parametrize(
    "changed", [{"Calibration_Constant_Compensation_Flag": 77}, {"Reference_Slant_Range": np.array([1.0, 2.0])}]
)
def test_cosmo_skymed_without_a_sure_calibration_has_none(tmp_path: Path, changed: dict[str, Any]) -> None:
    path = csg(tmp_path / "a.h5", "L1B", np.full((8, 9), 10, np.uint16), **{**COMPENSATED, **changed})
    with pytest.raises(SceneError, match="uncalibrated"):
        open_model_input(path, SIGMA0)


def replace(path: Path, dataset: str, value: Any) -> Path:
    with h5py.File(path, "a") as file:
        del file[dataset]
        if value is not None:
            file[dataset] = value
    return path


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("xCoordinates", None, rf"has no xCoordinates beside {FREQUENCY_A}/HHHH; expected the 110 evenly.*send"),
        ("yCoordinates", np.arange(5.0), "yCoordinates of 5 numbers.*expected the 90"),
        ("yCoordinates", np.array([b"a"] * HEIGHT), "yCoordinates of no numbers"),
        ("yCoordinates", np.geomspace(1, 2, HEIGHT), "yCoordinates, which is uneven"),
        ("yCoordinates", np.full(HEIGHT, np.nan), "yCoordinates, which is uneven"),
        ("yCoordinates", np.zeros(HEIGHT), "yCoordinates, which is uneven"),
        ("projection", None, "does not say the projection.*EPSG"),
        ("projection", np.uint32(4242424242), "does not say the projection"),
        ("projection", np.arange(9.0), "does not say the projection"),
        ("HVHV", None, "holds HHHH and lacks HVHV, which its listOfPolarizations names"),
        ("HVHV", np.zeros((5, 5), np.float32), "rasters differ in size"),
        ("HHHH", np.bytes_("text"), "HHHH is .S4 of shape"),
        ("HHHH", np.zeros(9, np.float32), r"HHHH is float32 of shape \(9,\)"),
        ("HHHH", np.zeros((9, 9, 9), np.float32), "HHHH is float32 of shape"),
        ("mask", np.bytes_("text"), "mask is .* expected numbers in rows and columns"),
    ],
)
def test_a_gcov_without_a_part_says_which(tmp_path: Path, name: str, value: Any, says: str) -> None:
    path = write_gcov(tmp_path / "a.h5", {"HHHH": gamma0(), "HVHV": gamma0()}, mask=np.ones((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(SceneUnreadable, match=says) as error:
        open_scene(replace(path, f"{FREQUENCY_A}/{name}", value))
    assert "\n" not in str(error.value)


def test_products_without_backscatter_say_what_to_do(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "slc.h5", "w") as file:
        file["/science/LSAR/RSLC/swaths/frequencyA/HH"] = np.zeros((4, 4), np.complex64)
    with pytest.raises(SceneUnreadable, match=r"slc.h5: NISAR RSLC; expected NISAR GCOV .*take the GCOV of the same"):
        open_scene(tmp_path / "slc.h5")
    with h5py.File(opera(tmp_path / "metadata.h5"), "a") as file:
        del file["/data/VV"], file["/data/VH"]
    with pytest.raises(SceneUnreadable, match=r"OPERA RTC-S1 without backscatter; .*GeoTIFFs, give one of those"):
        open_scene(tmp_path / "metadata.h5")
    replace(opera(tmp_path / "cslc.h5"), "/identification/productType", np.bytes_("CSLC-S1"))
    with pytest.raises(SceneUnreadable, match="OPERA CSLC-S1 in /data; expected OPERA RTC-S1"):
        open_scene(tmp_path / "cslc.h5")
    with pytest.raises(SceneUnreadable, match="netCDF-4 with the rasters temperature; expected"):
        open_scene(write_netcdf(tmp_path / "t.nc", {"temperature": gamma0()}))
    path = csg(tmp_path / "CSG.h5", "L1D", lake_scene(9, 9))
    with pytest.raises(SceneUnreadable, match="COSMO-SkyMed 2 of product type 'GTC_B' without an image; expected"):
        open_scene(replace(path, "S01/IMG", None))


@pytest.mark.parametrize("chunks", [(512, 512), None])
@pytest.mark.parametrize("side", [100, 30_000])
def test_a_raster_that_holds_no_pixel_is_refused_at_once(
    tmp_path: Path, side: int, chunks: tuple[int, int] | None
) -> None:
    path = replace(gcov(tmp_path / "a.h5"), f"{FREQUENCY_A}/HHHH", None)
    with h5py.File(path, "a") as file:
        chunks = chunks and (min(chunks[0], side), min(chunks[1], side))
        file.create_dataset(f"{FREQUENCY_A}/HHHH", shape=(side, side), dtype=np.float32, chunks=chunks)
    with pytest.raises(SceneUnreadable, match=rf"HHHH declares {side} x {side} px and holds none of them"):
        open_scene(path)


def test_a_raster_that_holds_hardly_any_of_its_pixels_is_unsafe(tmp_path: Path) -> None:
    path = replace(gcov(tmp_path / "a.h5"), f"{FREQUENCY_A}/HHHH", None)
    with h5py.File(path, "a") as file:
        plane = file.create_dataset(f"{FREQUENCY_A}/HHHH", shape=(30_000, 30_000), dtype=np.float32, chunks=(64, 64))
        plane[:64, :64] = 1
    with pytest.raises(SceneUnsafe, match="decoded bytes per stored byte"):
        open_scene(path)


STRANGE: dict[str, Any] = {
    "missing": None,
    "text": np.bytes_("nonsense"),
    "unicode": "ünsinn",
    "number": -1.0,
    "numbers": np.arange(7.0),
    "texts": np.array([b"HH", b"a longer one"]),
    "nan": np.nan,
    "empty": h5py.Empty("f8"),
    "nothing": np.zeros(0),
    "compound": np.zeros(2, [("a", "i4"), ("b", "S3")]),
    "a group": "group",
}


@pytest.mark.parametrize("turn", range(2))
@pytest.mark.parametrize("kind", [*KINDS, "CSG", "CSG L1A"])
def test_anything_of_another_type_is_used_or_refused_in_one_line(tmp_path: Path, kind: str, turn: int) -> None:
    """Each attribute and each dataset of a whole product, one after the other."""
    whole_products: dict[str, Callable[[Path], Path]] = {
        "CSG": lambda path: csg(path, "L1D", lake_scene(9, 12), **COMPENSATED),
        "CSG L1A": lambda path: csg(path, "L1A", np.ones((9, 12, 2), np.int16), **COMPENSATED),
    }
    write = whole_products.get(kind) or KINDS[kind][0]
    sound = write(tmp_path / "sound.h5")
    for number, (path, attribute) in enumerate(_parts(sound)):
        changed = tmp_path / f"{number}.h5"
        shutil.copyfile(sound, changed)
        strange = list(STRANGE)[(4 * turn + number) % len(STRANGE)]
        with h5py.File(changed, "a") as file:
            _make_strange(file, path, attribute, STRANGE[strange], strange == "a group")
        refusal = _refusal(changed)
        assert "\n" not in refusal, (path, attribute, strange)


def test_an_attribute_whose_name_is_no_text_is_passed_over(tmp_path: Path) -> None:
    path = csg(tmp_path / "CSG.h5", "L1D", lake_scene(9, 12))
    path.write_bytes(path.read_bytes().replace(b"Projection ID\0", b"Projection \xff\xfe\0"))
    with open_scene(path) as scene:
        assert len(scene.georeference.gcps) == 4


def _refusal(path: Path) -> str:
    try:
        with open_scene(path) as scene:
            for number in range(len(scene.bands)):
                scene.read(band=number + 1)
    except SceneError as error:
        return str(error)
    return ""


def _parts(path: Path) -> list[tuple[str, str | None]]:
    parts: list[tuple[str, str | None]] = []
    with h5py.File(path) as file:
        parts += [("/", name) for name in file.attrs]

        def note(name: str, item: Any) -> None:
            parts.append((name, None))
            parts.extend((name, attribute) for attribute in item.attrs if not attribute.isupper())

        file.visititems(note)
    return parts


def _make_strange(file: h5py.File, path: str, attribute: str | None, value: Any, group: bool) -> None:
    if attribute is not None:
        del file[path].attrs[attribute]
        if value is not None and not group:
            file[path].attrs[attribute] = value
        return
    del file[path]
    if group:
        file.create_group(path)
    elif value is not None:
        file[path] = value
