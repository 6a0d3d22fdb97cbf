"""Product folders and pairs of header and pixels, written as their makers do: RADARSAT-2, RCM, TerraSAR-X, ENVI,
BEAM-DIMAP. Pixels and calibration are the caller's, so that a test knows what sigma0 has to be."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from osgeo import gdal

from tests.support.rasters import TRANSFORM, wkt, write_geotiff

START = "2024-07-26T09:15:30.123456Z"
CORNERS = {(0, 0): (127.0, 36.1), (1, 0): (127.003, 36.1002), (0, 1): (127.0002, 36.098), (1, 1): (127.0032, 36.0982)}
"""(right, bottom) -> longitude, latitude."""
_KINDS = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "c8": 6, "u2": 12, "u4": 13}


def write_radarsat2(
    folder: Path,
    bands: Mapping[str, np.ndarray],
    gains: np.ndarray | str,
    *,
    offset: float = 0.0,
    place: str = "gcps",
) -> Path:
    """`bands` by polarisation (`HH`), (H, W), or (2, H, W) of I and Q; `gains` as many as columns, or the text of the
    table; `place` is where the images lie: `gcps` in the TIFF, `ties` in product.xml, `map`."""
    folder.mkdir(parents=True)
    height, width = next(iter(bands.values())).shape[-2:]
    images = ""
    for pole, pixels in bands.items():
        _write_image(folder / f"imagery_{pole}.tif", pixels, place)
        images += f'<fullResolutionImageData pole="{pole}">imagery_{pole}.tif</fullResolutionImageData>'
    is_complex = next(iter(bands.values())).ndim == 3 or np.iscomplexobj(next(iter(bands.values())))
    table = gains if isinstance(gains, str) else " ".join(f"{gain:.9e}" for gain in gains)
    ties = "".join(
        f"<imageTiePoint><imageCoordinate><line>{row * (height - 1)}</line><pixel>{column * (width - 1)}</pixel>"
        f'</imageCoordinate><geodeticCoordinate><latitude units="deg">{latitude}</latitude><longitude units="deg">'
        f'{longitude}</longitude><height units="m">12.5</height></geodeticCoordinate></imageTiePoint>'
        for (column, row), (longitude, latitude) in CORNERS.items()
    )
    (folder / "product.xml").write_text(
        '<?xml version="1.0" encoding="UTF-8"?><product xmlns="http://www.rsi.ca/rs2/prod/xml/schemas">'
        "<productId>PDS_00001</productId><sourceAttributes><satellite>RADARSAT-2</satellite>"
        f"<rawDataStartTime>{START}</rawDataStartTime><radarParameters><polarizations>{' '.join(bands)}"
        "</polarizations></radarParameters></sourceAttributes><imageAttributes><productFormat>GeoTIFF</productFormat>"
        f"<rasterAttributes><dataType>{'Complex' if is_complex else 'Magnitude Detected'}</dataType>"
        f"<numberOfSamplesPerLine>{width}</numberOfSamplesPerLine><numberOfLines>{height}</numberOfLines>"
        '</rasterAttributes><lookupTable incidenceAngleCorrection="Sigma Nought">lutSigma.xml</lookupTable>'
        f"<geographicInformation><geolocationGrid>{ties}</geolocationGrid></geographicInformation>"
        f"{images}</imageAttributes></product>"
    )
    (folder / "lutSigma.xml").write_text(
        '<?xml version="1.0"?><lut xmlns="http://www.rsi.ca/rs2/prod/xml/schemas">'
        f"<offset>{offset}</offset><gains>{table}</gains></lut>"
    )
    for other in ("lutBeta.xml", "lutGamma.xml"):
        (folder / other).write_text("<lut><offset>0</offset><gains>1 2 3</gains></lut>")
    (folder / "BrowseImage.tif").write_bytes(b"a picture")
    return folder


def write_rcm(
    folder: Path,
    bands: Mapping[str, np.ndarray],
    gains: np.ndarray,
    *,
    first: int = 0,
    step: int = 1,
    offset: float = 0.0,
    place: str = "gcps",
    calibration: str = "metadata/calibration",
    first_is: str = "pixelFirstLutValue",
) -> Path:
    """`gains` for the columns `first`, `first + step`, ..."""
    for part in ("metadata", "imagery", calibration):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "manifest.safe").write_text("<xfdu/>")
    images = tables = ""
    for pole, pixels in bands.items():
        name = f"RCM1_OK1234567_PK1_1_5M11_20240726_091530_{pole}_GRD.tif"
        _write_image(folder / "imagery" / name, pixels, place)
        images += f'<ipdf pole="{pole}">../imagery/{name}</ipdf>'
        for kind in ("Sigma Nought", "Beta Nought"):
            table = f"lut{kind.split()[0]}_{pole}.xml"
            tables += f'<lookupTableFileName sarCalibrationType="{kind}" pole="{pole}">{table}</lookupTableFileName>'
            numbers = " ".join(f"{gain:.9e}" for gain in (gains if kind[0] == "S" else gains * 7))
            (folder / calibration / table).write_text(
                f'<lut xmlns="rcmGsProductSchema"><{first_is}>{first}</{first_is}><stepSize>{step}</stepSize>'
                f"<numberOfValues>{len(gains)}</numberOfValues><offset>{offset}</offset><gains>{numbers}</gains></lut>"
            )
    (folder / "metadata" / "product.xml").write_text(
        '<product xmlns="rcmGsProductSchema"><sourceAttributes><satellite>RCM-1</satellite>'
        f"<rawDataStartTime>{START}</rawDataStartTime></sourceAttributes><imageReferenceAttributes>"
        f"<rasterAttributes><sampleType>Magnitude Detected</sampleType></rasterAttributes>{tables}"
        f"</imageReferenceAttributes><sceneAttributes><imageAttributes>{images}</imageAttributes></sceneAttributes>"
        "</product>"
    )
    return folder


def write_terrasarx(
    folder: Path,
    bands: Mapping[str, np.ndarray],
    factors: Mapping[str, float],
    *,
    variant: str = "MGD",
    incidence_deg: float = 35.0,
    gim: np.ndarray | None = None,
) -> Path:
    """`bands` by polarisation; complex ones are written in COSAR. MGD and SSC have corners in the XML, the others lie
    on a map."""
    (folder / "IMAGEDATA").mkdir(parents=True)
    height, width = next(iter(bands.values())).shape[-2:]
    images = constants = ""
    for pole, pixels in bands.items():
        name = f"IMAGE_{pole}_SRA_strip_007.{'cos' if np.iscomplexobj(pixels) else 'tif'}"
        if np.iscomplexobj(pixels):
            write_cosar(folder / "IMAGEDATA" / name, pixels)
        else:
            _write_image(folder / "IMAGEDATA" / name, pixels, "map" if variant in ("GEC", "EEC") else "")
        images += (
            f'<imageData layerIndex="1"><polLayer>{pole}</polLayer><file><location><host>.</host><path>IMAGEDATA</path>'
            f"<filename>{name}</filename></location></file></imageData>"
        )
        constants += (
            f"<calibrationConstant><polLayer>{pole}</polLayer><calFactor>{factors[pole]:.6e}</calFactor>"
            "</calibrationConstant>"
        )
    corners = "".join(
        f'<sceneCornerCoord name="x"><refRow>{1 + row * (height - 1)}</refRow><refColumn>{1 + column * (width - 1)}'
        f"</refColumn><lat>{latitude}</lat><lon>{longitude}</lon><incidenceAngle>30</incidenceAngle></sceneCornerCoord>"
        for (column, row), (longitude, latitude) in CORNERS.items()
    )
    if gim is not None:
        (folder / "AUXRASTER").mkdir()
        write_geotiff(folder / "AUXRASTER" / "GIM.tif", gim)
    (folder / f"{folder.name}.xml").write_text(
        f"<level1Product><productComponents>{images}</productComponents><productInfo><missionInfo><mission>TSX-1"
        f"</mission></missionInfo><productVariantInfo><productVariant>{variant}</productVariant></productVariantInfo>"
        f"<sceneInfo><start><timeUTC>{START}</timeUTC></start><sceneCenterCoord><incidenceAngle>{incidence_deg}"
        f"</incidenceAngle></sceneCenterCoord>{corners}</sceneInfo></productInfo><calibration>{constants}"
        "</calibration></level1Product>"
    )
    return folder


def write_cosar(path: Path, pixels: np.ndarray) -> Path:
    """(H, W) complex pixels with whole parts as one burst of COSAR: big-endian, four lines of annotation, and two words
    before each line."""
    height, width = pixels.shape
    line_bytes = 4 * (width + 2)
    data = np.zeros((height + 4, width + 2, 2), ">i2")
    data[4:, 2:, 0], data[4:, 2:, 1] = pixels.real, pixels.imag
    data.view(">i4")[4:, 0, 0], data.view(">i4")[4:, 1, 0] = 1, width  # first and last valid sample
    content = bytearray(data.tobytes())
    content[:36] = struct.pack(">7I4sI", len(content), 1, width, height, 1, line_bytes, height + 4, b"CSAR", 1)
    path.write_bytes(content)
    return path


def write_envi(
    path: Path,
    pixels: np.ndarray,
    *,
    names: Sequence[str] = (),
    unit: str = "",
    interleave: str = "bsq",
    big_endian: bool = True,
    nodata: float | None = None,
    offset_bytes: int = 0,
    place: str = "utm",
    more: str = "",
) -> Path:
    """The pixels at `path` and NAME.hdr beside them; (H, W) or (C, H, W)."""
    cube = pixels if pixels.ndim == 3 else pixels[None]
    axes = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}[interleave]
    kind = f"{cube.dtype.kind}{cube.dtype.itemsize}"
    stored = cube.transpose(axes).astype(("> <"[0 if big_endian else 2]) + kind)
    path.write_bytes(b"\x07" * offset_bytes + stored.tobytes())
    left, width_m, _, top, _, height_m = TRANSFORM
    fields = [
        f"description = {{{names[0] if names else ''} - Unit: {unit}}}" if unit else "description = {made by a test}",
        f"samples = {cube.shape[2]}",
        f"lines   = {cube.shape[1]}",
        f"bands   = {cube.shape[0]}",
        f"header offset = {offset_bytes}",
        "file type = ENVI Standard",
        f"data type = {_KINDS[kind]}",
        f"interleave = {interleave}",
        f"byte order = {int(big_endian)}",
        f"band names = {{ {', '.join(names)} }}" if names else "",
        f"data ignore value = {nodata}" if nodata is not None else "",
        f"map info = {{UTM, 1.0, 1.0, {left}, {top}, {width_m}, {-height_m}, 52, North, WGS-84, units=Meters}}"
        if place == "utm"
        else "",
        more,
    ]
    path.with_suffix(".hdr").write_text("\n".join(["ENVI", *filter(None, fields)]) + "\n")
    return path


def write_envi_folder(folder: Path, pixels: np.ndarray) -> Path:
    """One pair of amplitude."""
    folder.mkdir()
    write_envi(folder / "Amplitude_VV.img", pixels, names=["Amplitude_VV"])
    return folder


def write_dimap(
    path: Path,
    bands: Mapping[str, np.ndarray],
    *,
    units: Mapping[str, str] | None = None,
    nodata: float | None = 0.0,
    computed: Mapping[str, str] | None = None,
    more: Mapping[str, str] | None = None,
    place: str = "map",
    abstracted: Mapping[str, str] | None = None,
) -> Path:
    """`path` is the .dim; `computed` are virtual bands with their expression; `more` is XML of a band beside the usual
    elements; `place` is `map`, or `ties` for grids of latitude and longitude."""
    data = path.with_suffix(".data")
    data.mkdir(parents=True)
    height, width = next(iter(bands.values())).shape
    files = infos = ""
    for number, name in enumerate([*bands, *(computed or {})]):
        virtual = (computed or {}).get(name)
        if virtual is None:
            unit = (units or {}).get(name, "intensity")
            write_envi(
                data / f"{name}.img", bands[name], names=[name], unit=unit, place="utm" if place == "map" else ""
            )
            href = f"{data.name}/{name}.hdr"
            files += f'<Data_File><DATA_FILE_PATH href="{href}"/><BAND_INDEX>{number}</BAND_INDEX></Data_File>'
        used = f"<NO_DATA_VALUE>{nodata}</NO_DATA_VALUE>" if nodata is not None else ""
        infos += (
            f"<Spectral_Band_Info><BAND_INDEX>{number}</BAND_INDEX><BAND_DESCRIPTION/><BAND_NAME>{name}</BAND_NAME>"
            f"<DATA_TYPE>float32</DATA_TYPE><PHYSICAL_UNIT>{(units or {}).get(name, 'intensity')}</PHYSICAL_UNIT>"
            f"{(more or {}).get(name, '<SCALING_FACTOR>1.0</SCALING_FACTOR><LOG10_SCALED>false</LOG10_SCALED>')}"
            f"<NO_DATA_VALUE_USED>{str(nodata is not None).lower()}</NO_DATA_VALUE_USED>{used}"
            f"{f'<VIRTUAL_BAND>true</VIRTUAL_BAND><EXPRESSION>{virtual}</EXPRESSION>' if virtual else ''}"
            "</Spectral_Band_Info>"
        )
    geography = ""
    if place == "map":
        left, width_m, _, top, _, height_m = TRANSFORM
        geography = (
            f"<Coordinate_Reference_System><WKT>{wkt(32652)}</WKT></Coordinate_Reference_System><Geoposition>"
            f"<IMAGE_TO_MODEL_TRANSFORM>{width_m},0.0,0.0,{height_m},{left},{top}</IMAGE_TO_MODEL_TRANSFORM></Geoposition>"
        )
    else:
        (data / "tie_point_grids").mkdir()
        for name, axis in (("longitude", 0), ("latitude", 1)):
            values = np.array([[CORNERS[column, row][axis] for column in (0, 1)] for row in (0, 1)], np.float32)
            write_envi(data / "tie_point_grids" / f"{name}.img", values, names=[name], place="")
            files += (
                f'<Tie_Point_Grid_File><TIE_POINT_GRID_FILE_PATH href="{data.name}/tie_point_grids/{name}.hdr"/>'
                "<TIE_POINT_GRID_INDEX>0</TIE_POINT_GRID_INDEX></Tie_Point_Grid_File>"
            )
            geography += (
                f"<Tie_Point_Grids><Tie_Point_Grid_Info><TIE_POINT_GRID_NAME>{name}</TIE_POINT_GRID_NAME><NCOLS>2</NCOLS>"
                f"<NROWS>2</NROWS><OFFSET_X>0.0</OFFSET_X><OFFSET_Y>0.0</OFFSET_Y><STEP_X>{width}</STEP_X>"
                f"<STEP_Y>{height}</STEP_Y></Tie_Point_Grid_Info></Tie_Point_Grids>"
            )
    attributes = "".join(
        f'<MDATTR name="{key}" type="ascii">{text}</MDATTR>' for key, text in (abstracted or {}).items()
    )
    path.write_text(
        f'<?xml version="1.0" encoding="ISO-8859-1"?><Dimap_Document name="{path.name}"><Metadata_Id><METADATA_FORMAT '
        'version="2.12.1">DIMAP</METADATA_FORMAT><METADATA_PROFILE>BEAM-DATAMODEL-V1</METADATA_PROFILE></Metadata_Id>'
        "<Production><PRODUCT_TYPE>GRD</PRODUCT_TYPE><PRODUCT_SCENE_RASTER_START_TIME>26-JUL-2024 09:15:30.123456"
        f"</PRODUCT_SCENE_RASTER_START_TIME></Production>{geography}<Raster_Dimensions><NCOLS>{width}</NCOLS>"
        f"<NROWS>{height}</NROWS></Raster_Dimensions><Data_Access>{files}</Data_Access><Image_Interpretation>{infos}"
        '</Image_Interpretation><Dataset_Sources><MDElem name="metadata"><MDElem name="Abstracted_Metadata">'
        f"{attributes}</MDElem></MDElem></Dataset_Sources></Dimap_Document>"
    )
    return path


def _write_image(path: Path, pixels: np.ndarray, place: str) -> None:
    height, width = pixels.shape[-2:]
    gcps = [
        gdal.GCP(longitude, latitude, 0, column * width, row * height)
        for (column, row), (longitude, latitude) in CORNERS.items()
    ]
    transform = TRANSFORM if place == "map" else None
    write_geotiff(path, pixels, gcps=gcps if place == "gcps" else (), transform=transform)
