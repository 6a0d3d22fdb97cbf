"""Tiles that stand for what the network will see: water, land, bright targets and scene edges."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sarwater.manifest import Channel

Float32 = npt.NDArray[np.float32]

BRIGHTEST = {"amplitude_dn": 23391.0, "sigma0_linear": 100.0, "sigma0_db": 20.0, "incidence_dn": 255.0}
"""What a bright target may reach, by unit; 23,391 DN is the tail of four real KOMPSAT-5 tiles."""


def speckle_tiles(channels: tuple[Channel, ...], count: int, tile_px: int, seed: int = 0) -> Float32:
    """Single-look speckle over dark water and brighter land, with bright targets and a nodata edge.

    (count, C, tile_px, tile_px) float32 in the units of `channels`; the same arguments give the same pixels.
    """
    random = np.random.default_rng(seed)
    tiles = np.zeros((count, len(channels), tile_px, tile_px), np.float32)
    for tile in tiles:
        for plane, channel in zip(tile, channels, strict=True):
            plane[:] = _plane(channel.unit, tile_px, random)
            plane[random.integers(tile_px, size=8), random.integers(tile_px, size=8)] = BRIGHTEST[channel.unit]
            plane[: tile_px // 8] = 0
    return tiles


def _plane(unit: str, tile_px: int, random: np.random.Generator) -> npt.NDArray[np.float64]:
    if unit == "incidence_dn":
        return np.linspace(60, 200, tile_px)[None, :].repeat(tile_px, axis=0)
    # Medians of 20 log10 DN on the KOMPSAT-5 tiles: water 22 dB, land 35 dB; sigma0 lies about 40 dB lower.
    shore = random.integers(tile_px // 4, 3 * tile_px // 4)
    decibel = np.where(np.arange(tile_px) < shore, 22.0, 35.0)[None, :] - (0 if unit == "amplitude_dn" else 40)
    speckle = random.exponential(size=(tile_px, tile_px))
    power = 10 ** (decibel / 10) * speckle
    if unit == "amplitude_dn":
        return np.sqrt(power)
    return power if unit == "sigma0_linear" else 10 * np.log10(power)
