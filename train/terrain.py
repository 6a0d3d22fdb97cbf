"""The land of a simulated scene: where the water lies, what covers the rest, how high it stands. No radar here.

Man-made things have sizes in metres; natural ones are drawn in pixels, because nature looks alike at every scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from train.shapes import (
    Float32,
    Float64,
    Mask,
    Parcels,
    Rng,
    distance_px,
    fill_polygons,
    fractal,
    meander,
    parcels,
    quantile,
    rectangle,
    remove_specks,
    ribbon,
    smooth_noise,
)


class Cover(IntEnum):
    """What a pixel is covered with; `train.radar` knows the backscatter of each."""

    WATER = 0
    FOREST = 1
    GRASS = 2
    CROP = 3
    BARE = 4
    WET_SOIL = 5
    SAND = 6
    ROCK = 7
    ASPHALT = 8
    BUILT = 9
    REED = 10


OPEN_LAND = (Cover.GRASS, Cover.CROP, Cover.CROP, Cover.BARE)
BRIDGE_PX = 200
"""Roads stop at water that is wider."""
SMOOTH_LAND = (Cover.WET_SOIL, Cover.SAND, Cover.ASPHALT, Cover.BARE)


@dataclass
class Terrain:
    """The land under construction, all arrays (H, W). `paint` and `fill` keep them consistent."""

    shape: tuple[int, int]
    pixel_m: float
    rng: Rng
    cover: npt.NDArray[np.uint8] = field(init=False)
    elevation_m: Float32 = field(init=False)
    """The bare ground; water is level."""
    canopy_m: Float32 = field(init=False)
    """Height of trees, buildings and banks above the ground."""
    level_db: Float32 = field(init=False)
    """Backscatter relative to the mean of the cover: crops, moisture."""
    targets: list[Float64] = field(init=False, default_factory=list)
    """Point targets, (N, 4) each: row, column, level in dB, spread along azimuth in pixels."""
    contents: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.cover = np.full(self.shape, Cover.GRASS, np.uint8)
        self.elevation_m, self.canopy_m, self.level_db = (np.zeros(self.shape, np.float32) for _ in range(3))

    @property
    def height_px(self) -> int:
        return self.shape[0]

    @property
    def width_px(self) -> int:
        return self.shape[1]

    @property
    def water(self) -> Mask:
        return self.cover == Cover.WATER

    @property
    def speck_px(self) -> int:
        """Area of the smallest body of water that anybody maps, some 20 m across: below it speckle decides."""
        return max(12, round(self.px(20) ** 2))

    def paint(self, where: Mask, cover: Cover, canopy_m: float = 0.0, level_db: float = 0.0) -> None:
        """Cover `where`; what stood there is gone."""
        self.cover[where] = cover
        self.canopy_m[where] = canopy_m
        self.level_db[where] = level_db

    def fill(self, water: Mask) -> None:
        """Put level water on `water`; the ground rises from its shore over a bank."""
        self.paint(water, Cover.WATER)
        shore_px = distance_px(self.water)
        bank_px = self.log_uniform(8, 60)
        bank_m = bank_px * self.pixel_m * self.uniform(0.0, 0.25)
        self.elevation_m *= 1 - np.exp(-shore_px / np.float32(4 * bank_px))
        self.elevation_m += np.float32(bank_m) * (1 - np.exp(-shore_px / np.float32(bank_px)))

    def shown(self, what: str) -> None:
        if what not in self.contents:
            self.contents.append(what)

    def px(self, metres: float, at_least: float = 0.0) -> float:
        return max(metres / self.pixel_m, at_least)

    def fractal(self, outer_px: float, slope: float, coarse: int = 1, stretch: float = 1.0) -> Float32:
        return fractal(self.shape, self.rng, outer_px, slope, coarse, stretch)

    def parcels(self, length_px: float, width_px: float) -> Parcels:
        return parcels(self.shape, self.rng, length_px, width_px, self.angle())

    def point(self) -> Float64:
        """A place in the scene, x, y."""
        return self.rng.uniform(0.1, 0.9, 2) * self.shape[::-1]

    def angle(self) -> float:
        return self.uniform(0, 2 * np.pi)

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def choice(self, covers: tuple[Cover, ...]) -> Cover:
        return covers[int(self.rng.integers(len(covers)))]


# Dry land


def relief(terrain: Terrain, slope: float) -> None:
    """Hills and valleys whose gradient along the range has the deviation `slope`."""
    scale_px, ridges = terrain.log_uniform(100, 500), terrain.uniform(1, 2.5)
    shape = terrain.fractal(scale_px * ridges, terrain.uniform(3.9, 4.6), coarse=2, stretch=ridges)
    steepness = float(np.gradient(shape, axis=1).std()) / terrain.pixel_m
    terrain.elevation_m += shape * np.float32(slope / steepness)
    if slope > 0.05:
        terrain.shown("mountains" if slope > 0.2 else "hills")


def vegetation(terrain: Terrain, forest_share: float) -> None:
    """Open land in parcels or in soft patches, and forest over `forest_share` of it."""
    kinds = [int(terrain.choice(OPEN_LAND)) for _ in range(3)]
    if terrain.chance(0.5):
        width_px = terrain.px(terrain.log_uniform(60, 300), 7)
        fields = terrain.parcels(width_px * terrain.uniform(1, 2.5), width_px)
        terrain.cover[:] = terrain.rng.choice(kinds, fields.count).astype(np.uint8)[fields.index]
        terrain.level_db[:] = terrain.rng.normal(0, 1.0, fields.count).astype(np.float32)[fields.index]
        hedged = (terrain.rng.random(fields.count) < terrain.uniform(0, 0.6))[fields.index]
        hedge = fields.border_px < terrain.px(terrain.uniform(1, 3), 0.5)
        terrain.paint(hedge & hedged, Cover.FOREST, canopy_m=terrain.uniform(1, 6))
        terrain.shown("fields")
    else:
        patch = terrain.fractal(200, 3.2, coarse=2)
        terrain.cover[:] = np.where(patch > 0.4, kinds[0], np.where(patch > -0.5, Cover.GRASS, kinds[1]))
    terrain.level_db += np.float32(0.8) * terrain.fractal(120, 2.6, coarse=2)
    if forest_share > 0:
        _forest(terrain, forest_share)


def _forest(terrain: Terrain, share: float) -> None:
    stand = terrain.fractal(terrain.log_uniform(100, 400), terrain.uniform(3.0, 3.6))
    where = remove_specks(stand > quantile(stand, 1 - share), 60)
    terrain.paint(where, Cover.FOREST, canopy_m=terrain.uniform(6, 20))
    # The crowns are uneven: clearings, stands of several ages, single trees.
    uneven = 1 + 0.15 * terrain.fractal(60, 3.0, coarse=2) + 0.05 * terrain.fractal(9, 3.0)
    terrain.canopy_m[where] *= uneven[where].clip(0.3)
    terrain.level_db[where] += (1.0 * terrain.fractal(70, 2.8, coarse=2))[where]
    terrain.shown("forest")


def desert(terrain: Terrain) -> None:
    """Smooth sand, nearly as dark as water, with dunes, gravel plains and rock."""
    terrain.paint(np.ones(terrain.shape, bool), Cover.SAND)
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    angle, wavelength_px = terrain.angle(), terrain.log_uniform(12, 90)
    across = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) * np.float32(2 * np.pi / wavelength_px)
    dunes = np.sin(across + np.float32(terrain.uniform(1, 4)) * terrain.fractal(200, 3.4, coarse=2))
    terrain.elevation_m += dunes * np.float32(wavelength_px * terrain.pixel_m * terrain.uniform(0, 0.025))
    terrain.level_db[:] = np.float32(1.2) * terrain.fractal(80, 2.8, coarse=2)
    ground = terrain.fractal(250, 3.0)
    gravel = terrain.uniform(0.3, 1.5)
    terrain.paint(ground > gravel, Cover.BARE)
    terrain.paint(ground > gravel + terrain.uniform(0.4, 1), Cover.ROCK)
    terrain.shown("sand")


def smooth_patches(terrain: Terrain) -> None:
    """Bare and wet fields, car parks, sand pits: dark, smooth and mostly straight-edged, but land."""
    blob = terrain.fractal(60, 3.4)
    for _ in range(int(terrain.rng.integers(1, 7))):
        size_px = terrain.px(terrain.log_uniform(30, 160), 6)
        corners = rectangle(terrain.point(), size_px * terrain.uniform(1, 2.5), size_px, terrain.angle())
        where = fill_polygons(terrain.shape, [corners + terrain.rng.normal(0, size_px * 0.08, corners.shape)])
        if terrain.chance(0.3):  # a hollow that collects moisture rather than a field
            where &= blob > 0
        terrain.paint(where & ~terrain.water, terrain.choice(SMOOTH_LAND), level_db=terrain.uniform(-1.5, 2))
    terrain.shown("smooth patches")


def gullies(terrain: Terrain, count: int) -> None:
    """Narrow valleys, sunken lanes and dry channels: dark on the side that leans away from the radar and on their moist
    floor, bright on the other side, long and winding as a river is, but soft-edged and dry."""
    for _ in range(count):
        line = meander(terrain.shape, terrain.rng, terrain.log_uniform(200, 1500), terrain.uniform(0, 0.6))
        half_width_px = terrain.px(terrain.log_uniform(5, 40), 0.5)
        widths = half_width_px * np.exp(0.3 * smooth_noise(terrain.rng, len(line), 40))
        # Along its course a gully deepens, peters out and begins again.
        depths = np.clip(smooth_noise(terrain.rng, len(line), 80) + 0.6, 0, 2)
        where = ribbon(terrain.shape, line, np.maximum(widths * depths, 0.5))
        profile = ndimage.gaussian_filter(where.astype(np.float32), half_width_px / 2.5, mode="nearest", truncate=3)
        depth_m = half_width_px * terrain.pixel_m * terrain.uniform(0, 1.0)
        terrain.elevation_m -= np.float32(depth_m) * profile
        terrain.level_db -= np.float32(terrain.uniform(0, 4)) * profile
        terrain.shown("gullies")


# Water


def lakes(terrain: Terrain, share: float, outer_px: float) -> None:
    """Water in the hollows of a fractal surface, some shores with a belt of reed."""
    basin = terrain.fractal(outer_px, terrain.uniform(3.6, 4.6))
    level = quantile(basin, share)
    terrain.fill(remove_specks(basin < level, terrain.speck_px))
    if terrain.chance(0.3):
        belt = np.abs(basin - level) < terrain.uniform(0.02, 0.1)
        terrain.paint(belt & (terrain.fractal(60, 3.2, coarse=2) > 0.3), Cover.REED, canopy_m=1)
        terrain.shown("reed")
    terrain.shown("lakes")


def coast(terrain: Terrain, share: float) -> None:
    """Sea on one side, with bays, headlands and islands, and sometimes a beach."""
    angle = terrain.angle()
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    inland = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) / np.float32(0.3 * min(terrain.shape))
    ground = inland + np.float32(terrain.uniform(0.1, 0.8)) * terrain.fractal(500, terrain.uniform(3.2, 4.4))
    level = quantile(ground, share)
    sea = remove_specks(ground < level, terrain.speck_px)
    if terrain.chance(0.35):
        beach = ground < level + terrain.px(terrain.uniform(8, 50), 2) / (0.3 * min(terrain.shape))
        terrain.paint(beach, Cover.SAND, level_db=terrain.uniform(0, 4))
        terrain.shown("beach")
    terrain.fill(sea)
    terrain.shown("coast")


def river(terrain: Terrain, width_px: float) -> None:
    """A meandering river; wavelength about 11 widths (Leopold and Wolman 1960), longer where narrow."""
    wavelength_px = max(width_px * terrain.uniform(8, 16), terrain.uniform(50, 200))
    line = meander(terrain.shape, terrain.rng, wavelength_px, terrain.uniform(0.1, 1.3))
    widths = width_px * np.exp(0.2 * smooth_noise(terrain.rng, len(line), 1.5 * max(width_px, 20)))
    bank = terrain.choice((Cover.GRASS, Cover.SAND, Cover.FOREST, Cover.REED))
    terrain.paint(ribbon(terrain.shape, line, widths + terrain.uniform(2, 10)) & ~terrain.water, bank)
    terrain.fill(ribbon(terrain.shape, line, widths))
    terrain.shown("river" if width_px > 10 else "narrow river")


def braided_river(terrain: Terrain, width_px: float) -> None:
    """A belt of gravel and sand in which the water wanders: its channels are the zero lines of a smooth field."""
    line = meander(terrain.shape, terrain.rng, width_px * terrain.uniform(6, 12), terrain.uniform(0.1, 0.4))
    widths = width_px * np.exp(0.2 * smooth_noise(terrain.rng, len(line), width_px / 3))
    belt = ribbon(terrain.shape, line, widths)
    terrain.paint(belt, Cover.SAND, level_db=terrain.uniform(1, 5))
    channels = np.abs(terrain.fractal(width_px * terrain.uniform(0.6, 1.5), 4.2)) < terrain.uniform(0.3, 0.8)
    terrain.fill(remove_specks(belt & channels, terrain.speck_px))
    terrain.shown("braided river")


def reservoir(terrain: Terrain) -> None:
    """A drowned valley behind a straight dam."""
    valley = terrain.elevation_m / max(float(terrain.elevation_m.std()), 1e-3)
    drowned = valley + np.float32(0.15) * terrain.fractal(100, 3.6) < terrain.uniform(-1.5, -0.5)
    x0, y0 = terrain.point()
    angle = terrain.angle()
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    upstream_px = (x - x0) * np.cos(angle) + (y - y0) * np.sin(angle)
    dam = drowned & (np.abs(upstream_px) < terrain.px(terrain.uniform(4, 10), 0.8))
    terrain.fill(remove_specks(drowned & (upstream_px > 0), terrain.speck_px))
    terrain.paint(dam, Cover.ROCK, canopy_m=terrain.uniform(1, 6), level_db=3)
    terrain.shown("reservoir")


def ponds(terrain: Terrain) -> None:
    """Fish ponds and paddies: parcels of water between bunds."""
    width_px = terrain.px(terrain.log_uniform(25, 150), 9)
    grid = terrain.parcels(width_px * terrain.uniform(1, 2), width_px)
    zone = terrain.fractal(300, 3.6, coarse=4)
    level = quantile(zone, terrain.uniform(0.5, 0.9))
    middle = np.bincount(grid.index.ravel(), zone.ravel(), grid.count) / np.maximum(
        np.bincount(grid.index.ravel(), minlength=grid.count), 1
    )
    farm = middle > level
    wet = farm & (terrain.rng.random(grid.count) < terrain.uniform(0.4, 0.95))
    bund = grid.border_px < terrain.px(terrain.uniform(1, 4), 0.8)
    terrain.paint(farm[grid.index], Cover.WET_SOIL)
    terrain.fill(wet[grid.index] & ~bund)
    terrain.paint(farm[grid.index] & bund, terrain.choice((Cover.GRASS, Cover.REED)), canopy_m=terrain.uniform(0.3, 2))
    terrain.shown("ponds")


def flood(terrain: Terrain) -> None:
    """Low fields under water; dykes, hedges, reed and flooded crops stand out of it, bright by double bounce."""
    width_px = terrain.px(terrain.log_uniform(80, 300), 8)
    fields = terrain.parcels(width_px * 2, width_px)
    steps = terrain.rng.normal(0, terrain.uniform(0, 0.3), fields.count).astype(np.float32)[fields.index]
    # Each field has its own height, so the water stops at some borders and crosses others.
    ground = terrain.fractal(500, 4.0) + np.float32(0.05) * terrain.fractal(40, 3.0) + steps
    under = remove_specks(ground < quantile(ground, terrain.uniform(0.15, 0.65)), terrain.speck_px)
    dyked = (terrain.rng.random(fields.count) < terrain.uniform(0, 0.6))[fields.index]
    dyke = dyked & (fields.border_px < terrain.px(terrain.uniform(1, 4), 0.6))
    plants = terrain.fractal(80, 3.2)
    emergent = plants > terrain.uniform(1.0, 2.2)
    terrain.fill(remove_specks(under & ~dyke & ~emergent, terrain.speck_px // 2))
    terrain.paint(under & dyke, Cover.REED, canopy_m=terrain.uniform(0.5, 2.5))
    terrain.paint(under & emergent & ~dyke, Cover.REED, canopy_m=0.5, level_db=terrain.uniform(0, 3))
    terrain.shown("flooded fields")


def open_water(terrain: Terrain) -> None:
    """Sea almost everywhere, with a few rocks or none."""
    ground = terrain.fractal(300, 4.0)
    terrain.fill(remove_specks(ground < quantile(ground, terrain.uniform(0.95, 1.03)), 30))
    terrain.shown("open water")


# Things people made


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
    """Runway, taxiways, apron and halls on mown grass."""
    angle, centre = terrain.angle(), terrain.point()
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    length_px, taxiway_px = terrain.px(terrain.uniform(1800, 3200)), terrain.px(25, 1.5)
    side_px = terrain.px(terrain.uniform(150, 250), 4)

    def strip(place: Float64, length: float, width: float) -> Float64:
        return rectangle(centre + place, length, width, angle)

    paved = [
        strip(0 * across, length_px, terrain.px(terrain.uniform(40, 60), 2)),
        strip(side_px * across, length_px, taxiway_px),
        strip(1.5 * side_px * across, terrain.px(500), side_px),
    ]
    exits = terrain.rng.uniform(-0.48, 0.48, 5) * length_px
    paved += [strip(end * along + side_px / 2 * across, taxiway_px, side_px) for end in exits]
    mown = strip(side_px / 2 * across, length_px * 1.1, 3.5 * side_px)
    hall = strip(2.1 * side_px * across, terrain.px(350), terrain.px(45, 2))
    land = ~terrain.water
    terrain.paint(fill_polygons(terrain.shape, [mown]) & land, Cover.GRASS)
    terrain.paint(fill_polygons(terrain.shape, paved) & land, Cover.ASPHALT)
    terrain.paint(fill_polygons(terrain.shape, [hall]) & land, Cover.BUILT, canopy_m=12)
    terrain.shown("airport")


def town(terrain: Terrain, share: float) -> None:
    """Blocks of houses between streets over `share` of the scene."""
    zone = terrain.fractal(350, 3.4, coarse=4)
    zone = (zone > quantile(zone, 1 - share)) & ~terrain.water
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
