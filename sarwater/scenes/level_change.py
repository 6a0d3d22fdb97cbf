"""What is done to the brightness of an uncalibrated scene before a network sees it: one gain, and where it has little
contrast, decibels are stretched about the usual level."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sarwater.scenes.units import AMPLITUDE_DN_AT_0_DB

LEVEL_DB = -14.0
"""Level of every uncalibrated scene, where a model is made for that."""
CONTRAST_DB = 10.0
"""Contrast that an uncalibrated scene with less is stretched to, by MOST_STRETCH at the most."""
MOST_STRETCH = 2.5
BRIGHTEST_DN = 8192.0
"""Of what is stretched: brighter pixels, 40 dB above land and more, are as bright as that."""


@dataclass(frozen=True)
class LevelChange:
    """What is done to the amplitudes of an uncalibrated scene before a network sees them."""

    gain_db: float = 0.0
    stretch: float = 1.0
    """By what decibels from `around_db` are multiplied after that."""
    around_db: float = LEVEL_DB

    def __bool__(self) -> bool:
        return bool(self.gain_db) or self.stretch != 1

    def of(self, values: npt.NDArray[np.float32], unit: str = "amplitude_dn") -> npt.NDArray[np.float32]:
        """Of what a scene has in the `unit` that a model takes, of any shape; 0 DN stays 0."""
        stretch = np.float32(self.stretch)
        if unit.endswith("_db"):
            brightened: npt.NDArray[np.float32] = values + np.float32(self.gain_db)
            around = np.float32(self.around_db)
            return brightened if self.stretch == 1 else around + (brightened - around) * stretch
        linear = unit.endswith("_linear")
        per_factor_10_db = 10 if linear else 20
        brightened = values * np.float32(10 ** (self.gain_db / per_factor_10_db))
        if self.stretch == 1:
            return brightened
        around = np.float32((1 if linear else AMPLITUDE_DN_AT_0_DB) * 10 ** (self.around_db / per_factor_10_db))
        return np.asarray(around * np.power(np.maximum(brightened, 0) / around, stretch), np.float32)

    def table(self, count: int, nodata: float | None) -> tuple[npt.NDArray[np.uint16], float]:
        """What stands for each DN below `count`, (count,), and the factor that makes amplitudes of it. 0 stands for
        `nodata`, or for 0 where there is none, and for nothing else."""
        values = np.arange(count)
        changed = self.of(values.astype(np.float32))
        most = np.iinfo(np.uint16).max
        factor = min(float(changed[-1]), BRIGHTEST_DN) / most
        table = np.clip(np.rint(changed / factor), 1, most).astype(np.uint16)
        table[values == (0 if nodata is None else nodata)] = 0
        return table, factor


UNCHANGED = LevelChange()
