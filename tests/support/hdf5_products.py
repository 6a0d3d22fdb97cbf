"""NISAR GCOV, OPERA RTC-S1 and netCDF-4 products, written with the names of the real ones."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from tests.support.rasters import TRANSFORM, UTM_52N, wkt, write_geotiff

START = "2024-07-26T09:15:30.123456789"
FREQUENCY_A = "/science/LSAR/GCOV/grids/frequencyA"


def write_gcov(
    path: Path,
    planes: dict[str, np.ndarray],
    *,
    radar: str = "LSAR",
    frequency: str = "A",
    mask: np.ndarray | None = None,
    fill: float | None = np.nan,
) -> Path:
    """`planes` (H, W) float32 by covariance term (`HHHH`), beside what the file holds already."""
    product = f"/science/{radar}/GCOV"
    with h5py.File(path, "a") as file:
        grid = file.create_group(f"{product}/grids/frequency{frequency}")
        _write_grid(grid, planes, fill)
        polarisations = [term[:2] for term in planes if term[:2] == term[2:]]
        grid["listOfPolarizations"] = np.array(polarisations, "S2")
        grid["listOfCovarianceTerms"] = np.array(list(planes), "S4")
        first = next(iter(planes.values()))
        grid["rtcGammaToSigmaFactor"] = np.full(first.shape, 0.5, np.float32)
        grid["numberOfLooks"] = np.full(first.shape, 9, np.float32)
        if mask is not None:
            grid["mask"] = mask
        if f"/science/{radar}/identification" not in file:
            identification = file.create_group(f"/science/{radar}/identification")
            identification["productType"] = np.bytes_("GCOV")
            identification["zeroDopplerStartTime"] = np.bytes_(START)
            identification["zeroDopplerEndTime"] = np.bytes_("2024-07-26T09:15:45.0")
            rtc = file.create_group(f"{product}/metadata/processingInformation/parameters/rtc")
            rtc["inputBackscatterNormalizationConvention"] = np.bytes_("beta0")
            rtc["outputBackscatterNormalizationConvention"] = np.bytes_("gamma0")
            rtc["outputBackscatterExpressionConvention"] = np.bytes_("backscatter intensity (linear)")
    return path


def write_opera(
    path: Path, planes: dict[str, np.ndarray], *, mask: np.ndarray | None = None, group: str = "/data"
) -> Path:
    """`planes` (H, W) float32 by polarisation; `group` is where older products have them."""
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"], file.attrs["project"] = np.bytes_("CF-1.8"), np.bytes_("OPERA")
        file.attrs["title"] = np.bytes_("OPERA RTC-S1 Product")
        grid = file.create_group(group)
        _write_grid(grid, planes, np.nan)
        grid["listOfPolarizations"] = np.array(list(planes), "S2")
        if mask is not None:
            grid["mask" if group == "/data" else "layoverShadowMask"] = mask
        root = file if group == "/data" else file["/science/SENTINEL1"]
        root["identification/productType"] = np.bytes_("RTC-S1")
        root["identification/zeroDopplerStartTime"] = np.bytes_("2024-07-26T09:15:30.123456Z")
        parameters = root.create_group("metadata/processingInformation/parameters")
        parameters["outputBackscatterNormalizationConvention"] = np.bytes_("gamma0")
        parameters["outputBackscatterExpressionConvention"] = np.bytes_("linear power/intensity")
        parameters["outputBackscatterDecibelConversionEquation"] = np.bytes_("backscatter_dB = 10*log10(linear)")
    return path


def write_netcdf(path: Path, planes: dict[str, np.ndarray], *, fill: float | None = np.nan) -> Path:
    """`planes` (H, W) by name of the variable, as xarray and rioxarray write them in a projected grid."""
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("CF-1.7")
        file.attrs["time_coverage_start"] = np.bytes_("2024-07-26T09:15:30Z")
        height, width = next(iter(planes.values())).shape
        file["x"], file["y"] = centres(width, height)
        file["spatial_ref"] = np.int64(0)
        file["spatial_ref"].attrs["crs_wkt"] = np.bytes_(wkt(UTM_52N))
        for name, pixels in planes.items():
            plane = file.create_dataset(name, data=pixels, chunks=True, compression="gzip")
            plane.attrs["grid_mapping"] = np.bytes_("spatial_ref")
            if fill is not None:
                plane.attrs["_FillValue"] = np.array([fill], pixels.dtype)
    return path


def write_snap_netcdf(path: Path, planes: dict[str, np.ndarray], *, geographic: bool) -> Path:
    """As SNAP's NetCDF4-CF writer: lat and lon of one axis in a geographic grid, else `crs` with WKT and `i2m`."""
    with h5py.File(path, "w") as file:
        file.attrs["Conventions"] = np.bytes_("CF-1.4")
        file.attrs["start_date"] = np.bytes_("26-JUL-2024 09:15:30.123456")
        file.attrs["stop_date"] = np.bytes_("26-JUL-2024 09:15:55.000000")
        height, width = next(iter(planes.values())).shape
        if geographic:
            file["lon"], file["lat"] = 127.00005 + 1e-4 * np.arange(width), 35.99995 - 1e-4 * np.arange(height)
            file["lon"].attrs["units"], file["lat"].attrs["units"] = (
                np.bytes_("degrees_east"),
                np.bytes_("degrees_north"),
            )
        else:
            x, column, _, y, _, row = TRANSFORM
            file["crs"] = np.int32(0)
            file["crs"].attrs["wkt"] = np.bytes_(wkt(UTM_52N))
            file["crs"].attrs["i2m"] = np.bytes_(f"{column},0.0,0.0,{row},{x},{y}")
            file["lat"] = file["lon"] = np.zeros((height, width), np.float32)
        for name, pixels in planes.items():
            file[name] = pixels
            file[name].attrs["units"], file[name].attrs["_FillValue"] = np.bytes_("intensity"), pixels.dtype.type(0)
    return path


def write_plain(path: Path, pixels: np.ndarray, *, nodata: float | None = np.nan, name: str = "Gamma0_HH") -> Path:
    """The GeoTIFF of the same pixels."""
    return write_geotiff(path, pixels, nodata=nodata, descriptions=(name,))


def centres(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """x (W,) and y (H,) of the pixel centres of TRANSFORM."""
    x, column, _, y, _, row = TRANSFORM
    return x + column * (np.arange(width) + 0.5), y + row * (np.arange(height) + 0.5)


def _write_grid(grid: h5py.Group, planes: dict[str, np.ndarray], fill: float | None) -> None:
    height, width = next(iter(planes.values())).shape
    grid["xCoordinates"], grid["yCoordinates"] = centres(width, height)
    grid["xCoordinateSpacing"], grid["yCoordinateSpacing"] = TRANSFORM[1], TRANSFORM[5]
    grid["projection"] = np.uint32(UTM_52N)
    grid["projection"].attrs["epsg_code"] = UTM_52N
    grid["projection"].attrs["spatial_ref"] = np.bytes_(wkt(UTM_52N))
    for name, pixels in planes.items():
        plane = grid.create_dataset(name, data=pixels, chunks=(min(32, height), min(32, width)), compression="gzip")
        plane.dims[0].attach_scale(grid["yCoordinates"])
        plane.dims[1].attach_scale(grid["xCoordinates"])
        plane.attrs["grid_mapping"] = np.bytes_("projection")
        plane.attrs["units"] = np.bytes_("1")
        plane.attrs["long_name"] = np.bytes_(f"Covariance between {name[:2]} and {name[2:]}")
        if fill is not None:
            plane.attrs["_FillValue"] = np.array([fill], pixels.dtype)


def write_iceye(path: Path, amplitude: np.ndarray, *, factor: float, complex_pixels: bool = True) -> Path:
    """(H, W) `amplitude` in DN as single-look complex in two rasters of int16, or detected in one of uint16."""
    height, width = amplitude.shape
    with h5py.File(path, "w") as file:
        if complex_pixels:
            phase = np.exp(1j * np.random.default_rng(9).uniform(0, 2 * np.pi, amplitude.shape))
            file["s_i"], file["s_q"] = (np.rint(part).astype(np.int16) for part in _parts(amplitude * phase))
        else:
            file["s_amplitude"] = np.rint(amplitude).astype(np.uint16)
        file["product_name"] = np.bytes_("ICEYE_X7_SLC_SM_1234567_20240726T091530")
        file["satellite_name"], file["product_level"] = np.bytes_("ICEYE-X7"), np.bytes_("SLC")
        file["polarization"], file["look_side"] = np.bytes_("VV"), np.bytes_("right")
        file["acquisition_start_utc"] = np.bytes_("2024-07-26T09:15:30.123456")
        file["acquisition_end_utc"] = np.bytes_("2024-07-26T09:15:40.123456")
        file["processing_time"] = np.bytes_("2024-07-27T01:02:03")
        file["calibration_factor"] = factor
        for name, (column, row, latitude, longitude) in iceye_corners(width, height).items():
            file[f"coord_{name}"] = np.array([column, row, latitude, longitude])
    return path


def iceye_corners(width: int, height: int) -> dict[str, tuple[float, float, float, float]]:
    """(column, row, latitude, longitude), counted from 1; the near range lies in the east."""
    return {
        "first_near": (1, 1, 36.02, 127.05),
        "first_far": (width, 1, 36.01, 127.01),
        "last_near": (1, height, 35.98, 127.04),
        "last_far": (width, height, 35.97, 127.0),
    }


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return values.real, values.imag
