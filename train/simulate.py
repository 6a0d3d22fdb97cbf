"""SAR scenes with known water, for training and tests: `python -m train.simulate --out DIR --count N`.

`train.shapes` draws, `train.terrain` builds the land, `train.scenery` says what each scene type is made of,
`train.radar` looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sarwater.errors import UsageError
from train.radar import SENSORS, observe
from train.scenery import SCENE_TYPES, build_terrain
from train.shapes import Rng

SMALLEST_PX = 64


@dataclass(frozen=True)
class SimulatedScene:
    """One scene and its truth, all (H, W)."""

    amplitude: npt.NDArray[np.uint16]
    """DN; 0 is nodata."""
    water: npt.NDArray[np.uint8]
    """1 water, 0 land; 0 also where the amplitude is nodata."""
    incidence: npt.NDArray[np.uint8]
    """Local incidence angle in quarters of a degree."""
    pixel_m: float
    scene_type: str
    description: str


def simulate_scene(
    size: tuple[int, int], mode: str, rng: Rng, scene_type: str | None = None, pixel_m: float | None = None
) -> SimulatedScene:
    """One scene of `size` (H, W) pixels, fully determined by `rng`; without a type, any but equally likely.

    `mode` is `k5` (single look, X band) or `s1` (multi-look, C band); `pixel_m` replaces its own pixel spacing.
    Raises UsageError for a size below 64 px, a spacing that is not positive, an unknown mode or scene type.
    """
    if min(size) < SMALLEST_PX:
        raise UsageError(f"size is {size[1]} x {size[0]} px, expected at least {SMALLEST_PX} px each way")
    if mode not in SENSORS:
        raise UsageError(f"mode is {mode!r}, expected one of: {', '.join(SENSORS)}")
    if scene_type is None:
        scene_type = str(rng.choice(list(SCENE_TYPES)))
    if scene_type not in SCENE_TYPES:
        raise UsageError(f"scene type is {scene_type!r}, expected one of: {', '.join(SCENE_TYPES)}")
    sensor = SENSORS[mode]
    if pixel_m is not None:
        if not pixel_m > 0:
            raise UsageError(f"pixel spacing is {pixel_m} m, expected more than 0")
        sensor = replace(sensor, pixel_m=pixel_m)
    terrain = build_terrain(size, sensor.pixel_m, scene_type, rng)
    seen = observe(terrain, sensor, rng)
    water = (terrain.water & (seen.amplitude > 0)).astype(np.uint8)
    return SimulatedScene(
        seen.amplitude, water, seen.incidence, sensor.pixel_m, scene_type, ", ".join(terrain.contents)
    )
