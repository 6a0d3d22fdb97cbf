"""Simulated scenes to rehearse while a network is adapted, so that it keeps what it knew; and others to prove that."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sarwater.dependencies import require
from sarwater.progress import Progress

FIRST_INDEX = 50_001
"""Names and, far beyond the south pole of the map grid, ground that no station's data shares."""
TRAINING_SEED, TEST_SEED = 90_210, 90_211


def write_replay(folder: Path, side_px: int, seed: int) -> list[str]:
    """A scene of `side_px`, or of the least that the simulator makes, for each scene type and mode; returns a data
    folder for each mode. Raises DependencyMissing without scipy, OutputError."""
    require("scipy", "the simulator", "pip install 'sarwater[train]'")
    from train.simulator.scenery import SCENE_TYPES
    from train.simulator.simulate import EPSG, SMALLEST_PX, simulate_scene, write_scene

    side_px = max(side_px, SMALLEST_PX)
    wanted = [(mode, number, kind) for mode in EPSG for number, kind in enumerate(SCENE_TYPES)]
    with Progress(f"simulating scenes for {folder.name}", "scenes") as progress:
        for done, (mode, number, kind) in enumerate(wanted):
            progress(done, len(wanted))
            index = FIRST_INDEX + number
            scene = simulate_scene((side_px, side_px), mode, np.random.default_rng((seed, index)), kind)
            write_scene(folder / mode, seed, index, mode, scene)
    return [str(folder / mode) for mode in EPSG]
