"""Product folders that hold every polarisation in a file of its own, in DN of a scale that only the product knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sarwater.errors import SceneUnreadable
from sarwater.scenes.band import Band, Calibration
from sarwater.scenes.readers.base import Source
from sarwater.scenes.readers.geotiff import open_tiff, scene_of
from sarwater.scenes.scene import Scene

SAME_SIZE = "expected all polarisations to be of one size: send the product again"


def open_polarisations(
    source: Source, files: Mapping[Path, str | None], open_file: Callable[[Source], Any] = open_tiff
) -> Scene:
    """A scene of one band for each of `files`, by its polarisation: amplitude in DN, of complex pixels too, whether
    they are complex numbers or two bands (I, Q). Raises as `Reader.open`."""
    parts = [Source(file, file.name, source.limits) for file in files]
    scenes = [scene_of(part, open_file(part)) for part in parts]
    first = scenes[0]
    for part, scene in zip(parts, scenes, strict=True):
        if (scene.width_px, scene.height_px) != (first.width_px, first.height_px):
            raise SceneUnreadable(
                f"{source.name}: {part.name} has {scene.width_px} x {scene.height_px} px, {parts[0].name} has "
                f"{first.width_px} x {first.height_px} px; {SAME_SIZE}"
            )
    known = [polarisation for polarisation in files.values() if polarisation]
    if len(known) > len(set(known)):
        raise SceneUnreadable(
            f"{source.name}: several images of {max(known, key=known.count)}, expected one of each polarisation; "
            "process beams and bursts as scenes of their own"
        )
    first.bands = tuple(
        _in_dn(source, scene.bands, polarisation) for scene, polarisation in zip(scenes, files.values(), strict=True)
    )
    first.name = source.name
    return first


def _in_dn(source: Source, bands: tuple[Band, ...], polarisation: str | None) -> Band:
    band, *more = (replace(band, unit="amplitude_dn", scale=1.0, offset=0.0, stated_by="") for band in bands)
    if len(more) > 1:
        raise SceneUnreadable(f"{source.name}: an image of {1 + len(more)} bands; expected amplitude, or I and Q")
    return replace(band, polarisation=polarisation, scene=source.name, quadrature=more[0] if more else None)


def calibrated(band: Band, calibration: Calibration | None, stated_by: str) -> Band:
    """`band` with what makes its DN sigma0; as it is for None."""
    if calibration is None:
        return band
    return replace(band, calibration=calibration, foreign_dn=True, stated_by=stated_by)


def is_complex(band: Band) -> bool:
    return band.quadrature is not None or band.stored_dtype.kind == "c"
