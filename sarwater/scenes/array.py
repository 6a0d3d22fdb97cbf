"""Pixels that are in memory already, or behind anything that is sliced as an array is, as a scene.

Rows are taken in strips, so a memory map, an HDF5 data set or a Zarr array is never loaded whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneEmpty, UsageError
from sarwater.request import Limits, Window, names_in
from sarwater.scenes.band import Band, Incidence, Pixels
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.names import polarisation_in, time_in
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import nodata_of, unit_of

_STRIP_BYTES = 16 << 20


@dataclass(frozen=True, eq=False)
class ArrayBand(Band):
    """A plane of an array: `dataset` is the array, (H, W) or (C, H, W), and `number` the plane, from 1."""

    @property
    def stored_dtype(self) -> np.dtype[np.generic]:
        stored: np.dtype[np.generic] = np.dtype(self.dataset.dtype)
        return stored

    @property
    def block_px(self) -> tuple[int, int]:
        return int(self.dataset.shape[-1]), 1

    def read_mask(self, window: Window) -> npt.NDArray[np.bool_]:
        return ~np.ma.getmaskarray(self._window(window))

    def _stored(self, window: Window, out: Pixels | None = None) -> Any:
        pixels = np.ma.getdata(self._window(window))
        if out is None:
            return np.asarray(pixels)
        out[...] = pixels
        return out

    def _window(self, window: Window) -> Any:
        rows = slice(window.y_px, window.y_px + window.height_px)
        columns = slice(window.x_px, window.x_px + window.width_px)
        found = (
            self.dataset[rows, columns]
            if len(self.dataset.shape) == 2
            else self.dataset[self.number - 1, rows, columns]
        )
        return found if isinstance(found, np.ndarray) else np.asarray(found)


def is_array(value: Any) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype") and hasattr(value, "__getitem__")


def scene_of_array(
    array: Any, *, name: str = "array", georeference: Georeference | None = None, channels: str | Sequence[str] = ()
) -> Scene:
    """A scene of (H, W) or (C, H, W) numbers; `channels` names the planes: `hh`, `hv`, `vh`, `vv`, `gim`, as a sequence
    or as text with commas between them.

    What the array does not say is as in a file that does not: integers are amplitudes and 0 is nodata among them,
    floats may be anything and NaN is nodata, as are the masked pixels of a masked array. A time and a polarisation in
    `name` are taken from there.

    Raises UsageError for anything else than numbers in planes, SceneEmpty.
    """
    planes = _planes(array)
    height_px, width_px = array.shape[-2:]
    names = tuple(str(channel).lower() for channel in listed_names(channels))
    if names and len(names) != planes:
        raise UsageError(f"channels {', '.join(names)}: {len(names)} names for {planes} planes of the array")
    if not names and planes == 1:
        names = (polarisation_in(name) or "",)
    dtype = np.dtype(array.dtype)
    bands = [
        ArrayBand(array, number, unit_of(dtype), polarisation or None, scene=name)
        for number, polarisation in enumerate(names or [""] * planes, 1)
    ]
    gims = [band for band in bands if band.polarisation == "gim"]
    return Scene(
        width_px=width_px,
        height_px=height_px,
        bands=tuple(band for band in bands if band not in gims),
        georeference=georeference or Georeference(),
        format="array",
        nodata=nodata_of(dtype),
        masked=isinstance(array, np.ma.MaskedArray),
        incidence=Incidence(gims[0], None, None) if gims else None,
        acquired=time_in(name),
        name=name,
    )


def listed_names(channels: str | Sequence[str]) -> tuple[str, ...]:
    """`"vv"` is ("vv",), and `"vv,vh"` is ("vv", "vh")."""
    return names_in(channels) if isinstance(channels, str) else tuple(channels)


def array_sha256(array: Any, *said: object) -> str:
    """The sha256 of dtype, shape and bytes in C order, of the mask where the array has one, and of whatever else is
    `said` of the array that its pixels do not hold."""
    dtype, height_px = np.dtype(array.dtype), array.shape[-2]
    digest = hashlib.sha256(f"{dtype.str} {tuple(map(int, array.shape))}\n".encode())
    rows = max(1, _STRIP_BYTES // max(1, array.shape[-1] * dtype.itemsize))
    whole = range(0, height_px, rows)
    for number in range(1, _planes(array) + 1):
        band = ArrayBand(array, number, "")
        for window in (Window(0, y, array.shape[-1], min(rows, height_px - y)) for y in whole):
            digest.update(np.ascontiguousarray(band._stored(window)).data)
            if isinstance(array, np.ma.MaskedArray):
                digest.update(band.read_mask(window).data)
    for what in filter(None, said):
        digest.update(f"\n{what!r}".encode())
    return digest.hexdigest()


def _planes(array: Any) -> int:
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    if dtype.kind not in "uifc":
        raise UsageError(f"an array of {dtype}: expected numbers")
    if len(shape) not in (2, 3):
        raise UsageError(f"an array of shape {shape}: expected (H, W), or (C, H, W) with a plane for each channel")
    if 0 in shape:
        raise SceneEmpty(f"an array of shape {shape}: holds no pixel; expected (H, W) or (C, H, W)")
    planes: int = shape[0] if len(shape) == 3 else 1
    most = Limits().max_bands
    if planes > most:
        raise UsageError(
            f"an array of shape {shape}: {planes} planes, expected (C, H, W) with {most} at most; where channels are "
            "last, give numpy.moveaxis(array, -1, 0)"
        )
    return planes
