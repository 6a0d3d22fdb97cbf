"""From pixels to the ground: geometries and areas, for affine georeferences, control points, RPC, or none."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from runtime.products.outlines import Floats, Outlines
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.ground import Mapping, affine, crs_of, spline

_EDGE_PX = 16
"""Straight edges of pixels bend on the ground; so long they may be before that is looked at."""
_STEPS = 8
"""In so many steps the upper and the lower side of a rectangle are followed."""
_SAMPLES = 9
"""Pixels along each axis whose area is looked up for `largest_pixel_m2`."""


class Placement:
    """Maps geometries from scene pixels to `crs` and tells their size in m on the ellipsoid (None where the ground is
    unknown). Without a georeference, they stay in pixels with rows counted negative, as QGIS shows such a raster.
    """

    def __init__(self, georeference: Georeference, width_px: int, height_px: int) -> None:
        self._ground = georeference.ground(width_px, height_px)
        self.crs = self._ground.crs if self._ground else _crs_kept(georeference)
        self._to_crs = self._ground.to_crs if self._ground else _plain(georeference)
        self.largest_pixel_m2 = self._largest_pixel_m2(width_px, height_px)
        """No pixel is larger; infinity where that is not known."""

    @property
    def known(self) -> bool:
        """Whether areas can be told."""
        return self._ground is not None

    def place(self, outlines: Outlines) -> Outlines:
        """Of scene pixels, rows counted to the south, in `crs`. Raises RuntimeError."""
        return outlines.moved(self._to_crs(outlines.points))

    def measure(self, outlines: Outlines) -> tuple[Floats, Floats]:
        """(n,) area in m2, and length of the outline with that of holes in m, of polygons in scene pixels; not a number
        where they have none on the ground."""
        if self._ground is None:
            return np.full(len(outlines), np.nan), np.full(len(outlines), np.nan)
        fine = outlines.segmentised(_EDGE_PX)
        try:
            placed = fine.moved(self._ground.to_plane(fine.points))
            return placed.areas(), placed.lengths()
        except RuntimeError:  # one of them lies nowhere
            if len(outlines) == 1:
                return np.full(1, np.nan), np.full(1, np.nan)
        each = [self.measure(Outlines.of([polygon])) for polygon in outlines.as_wkb()]
        areas, lengths = zip(*each, strict=True)
        return np.concatenate(areas), np.concatenate(lengths)

    def pixel_m2(self, columns: Sequence[int], row: int, height_px: int) -> list[float] | None:
        """The mean area of the pixels of rectangles beside each other, each from one of `columns` to the next; None
        where they have none on the ground."""
        if self._ground is None:
            return None
        edges = np.asarray(columns, np.float64)
        widths = np.diff(edges)
        upper = edges[:-1, None] + widths[:, None] * (np.arange(_STEPS + 1) / _STEPS)
        x = np.hstack([upper, upper[:, ::-1]])  # (n, 2 * _STEPS + 2) points around each
        y = np.broadcast_to(np.repeat((row, row + height_px), _STEPS + 1), x.shape)
        try:
            placed = self._ground.to_plane(np.stack([x, y], axis=-1).reshape(-1, 2)).reshape(*x.shape, 2)
        except RuntimeError:
            return None
        corners = placed - placed[:, :1]  # the shoelace formula, as _area
        following = np.roll(corners, -1, axis=1)
        doubled = (corners[..., 0] * following[..., 1] - following[..., 0] * corners[..., 1]).sum(axis=1)
        areas: list[float] = (np.abs(doubled) / 2 / (widths * height_px)).tolist()
        return areas

    def _largest_pixel_m2(self, width_px: int, height_px: int) -> float:
        if self._ground is None:
            return math.inf
        places = (
            self.pixel_m2((int(column), int(column) + 1), int(row), 1)
            for row in np.linspace(0, height_px - 1, _SAMPLES)
            for column in np.linspace(0, width_px - 1, _SAMPLES)
        )
        found = [math.inf if area is None else area[0] for area in places]
        return 2 * max(found)  # pixels between the samples may be larger, but not by as much


def _crs_kept(georeference: Georeference) -> Any:
    """The CRS of a georeference that leads to no ground: a site's own, say."""
    try:
        return crs_of(georeference.crs)
    except RuntimeError:
        return None


def _plain(georeference: Georeference) -> Mapping:
    """Pixels to coordinates where the ground is not known."""
    if georeference.geotransform is not None:
        return partial(affine, georeference.geotransform)
    try:
        if georeference.gcps:
            return spline(georeference.gcps, np.array([(gcp.x, gcp.y) for gcp in georeference.gcps]))
    except RuntimeError:
        pass  # control points that make no plane
    return partial(affine, (0.0, 1.0, 0.0, 0.0, 0.0, -1.0))
