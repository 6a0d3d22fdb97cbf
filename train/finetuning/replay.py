"""Simulated scenes to rehearse while a network is adapted, so that it keeps what it knew; and others to prove that."""

from __future__ import annotations

from pathlib import Path

import numpy as np

FIRST_INDEX = 50_001
"""Names and, far beyond the south pole of the map grid, ground that no station's data shares."""
TRAINING_SEED, TEST_SEED = 90_210, 90_211


def write_replay(folder: Path, side_px: int, seed: int) -> list[str]:
    """A scene of `side_px` for each scene type and mode; returns a data folder for each mode. Raises DependencyMissing
    without scipy, OutputError."""
    from sarwater.errors import DependencyMissing

    try:
        from train.simulator.scenery import SCENE_TYPES
    except ImportError as error:
        raise DependencyMissing(f"the simulator needs {error.name}: pip install 'sarwater[train]'") from error
    from train.simulator.simulate import EPSG, simulate_scene, write_scene

    folders = []
    for mode in EPSG:
        for number, scene_type in enumerate(SCENE_TYPES):
            index = FIRST_INDEX + number
            scene = simulate_scene((side_px, side_px), mode, np.random.default_rng((seed, index)), scene_type)
            write_scene(folder / mode, seed, index, mode, scene)
        folders.append(str(folder / mode))
    return folders
