"""How values vary: backscatter is speckled; classes are not, nor are percentages, heights and angles.

Looked at are windows of some scene, (H, W) each, as they are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[Any]
Float64 = npt.NDArray[np.float64]
Neighbours = Callable[[Pixels, Pixels], npt.NDArray[np.bool_]]
Samples = Sequence[Pixels]

_BLOCK = 16
_CODES_UP_TO, _CODES = 31, 12
"""Masks and classes hold few numbers, and small ones beside their fill."""
_MANY_CODES, _STEP, _FEWEST_STEPS, _FEWEST_CODES = 40, 5, 3, 6
"""Legends of land cover count in steps (10, 20, 30), or have many classes."""
_FEW_CODES, _VERY_PATCHY = 3, 0.95
"""So few may be anything (days since a launch), and lie in patches that are larger still."""
_FEW_PERCENT, _NEARLY_ALL, _CLOSE = 0.01, 90, 8
_HALF_TURN, _BOTH_SIGNS = 3.15, 0.1
_PATCHY = 0.8
"""Share of neighbours that are equal: of classes nearly all, of speckle hardly any."""
_SMOOTH = 0.02
"""Standard deviation over mean in blocks of 16 px: speckle has 0.1 after some 30 looks, heights and angles far less."""
_ROUGH, _ROUGHEST = 0.03, 0.25
"""The same around a curved surface, in most and in nine of ten blocks: scenes of more than 8 bits have 0.2 and more.
Pictures of 8 bits, stretched and enlarged, may have 0.02."""
_SMOOTH_BELOW_0 = 0.01
"""The same of negative values: decibels have 0.05 after some 40 looks."""
_SPECKLED = 0.08
_SMOOTHLY = "its values change as smoothly as heights or angles do, without speckle"


def why_without_speckle(samples: Samples, nodata: float | None) -> str | None:
    """Why `samples` of a band that says nothing of itself are no backscatter; None where they may be."""
    values = np.concatenate([sample.ravel() for sample in samples])
    fill = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if nodata is not None:
        fill |= values == nodata
    measured = values[~fill]
    return why_classes(samples) or _circular(measured) or _surface(samples, measured, nodata)


def why_classes(samples: Samples) -> str | None:
    """Why `samples` are codes, or shares of a whole; None where they may be backscatter."""
    values = np.concatenate([sample.ravel() for sample in samples])
    if not _are_whole(values):
        return None
    numbers = np.unique(values[np.isfinite(values)])
    patchy, enough = 0.0, _PATCHY
    if _are_codes(numbers, np.iinfo(values.dtype).max if values.dtype.kind in "iu" else 255):
        patchy = _share(samples, lambda left, right: left == right, lambda left, right: left == left)
    elif _FEW_CODES <= _coded(numbers).size <= _MANY_CODES:
        patchy = _share(samples, lambda left, right: left == right, lambda left, right: (left != 0) | (right != 0))
        enough = _PATCHY if _are_legend(numbers) else _VERY_PATCHY
    if patchy < enough:
        return _percentages(values, samples)
    shown = ", ".join(f"{number:g}" for number in numbers)
    return f"its values are {shown} in patches, without speckle: a mask or a map of classes"


def is_speckled(samples: Samples, nodata: float | None) -> bool:
    """Whether amplitude or power varies as backscatter does; decibels, which are negative, are taken to."""
    measured = np.concatenate([sample.ravel() for sample in samples])
    if measured.dtype.kind == "c" or np.median(measured) < 0:
        return True
    spread = np.concatenate([_spreads(_blocks(sample, nodata)) for sample in samples])
    equal = np.mean([np.mean(sample[:, 1:] == sample[:, :-1]) for sample in samples])
    return bool(spread.size and np.median(spread) > _SPECKLED and equal < _PATCHY)


def _are_whole(values: Pixels) -> bool:
    finite = values[np.isfinite(values)]
    return values.dtype.kind in "iu" or bool(finite.size and (finite == np.rint(finite)).all())


def _are_codes(numbers: Pixels, largest: int) -> bool:
    codes = (numbers >= 0) & (numbers <= _CODES_UP_TO) | np.isin(numbers, (127, 128, 254, 255, -1, largest))
    coded = numbers[numbers != 0]
    one = coded.size == 1 and coded[0] not in (1, 255, largest)  # flat, not coded
    begun = 1 in numbers or (0 in numbers and numbers[-1] in (255, largest))  # codes are counted from 0 or 1
    return bool(2 <= numbers.size <= _CODES and codes.all() and not one and begun)


def _coded(numbers: Pixels) -> Pixels:
    """Those that are neither of what mostly stands for nothing."""
    return np.asarray(numbers[(numbers > 0) & (numbers != 255)])


def _are_legend(numbers: Pixels) -> bool:
    coded = _coded(numbers)
    in_steps = coded.size >= _FEWEST_STEPS and not (coded % _STEP).any()
    return bool(in_steps or coded.size >= _FEWEST_CODES)


def _percentages(values: Pixels, samples: Samples) -> str | None:
    """How often water was seen, or what share of a pixel it covers: 0 and 100 nearly everywhere."""
    shares = values[np.isfinite(values) & (values != 255)]
    if not shares.size or shares.min() < 0 or shares.max() > 100:
        return None
    if min(np.mean(shares == 0), np.mean(shares >= _NEARLY_ALL)) < _FEW_PERCENT or 100 not in shares:
        return None

    def close(left: Pixels, right: Pixels) -> npt.NDArray[np.bool_]:
        return np.asarray(abs(left.astype(np.float64) - right) <= _CLOSE)

    if _share(samples, close, lambda left, right: (left > 0) & (right > 0)) < _PATCHY:
        return None
    return "its values go from 0 to 100 without speckle: percentages, as of how often water was seen"


def _circular(measured: Pixels) -> str | None:
    """Phases; indices of optical images, too. Decibels of a scene are spread more widely."""
    if measured.dtype.kind != "f" or not measured.size or (np.abs(measured) > _HALF_TURN).any():
        return None
    if min(np.mean(measured < 0), np.mean(measured > 0)) < _BOTH_SIGNS:
        return None
    return "its values lie around 0, between -3.15 and 3.15: a phase or an index, neither power nor decibels"


def _share(samples: Samples, such: Neighbours, of: Neighbours) -> float:
    """Of the pairs of neighbours in a row."""
    pairs = [(sample[:, :-1], sample[:, 1:]) for sample in samples]
    counted = sum(int(np.count_nonzero(of(*pair))) for pair in pairs)
    return sum(int(np.count_nonzero(such(*pair) & of(*pair))) for pair in pairs) / max(counted, 1)


def _surface(samples: Samples, measured: Pixels, nodata: float | None) -> str | None:
    """Heights and angles change little from pixel to pixel, and everywhere."""
    if not measured.size:
        return None
    if np.median(measured) < 0:
        fill = None if nodata is None else -nodata
        blocks = np.concatenate([_blocks(-sample.astype(np.float64), fill) for sample in samples])
        varied = blocks[np.ptp(blocks, axis=1) > 0]  # the others are fill that nobody declared
        if len(varied) < max(8, len(blocks) / 2):
            return None
        return _SMOOTHLY if np.median(_spreads(varied, _curved())) < _SMOOTH_BELOW_0 else None
    blocks = np.concatenate([_blocks(sample, nodata) for sample in samples])
    spread = _spreads(blocks)
    if spread.size < 8 or np.count_nonzero(spread) * 2 < spread.size:
        return None
    if measured.dtype.itemsize == 1 or np.median(spread) < _SMOOTH:
        smooth = np.median(spread) < _SMOOTH
    else:
        around = _spreads(blocks, _curved())
        smooth = np.median(around) < _ROUGH and np.percentile(around, 90) < _ROUGHEST
    return _SMOOTHLY if smooth else None


def _blocks(sample: Pixels, nodata: float | None) -> Float64:
    """(n, 256) of each whole block of 16 px that is measured throughout."""
    rows, columns = (size // _BLOCK for size in sample.shape)
    blocks = sample[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    blocks = blocks.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(rows * columns, -1)
    whole = np.isfinite(blocks).all(axis=1) & (blocks > 0).all(axis=1)
    if nodata is not None:
        whole &= (blocks != nodata).all(axis=1)
    return np.asarray(blocks[whole])


def _spreads(blocks: Float64, around: Float64 | None = None) -> Float64:
    """Standard deviation over mean of each of (n, 256) blocks, around its mean, or around what the orthonormal columns
    of `around` (256, k) fit to it."""
    if not len(blocks):
        return np.empty(0)
    rest = blocks - (blocks.mean(axis=1, keepdims=True) if around is None else blocks @ around @ around.T)
    return np.asarray(np.sqrt(np.mean(rest**2, axis=1)) / blocks.mean(axis=1))


@lru_cache(maxsize=1)
def _curved() -> Float64:
    """(256, 6) orthonormal columns that span the surfaces of second degree over a block."""
    down, across = np.mgrid[:_BLOCK, :_BLOCK].reshape(2, -1) / _BLOCK - 0.5
    columns = (np.ones_like(down), down, across, down**2, down * across, across**2)
    return np.asarray(np.linalg.qr(np.stack(columns, axis=1))[0])
