"""Products as ground stations deliver them, written with the attribute names of the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from osgeo import gdal

from sarwater.scenes.model_input import ModelInput
from tests.support.rasters import write_geotiff

CORNERS = {
    "Top Left": (36.10, 127.00),
    "Top Right": (36.12, 127.30),
    "Bottom Left": (35.90, 127.02),
    "Bottom Right": (35.92, 127.32),
}
K5_AUXILIARY = (
    "<Auxiliary><Root><ProductType>GTC_B</ProductType><RescalingFactor>0.5</RescalingFactor>"
    "<SceneSensingStartUTC>2024-07-26 09:15:30.123456</SceneSensingStartUTC>"
    "<SubSwaths><SubSwath><Polarisation>HH</Polarisation><CalibrationConstant>4</CalibrationConstant>"
    "<SBI><ColumnSpacing>1.25</ColumnSpacing><LineSpacing>1.25</LineSpacing></SBI></SubSwath></SubSwaths>"
    f"<GIM><RescalingFactor>{180 / 256}</RescalingFactor><Offset>90</Offset></GIM></Root></Auxiliary>"
)
LEVEL_TYPES = {"L1A": "SCS_B", "L1B": "DGM_B", "L1C": "GEC_B", "L1D": "GTC_B"}


def write_hdf5(
    path: Path,
    level: str,
    pixels: np.ndarray,
    *,
    mission: str = "KMPS",
    gim: np.ndarray | None = None,
    spacing_m: tuple[float, float] = (1.25, 1.25),
    product_type: str | None = None,
    root: dict[str, Any] | None = None,
) -> Path:
    """`pixels` (H, W) uint16, or (H, W, 2) int16 for L1A; `spacing_m` is (column, line)."""
    with h5py.File(path, "w") as file:
        file.attrs["Mission ID"] = np.bytes_(mission)
        file.attrs["Product Type"] = np.bytes_(product_type or LEVEL_TYPES[level])
        file.attrs["Scene Sensing Start UTC"] = np.bytes_("2024-07-26 09:15:30.123456")
        file.attrs["Projection ID"] = np.bytes_("UTM")
        file.attrs["Map Projection Centre"] = np.array([0.0, 129.0])
        file.attrs["Map Projection False East-North"] = np.array([500000.0, 0.0])
        file.attrs["Map Projection Scale Factor"] = 0.9996
        file.attrs["Rescaling Factor"] = 0.5
        for name, value in (root or {}).items():
            file.attrs[name] = value
        swath = file.create_group("S01")
        swath.attrs["Polarisation"] = np.bytes_("HH")
        swath.attrs["Calibration Constant"] = 4.0
        image = swath.create_dataset("SBI", data=pixels, chunks=True, compression="gzip")
        image.attrs["Column Spacing"], image.attrs["Line Spacing"] = spacing_m
        image.attrs["Near Incidence Angle"], image.attrs["Far Incidence Angle"] = 30.0, 50.0
        image.attrs["Top Left East-North"] = np.array([300000.0, 4000000.0])
        for corner, (latitude, longitude) in CORNERS.items():
            image.attrs[f"{corner} Geodetic Coordinates"] = np.array([latitude, longitude, 10.0])
        swath.create_dataset("QLK", data=np.zeros((8, 8), np.uint8))
        if gim is not None:
            mask = swath.create_dataset("GIM", data=gim)
            mask.attrs["Rescaling Factor"], mask.attrs["Offset"] = 180 / 256, 90.0
    return path


def write_k5_folder(folder: Path, pixels: np.ndarray, gim: np.ndarray | None = None) -> Path:
    """A GTC product of GeoTIFFs: image, _Aux.xml, quicklook and, where given, GIM."""
    folder.mkdir()
    name = "K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D"
    write_geotiff(folder / f"{name}.tif", pixels)
    (folder / f"{name}_QL.png").write_bytes(b"not looked at")
    (folder / f"{name}_Aux.xml").write_text(K5_AUXILIARY)
    if gim is not None:
        write_geotiff(folder / f"{name}_GIM.tif", gim)
    return folder


def write_k5_flat(folder: Path, name: str, gim_name: str, pixels: np.ndarray, gim: np.ndarray) -> list[Path]:
    """The files of a GTC delivery, loose in a folder: image, GIM, _Aux.xml, quicklook and checksum list."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [
        folder / each for each in (f"{name}.tif", f"{gim_name}.tif", f"{name}_Aux.xml", f"{name}_QL.png", "MD5SUM")
    ]
    write_geotiff(files[0], pixels)
    write_geotiff(files[1], gim)
    files[2].write_text(K5_AUXILIARY)
    files[3].write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    files[4].write_text(f"{'0' * 32}  {name}.tif\n")
    return files


def write_safe(
    folder: Path,
    bands: dict[str, np.ndarray],
    *,
    calibrated: bool = True,
    kind: str = "s1a-iw-grd",
    end: str = "",
    options: Sequence[str] = (),
) -> Path:
    """A Sentinel-1 product, whose files' names begin with `kind` and end with `end` (`-cog`): one GeoTIFF with control
    points per polarisation, with calibration vectors; its manifest lists all files with their sizes."""
    (folder / "measurement").mkdir(parents=True)
    (folder / "annotation" / "calibration").mkdir(parents=True)
    for number, (polarisation, pixels) in enumerate(bands.items(), 1):
        name = f"{kind}-{polarisation}-20240726t091530-20240726t091555-054921-06b0a4-{number:03}{end}"
        height, width = pixels.shape
        gcps = [
            gdal.GCP(127 + x * 1e-4 + y * 1e-5, 36 - y * 1e-4, 0, x, y)
            for y in (0, height / 2, height)
            for x in (0, width / 2, width)
        ]
        write_geotiff(folder / "measurement" / f"{name}.tiff", pixels, gcps=gcps, options=options)
        (folder / "annotation" / f"{name}.xml").write_text("<product/>")
        if calibrated:
            text = "".join(
                f"<calibrationVector><line>{line}</line><pixel count='2'>0 {width - 1}</pixel>"
                f"<sigmaNought count='2'>{near} {far}</sigmaNought></calibrationVector>"
                for line, near, far in ((0, 100, 200), (height - 1, 300, 400))
            )
            (folder / "annotation" / "calibration" / f"calibration-{name}.xml").write_text(
                f"<calibration><calibrationVectorList>{text}</calibrationVectorList></calibration>"
            )
    return write_manifest(folder)


def write_manifest(folder: Path) -> Path:
    """manifest.safe of all files that are there, with their sizes."""
    listed = "".join(
        f"<dataObject><byteStream size='{path.stat().st_size}'>"
        f"<fileLocation locatorType='URL' href='./{path.relative_to(folder)}'/></byteStream></dataObject>"
        for path in sorted(folder.rglob("*.*"))
        if path.is_file() and path.name != "manifest.safe"
    )
    (folder / "manifest.safe").write_text(
        f"<xfdu:XFDU xmlns:xfdu='urn:ccsds:schema:xfdu:1'><dataObjectSection>{listed}</dataObjectSection></xfdu:XFDU>"
    )
    return folder


def whole(scene: ModelInput) -> np.ndarray:
    """All pixels of an open scene, (C, H, W)."""
    rows, _ = scene.read(0, scene.height_px)
    return rows


_ICP = {"FRFC": (36.1, 127.0), "FRLC": (36.1, 127.01), "LRLC": (36.09, 127.01), "LRFC": (36.09, 127.0)}


def sicd_xml(
    height: int, width: int, *, pixel_type: str = "RE32F_IM32F", factor: float | None = None, table: str = ""
) -> str:
    """SICD 1.2.1, as far as it concerns reading: `factor` is SigmaZeroSFPoly, `table` the entries of AmpTable."""
    corners = "".join(
        f"<ICP index='{number}:{name}'><Lat>{latitude}</Lat><Lon>{longitude}</Lon></ICP>"
        for number, (name, (latitude, longitude)) in enumerate(_ICP.items(), 1)
    )
    coefficients = f"<Coef exponent1='0' exponent2='0'>{factor}</Coef><Coef exponent1='1' exponent2='0'>9</Coef>"
    radiometric = f"<Radiometric><SigmaZeroSFPoly>{coefficients}</SigmaZeroSFPoly></Radiometric>" if factor else ""
    return (
        "<SICD xmlns='urn:SICD:1.2.1'><CollectionInfo><CoreName>20240101T000000</CoreName></CollectionInfo>"
        "<ImageCreation><DateTime>2025-01-01T00:00:00Z</DateTime></ImageCreation>"
        f"<ImageData><PixelType>{pixel_type}</PixelType>{f'<AmpTable>{table}</AmpTable>' if table else ''}"
        f"<NumRows>{height}</NumRows><NumCols>{width}</NumCols><FirstRow>100</FirstRow><FirstCol>200</FirstCol>"
        f"<SCPPixel><Row>{100 + height // 2}</Row><Col>{200 + width // 2}</Col></SCPPixel></ImageData>"
        "<GeoData><SCP><LLH><Lat>36.095</Lat><Lon>127.005</Lon><HAE>20</HAE></LLH></SCP>"
        f"<ImageCorners>{corners}</ImageCorners></GeoData>"
        "<Timeline><CollectStart>2024-07-26T09:15:30.123456Z</CollectStart></Timeline>"
        f"<ImageFormation><TxRcvPolarizationProc>V:V</TxRcvPolarizationProc></ImageFormation>{radiometric}</SICD>"
    )


def sidd_xml() -> str:
    """SIDD 2.0, as far as it concerns reading."""
    corners = "".join(
        f"<ICP index='{number}:{name}'><Lat>{latitude}</Lat><Lon>{longitude}</Lon></ICP>"
        for number, (name, (latitude, longitude)) in enumerate(_ICP.items(), 1)
    )
    return (
        "<SIDD xmlns='urn:SIDD:2.0.0'><ProductCreation><ProcessorInformation><ProcessingDateTime>2025-01-01T00:00:00Z"
        "</ProcessingDateTime></ProcessorInformation></ProductCreation>"
        f"<GeoData><ImageCorners>{corners}</ImageCorners></GeoData>"
        "<ExploitationFeatures><Collection identifier='x'><Information>"
        "<CollectionDateTime>2024-07-26T09:15:30Z</CollectionDateTime><Polarization><TxPolarization>H</TxPolarization>"
        "<RcvPolarization>H</RcvPolarization></Polarization></Information></Collection></ExploitationFeatures></SIDD>"
    )


def write_nitf(
    path: Path, bands: np.ndarray, xml: str = "", *, category: str = "SAR", kinds: str = "", options: Sequence[str] = ()
) -> Path:
    """NITF 2.1 of (H, W) or (C, H, W) pixels, `xml` in a data extension segment, `kinds` of the bands (`I,Q`)."""
    from osgeo import gdal_array

    image = gdal_array.OpenArray(bands)
    choices = [f"ICAT={category}", *options, *([f"ISUBCAT={kinds}"] if kinds else [])]
    if xml:
        # DESVER, classification and the fields after it, length of the user-defined subheader
        choices.append(f"DES=XML_DATA_CONTENT=01{'U':<167}0000{xml}")
    gdal.GetDriverByName("NITF").CreateCopy(str(path), image, options=choices)
    return path
