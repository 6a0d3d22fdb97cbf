"""What people put into a simulated scene: roads, airports, towns, farms, ships, rafts, and their corner reflectors."""

from __future__ import annotations

import numpy as np

from train.simulator.shapes import (
    Float64,
    Mask,
    distance_px,
    fill_polygons,
    meander,
    parcels,
    quantile,
    rectangle,
    remove_specks,
    ribbon,
)
from train.simulator.terrain import Cover, Terrain

BRIDGE_PX = 200
"""Roads stop at water that is wider."""


def roads(terrain: Terrain, count: int) -> None:
    """Smooth asphalt, dark as water, on low embankments; bridges where they meet water."""
    for _ in range(count):
        line = meander(terrain.shape, terrain.rng, terrain.log_uniform(300, 2000), terrain.uniform(0, 0.4))
        width_px = terrain.px(terrain.log_uniform(5, 28), 1.0)
        surface = ribbon(terrain.shape, line, width_px)
        verge = ribbon(terrain.shape, line, width_px + terrain.px(terrain.uniform(2, 20)))
        crossing = surface & terrain.water
        bridge = crossing & ~remove_specks(crossing, int(width_px * BRIDGE_PX), holes=False)
        terrain.paint(verge & ~terrain.water, Cover.GRASS)
        terrain.paint(surface & ~terrain.water, Cover.ASPHALT, canopy_m=terrain.uniform(0, 2))
        terrain.paint(bridge, Cover.BUILT, canopy_m=3)
        terrain.shown("road")


def airport(terrain: Terrain) -> None:
    """Runway, taxiways, an apron with aircraft and lamps, and a hall on mown grass: dark as water, all but these."""
    angle, centre = terrain.angle(), terrain.point()
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    length_px, taxiway_px = terrain.px(terrain.uniform(1800, 3200)), terrain.px(25, 1.5)
    side_px = terrain.px(terrain.log_uniform(150, 500), 4)
    apron_px = terrain.px(terrain.log_uniform(400, 1600), 6)

    def strip(place: Float64, length: float, width: float) -> Float64:
        return rectangle(centre + place, length, width, angle)

    paved = [
        strip(0 * across, length_px, terrain.px(terrain.uniform(40, 60), 2)),
        strip(side_px * across, length_px, taxiway_px),
        strip(1.5 * side_px * across, apron_px, side_px),
    ]
    exits = terrain.rng.uniform(-0.48, 0.48, 5) * length_px
    paved += [strip(end * along + side_px / 2 * across, taxiway_px, side_px) for end in exits]
    mown = strip(side_px / 2 * across, length_px * 1.1, 3.5 * side_px)
    hall = strip(2 * side_px * across + terrain.px(30) * across, 0.7 * apron_px, terrain.px(45, 2))
    places = terrain.rng.uniform([-0.45 * apron_px, 1.1 * side_px], [0.45 * apron_px, 1.9 * side_px], (24, 2))
    aircraft = [
        strip(x * along + y * across, terrain.px(length_m, 1.2), terrain.px(width_m, 1.2))
        for x, y in places[: int(terrain.rng.integers(1, 25))]
        for length_m, width_m in ((40, 6), (7, 36))
    ]
    lamps = [
        strip(x * along + y * side_px * across, 1.5, 1.5)
        for y in (0.97, 2.0)
        for x in np.arange(-0.5, 0.5, 0.04) * apron_px
    ]
    mown_db, paved_db = terrain.uniform(-4, 0), terrain.uniform(-6, 1)
    _laid(terrain, [mown], Cover.GRASS, level_db=mown_db)
    _laid(terrain, paved, Cover.ASPHALT, level_db=paved_db)
    scatter(terrain, _laid(terrain, [hall], Cover.BUILT, canopy_m=12), per_are=0.5, rcs_dbsm=20)
    scatter(terrain, _laid(terrain, aircraft, Cover.BUILT, canopy_m=5), per_are=3, rcs_dbsm=15)
    scatter(terrain, fill_polygons(terrain.shape, lamps) & ~terrain.water, per_are=20, rcs_dbsm=8)
    terrain.shown("airport")


def _laid(terrain: Terrain, polygons: list[Float64], cover: Cover, **how: float) -> Mask:
    """Where the polygons cover the land, now painted."""
    where = fill_polygons(terrain.shape, polygons) & ~terrain.water
    terrain.paint(where, cover, **how)
    return where


def town(terrain: Terrain, share: float) -> None:
    """Blocks of houses between streets over `share` of the scene."""
    density = terrain.fractal(350, 3.4, coarse=4)
    zone = (density > quantile(density, 1 - share)) & ~terrain.water
    angle = terrain.angle()
    blocks = parcels(terrain.shape, terrain.rng, terrain.px(120, 8), terrain.px(70, 6), angle)
    houses = parcels(terrain.shape, terrain.rng, terrain.px(26, 3), terrain.px(18, 3), angle)
    height_m = terrain.rng.gamma(2.5, 3.0, houses.count).astype(np.float32)
    height_m[terrain.rng.random(houses.count) < terrain.uniform(0.1, 0.6)] = 0  # gardens and yards
    street = zone & (blocks.border_px < terrain.px(5, 0.6))
    built = zone & ~street & (houses.border_px > terrain.px(3, 0.3)) & (height_m[houses.index] > 0)
    terrain.paint(zone, Cover.GRASS)
    terrain.paint(street, Cover.ASPHALT, level_db=2)
    terrain.paint(built, Cover.BUILT)
    terrain.canopy_m[built] = height_m[houses.index][built]
    scatter(terrain, built, per_are=0.25, rcs_dbsm=15)
    terrain.shown("town")


def farms(terrain: Terrain, per_km2: float) -> None:
    """Small groups of houses, strung along a few winding lines as villages are along roads and levees."""
    area_km2 = terrain.height_px * terrain.width_px * terrain.pixel_m**2 / 1e6
    groups = int(min(2 + per_km2 * area_km2, 400))
    lines = [meander(terrain.shape, terrain.rng, 400, terrain.uniform(0.1, 1.0)) for _ in range(1 + groups // 50)]
    houses = []
    for index in range(groups):
        line = lines[index % len(lines)]
        group = line[terrain.rng.integers(len(line))] + terrain.rng.normal(0, terrain.px(60, 4), 2)
        angle = terrain.angle()
        for _ in range(int(terrain.rng.integers(1, 6))):
            place = group + terrain.rng.normal(0, terrain.px(25, 1.5), 2)
            length_m, width_m = terrain.rng.uniform(8, 30, 2)
            houses.append(rectangle(place, terrain.px(length_m, 1.2), terrain.px(width_m, 1.2), angle))
    where = fill_polygons(terrain.shape, houses) & ~terrain.water
    terrain.paint(where, Cover.BUILT, canopy_m=terrain.uniform(3, 8))
    scatter(terrain, where, per_are=0.8, rcs_dbsm=15)
    terrain.shown("farms")


def floating(terrain: Terrain) -> None:
    """Ships at anchor and under way, fish farms; ghosts of bright objects elsewhere. Under way and ghosts are no land:
    the echo is smeared along azimuth over open water."""
    rows, columns = np.nonzero(distance_px(~terrain.water, 8)[::8, ::8] > terrain.px(30, 4))
    if not rows.size:
        return
    for _ in range(int(terrain.rng.integers(1, 7))):
        pick = terrain.rng.integers(rows.size)
        centre = (columns[pick] * 8.0, rows[pick] * 8.0)
        length_px = terrain.px(terrain.log_uniform(8, 90), 1.5)
        hull = fill_polygons(terrain.shape, [rectangle(centre, length_px, max(length_px / 6, 1), terrain.angle())])
        hull &= terrain.water
        if terrain.chance(0.5):
            terrain.paint(hull, Cover.BUILT, canopy_m=3)
            scatter(terrain, hull, per_are=2, rcs_dbsm=18)
        else:
            scatter(terrain, hull, per_are=2.5, rcs_dbsm=7, smear_px=terrain.px(terrain.uniform(5, 25)))
    terrain.shown("ships")
    if terrain.chance(0.3):
        pick = terrain.rng.integers(rows.size)
        _fish_farm(terrain, (columns[pick] * 8.0, rows[pick] * 8.0))


def _fish_farm(terrain: Terrain, centre: tuple[float, float]) -> None:
    """A raft of cages: bright walkways around squares of water."""
    length_px, cage_px = terrain.px(terrain.uniform(80, 200), 8), terrain.px(terrain.uniform(15, 30), 4)
    raft = (
        fill_polygons(terrain.shape, [rectangle(centre, length_px, length_px * 0.5, terrain.angle())]) & terrain.water
    )
    walk = terrain.parcels(cage_px, cage_px).border_px < terrain.px(3, 0.8)
    terrain.paint(raft & walk, Cover.BUILT, canopy_m=0.5)
    terrain.shown("fish farm")


def scatter(terrain: Terrain, where: Mask, per_are: float, rcs_dbsm: float, smear_px: float = 0.0) -> None:
    """Corner reflectors over `where`, on average `per_are` on 100 square metres, at least one.

    Their radar cross-sections (`rcs_dbsm`, dB of a square metre) have the long tail of man-made objects; the larger the
    pixel, the less sigma0 they make in it.
    """
    rows, columns = np.nonzero(where)
    if not rows.size:
        return
    area_m2 = terrain.pixel_m**2
    count = 1 + int(terrain.rng.poisson(per_are / 100 * area_m2 * rows.size))
    pick = terrain.rng.integers(rows.size, size=count)
    levels_db = terrain.rng.normal(rcs_dbsm, 6.0, count) - 10 * np.log10(area_m2)
    terrain.targets.append(np.stack([rows[pick], columns[pick], levels_db, np.full(count, smear_px)], axis=1))
