"""Golden scenes: pixels and where their water is. They ship, so that a model is proven on the machine that will run it.

Simulated, hence free of anybody's rights; `python -m export.golden` made golden.npz. Six small scenes, of a
single-look X band and a multi-look C band sensor, some with a slanting edge of nodata.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, NODATA, WATER
from sarwater.manifest import Channel

FILE = Path(__file__).with_name("golden.npz")
_ACROSS = 3
"""Scenes beside each other."""
SECOND_CHANNEL = 0.5
"""Simulated cross-polarisation: the co-polarised amplitude, 6 dB lower."""

Scalar = TypeVar("Scalar", bound=np.generic)
Pixels = npt.NDArray[np.generic]
Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]


def golden_scene(channels: Sequence[Channel], least_px: int = 1) -> tuple[Pixels, UInt8]:
    """All of them beside each other, mirrored until they are at least `least_px` wide and high.

    (C, H, W) in the unit of each channel, nodata as 0: uint16 where all units are DN, else float32; and (H, W) LAND,
    WATER, NODATA.
    """
    with np.load(FILE) as file:
        amplitude, truth, dn_at_0_db = file["amplitude"], file["truth"], file["dn_at_0_db"]
    planes = np.stack([in_units(*scene, channels) for scene in zip(amplitude, dn_at_0_db, strict=True)])
    planes = np.where(truth[:, None] == NODATA, np.float32(0), planes)  # (N, C, T, T)
    pixels = np.stack([_beside(planes[:, index]) for index in range(len(channels))])
    truth = _beside(truth)
    more = [(0, max(0, least_px - length)) for length in truth.shape]
    pixels, truth = np.pad(pixels, ((0, 0), *more), mode="symmetric"), np.pad(truth, more, mode="symmetric")
    is_dn = all(channel.unit.endswith("_dn") for channel in channels)
    return pixels.astype(np.uint16) if is_dn else pixels, truth


def in_units(amplitude: Pixels, dn_at_0_db: float, channels: Sequence[Channel]) -> Float32:
    """(T, T) amplitude DN -> (C, T, T) in the unit of each channel."""
    planes = []
    seen = 0
    for channel in channels:
        if channel.unit == "incidence_dn":
            planes.append(np.broadcast_to(np.linspace(60, 200, amplitude.shape[1]), amplitude.shape))
            continue
        dn = np.rint(amplitude * np.float32(SECOND_CHANNEL**seen))
        seen += 1
        sigma0 = (np.maximum(dn, 1) / dn_at_0_db) ** 2
        planes.append({"amplitude_dn": dn, "sigma0_linear": sigma0, "sigma0_db": 10 * np.log10(sigma0)}[channel.unit])
    return np.stack(planes).astype(np.float32)


def save(
    path: Path, amplitude: Sequence[Pixels], water: Sequence[npt.NDArray[np.bool_]], dn_at_0_db: Sequence[float]
) -> None:
    """Write scenes (T, T); every third loses a corner to nodata."""
    pixels = np.stack([np.rint(scene) for scene in amplitude]).astype(np.uint16)
    truth = np.where(np.stack(water), np.uint8(WATER), np.uint8(LAND))
    row, column = np.ogrid[: pixels.shape[1], : pixels.shape[2]]
    corner = row + column // 4 < pixels.shape[1] // 4
    truth[::3, corner], pixels[::3, corner] = NODATA, 0
    np.savez_compressed(path, amplitude=pixels, truth=truth, dn_at_0_db=np.asarray(dn_at_0_db, np.float32))


def _beside(scenes: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """(N, T, T) -> (T * N / 3, T * 3)."""
    rows = [np.hstack(list(scenes[first : first + _ACROSS])) for first in range(0, len(scenes), _ACROSS)]
    return np.vstack(rows)
