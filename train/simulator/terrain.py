"""The land of a simulated scene: what covers it, how high it stands, and dry land to begin with. No radar here; the
water is in `waters`, what people built in `structures`.

Man-made things have sizes in metres; natural ones are drawn in pixels, because nature looks alike at every scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from train.simulator.shapes import (
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
    """What a pixel is covered with; `train.simulator.radar` knows the backscatter of each."""

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


def scarps(terrain: Terrain, count: int) -> None:
    """Steep ridges and cuttings: bright where they face the radar and in its shadow where they lean away, so as dark as
    water, as long and as winding as a river, and dry. What tells them is the bright side beside the dark one."""
    for _ in range(count):
        line = meander(terrain.shape, terrain.rng, terrain.log_uniform(300, 2500), terrain.uniform(0, 0.7))
        width_px = terrain.px(terrain.log_uniform(20, 110), 2)
        widths = width_px * np.clip(0.9 + 0.4 * smooth_noise(terrain.rng, len(line), 80), 0.1, 2)
        where = ribbon(terrain.shape, line, widths)
        steepness = terrain.uniform(0.6, 1.7) * (1 if terrain.chance(0.6) else -1)
        inside_px = ndimage.distance_transform_edt(where).astype(np.float32)
        terrain.elevation_m += np.float32(steepness * terrain.pixel_m) * inside_px
        terrain.shown("scarps")
