"""The level of a scene: how bright its land is, how far water lies below it, and whether models know such scenes.

A network tells water by how dark it is, so an uncalibrated product of another sensor, whose DN have another constant,
may be all land or all water to it. The level is the upper quartile of means of 9 x 9 amplitudes, which is land wherever
a quarter of the scene is land, in decibels above sigma0 of 1 (400 DN, `AMPLITUDE_DN_AT_0_DB`).

What models know is what 364 simulated scenes of all types have (`sarwater simulate`, seeds 21 and 99, 256 and 384 px),
among them open water and bare plains: -25.7 to -6.9 dB in single looks, -20.1 to -0.7 dB in several, half of them below
-13.8 and -8.3 dB. The four KOMPSAT-5 tiles lie at -16.0 to -14.1 dB, Sentinel-1 scenes in dB at -18.1 to -8.0 dB.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneOffLevel, UnitMismatch
from sarwater.otsu import otsu
from sarwater.request import Request, Window
from sarwater.scenes.level_change import CONTRAST_DB, MOST_STRETCH, LevelChange
from sarwater.scenes.units import AMPLITUDE_DN_AT_0_DB

if TYPE_CHECKING:
    from sarwater.scenes.model_input import ModelInput

CELL_PX = 9
SINGLE_LOOK = 0.42
"""Standard deviation over mean in cells, lower quartile: the simulated scenes have 0.47 and more in single looks, where
speckle alone has 0.52, and 0.41 and less in several."""
KNOWN_DB = {True: (-27.0, -5.0), False: (-21.0, 0.0)}
"""Lowest and highest level that models know, of single looks and of several."""
USUAL_DB = {True: -16.0, False: -8.0}
PICTURE_LEVELS = 256
"""A scene of no more different values is a picture: its DN may be any function of backscatter."""
PARTED = 0.7
"""Share of the variance of cells, in decibels, that lies between the two kinds that Otsu's threshold makes: below it, a
scene has one kind of brightness only. It is 0.64 of a normal distribution."""
_BINS = 128
LEAST_SKEWNESS = 0.08
"""Of amplitudes in cells: it is 0.14 and more, even of 5 x 5 means, and 0.3 to 1.4 in the real scenes of several
sensors. Of the same in decibels it is -0.9 to 0.05; of angles, phases and coherence around 0."""
SPECKLED_M = 35.0
"""Coarser pixels may have lost their speckle: Sentinel-1 at 10 m has a skewness of 0.3, means of 4 x 4 px of it -0.001
to 0.3."""
_LEAST_CELLS = 64
_MOST_CELLS = 4096
"""Of which the skewness is measured."""
_WHOLE_PX = 1 << 20
"""Scenes up to so many pixels are read whole."""
_MOST, _FEWEST, _DECODED_PX = 8, 3, 6_000_000
"""Bands of rows across the scene, as many as some 50 ms decode; of tiles, as many in all."""
_WINDOW_PX, _BAND_ROWS = 14 * CELL_PX, 2 * CELL_PX


@dataclass(frozen=True)
class Level:
    """How bright a scene is, in decibels above sigma0 of 1, and whether its speckle is that of a single look."""

    level_db: float
    single_look: bool
    contrast_db: float | None = None
    """Decibels between its two kinds of brightness, of a picture; None where it has one, and of other scenes."""
    skewness: float = 1.0
    """Of amplitudes in cells, median."""

    @property
    def known(self) -> bool:
        lowest_db, highest_db = KNOWN_DB[self.single_look]
        return lowest_db <= self.level_db <= highest_db

    def off_db(self, usual_db: float | None) -> float:
        """Decibels above `usual_db`, or above what is usual of such speckle."""
        return self.level_db - (USUAL_DB[self.single_look] if usual_db is None else usual_db)

    def change(self, usual_db: float | None) -> LevelChange:
        """What brings the scene to `usual_db`, or to what is usual of such speckle."""
        off_db = self.off_db(usual_db)
        stretch = min(max(CONTRAST_DB / self.contrast_db, 1.0), MOST_STRETCH) if self.contrast_db else 1.0
        return LevelChange(-off_db, stretch, self.level_db - off_db)

    def said(self, unit: str) -> str:
        """Found, expected and what helps, in the `unit` that the model takes."""
        found, lowest, highest = (_shown(level_db, unit) for level_db in (self.level_db, *KNOWN_DB[self.single_look]))
        dark = "dark" if self.off_db(None) < 0 else "bright"
        return (
            f"too {dark} for what the model knows: land at {found}, expected {lowest} to {highest}; state the "
            "product's constant with --calibration-constant-db or its unit with --unit, or try --level usual"
        )


def check_level(scene: ModelInput, request: Request, usual_db: float | None = None) -> None:
    """Note the level of `scene`, and bring it to the usual one where the `request` says so, or where it is not
    calibrated and its model says what is usual. A few windows are read.

    Raises SceneOffLevel for a level that models do not know, where the request says so; UnitMismatch for
    pixels that say nothing of their unit and do not vary as amplitudes do; SceneUnreadable.
    """
    scene.level = level_of(scene)
    if scene.level is None:
        return
    if request.unit is None and scene.taken_for_amplitude:
        _check_variation(scene, scene.level)
    by_itself = request.level is None and usual_db is not None and not scene.calibrated
    if by_itself or request.level == "usual":
        scene.change_level(scene.level.change(usual_db))
    elif request.off_level == "refuse" and not scene.level.known:
        raise SceneOffLevel(f"{scene.name}: {scene.level.said(scene.sar_unit)}, or take --off-level note")


def _check_variation(scene: ModelInput, level: Level) -> None:
    """Amplitudes of speckle have a long tail towards bright, decibels one towards dark, all else none. Pictures of 8
    bits may be stretched in any way, and coarse pixels are means of many looks: they get a note."""
    if level.skewness >= LEAST_SKEWNESS:
        return
    why = (
        "nothing says what its values are, and they do not vary as amplitudes do; if they are decibels, state how "
        "stored values become those, as --unit sigma0_db --scale 0.2 --offset -40 for steps of 0.2 dB from -40 dB; if "
        "they are amplitudes, --unit amplitude_dn"
    )
    averaged = (scene.pixel_m or 0) > SPECKLED_M
    if scene.bands[scene.sar_channels[0]].stored_dtype.itemsize > 1 and not averaged:
        raise UnitMismatch(f"{scene.name}: {why}")
    scene.scene.notes += (why,)


def level_of(scene: ModelInput) -> Level | None:
    """Of all of the scene, whatever its window; None where hardly anything was measured."""
    zeros_are_fill = scene.edge_zeros is not None and scene.edge_zeros.zero_is_level
    band = replace(scene.bands[scene.sar_channels[0]], trusted=True)
    band = replace(band, marks_zeros=band.marks_zeros and zeros_are_fill)
    means, spreads, skews = [], [], []
    picture = True
    for window in _windows(scene.scene.width_px, scene.scene.height_px, *band.block_px):
        pixels = band.read(window)
        measured = np.isfinite(pixels) & (pixels != (scene.sar_nodata or 0))
        if zeros_are_fill:  # a collar would be land at 0 dB
            measured &= pixels != 0
        mask = scene.scene.read_mask(window)
        picture = picture and _levels(pixels[measured]) <= PICTURE_LEVELS
        amplitude = _amplitude(pixels, scene.sar_unit)
        cells = _cells(amplitude)[_cells(measured if mask is None else measured & mask).all(axis=1)]
        mean = cells.mean(axis=1)
        means.append(mean[mean > 0])
        spreads.append(cells.std(axis=1)[mean > 0] / mean[mean > 0])
        skews.append(_skewness(cells[:: 1 + len(cells) // _MOST_CELLS]))
    mean, spread = np.concatenate(means), np.concatenate(spreads)
    if mean.size < _LEAST_CELLS:
        return None
    decibels = 20 * np.log10(mean)
    skew = np.concatenate(skews)
    speckled = 2 * np.count_nonzero(np.isfinite(skew)) > skew.size  # a drawing is flat but for its edges
    return Level(
        level_db=float(np.percentile(decibels, 75)),
        single_look=bool(np.percentile(spread, 25) > SINGLE_LOOK),
        contrast_db=_contrast_db(decibels) if picture and not scene.calibrated else None,
        skewness=float(np.nanmedian(skew)) if speckled else 1.0,
    )


def _contrast_db(decibels: npt.NDArray[np.float64]) -> float | None:
    """Between the medians of what lies below and above Otsu's threshold of `decibels`, (cells,)."""
    dark = decibels <= otsu(decibels, _BINS)
    share = dark.mean()
    if not 0 < share < 1:
        return None
    between = share * (1 - share) * (decibels[~dark].mean() - decibels[dark].mean()) ** 2
    return float(np.median(decibels[~dark]) - np.median(decibels[dark])) if between >= PARTED * decibels.var() else None


def _windows(width_px: int, height_px: int, block_columns: int, block_rows: int) -> Iterator[Window]:
    """Spread over the scene, and cheap to decode: bands of rows where blocks are strips, parts of tiles where they are
    tiles."""
    if width_px * height_px <= _WHOLE_PX:
        yield Window(0, 0, width_px, height_px)
    elif 2 * block_columns > width_px:
        count = _count(_DECODED_PX // (width_px * max(block_rows, _BAND_ROWS)))
        for row in _starts(height_px, _BAND_ROWS, block_rows, count):
            yield Window(0, row, width_px, min(_BAND_ROWS, height_px - row))
    else:
        count = _count(math.isqrt(_DECODED_PX // max(block_columns * block_rows, _WINDOW_PX**2)))
        for row in _starts(height_px, _WINDOW_PX, block_rows, count):
            for column in _starts(width_px, _WINDOW_PX, block_columns, count):
                yield Window(column, row, min(_WINDOW_PX, width_px - column), min(_WINDOW_PX, height_px - row))


def _count(affordable: int) -> int:
    return min(_MOST, max(_FEWEST, affordable))


def _starts(length_px: int, part_px: int, block_px: int, count: int) -> list[int]:
    """Starts of `count` parts, spread over the length, each at the start of a block where it lies in one."""
    spread = ((length_px - part_px) * (2 * number + 1) // (2 * count) for number in range(count))
    return sorted({max(0, start) // block_px * block_px if block_px > part_px else max(0, start) for start in spread})


def _cells(plane: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(H, W) -> (cells, CELL_PX * CELL_PX) of the whole cells."""
    rows, columns = (size // CELL_PX for size in plane.shape)
    whole = plane[: rows * CELL_PX, : columns * CELL_PX].reshape(rows, CELL_PX, columns, CELL_PX)
    cells: npt.NDArray[Any] = whole.swapaxes(1, 2).reshape(rows * columns, CELL_PX * CELL_PX)
    return cells


def _levels(pixels: npt.NDArray[Any]) -> int:
    """How many different values some of `pixels`, (n,), have."""
    if pixels.dtype.itemsize == 1:
        return 1  # no more than a picture may have
    return int(np.unique(pixels[:: 1 + pixels.size // _MOST_CELLS]).size)


def _skewness(cells: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(n,) third standardised moment of each of (n, pixels); NaN where they are flat."""
    around = cells - cells.mean(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.mean(around**3, axis=1) / np.mean(around**2, axis=1) ** 1.5)


def _amplitude(pixels: npt.NDArray[Any], unit: str) -> npt.NDArray[np.float64]:
    """Of `pixels` in the unit that a model takes, 1 at 0 dB; NaN stays NaN."""
    values = pixels.astype(np.float64)
    if unit.endswith("_db"):
        return np.asarray(10 ** (values / 20))
    return np.sqrt(np.maximum(values, 0)) if unit.endswith("_linear") else values / AMPLITUDE_DN_AT_0_DB


def _shown(level_db: float, unit: str) -> str:
    if unit == "amplitude_dn":
        return f"{AMPLITUDE_DN_AT_0_DB * 10 ** (level_db / 20):.3g} DN"
    return f"{level_db:.1f} dB"
