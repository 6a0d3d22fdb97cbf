"""The units of pixels: which there are, what calibrated backscatter becomes as an amplitude, which pixels cannot be in
a unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]

POWER_UNITS = tuple(
    quantity + scale for quantity in ("sigma0", "gamma0", "beta0", "intensity") for scale in ("_linear", "_db")
)
"""Squares of an amplitude, calibrated (the first three) or not."""
SCENE_UNITS = ("amplitude_dn", *POWER_UNITS)
"""What pixels can be in."""
UNKNOWN_UNIT = "unknown"
"""Of float pixels that do not say what they are; taken as amplitude, and refused by models for sigma0."""
AMPLITUDE_DN_AT_0_DB = 400.0
"""The amplitude that calibrated backscatter of 1 stands for. What models of amplitudes learn from lies around it: the
simulator's sensors have 300 (KOMPSAT-5) and 450 (Sentinel-1), each varied by 3 dB and more."""

MOST_NEGATIVE = 0.1
"""Share of the pixels. Lanczos made it 2 % of speckle that was resampled to a quarter of its size."""
FILLED = 16
"""Pixels of one value that may be chance."""
FARTHEST_DB = 100.0
"""From 0 dB: no backscatter is so dark, and no intensity in DN so bright."""
BRIGHTEST = 10.0
"""Calibrated backscatter above it, which is 10 dB in either scale, is a bright target, not a scene."""


def unit_of(dtype: np.dtype[Any]) -> str:
    """Of pixels that say nothing of it: integers and complex numbers are amplitudes, floats may be anything."""
    return UNKNOWN_UNIT if dtype.kind == "f" else "amplitude_dn"


def nodata_of(dtype: np.dtype[Any]) -> float | None:
    """Where nothing is declared: 0 for integers and complex numbers, as KOMPSAT-5 and Sentinel-1 products have it."""
    return 0.0 if dtype.kind in "iuc" else None


def unlike_amplitude(pixels: npt.NDArray[Any], nodata: float | None = None) -> str | None:
    """Why `pixels`, but for those of value `nodata` and NaN, are no amplitudes in DN; None where they may be.

    Taken for amplitudes, decibels and linear backscatter are so dark that all of it would be water. A few negative
    values are none of these: resampling by cubic convolution or Lanczos leaves them beside bright targets, and 16 bits
    overflow there.
    """
    if pixels.dtype.kind == "u":
        return None
    measured = np.isfinite(pixels)
    if nodata is not None:  # numpy compares with None object by object
        measured &= pixels != nodata
    negative = pixels[measured & (pixels < 0)]
    if negative.size:
        lowest, count = negative.min(), int(np.count_nonzero(measured))
        repeated = int(np.count_nonzero(negative == lowest))
        if negative.size < count and repeated > max(FILLED, negative.size / 2):
            return f"holds {lowest:.4g} again and again; it looks like a value for nodata that is not declared"
        if negative.size > MOST_NEGATIVE * count:
            return f"holds {lowest:.4g}, but an amplitude is never negative; it looks like decibels"
    if pixels.dtype.kind == "f" and _most(pixels < 1, measured & (pixels > 0)):
        return "most of its pixels are below 1, where an amplitude in DN is not; it looks like linear backscatter"
    return None


def unlike_power(values: npt.NDArray[Any], measured: Bool, *, in_db: bool, calibrated: bool = True) -> str | None:
    """Why the `measured` ones of `values` are no power in the scale that they are said to be in; else None.

    Power whose noise was subtracted is negative here and there, but only by a little.
    """
    if in_db and _most(np.abs(values) > FARTHEST_DB, measured):
        return f"most of its pixels would be beyond {FARTHEST_DB:.0f} dB; they may be decibels times 100"
    if in_db and _most((values > 0) & (values < 1), measured):
        return "most of its pixels would be between 0 and 1 dB; it looks like linear backscatter"
    if not in_db and _most(values < -1, measured):
        return "most of its pixels are below -1, where no power is; it looks like decibels"
    if calibrated and _most(values > BRIGHTEST, measured):
        return "most of its pixels would be above 10 dB, where no scene is; it looks like amplitude"
    return None


def _most(such: Bool, of: Bool) -> bool:
    return 2 * int(np.count_nonzero(such & of)) > int(np.count_nonzero(of))
