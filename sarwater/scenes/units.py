"""The units of pixels: which there are, what calibrated backscatter becomes as an amplitude, which pixels cannot be in
a unit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]

POWER_UNITS = tuple(
    quantity + scale for quantity in ("sigma0", "gamma0", "beta0", "intensity") for scale in ("_linear", "_db")
)
"""Squares of an amplitude, calibrated (the first three) or not."""
AMPLITUDE_UNITS = ("sigma0_amplitude", "gamma0_amplitude", "beta0_amplitude")
"""Roots of calibrated backscatter."""
CALIBRATED_UNITS = (*POWER_UNITS, *AMPLITUDE_UNITS)
"""What becomes another unit by itself."""
SCENE_UNITS = ("amplitude_dn", *CALIBRATED_UNITS)
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
DARKEST_DB = -50.0
"""No sensor measures less: its own noise is above it."""


def unit_of(dtype: np.dtype[Any]) -> str:
    """Of pixels that say nothing of it: integers and complex numbers are amplitudes, floats may be anything."""
    return UNKNOWN_UNIT if dtype.kind == "f" else "amplitude_dn"


def nodata_of(dtype: np.dtype[Any], unit: str = "amplitude_dn") -> float | None:
    """Where nothing is declared: 0 for integers and complex numbers, as KOMPSAT-5 and Sentinel-1 products have it; but
    in signed integers of decibels, 0 is a level."""
    signed_db = dtype.kind == "i" and unit.endswith("_db")
    return 0.0 if dtype.kind in "iuc" and not signed_db else None


def can_hold(dtype: np.dtype[Any], value: float) -> bool:
    """Whether a pixel of `dtype` can be `value`; floats can be any, and what is not finite is for the reader to say."""
    if dtype.kind not in "iu" or not math.isfinite(value):
        return True
    most = np.iinfo(dtype)
    return bool(most.min <= value <= most.max)


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
            return (
                f"holds {lowest:.4g} again and again; it looks like a value for nodata that is not declared: "
                f"state that with --nodata {lowest:.17g}"
            )
        if negative.size > MOST_NEGATIVE * count:
            return (
                f"holds {lowest:.4g}, but an amplitude is never negative; it looks like {_decibels(pixels[measured])}: "
                f"state that with --unit sigma0_db{_scale_flag(pixels[measured])}"
            )
    if pixels.dtype.kind == "f" and _most(pixels < 1, measured & (pixels > 0)):
        return (
            "most of its pixels are below 1, where an amplitude in DN is not; it looks like linear backscatter: state "
            "that with --unit sigma0_linear, or with --unit sigma0_amplitude where it is the root of that"
        )
    return None


def unlike_unit(
    values: npt.NDArray[Any], measured: Bool, unit: str, scale: float = 1.0, offset: float = 0.0
) -> str | None:
    """Why the `measured` ones of `values` cannot be in the calibrated `unit` that they are said to be in; else None.
    They are stored values, times `scale` plus `offset`.

    Power whose noise was subtracted is negative here and there, but only by a little.
    """
    quantity, kind = unit.split("_", 1)
    in_db = kind == "db"
    if in_db and _most(values > (FARTHEST_DB if quantity == "intensity" else 10 * math.log10(BRIGHTEST)), measured):
        return (
            "most of its pixels would be above 10 dB, where no scene is; state how stored values become decibels, as "
            f"--unit {unit} --scale 0.2 --offset -40 for steps of 0.2 dB from -40 dB"
        )
    if in_db and _most(np.abs(values) > FARTHEST_DB, measured):
        return (
            f"most of its pixels would be beyond {FARTHEST_DB:.0f} dB; they may be {_decibels(values[measured])}: "
            f"state that with --unit {unit}{_scale_flag(values[measured], scale, offset)}"
        )
    if in_db and _most((values > 0) & (values < 1), measured):
        return (
            "most of its pixels would be between 0 and 1 dB; it looks like linear backscatter: state that with "
            f"--unit {quantity}_linear"
        )
    if not in_db and _most(values < (0 if kind == "amplitude" else -1), measured):
        return (
            f"most of its pixels are negative, where no {kind} backscatter is; it looks like "
            f"{_decibels(values[measured])}: state that with --unit {quantity}_db"
            f"{_scale_flag(values[measured], scale, offset)}"
        )
    brightest = BRIGHTEST**0.5 if kind == "amplitude" else BRIGHTEST
    if quantity != "intensity" and _most(values > brightest, measured):
        return (
            "most of its pixels would be above 10 dB, where no scene is; it looks like amplitude: state that with "
            "--unit amplitude_dn"
        )
    return None


def _scale_of_decibels(values: npt.NDArray[Any]) -> float:
    """The power of ten that brings the darkest of `values` to where backscatter is."""
    darkest = float(np.percentile(values[values != 0], 2)) if np.any(values != 0) else 0.0
    scale = 1.0
    while darkest * scale < DARKEST_DB and scale > 1e-6:
        scale /= 10
    return max(round(scale, 6), 1e-6)


def _decibels(values: npt.NDArray[Any]) -> str:
    scale = _scale_of_decibels(values)
    return "decibels" if scale == 1 else f"decibels times {1 / scale:.0f}"


def _scale_flag(values: npt.NDArray[Any], scale: float = 1.0, offset: float = 0.0) -> str:
    """What makes decibels of stored values, of which `scale` and `offset` made `values`."""
    factor = _scale_of_decibels(values)
    if factor == 1:
        return ""
    return f" --scale {factor * scale:g}" + (f" --offset {factor * offset:g}" if offset else "")


def _most(such: Bool, of: Bool) -> bool:
    return 2 * int(np.count_nonzero(such & of)) > int(np.count_nonzero(of))
