"""The land of a simulated scene: where the water lies, what covers the rest, how high it is. No radar here.

Shapes come from fractal fields (power-law spectra), meandering centre lines and straight-edged parcels. Man-made
things have sizes in metres, natural ones in pixels, because nature looks alike at every scale.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

Float32 = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


class Cover(IntEnum):
    """What a pixel is covered with; `train.simulate` knows the backscatter of each."""

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


OPEN_COVERS = (Cover.GRASS, Cover.CROP, Cover.CROP, Cover.BARE, Cover.WET_SOIL)


@dataclass
class Terrain:
    """The land under construction, all arrays (H, W). `paint` and `flood` keep them consistent."""

    height_px: int
    width_px: int
    pixel_m: float
    rng: np.random.Generator
    cover: npt.NDArray[np.uint8] = field(init=False)
    elevation_m: Float32 = field(init=False)
    """The bare ground, water surfaces included."""
    canopy_m: Float32 = field(init=False)
    """Height of trees and buildings above the ground."""
    level_db: Float32 = field(init=False)
    """Backscatter relative to the mean of the cover: parcels, soil, moisture."""
    targets: list[tuple[float, float, float, float]] = field(init=False, default_factory=list)
    """Point targets: row, column, amplitude relative to 0 dB clutter, smear in azimuth in pixels."""
    contents: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.cover = np.full(self.shape, Cover.GRASS, np.uint8)
        self.elevation_m = np.zeros(self.shape, np.float32)
        self.canopy_m = np.zeros(self.shape, np.float32)
        self.level_db = np.zeros(self.shape, np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        return self.height_px, self.width_px

    @property
    def water(self) -> Mask:
        return self.cover == Cover.WATER

    def px(self, metres: float) -> float:
        return metres / self.pixel_m

    def fractal(self, outer_px: float, slope: float, coarse: int = 1) -> Float32:
        return fractal(self.shape, self.rng, outer_px, slope, coarse)

    def paint(self, where: Mask, cover: Cover, canopy_m: float = 0.0, level_db: float = 0.0) -> None:
        """Cover `where`; what stood there is gone."""
        self.cover[where] = cover
        self.canopy_m[where] = canopy_m
        self.level_db[where] = level_db

    def uniform(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def log_uniform(self, low: float, high: float) -> float:
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))


def fractal(
    shape: tuple[int, int], rng: np.random.Generator, outer_px: float, slope: float, coarse: int = 1
) -> Float32:
    """A Gaussian field with power spectrum ~ k^-slope below the scale `outer_px`; (H, W) float32, mean 0, deviation 1.

    `coarse` computes it on every n-th pixel and interpolates: for fields without fine detail.
    """
    small = tuple(-(-n // coarse) + 2 for n in shape)
    # The transform is periodic; an eighth of margin is cut off so that opposite edges of a scene are not alike.
    padded = [scipy.fft.next_fast_len(n + n // 8, real=True) for n in small]
    frequency = np.hypot(
        scipy.fft.fftfreq(padded[0])[:, None].astype(np.float32), scipy.fft.rfftfreq(padded[1])[None].astype(np.float32)
    )
    knee = np.float32(coarse / outer_px)
    gain = (frequency**2 + knee**2) ** np.float32(-slope / 4)
    gain[0, 0] = 0
    noise = scipy.fft.rfft2(rng.standard_normal(padded, np.float32))
    result = scipy.fft.irfft2(noise * gain, s=padded)[: small[0], : small[1]]
    result = (result - result.mean()) / result.std()
    if coarse > 1:
        result = ndimage.zoom(result, coarse, order=1, mode="nearest")
    return np.ascontiguousarray(result[: shape[0], : shape[1]], dtype=np.float32)


def fill_polygons(shape: tuple[int, int], polygons: npt.NDArray[np.floating]) -> Mask:
    """Union of convex polygons (P, K, 2) of x, y corners, as the pixels whose centres lie inside; (H, W) bool.

    Each polygon edge adds its direction at the pixel where it crosses a row; the running sum along the row is the
    winding number.
    """
    height, width = shape
    start = np.asarray(polygons, np.float64)
    end = np.roll(start, -1, axis=1)
    area = np.sum(start[..., 0] * end[..., 1] - end[..., 0] * start[..., 1], axis=1)
    turn = np.broadcast_to(np.sign(area)[:, None], start.shape[:2]).ravel()
    x0, y0 = start.reshape(-1, 2).T
    x1, y1 = end.reshape(-1, 2).T
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, height).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1)), 0, height).astype(np.int64)
    count = last - first
    edge = np.repeat(np.arange(len(count)), count)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count)
    crossing = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    column = np.clip(np.ceil(crossing), 0, width).astype(np.int64)
    winding = np.zeros((height, width + 1), np.int16)
    np.add.at(winding, (row, column), (np.sign(y1 - y0) * turn)[edge].astype(np.int16))
    return np.cumsum(winding, axis=1, dtype=np.int16)[:, :width] != 0


def ribbon(shape: tuple[int, int], line: npt.NDArray[np.floating], width_px: npt.NDArray[np.floating] | float) -> Mask:
    """The pixels within half a width of a line of (N, 2) x, y points; the width may vary along it."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * np.asarray(width_px).reshape(-1, 1) / 2
    left, right = line + across, line - across
    return fill_polygons(shape, np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))


def rectangle(centre: tuple[float, float], size: tuple[float, float], angle: float) -> npt.NDArray[np.float64]:
    """Corners (4, 2) of a rectangle; `size` is along and across `angle` (radians)."""
    axis = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * size
    return corners @ axis + centre


@dataclass(frozen=True)
class Parcels:
    """A patchwork with straight borders. `index` (H, W) int32 numbers the parcels, `border_px` is the distance to
    the nearest border."""

    index: npt.NDArray[np.int32]
    border_px: Float32
    count: int


def parcels(terrain: Terrain, length_px: float, width_px: float, angle: float) -> Parcels:
    """Rows of parcels of random width, each row cut at its own places: fields, blocks, ponds."""
    rng = terrain.rng
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    u = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    v = (y * np.cos(angle) - x * np.sin(angle)).astype(np.float32)
    rows, row_gap = _cut(v, width_px, rng)
    lengths = (length_px * rng.uniform(0.6, 1.6, int(rows.max()) + 1)).astype(np.float32)
    shifts = rng.uniform(0, length_px * 2, lengths.size).astype(np.float32)
    position = (u - u.min() + shifts[rows]) / lengths[rows]
    column = position.astype(np.int32)
    fraction = position - column
    gap = np.minimum(fraction, 1 - fraction) * lengths[rows]
    columns = int(column.max()) + 1
    return Parcels(rows * columns + column, np.minimum(gap, row_gap), lengths.size * columns)


def _cut(v: Float32, width_px: float, rng: np.random.Generator) -> tuple[npt.NDArray[np.int32], Float32]:
    """Cut the axis `v` into strips of random width: the strip of each pixel and the distance to its border."""
    span = float(v.max() - v.min())
    edges = np.cumsum(rng.uniform(0.5, 1.5, int(span / width_px * 2) + 4) * width_px)
    edges = np.concatenate([[0.0], edges])
    # A table in steps of an eighth of a pixel is faster than a search for each pixel.
    table = np.searchsorted(edges, np.arange(int(span * 8) + 2) / 8, side="right") - 1
    offset = v - v.min()
    strip = table[(offset * 8).astype(np.int32)].astype(np.int32)
    lower, upper = edges[:-1].astype(np.float32), edges[1:].astype(np.float32)
    return strip, np.minimum(offset - lower[strip], upper[strip] - offset)


def meander(terrain: Terrain, width_px: float, sinuosity: float) -> npt.NDArray[np.float64]:
    """A river's centre line through the scene, (N, 2) x, y: a sine-generated curve with noise.

    Source: Langbein and Leopold 1966, River meanders - theory of minimum variance; wavelength 7 to 12 widths there.
    """
    rng = terrain.rng
    reach = 1.6 * float(np.hypot(*terrain.shape))
    step = 3.0
    n = int(reach * (1 + sinuosity) / step)
    s = np.arange(n) * step
    wavelength = max(width_px * rng.uniform(9, 18), rng.uniform(40, 160)) * (1 + sinuosity)
    noise = ndimage.gaussian_filter1d(rng.standard_normal(n), wavelength / step / 2)
    noise /= noise.std()
    swing = sinuosity * 1.2 * (1 + 0.4 * noise)
    heading = rng.uniform(0, 2 * np.pi) + 0.35 * np.cumsum(noise) * step / wavelength * 0.8
    heading = heading + swing * np.sin(2 * np.pi * s / wavelength + 1.5 * noise)
    line = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * step
    through = np.array([terrain.width_px, terrain.height_px]) * rng.uniform(0.25, 0.75, 2)
    return line - line[n // 2] + through


def varying_width(terrain: Terrain, points: int, width_px: float) -> npt.NDArray[np.float64]:
    noise = ndimage.gaussian_filter1d(terrain.rng.standard_normal(points), 12)
    return width_px * np.exp(0.3 * noise / noise.std())


# --- what a scene is made of ---------------------------------------------------------------------------------------


def relief(terrain: Terrain, amplitude_m: float) -> None:
    """Hills: amplitude is the standard deviation of height."""
    shape = terrain.fractal(terrain.uniform(300, 900), terrain.uniform(3.6, 4.2), coarse=2)
    terrain.elevation_m += amplitude_m * shape
    if amplitude_m > 4:
        terrain.contents.append("hills")


def vegetation(terrain: Terrain, forest_share: float) -> None:
    """Forest with clearings, open land in parcels or in soft patches."""
    rng = terrain.rng
    kinds = rng.permutation(np.array(OPEN_COVERS, np.uint8))
    if rng.random() < 0.6:
        size = max(terrain.px(terrain.log_uniform(80, 350)), 7)
        fields = parcels(terrain, size * terrain.uniform(1, 2.5), size, terrain.uniform(0, np.pi))
        choice = rng.choice(kinds, fields.count)
        terrain.cover[:] = choice[fields.index]
        terrain.level_db[:] = rng.normal(0, 1.3, fields.count).astype(np.float32)[fields.index]
        _hedges(terrain, fields)
        terrain.contents.append("fields")
    else:
        patches = terrain.fractal(200, 3, coarse=4)
        terrain.cover[:] = np.where(patches > 0.4, kinds[0], Cover.GRASS)
        terrain.level_db[:] = terrain.fractal(120, 2.6, coarse=2) * 0.9
    if forest_share > 0:
        field = terrain.fractal(250, 2.9)
        forest = field > np.quantile(field[::8, ::8], 1 - forest_share)
        terrain.paint(forest, Cover.FOREST, canopy_m=terrain.uniform(8, 22))
        # The crown layer is rough: that is the texture of a forest at 1 m.
        terrain.canopy_m[forest] *= (1 + 0.12 * terrain.fractal(25, 1.5))[forest]
        terrain.contents.append("forest")


def _hedges(terrain: Terrain, fields: Parcels) -> None:
    hedge = fields.border_px < max(terrain.px(terrain.uniform(2, 6)) / 2, 0.5)
    present = terrain.rng.random(fields.count) < terrain.uniform(0, 0.7)
    terrain.paint(hedge & present[fields.index], Cover.FOREST, canopy_m=terrain.uniform(1, 7))


def lakes(terrain: Terrain, share: float, outer_px: float) -> None:
    """Water in the depressions of a fractal surface."""
    basin = terrain.fractal(outer_px, terrain.uniform(3.2, 4.0))
    water = basin < np.quantile(basin[::4, ::4], share)
    _fill(terrain, water)
    terrain.contents.append("lakes")


def coast(terrain: Terrain, share: float) -> None:
    """Sea on one side, with bays and islands."""
    angle = terrain.uniform(0, 2 * np.pi)
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    distance = (x * np.cos(angle) + y * np.sin(angle)) / (0.3 * max(terrain.shape))
    field = distance.astype(np.float32) + terrain.uniform(0.15, 0.7) * terrain.fractal(500, terrain.uniform(3.0, 3.8))
    water = field < np.quantile(field[::4, ::4], share)
    _fill(terrain, water)
    if terrain.rng.random() < 0.4:  # a beach
        width_px = terrain.px(terrain.uniform(10, 60))
        shore = field < np.quantile(field[::4, ::4], share) + width_px / (0.3 * max(terrain.shape))
        terrain.paint(shore & ~water, Cover.SAND)
        terrain.contents.append("beach")
    terrain.contents.append("coast")


def river(terrain: Terrain, width_px: float) -> None:
    line = meander(terrain, width_px, terrain.uniform(0.1, 1.1))
    widths = varying_width(terrain, len(line), width_px)
    banks = ribbon(terrain.shape, line, widths + terrain.uniform(2, 12))
    terrain.paint(banks, Cover(int(terrain.rng.choice([Cover.GRASS, Cover.SAND, Cover.FOREST, Cover.BARE]))))
    _fill(terrain, ribbon(terrain.shape, line, widths))
    terrain.contents.append("river" if width_px > 10 else "narrow river")


def braided_river(terrain: Terrain, width_px: float) -> None:
    """A gravel belt in which the water wanders: the channels are the zero lines of a stretched field."""
    line = meander(terrain, width_px * 2, terrain.uniform(0.05, 0.3))
    belt = ribbon(terrain.shape, line, varying_width(terrain, len(line), width_px))
    terrain.paint(belt, Cover.SAND, level_db=terrain.uniform(0, 5))
    channels = np.abs(terrain.fractal(width_px * 1.2, 3.2)) < terrain.uniform(0.15, 0.35)
    _fill(terrain, belt & channels)
    terrain.contents.append("braided river")


def reservoir(terrain: Terrain) -> None:
    """A drowned valley behind a straight dam."""
    valley = terrain.elevation_m + terrain.fractal(400, 3.8, coarse=2) * 0.3 * max(float(terrain.elevation_m.std()), 1)
    water = valley < np.quantile(valley[::4, ::4], terrain.uniform(0.1, 0.35))
    angle, through = terrain.uniform(0, np.pi), (terrain.width_px * terrain.uniform(0.3, 0.7), terrain.height_px / 2)
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    side = (x - through[0]) * np.cos(angle) + (y - through[1]) * np.sin(angle)
    dam_px = max(terrain.px(terrain.uniform(6, 20)), 1.5)
    wall = water & (np.abs(side) < dam_px / 2)
    _fill(terrain, water & (side > 0))
    terrain.paint(wall, Cover.BUILT, canopy_m=terrain.uniform(2, 8), level_db=2)
    terrain.contents.append("reservoir")


def ponds(terrain: Terrain) -> None:
    """Fish ponds and paddies: rectangles of water between bright bunds."""
    size = max(terrain.px(terrain.log_uniform(30, 200)), 8)
    grid = parcels(terrain, size * 1.5, size, terrain.uniform(0, np.pi))
    zone = terrain.fractal(300, 3.5, coarse=4) > terrain.uniform(0.2, 1.0)
    inside = ndimage.minimum(zone, grid.index, np.arange(grid.count)) > 0
    wet = inside & (terrain.rng.random(grid.count) < terrain.uniform(0.4, 0.95))
    bund_px = max(terrain.px(terrain.uniform(2, 7)) / 2, 0.7)
    border = grid.border_px < bund_px
    terrain.paint(inside[grid.index] & border, Cover.REED, canopy_m=1.0)
    _fill(terrain, wet[grid.index] & ~border)
    terrain.contents.append("ponds")


def flood(terrain: Terrain) -> None:
    """Low fields under water, soft edges inland, hedges, reed and dykes standing out of it."""
    low = terrain.fractal(600, 3.4) + 0.6 * terrain.fractal(60, 3.0)
    size = max(terrain.px(terrain.log_uniform(100, 300)), 8)
    fields = parcels(terrain, size * 2, size, terrain.uniform(0, np.pi))
    # Each field has its own height, so the flood stops at some borders and crosses others.
    low += terrain.rng.normal(0, 0.35, fields.count).astype(np.float32)[fields.index]
    water = low < np.quantile(low[::4, ::4], terrain.uniform(0.2, 0.6))
    dyke = (fields.border_px < max(terrain.px(terrain.uniform(2, 8)) / 2, 0.6)) & (
        (terrain.rng.random(fields.count) < 0.5)[fields.index]
    )
    emergent = terrain.fractal(80, 2.8) > terrain.uniform(1.0, 2.0)
    _fill(terrain, water & ~dyke & ~emergent)
    terrain.paint(water & dyke, Cover.REED, canopy_m=terrain.uniform(0.5, 3))
    terrain.paint(water & emergent & ~dyke, Cover.REED, canopy_m=1.0, level_db=2)
    terrain.contents.append("flooded fields")


def open_water(terrain: Terrain) -> None:
    """Sea almost everywhere, with a few rocks or none."""
    field = terrain.fractal(300, 3.3)
    _fill(terrain, field < np.quantile(field[::4, ::4], terrain.uniform(0.96, 1.0)))
    terrain.contents.append("open water")


def roads(terrain: Terrain, count: int) -> None:
    for _ in range(count):
        line = meander(terrain, 60, terrain.uniform(0, 0.25))
        width_px = max(terrain.px(terrain.log_uniform(6, 28)), 1.0)
        surface = ribbon(terrain.shape, line, width_px)
        if terrain.rng.random() < 0.5:  # cleared verges
            terrain.paint(ribbon(terrain.shape, line, width_px * 2) & ~terrain.water, Cover.GRASS)
        over = surface & terrain.water
        terrain.paint(surface & ~terrain.water, Cover.ASPHALT)
        terrain.paint(over, Cover.BUILT, canopy_m=4.0)  # a bridge or a causeway
        terrain.contents.append("road")


def airport(terrain: Terrain) -> None:
    angle = terrain.uniform(0, np.pi)
    centre = (terrain.width_px * terrain.uniform(0.3, 0.7), terrain.height_px * terrain.uniform(0.3, 0.7))
    across = np.array([-np.sin(angle), np.cos(angle)])
    field = rectangle(centre, (terrain.px(3400), terrain.px(700)), angle)
    terrain.paint(fill_polygons(terrain.shape, field[None]) & ~terrain.water, Cover.GRASS)
    length = terrain.px(terrain.uniform(2000, 3200))
    strips = [rectangle(centre, (length, max(terrain.px(55), 3)), angle)]
    strips.append(rectangle(tuple(centre + across * terrain.px(190)), (length, max(terrain.px(25), 2)), angle))
    apron = centre + across * terrain.px(290)
    strips.append(rectangle(tuple(apron), (terrain.px(500), terrain.px(160)), angle))
    for end in (-0.46, -0.1, 0.3, 0.46):
        along = np.array([np.cos(angle), np.sin(angle)]) * end * length
        taxi = centre + along + across * terrain.px(95)
        strips.append(rectangle(tuple(taxi), (max(terrain.px(25), 2), terrain.px(190)), angle))
    terrain.paint(fill_polygons(terrain.shape, np.stack(strips)) & ~terrain.water, Cover.ASPHALT)
    hall = rectangle(tuple(centre + across * terrain.px(390)), (terrain.px(350), max(terrain.px(45), 2)), angle)
    terrain.paint(fill_polygons(terrain.shape, hall[None]) & ~terrain.water, Cover.BUILT, canopy_m=15)
    terrain.contents.append("airport")


def town(terrain: Terrain, share: float) -> None:
    """Blocks of houses between streets."""
    blob = terrain.fractal(350, 3.4, coarse=4)
    zone = (blob > np.quantile(blob[::8, ::8], 1 - share)) & ~terrain.water
    angle = terrain.uniform(0, np.pi)
    blocks = parcels(terrain, max(terrain.px(120), 8), max(terrain.px(70), 6), angle)
    street = blocks.border_px < max(terrain.px(6), 0.6)
    houses = parcels(terrain, max(terrain.px(28), 3), max(terrain.px(20), 3), angle)
    gap = houses.border_px < max(terrain.px(3.5), 0.3)
    heights = terrain.rng.gamma(2.5, 3.5, houses.count).astype(np.float32)
    heights[terrain.rng.random(houses.count) < 0.35] = 0  # gardens and yards
    height = np.where(gap, 0, heights[houses.index])
    terrain.paint(zone, Cover.GRASS)
    built = zone & (height > 0) & ~street
    terrain.paint(built, Cover.BUILT)
    terrain.canopy_m[built] = height[built]
    terrain.paint(zone & street, Cover.ASPHALT, level_db=2)
    scatter_targets(terrain, built, density=0.004, mean_db=22)
    terrain.contents.append("town")


def desert(terrain: Terrain) -> None:
    """Smooth sand, almost as dark as water, with dunes, gravel and rock."""
    terrain.paint(np.ones(terrain.shape, bool), Cover.SAND)
    y, x = np.ogrid[: terrain.height_px, : terrain.width_px]
    angle, wavelength = terrain.uniform(0, np.pi), terrain.log_uniform(12, 80)
    warp = terrain.fractal(200, 3.2, coarse=2) * terrain.uniform(1, 3)
    phase = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32) * (2 * np.pi / wavelength) + warp
    terrain.elevation_m += np.sin(phase) * np.float32(wavelength * terrain.pixel_m * terrain.uniform(0.005, 0.03))
    ground = terrain.fractal(250, 3.0)
    terrain.level_db[:] = 1.2 * terrain.fractal(80, 2.6, coarse=2)
    terrain.paint(ground > terrain.uniform(0.3, 1.2), Cover.BARE)
    terrain.paint(ground > terrain.uniform(1.3, 2.0), Cover.ROCK)
    terrain.contents.append("sand")


def smooth_patches(terrain: Terrain) -> None:
    """Bare or wet fields, car parks and sand pits: dark and straight-edged, but land."""
    for _ in range(int(terrain.rng.integers(1, 6))):
        centre = tuple(terrain.rng.uniform(0, 1, 2) * (terrain.width_px, terrain.height_px))
        size = max(terrain.px(terrain.log_uniform(60, 500)), 6)
        corners = rectangle(centre, (size * terrain.uniform(1, 2.5), size), terrain.uniform(0, np.pi))
        corners = corners + terrain.rng.normal(0, size * 0.08, corners.shape)
        cover = Cover(int(terrain.rng.choice([Cover.WET_SOIL, Cover.SAND, Cover.ASPHALT, Cover.BARE])))
        where = fill_polygons(terrain.shape, corners[None]) & ~terrain.water
        terrain.paint(where, cover, level_db=terrain.uniform(-2, 1))
    terrain.contents.append("smooth patches")


def floating(terrain: Terrain) -> None:
    """Ships, fish farms and jetties on the water; the ships smear along azimuth."""
    rows, columns = np.nonzero(ndimage.binary_erosion(terrain.water[::8, ::8]))
    if not rows.size:
        return
    for _ in range(int(terrain.rng.integers(1, 7))):
        pick = int(terrain.rng.integers(rows.size))
        centre = (float(columns[pick] * 8), float(rows[pick] * 8))
        length = max(terrain.px(terrain.log_uniform(8, 90)), 1.5)
        hull = rectangle(centre, (length, max(length * 0.18, 1.0)), terrain.uniform(0, np.pi))
        where = fill_polygons(terrain.shape, hull[None]) & terrain.water
        smear_px = terrain.px(terrain.uniform(4, 25)) if terrain.rng.random() < 0.5 else 0.0
        if not smear_px:
            terrain.paint(where, Cover.BUILT, canopy_m=3.0)
        scatter_targets(terrain, where, density=0.03, mean_db=20, smear_px=smear_px, at_least=2)
    terrain.contents.append("ships")


def scatter_targets(
    terrain: Terrain, where: Mask, density: float, mean_db: float, smear_px: float = 0.0, at_least: int = 0
) -> None:
    """Corner reflectors spread over `where`; their cross-sections have the long tail of man-made objects."""
    rows, columns = np.nonzero(where)
    if not rows.size:
        return
    rng = terrain.rng
    count = max(int(rng.poisson(density * rows.size)), at_least)
    pick = rng.integers(rows.size, size=count)
    level_db = rng.normal(mean_db, 6.0, count)
    jitter = rng.uniform(-0.5, 0.5, (2, count))
    terrain.targets += [
        (float(r), float(c), float(10 ** (db / 20)), smear_px)
        for r, c, db in zip(rows[pick] + jitter[0], columns[pick] + jitter[1], level_db, strict=True)
    ]


def _fill(terrain: Terrain, water: Mask) -> None:
    """Put water on `water`: flat, and level with its lowest surroundings."""
    terrain.paint(water, Cover.WATER)
    terrain.elevation_m[water] = 0
    # Ground falls smoothly towards the shore; done on a coarse grid, where a wide blur is cheap.
    coarse = ndimage.zoom(water[::8, ::8].astype(np.float32), 1, order=0)
    near = ndimage.gaussian_filter(coarse, 3, mode="nearest")
    slope = ndimage.zoom(near, (terrain.height_px / near.shape[0], terrain.width_px / near.shape[1]), order=1)
    rows, columns = min(slope.shape[0], terrain.height_px), min(slope.shape[1], terrain.width_px)
    terrain.elevation_m[:rows, :columns] *= np.clip(1 - 1.6 * slope[:rows, :columns], 0, 1)


# --- scene types ---------------------------------------------------------------------------------------------------


def _countryside(terrain: Terrain, hills_m: float = 12.0) -> None:
    relief(terrain, terrain.log_uniform(0.5, hills_m))
    vegetation(terrain, terrain.rng.choice([0.0, 0.3, 0.6, 0.9]))


def _extras(terrain: Terrain) -> None:
    rng = terrain.rng
    if rng.random() < 0.5:
        smooth_patches(terrain)
    roads(terrain, int(rng.integers(0, 3)))
    if rng.random() < 0.3:
        town(terrain, terrain.uniform(0.03, 0.2))
    if rng.random() < 0.5:
        floating(terrain)


def _lakes(terrain: Terrain) -> None:
    _countryside(terrain)
    lakes(terrain, terrain.uniform(0.03, 0.6), terrain.log_uniform(60, 600))
    _extras(terrain)


def _river(terrain: Terrain) -> None:
    _countryside(terrain)
    for _ in range(int(terrain.rng.integers(1, 3))):
        river(terrain, terrain.log_uniform(3, 120))
    _extras(terrain)


def _braided(terrain: Terrain) -> None:
    _countryside(terrain)
    braided_river(terrain, terrain.log_uniform(80, 400))
    _extras(terrain)


def _coast(terrain: Terrain) -> None:
    _countryside(terrain, 25)
    coast(terrain, terrain.uniform(0.15, 0.85))
    _extras(terrain)


def _reservoir(terrain: Terrain) -> None:
    relief(terrain, terrain.uniform(10, 40) * terrain.pixel_m)
    vegetation(terrain, terrain.uniform(0.2, 0.8))
    reservoir(terrain)
    _extras(terrain)


def _flood(terrain: Terrain) -> None:
    _countryside(terrain, 2)
    flood(terrain)
    if terrain.rng.random() < 0.5:
        river(terrain, terrain.log_uniform(5, 60))
    _extras(terrain)


def _ponds(terrain: Terrain) -> None:
    _countryside(terrain, 3)
    ponds(terrain)
    if terrain.rng.random() < 0.4:
        river(terrain, terrain.log_uniform(3, 40))
    _extras(terrain)


def _urban(terrain: Terrain) -> None:
    _countryside(terrain, 5)
    if terrain.rng.random() < 0.7:
        river(terrain, terrain.log_uniform(5, 90))
    town(terrain, terrain.uniform(0.3, 0.8))
    roads(terrain, int(terrain.rng.integers(1, 4)))
    smooth_patches(terrain)


def _airport(terrain: Terrain) -> None:
    _countryside(terrain, 2)
    if terrain.rng.random() < 0.5:
        lakes(terrain, terrain.uniform(0.02, 0.2), terrain.log_uniform(60, 300))
    airport(terrain)
    _extras(terrain)


def _mountains(terrain: Terrain) -> None:
    relief(terrain, terrain.uniform(20, 90) * terrain.pixel_m)
    vegetation(terrain, terrain.uniform(0.2, 0.9))
    if terrain.rng.random() < 0.5:
        reservoir(terrain)


def _desert(terrain: Terrain) -> None:
    relief(terrain, terrain.log_uniform(1, 30))
    desert(terrain)
    if terrain.rng.random() < 0.4:
        river(terrain, terrain.log_uniform(5, 60))
    roads(terrain, int(terrain.rng.integers(0, 2)))


def _dry(terrain: Terrain) -> None:
    """No water at all, and much that looks like it."""
    if terrain.rng.random() < 0.3:
        relief(terrain, terrain.uniform(15, 70) * terrain.pixel_m)
        vegetation(terrain, terrain.uniform(0.2, 0.9))
    elif terrain.rng.random() < 0.3:
        desert(terrain)
    else:
        _countryside(terrain, 20)
    if terrain.rng.random() < 0.3:
        airport(terrain)
    smooth_patches(terrain)
    roads(terrain, int(terrain.rng.integers(0, 4)))
    if terrain.rng.random() < 0.4:
        town(terrain, terrain.uniform(0.05, 0.5))


def _open_water(terrain: Terrain) -> None:
    _countryside(terrain, 5)
    open_water(terrain)
    floating(terrain)


SCENE_TYPES: dict[str, Callable[[Terrain], None]] = {
    "lakes": _lakes,
    "river": _river,
    "braided": _braided,
    "coast": _coast,
    "reservoir": _reservoir,
    "flood": _flood,
    "ponds": _ponds,
    "urban": _urban,
    "airport": _airport,
    "mountains": _mountains,
    "desert": _desert,
    "dry": _dry,
    "open-water": _open_water,
}


def build_terrain(size: tuple[int, int], pixel_m: float, scene_type: str, rng: np.random.Generator) -> Terrain:
    """The land of one scene of `size` (H, W) pixels; `scene_type` is a key of SCENE_TYPES."""
    terrain = Terrain(size[0], size[1], pixel_m, rng)
    SCENE_TYPES[scene_type](terrain)
    return terrain
