"""GeoTIFF in all its forms: striped, tiled, BigTIFF, cloud-optimised."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sarwater.errors import SceneIsProduct, SceneNoBackscatter, SceneUnreadable, SceneUnsafe
from sarwater.scenes.band import Band
from sarwater.scenes.border_noise import may_have_border_noise
from sarwater.scenes.decoding import raster_of
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.limits import check_declared, how_to_lift
from sarwater.scenes.names import polarisation_in, polarisation_stated, sensing_start, statements
from sarwater.scenes.radiometry import BandFacts, radiometry_of
from sarwater.scenes.radiometry_beside import radiometry_beside
from sarwater.scenes.raster import gdal, tags_of, text_of
from sarwater.scenes.readers.base import Reader, Source
from sarwater.scenes.readers.snap import apply_snap_header
from sarwater.scenes.scene import Scene
from sarwater.scenes.sidecars import is_overview, left_out, masks_of, refuse_without_mask, sidecars_of
from sarwater.scenes.tiff import check_structure, is_tiff
from sarwater.scenes.units import nodata_of
from sarwater.tags import PRODUCT_REFUSED, TAG_PREFIX


class GeoTiff(Reader):
    name = "GeoTIFF"
    looks_for = "a file that begins as a TIFF does"
    reads = (
        "bands, their descriptions, tags, scale and offset; nodata, mask or alpha; geotransform, control points or RPC "
        "inside the file"
    )
    unit = "what the file says (OPERA, HyP3, SNAP, Capella, ICEYE, JAXA and others), else amplitude in DN"
    unused = "files beside it (`.tfw`, `.aux.xml`, `.ovr`), overviews, colour tables"

    def matches(self, path: Path, name: str) -> bool:
        return path.is_file() and is_tiff(path)

    def open(self, source: Source) -> Scene:
        if is_overview(source.name):
            raise SceneNoBackscatter(
                f"{source.name}: the overviews of an image, smaller and without its place; give the image, "
                f"{Path(source.name).stem}"
            )
        scene = scene_of(source, open_tiff(source))
        apply_snap_header(scene, source.path)
        if not scene.masked:
            refuse_without_mask(masks_of(source.path), source.name)
        if not scene.georeference.known and (beside := sidecars_of(source.path)):
            scene.notes += (left_out(beside, source.name),)
        scene.said_beside = radiometry_beside(source.path, scene.bands[0], source.name)
        return scene


def open_tiff(source: Source) -> Any:
    """The GDAL dataset of a TIFF, after its structure was checked: every strip and tile is there, none is absurd.

    Raises SceneTruncated, SceneUnreadable, SceneUnsafe.
    """
    structure = check_structure(source.path, source.name)
    _check_bands(source, structure.bands)
    check_declared(
        source.name,
        source.limits,
        pixels=structure.width_px * structure.height_px,
        block_bytes=structure.block_bytes,
        decoded_bytes=structure.stored_bytes,
        stored_bytes=source.path.stat().st_size,
    )
    return open_raster(source, ["GTiff"])


def open_raster(source: Source, drivers: list[str], part: str | None = None, beside: Sequence[Path] = ()) -> Any:
    """Open one file with GDAL and the drivers named, no other; `part` is GDAL's name for a part of it, `beside` the
    files in its folder that GDAL may see.

    Raises SceneUnreadable, SceneUnsafe.
    """
    try:
        # An absolute path of a real file: never one of GDAL's /vsi or connection-string names.
        dataset = gdal.OpenEx(
            os.fsencode(part or source.path.resolve()),  # as text, GDAL takes names in UTF-8 only
            gdal.OF_RASTER | gdal.OF_READONLY | gdal.OF_VERBOSE_ERROR,
            drivers,
            sibling_files=[os.fsencode(file.name) for file in beside],
        )
    except RuntimeError as error:
        raise SceneUnreadable(
            f"{source.name}: GDAL cannot read it ({error}); expected a SAR raster: send it again"
        ) from error
    _check_bands(source, dataset.RasterCount)
    return raster_of(dataset)


def _check_bands(source: Source, bands: int) -> None:
    if not bands:
        raise SceneUnreadable(f"{source.name}: has no band; expected a SAR raster: produce it again")
    if bands > source.limits.max_bands:
        raise SceneUnsafe(
            f"{source.name}: has {bands} bands, more than the limit of {source.limits.max_bands}; take the SAR bands "
            "out of it (gdal_translate -b 1 IN.tif OUT.tif); " + how_to_lift("max_bands", bands)
        )


def scene_of(source: Source, dataset: Any) -> Scene:
    """A Scene of every band of `dataset` that holds measurements. Raises SceneIsProduct for what we made."""
    tags = tags_of(dataset)
    if any(tag.startswith(TAG_PREFIX) for tag in tags):
        raise SceneIsProduct(f"{source.name}: {PRODUCT_REFUSED}")
    texts = (polarisation_stated(tags) or "", source.name, *(value for _, value in statements(tags)))
    rasters = [dataset.GetRasterBand(number) for number in range(1, dataset.RasterCount + 1)]
    measured = [raster for raster in rasters if raster.GetColorInterpretation() != gdal.GCI_AlphaBand]
    measured = [raster for raster in measured if not _is_phase(raster)] or measured
    bands = tuple(
        _band_of(dataset, raster, tags, source.name, texts if len(measured) == 1 else ()) for raster in measured
    )
    if len(bands) == 2 and _GAOFEN3_L1A.match(source.name) and measured[0].DataType == gdal.GDT_Int16:
        bands = (replace(bands[0], polarisation=polarisation_in(source.name), quadrature=bands[1]),)
    return Scene(
        width_px=dataset.RasterXSize,
        height_px=dataset.RasterYSize,
        bands=bands,
        georeference=Georeference.of(dataset),
        format="GeoTIFF",
        declared_nodata=measured[0].GetNoDataValue(),
        nodata=_nodata_of(measured[0], bands[0].unit),
        masked=bool(measured[0].GetMaskFlags() & (gdal.GMF_PER_DATASET | gdal.GMF_ALPHA)),
        border_noise=may_have_border_noise(source.name, tags),
        acquired=sensing_start(source.name, tags),
        name=source.name,
    )


def _band_of(dataset: Any, raster: Any, tags: Mapping[str, str], name: str, texts: tuple[str, ...]) -> Band:
    """`texts` are what tells the polarisation where the band itself does not."""
    said = radiometry_of(BandFacts.of(raster), tags, name)
    return Band(
        dataset,
        raster.GetBand(),
        said.unit,
        _polarisation_of(raster, texts),
        scene=name,
        scale=said.scale,
        offset=said.offset,
        stated_by=said.source,
    )


_GAOFEN3_L1A = re.compile(r"GF3\w?_.*_L1A_", re.IGNORECASE)
"""GaoFen-3 single-look complex: in phase and in quadrature are two bands that say nothing of themselves."""


def _is_phase(band: Any) -> bool:
    """The second band of ICEYE's SLC in GeoTIFF, beside `amplitude`."""
    return "phase" in (text_of(band.GetDescription()).lower(), text_of(band.GetMetadataItem("NAME")).lower())


def _polarisation_of(band: Any, texts: tuple[str, ...]) -> str | None:
    """What the band says of itself, else what the file's name and tags say (for a file of one band)."""
    metadata = tags_of(band)
    for text in (metadata.get("POLARISATION"), metadata.get("POLARIZATION"), text_of(band.GetDescription()), *texts):
        if found := polarisation_in(text or ""):
            return found
    return None


def _nodata_of(band: Any, unit: str) -> float | None:
    """The declared value, else that of the pixels' type."""
    declared = band.GetNoDataValue()
    if declared is not None:
        return float(declared) if np.isfinite(declared) else None
    return nodata_of(BandFacts.of(band).dtype, unit)
