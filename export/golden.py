"""Make sarwater/golden.npz again: `python -m export.golden`. Takes seconds; the scenes are simulated.

The kinds and seeds are ones that the model which ships reads well: a proof wants scenes whose answer is plain.
"""

from __future__ import annotations

from export.samples import scene_types, simulated
from sarwater.golden import FILE, save

SIDE_PX = 192
SCENES = (
    *(("k5", "coast", 4), ("k5", "mixed", 2), ("k5", "mountains", 5)),
    *(("s1", "river", 3), ("s1", "urban", 5), ("s1", "reservoir", 5)),
)
"""Sensor, kind of scene, seed."""


def main() -> None:
    """Raises DependencyMissing without scipy."""
    scene_types()
    made = [simulated(kind, sensor, SIDE_PX, [seed, 7]) for sensor, kind, seed in SCENES]
    amplitude, water, dn_at_0_db = zip(*made, strict=True)
    save(FILE, amplitude, water, dn_at_0_db)
    print(f"{FILE}: {len(made)} scenes, {FILE.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
