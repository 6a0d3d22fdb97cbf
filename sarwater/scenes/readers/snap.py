"""Bands as SNAP describes them, in the .dim of BEAM-DIMAP or in tag 65000 of a GeoTIFF, which holds the same XML.

A GeoTIFF of SNAP says nothing else of what its bands are; bands that SNAP computes from others are not in it.
Source: GeoTiffProductWriter, TiffIFD and DimapHeaderWriter of SNAP (https://github.com/senbox-org/snap-engine).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sarwater.errors import SceneNoBackscatter, SceneUnreadable
from sarwater.scenes.band import Band
from sarwater.scenes.border_noise import may_have_border_noise
from sarwater.scenes.dimap import Dimap, DimapBand
from sarwater.scenes.names import polarisation_in
from sarwater.scenes.radiometry import BandFacts, radiometry_of
from sarwater.scenes.scene import Scene
from sarwater.scenes.tiff import SNAP_METADATA, read_tag
from sarwater.scenes.units import nodata_of

Place = tuple[Any, int]
"""GDAL's dataset and the number of a band in it."""


def snap_bands(
    document: Dimap, told: Sequence[DimapBand], name: str, place_of: Callable[[DimapBand], Place]
) -> dict[DimapBand, Band]:
    """Those of `told` that are no imaginary part, in their order, of the scene `name`. Raises SceneUnreadable."""

    def band_of(one: DimapBand) -> Band:
        dataset, number = place_of(one)
        said = radiometry_of(one.facts(BandFacts.of(dataset.GetRasterBand(number))), {}, name)
        unit, scale, offset = said.unit, said.scale, said.offset
        if one.log10:
            quantity, kind = unit.split("_", 1) if "_" in unit else ("intensity", "linear")
            tens = 20.0 if kind in ("amplitude", "dn") else 10.0
            unit = f"{'intensity' if quantity == 'amplitude' else quantity}_db"
            scale, offset = tens * one.scale, tens * one.offset
        polarisation = polarisation_in(one.name)
        return Band(dataset, number, unit, polarisation, scene=name, scale=scale, offset=offset, stated_by=said.source)

    def complex_of(one: DimapBand) -> Band:
        """Of i_NAME, with q_NAME; calibrated where the product says so."""
        other = next((other for other in told if other.name == f"q{one.name[1:]}"), None)
        if other is None:
            raise SceneUnreadable(f"{name}: {one.name} without its imaginary part; save the product again")
        unit = "sigma0_amplitude" if document.abstracted("abs_calibration_flag") == "1" else "amplitude_dn"
        real = replace(band_of(one), unit=unit, scale=1.0, offset=0.0, stated_by="")
        dataset, number = place_of(other)
        return replace(real, quadrature=replace(real, dataset=dataset, number=number))

    kinds = {"real": complex_of}
    return {one: kinds.get(one.unit.lower(), band_of)(one) for one in told if one.unit.lower() != "imaginary"}


def snap_nodata(told: DimapBand, band: Band) -> float | None:
    """The stored value that means that nothing was measured."""
    nodata = nodata_of(band.stored_dtype, band.unit) if told.nodata is None else told.nodata
    return None if nodata is None or math.isnan(nodata) else nodata


def snap_border_noise(document: Dimap) -> bool:
    """Whether an old processor made the product that SNAP has read."""
    software = document.abstracted("Processing_system_identifier")
    return may_have_border_noise(document.abstracted("PRODUCT"), {"TIFFTAG_SOFTWARE": software})


def apply_snap_header(scene: Scene, path: Path) -> None:
    """Give a GeoTIFF of SNAP what its own header says: units, polarisations, nodata, time. Raises SceneNoBackscatter
    where no band is any; SceneUnreadable, SceneUnsafe."""
    text = read_tag(path, SNAP_METADATA)
    if text is None or b"<Dimap_Document" not in text:
        return
    document = Dimap.parse(text, scene.name)
    scene.acquired = document.start or scene.acquired
    scene.border_noise = scene.border_noise or snap_border_noise(document)
    numbers = [band.number for band in scene.bands]
    told = next(
        (some for some in (document.stored, document.bands) if len(some) == scene.bands[0].dataset.RasterCount), None
    )
    if told is None:
        return  # bands were added or taken out
    of_use = [one for number, one in enumerate(told, 1) if one.is_backscatter and number in numbers]
    if not of_use:
        names = ", ".join(repr(one.name) for one in told)
        raise SceneNoBackscatter(
            f"{scene.name}: SNAP's header calls its bands {names}: no backscatter; give the file that holds the "
            "backscatter (sigma0, gamma0, amplitude)"
        )
    dataset = scene.bands[0].dataset
    bands = snap_bands(document, of_use, scene.name, lambda one: (dataset, told.index(one) + 1))
    first = next(iter(bands))
    if len(bands) == 1 and bands[first].polarisation is None:
        stated = polarisation_in(document.abstracted("mds1_tx_rx_polar")) or scene.bands[0].polarisation
        bands[first] = replace(bands[first], polarisation=stated)
    scene.bands = tuple(bands.values())
    if scene.declared_nodata is None:
        scene.declared_nodata, scene.nodata = first.nodata, snap_nodata(first, bands[first])
