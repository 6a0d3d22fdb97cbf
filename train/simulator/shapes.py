"""Shapes that landscapes are made of: fractal fields, polygons, ribbons, parcels, meanders. No radar, no land cover.

All lengths are in pixels, all points x, y with pixel centres at whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

Float32 = npt.NDArray[np.float32]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Rng = np.random.Generator


def fractal(
    shape: tuple[int, int], rng: Rng, outer_px: float, slope: float, coarse: int = 1, stretch: float = 1.0
) -> Float32:
    """A Gaussian field with power spectrum ~ k^-slope below the scale `outer_px`; (H, W) float32, mean 0, deviation 1.

    `coarse` computes it on every n-th pixel and interpolates: for fields without fine detail. `stretch` makes its
    features that much longer than wide, in a random direction.
    """
    small = (-(-shape[0] // coarse) + 1, -(-shape[1] // coarse) + 1)
    # The transform is periodic; a margin is cut off so that opposite edges of a scene are not alike.
    padded = tuple(scipy.fft.next_fast_len(n + n // 8, real=True) for n in small)
    ky = scipy.fft.fftfreq(padded[0])[:, None].astype(np.float32)
    kx = scipy.fft.rfftfreq(padded[1])[None].astype(np.float32)
    if stretch != 1:
        angle = rng.uniform(0, np.pi)
        along, across = kx * np.cos(angle) + ky * np.sin(angle), ky * np.cos(angle) - kx * np.sin(angle)
        ky, kx = (along * stretch).astype(np.float32), across.astype(np.float32)
    gain = (ky**2 + kx**2 + np.float32(coarse / outer_px) ** 2) ** np.float32(-slope / 4)
    gain[0, 0] = 0
    spectrum = scipy.fft.rfft2(rng.standard_normal(padded, np.float32)) * gain
    field = scipy.fft.irfft2(spectrum, s=padded)[: small[0], : small[1]]
    field = (field - field.mean()) / field.std()
    return enlarge(field.astype(np.float32, copy=False), coarse, shape)


def enlarge(field: Float32, factor: int, shape: tuple[int, int]) -> Float32:
    """Bilinear interpolation of a field sampled at every `factor`-th pixel; it must reach one sample past `shape`."""
    if factor == 1:
        return np.ascontiguousarray(field[: shape[0], : shape[1]])
    values: npt.NDArray[Any] = field
    for axis, length in enumerate(shape):
        position = np.arange(length, dtype=np.float32) / factor
        index = position.astype(np.intp)
        weight = (position - index).reshape((-1, 1) if axis == 0 else (1, -1))
        values = np.take(values, index, axis) * (1 - weight) + np.take(values, index + 1, axis) * weight
    return values


def shrink(field: npt.NDArray[np.generic], factor: int) -> npt.NDArray[np.generic]:
    """Every `factor`-th pixel and one sample past the end, as `enlarge` wants it."""
    rows, columns = (np.minimum(np.arange(-(-length // factor) + 1) * factor, length - 1) for length in field.shape)
    return field[np.ix_(rows, columns)]


def quantile(field: Float32, share: float) -> float:
    """The level that `share` of the field lies below, from a sample of it."""
    return float(np.quantile(field[::4, ::4], np.clip(share, 0, 1)))


def remove_specks(mask: Mask, smallest_px: int, holes: bool = True) -> Mask:
    """The mask without regions, and without `holes`, of fewer pixels than `smallest_px`.

    Pixels that touch at a corner belong to one region, but not to one hole.
    """
    corners = np.ones((3, 3), bool)
    for value, touching in ((True, corners), (False, None)) if holes else ((True, corners),):
        regions, count = ndimage.label(mask == value, touching)
        small = np.bincount(regions.ravel(), minlength=count + 1) < smallest_px
        small[0] = False
        mask = np.where(small[regions], not value, mask)
    return mask


def distance_px(mask: Mask, coarse: int = 4) -> Float32:
    """Distance of each pixel to the nearest pixel of `mask`, to about `coarse` pixels; (H, W) float32."""
    small = mask
    for axis, length in enumerate(mask.shape):
        small = np.logical_or.reduceat(small, np.arange(0, length, coarse), axis)
    if not small.any():
        return np.full(mask.shape, max(mask.shape), np.float32)
    distance = ndimage.distance_transform_edt(~small) * coarse
    return enlarge(np.pad(distance.astype(np.float32), (0, 1), "edge"), coarse, mask.shape)


def fill_polygons(shape: tuple[int, int], polygons: npt.ArrayLike) -> Mask:
    """Union of convex polygons (P, K, 2) of x, y corners, as the pixels whose centres lie inside; (H, W) bool.

    Each polygon edge adds its direction at the pixel where it crosses a row; the running sum along the row is the
    winding number.
    """
    height, width = shape
    start = np.asarray(polygons, np.float64)
    end = np.roll(start, -1, axis=1)
    area = np.sum(start[..., 0] * end[..., 1] - end[..., 0] * start[..., 1], axis=1)
    turn = np.repeat(np.sign(area), start.shape[1])
    x0, y0 = start.reshape(-1, 2).T
    x1, y1 = end.reshape(-1, 2).T
    first = np.clip(np.ceil(np.minimum(y0, y1)), 0, height).astype(np.intp)
    last = np.clip(np.ceil(np.maximum(y0, y1)), 0, height).astype(np.intp)
    count = last - first
    edge = np.repeat(np.arange(count.size), count)
    row = first[edge] + np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count)
    crossing = x0[edge] + (row - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    column = np.clip(np.ceil(crossing), 0, width).astype(np.intp)
    winding = np.zeros((height, width + 1), np.int16)
    np.add.at(winding, (row, column), (np.sign(y1 - y0) * turn)[edge].astype(np.int16))
    return np.cumsum(winding, axis=1, dtype=np.int16)[:, :width] != 0


def rectangle(centre: npt.ArrayLike, length: float, width: float, angle: float) -> Float64:
    """Corners (4, 2) of a rectangle whose length lies along `angle` (radians)."""
    axes = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * (length, width)
    return corners @ axes + centre


def ribbon(shape: tuple[int, int], line: Float64, width_px: npt.ArrayLike) -> Mask:
    """The pixels within half a width of a line (N, 2); the width is one number or varies along the line."""
    along = np.gradient(line, axis=0)
    along /= np.maximum(np.hypot(along[:, :1], along[:, 1:]), 1e-9)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1) * np.reshape(width_px, (-1, 1)) / 2
    left, right = line + across, line - across
    return fill_polygons(shape, np.stack([left[:-1], left[1:], right[1:], right[:-1]], axis=1))


def meander(shape: tuple[int, int], rng: Rng, wavelength_px: float, sinuosity: float) -> Float64:
    """A river's centre line from edge to edge of the scene, (N, 2): a sine-generated curve that wanders.

    `sinuosity` is the largest angle to the valley's direction, in radians; 0 is nearly straight, from about 2.2 on
    the curve meets itself. Source: Langbein and Leopold 1966, River meanders - theory of minimum variance.
    """
    step = 3.0
    points = int(2.5 * np.hypot(*shape) * (1 + sinuosity) / step)
    distance = np.arange(points) * step
    wander = smooth_noise(rng, points, wavelength_px / step)
    valley = rng.uniform(0, 2 * np.pi) + 0.3 * smooth_noise(rng, points, np.hypot(*shape) / step / 3)
    phase = 2 * np.pi * distance / wavelength_px + 1.5 * wander
    heading = valley + sinuosity * (1 + 0.3 * wander) * np.sin(phase)
    line = np.cumsum(np.stack([np.cos(heading), np.sin(heading)], axis=1), axis=0) * step
    through = np.array(shape[::-1]) * rng.uniform(0.25, 0.75, 2)
    line += through - line[points // 2]
    near = np.all((line > -200) & (line < np.array(shape[::-1]) + 200), axis=1)
    # Only the stretch around the point it was led through, so that it does not return from elsewhere.
    outside = np.flatnonzero(~near)
    before, after = outside[outside < points // 2], outside[outside > points // 2]
    return line[before.max(initial=-1) + 1 : after.min(initial=points)]


def smooth_noise(rng: Rng, points: int, scale: float) -> Float64:
    """(points,) of noise with deviation about 1 and features of `scale` points."""
    knots = rng.standard_normal(int(points / scale) + 4)
    return ndimage.map_coordinates(knots, [1 + np.arange(points) / scale], order=3, mode="nearest") * 1.3


@dataclass(frozen=True)
class Parcels:
    """A patchwork with straight borders: `index` (H, W) int32 numbers the parcels from 0 to `count` - 1, `border_px`
    (H, W) float32 is the distance to the nearest border."""

    index: npt.NDArray[np.int32]
    border_px: Float32
    count: int


def parcels(shape: tuple[int, int], rng: Rng, length_px: float, width_px: float, angle: float) -> Parcels:
    """Strips of random width, each cut into parcels at its own places: fields, blocks of houses, ponds."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    u = (x * np.cos(angle) + y * np.sin(angle)).astype(np.float32)
    v = (y * np.cos(angle) - x * np.sin(angle)).astype(np.float32)
    strip, strip_gap_px = _strips(v - v.min(), width_px, rng)
    strips = int(strip.max()) + 1
    lengths = (length_px * rng.uniform(0.6, 1.6, strips)).astype(np.float32)
    shifts = rng.uniform(0, length_px * 2, strips).astype(np.float32)
    position = (u - u.min() + shifts[strip]) / lengths[strip]
    column = position.astype(np.int32)
    fraction = position - column
    gap_px = np.minimum(fraction, 1 - fraction) * lengths[strip]
    columns = int(column.max()) + 1
    return Parcels(strip * np.int32(columns) + column, np.minimum(gap_px, strip_gap_px), strips * columns)


def _strips(v: Float32, width_px: float, rng: Rng) -> tuple[npt.NDArray[np.int32], Float32]:
    """Cut the axis `v` (from 0) into strips of random width: the strip of each pixel and the distance to its border."""
    span = float(v.max())
    edges = np.concatenate([[0.0], np.cumsum(rng.uniform(0.5, 1.5, int(2 * span / width_px) + 4) * width_px)])
    # A table in steps of an eighth of a pixel is faster than a search for each pixel.
    table = np.searchsorted(edges, np.arange(int(span * 8) + 2) / 8, side="right") - 1
    strip = table[(v * 8).astype(np.int32)].astype(np.int32)
    lower, upper = edges[:-1].astype(np.float32), edges[1:].astype(np.float32)
    return strip, np.minimum(v - lower[strip], upper[strip] - v).clip(0)
