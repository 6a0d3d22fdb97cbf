"""Scene types: what each is made of, in the order in which it is built."""

from __future__ import annotations

from collections.abc import Callable

from train.simulator.shapes import Rng
from train.simulator.structures import airport, farms, floating, roads, town
from train.simulator.terrain import Terrain, desert, gullies, relief, scarps, smooth_patches, vegetation
from train.simulator.waters import braided_river, coast, flood, lakes, open_water, ponds, reservoir, river


def build_terrain(shape: tuple[int, int], pixel_m: float, scene_type: str, rng: Rng) -> Terrain:
    """The land of one scene of `shape` (H, W); raises KeyError unless `scene_type` is one of SCENE_TYPES."""
    terrain = Terrain(shape, pixel_m, rng)
    SCENE_TYPES[scene_type](terrain)
    return terrain


def _countryside(terrain: Terrain, steepest: float = 0.2) -> None:
    relief(terrain, terrain.log_uniform(0.01, steepest))
    vegetation(terrain, float(terrain.rng.choice([0.0, 0.2, 0.5, 0.8, 0.95])))
    if terrain.chance(0.5):
        gullies(terrain, int(terrain.rng.integers(1, 6)))
    if terrain.chance(0.3):
        scarps(terrain, int(terrain.rng.integers(1, 4)))


def _settle(terrain: Terrain) -> None:
    if terrain.chance(0.5):
        smooth_patches(terrain)
    if terrain.chance(0.6):
        farms(terrain, terrain.log_uniform(1, 12))
    if terrain.chance(0.25):
        town(terrain, terrain.uniform(0.02, 0.2))
    roads(terrain, int(terrain.rng.integers(0, 3)))
    if terrain.chance(0.5):
        floating(terrain)


def _mixed(terrain: Terrain) -> None:
    """Something of everything: a river and lakes among fields and forest, a town, an airport."""
    relief(terrain, 0.05)
    vegetation(terrain, 0.35)
    lakes(terrain, 0.07, 300)
    airport(terrain)
    town(terrain, 0.12)
    river(terrain, terrain.uniform(25, 60))
    river(terrain, terrain.uniform(5, 10))
    smooth_patches(terrain)
    farms(terrain, 6)
    roads(terrain, 2)
    floating(terrain)


def _lakes(terrain: Terrain) -> None:
    _countryside(terrain)
    lakes(terrain, terrain.uniform(0.03, 0.6), terrain.log_uniform(120, 600))
    _settle(terrain)


def _river(terrain: Terrain) -> None:
    _countryside(terrain)
    for _ in range(int(terrain.rng.integers(1, 4))):
        river(terrain, terrain.log_uniform(3, 120))
    _settle(terrain)


def _braided(terrain: Terrain) -> None:
    _countryside(terrain)
    braided_river(terrain, terrain.log_uniform(60, 0.4 * min(terrain.shape) + 70))
    _settle(terrain)


def _coast(terrain: Terrain) -> None:
    _countryside(terrain, 0.3)
    coast(terrain, terrain.uniform(0.15, 0.85))
    _settle(terrain)


def _reservoir(terrain: Terrain) -> None:
    relief(terrain, terrain.uniform(0.08, 0.3))
    vegetation(terrain, terrain.uniform(0.2, 0.9))
    reservoir(terrain)
    _settle(terrain)


def _flood(terrain: Terrain) -> None:
    _countryside(terrain, 0.03)
    flood(terrain)
    if terrain.chance(0.5):
        river(terrain, terrain.log_uniform(5, 60))
    _settle(terrain)


def _ponds(terrain: Terrain) -> None:
    _countryside(terrain, 0.04)
    ponds(terrain)
    if terrain.chance(0.4):
        river(terrain, terrain.log_uniform(3, 40))
    _settle(terrain)


def _urban(terrain: Terrain) -> None:
    _countryside(terrain, 0.06)
    town(terrain, terrain.uniform(0.3, 0.8))
    if terrain.chance(0.7):
        river(terrain, terrain.log_uniform(6, 90))
    smooth_patches(terrain)
    roads(terrain, int(terrain.rng.integers(1, 4)))
    floating(terrain)


def _airport(terrain: Terrain) -> None:
    _countryside(terrain, 0.03)
    if terrain.chance(0.5):
        lakes(terrain, terrain.uniform(0.02, 0.2), terrain.log_uniform(120, 300))
    airport(terrain)
    _settle(terrain)


def _mountains(terrain: Terrain) -> None:
    relief(terrain, terrain.uniform(0.25, 0.55))
    vegetation(terrain, terrain.uniform(0.2, 0.9))
    gullies(terrain, int(terrain.rng.integers(0, 6)))
    scarps(terrain, int(terrain.rng.integers(0, 4)))
    if terrain.chance(0.6):
        reservoir(terrain)
    if terrain.chance(0.3):
        river(terrain, terrain.log_uniform(3, 30))


def _desert(terrain: Terrain) -> None:
    relief(terrain, terrain.log_uniform(0.01, 0.15))
    desert(terrain)
    if terrain.chance(0.5):
        river(terrain, terrain.log_uniform(4, 60))
    roads(terrain, int(terrain.rng.integers(0, 2)))


def _dry(terrain: Terrain) -> None:
    """No water at all, and much that looks like it."""
    kind = terrain.rng.random()
    if kind < 0.25:
        relief(terrain, terrain.uniform(0.15, 0.55))
        vegetation(terrain, terrain.uniform(0.2, 0.9))
        scarps(terrain, int(terrain.rng.integers(0, 5)))
    elif kind < 0.45:
        relief(terrain, terrain.log_uniform(0.01, 0.1))
        desert(terrain)
    else:
        _countryside(terrain, 0.3)
    if terrain.chance(0.3):
        airport(terrain)
    if terrain.chance(0.3):
        town(terrain, terrain.uniform(0.05, 0.5))
    smooth_patches(terrain)
    farms(terrain, terrain.log_uniform(1, 12))
    roads(terrain, int(terrain.rng.integers(0, 4)))


def _open_water(terrain: Terrain) -> None:
    _countryside(terrain)
    open_water(terrain)
    floating(terrain)


SCENE_TYPES: dict[str, Callable[[Terrain], None]] = {
    "mixed": _mixed,
    "lakes": _lakes,
    "river": _river,
    "coast": _coast,
    "dry": _dry,
    "flood": _flood,
    "urban": _urban,
    "reservoir": _reservoir,
    "braided": _braided,
    "mountains": _mountains,
    "ponds": _ponds,
    "airport": _airport,
    "desert": _desert,
    "open-water": _open_water,
}
"""In the order in which the command takes turns."""
