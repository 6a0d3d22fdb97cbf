"""Random changes that leave the label true: what another pass, sensor or calibration would have shown.

Rotations and flips are those of the reference implementation; speckle, gain and resolution are what SAR adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Augmentation:
    """How much of each; zero switches one off."""

    flips: bool = True
    rotation_deg: float = 0.0
    """Largest rotation to either side."""
    gain_db: float = 10.0
    """Largest error of calibration or level to either side."""
    zoom: float = 2.5
    """Largest change of pixel spacing: windows up to `zoom` times as wide are averaged down to the crop."""
    speckle: float = 0.2
    """Probability of multiplying with further speckle of 1 to 8 looks."""
    stretch: float = 0.4
    """Probability of what pictures of 8 bits do to backscatter: decibels stretched about LAND_DB, or written as DN."""
    collar: float = 0.08
    """Probability that one side is no data, behind a straight border at any angle."""


NONE = Augmentation(flips=False, rotation_deg=0, gain_db=0, zoom=1, speckle=0, stretch=0, collar=0)
LAND_DB = 38.0
"""Amplitude of the land of a scene at its usual level."""
STRETCHES = (0.45, 1.4)
PICTURE_DB = ((-34, -15), (6, 20))
"""Decibels from LAND_DB that a picture shows as black and as white."""
NORMAL = 0.7
"""Share of the gains that are normal, with GAINS_SIGMA of the largest as their deviation; the others are uniform."""
GAINS_SIGMA = 0.2


def window_side_px(crop_px: int, options: Augmentation, rng: np.random.Generator) -> int:
    """Side of the window to read: the crop itself half of the time, else up to `zoom` times as wide (log-uniform)."""
    if options.zoom <= 1 or rng.random() < 0.5:
        return crop_px
    return round(crop_px * float(np.exp(rng.uniform(0, np.log(options.zoom)))))


def augment(
    pixels: Float32,
    truth: UInt8,
    crop_px: int,
    options: Augmentation,
    rng: np.random.Generator,
    sar_channels: int = 1,
) -> tuple[Float32, UInt8]:
    """(C, S, S) float32 and (S, S) uint8 -> the same at side `crop_px`. The first `sar_channels` are amplitudes, with 0
    for nodata; what follows (the incidence angle) only moves along."""
    pixels, truth = _resample(pixels, truth, crop_px, options.rotation_deg, rng, sar_channels)
    if options.flips:
        turns = int(rng.integers(4))
        pixels, truth = np.rot90(pixels, turns, axes=(1, 2)), np.rot90(truth, turns)
        if rng.random() < 0.5:
            pixels, truth = pixels[:, :, ::-1], truth[:, ::-1]
    amplitude = pixels[:sar_channels].copy()
    if rng.random() < options.speckle:
        looks = 2.0 ** rng.uniform(0, 3)
        # Intensity of L looks is gamma-distributed with mean 1 and shape L (Goodman); amplitude is its root.
        amplitude *= np.sqrt(rng.gamma(looks, 1 / looks, amplitude.shape)).astype(np.float32)
    if rng.random() < options.stretch:
        if rng.random() < 0.5:
            amplitude = _stretched(amplitude, float(np.exp(rng.uniform(*np.log(STRETCHES)))))
        else:
            black_db, white_db = (rng.uniform(*ends) for ends in PICTURE_DB)
            amplitude = _decibels_as_dn(amplitude, black_db, white_db)
    if options.gain_db:
        amplitude *= np.float32(10 ** (_gain_db(options.gain_db, rng) / 20))
    pixels = np.concatenate([amplitude, pixels[sar_channels:]])
    if rng.random() < options.collar:
        beyond = _half_plane(crop_px, rng)
        pixels[:sar_channels, beyond] = 0
        truth = np.where(beyond, np.uint8(NODATA), truth)
    return np.ascontiguousarray(pixels), np.ascontiguousarray(truth)


def _gain_db(largest_db: float, rng: np.random.Generator) -> float:
    if rng.random() < NORMAL:
        return float(np.clip(rng.normal(0, GAINS_SIGMA * largest_db), -largest_db, largest_db))
    return float(rng.uniform(-largest_db, largest_db))


def _stretched(amplitude: Float32, factor: float) -> Float32:
    """Decibels above and below LAND_DB times `factor`; 0 stays 0."""
    land = np.float32(10 ** (LAND_DB / 20))
    stretched: Float32 = land * (amplitude / land) ** np.float32(factor)
    return stretched


def _decibels_as_dn(amplitude: Float32, black_db: float, white_db: float) -> Float32:
    """A picture whose DN grow with the decibels, from 1 to 255, at the level of the scene; 0 stays 0.

    Water lies some 12 dB below land in backscatter, and 5 to 9 dB in such DN.
    """
    above_land_db = 20 * np.log10(np.maximum(amplitude, 1)) - np.float32(LAND_DB)
    dn = np.rint(np.clip((above_land_db - black_db) / (white_db - black_db) * 255, 1, 255))
    land = -black_db / (white_db - black_db) * 255
    picture: Float32 = (dn * np.float32(10 ** (LAND_DB / 20) / land) * (amplitude > 0)).astype(np.float32)
    return picture


def _half_plane(side_px: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(side, side) True beyond a line that leaves the middle."""
    angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 0.45) * side_px
    across = np.arange(side_px) - side_px / 2
    beyond: npt.NDArray[np.bool_] = across[None] * np.cos(angle) + across[:, None] * np.sin(angle) > distance
    return beyond


def _resample(
    pixels: Float32, truth: UInt8, crop_px: int, rotation_deg: float, rng: np.random.Generator, sar_channels: int
) -> tuple[Float32, UInt8]:
    """Rotate by a small angle and shrink to the crop. Outside the window there is nodata."""
    side = truth.shape[0]
    angle = np.deg2rad(rng.uniform(-rotation_deg, rotation_deg)) if rotation_deg and rng.random() < 0.5 else 0.0
    if angle == 0.0 and side == crop_px:
        return pixels, truth
    scale = side / crop_px
    if scale > 1:
        # Power adds up in a coarser pixel, amplitude does not; an angle is a plain mean.
        amplitude = np.sqrt(_average(pixels[:sar_channels].astype(np.float64) ** 2, crop_px)).astype(np.float32)
        pixels = np.concatenate([amplitude, _average(pixels[sar_channels:], crop_px).astype(np.float32)])
        centre = ((np.arange(crop_px) + 0.5) * scale).astype(np.intp)
        truth = truth[np.ix_(centre, centre)]
    if angle == 0.0:
        return pixels, truth
    offset = np.arange(crop_px) - (crop_px - 1) / 2
    rows = np.rint(offset[:, None] * np.cos(angle) + offset[None] * np.sin(angle) + (crop_px - 1) / 2).astype(np.intp)
    columns = np.rint(offset[None] * np.cos(angle) - offset[:, None] * np.sin(angle) + (crop_px - 1) / 2).astype(
        np.intp
    )
    inside = (rows >= 0) & (rows < crop_px) & (columns >= 0) & (columns < crop_px)
    rows, columns = rows.clip(0, crop_px - 1), columns.clip(0, crop_px - 1)
    # Nearest neighbour keeps the speckle's statistics; interpolation would smooth it.
    return np.where(inside, pixels[:, rows, columns], np.float32(0)), np.where(inside, truth[rows, columns], NODATA)


def _average(values: npt.NDArray[Any], crop_px: int) -> npt.NDArray[Any]:
    """Box average from (C, S, S) to (C, crop_px, crop_px)."""
    side = values.shape[1]
    edges = (np.arange(crop_px) * side / crop_px).astype(np.intp)
    counts = np.diff(np.append(edges, side))
    sums = np.add.reduceat(np.add.reduceat(values, edges, axis=1), edges, axis=2)
    return sums / (counts[:, None] * counts[None])
