"""Polygons in scene pixels as flat arrays: what is asked of one is asked of all of a strip at once."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sarwater.scenes.ground import Points

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

# Well-known binary (OGC 06-103r4, 8.2): byte order, type, number of parts; then a polygon has for each ring its number
# of points and the points, a multipolygon its polygons.
_HEADER, _COUNT = struct.Struct("<BII"), struct.Struct("<I")
_POLYGON, _MULTIPOLYGON = 3, 6


@dataclass(frozen=True)
class Outlines:
    """The rings of n polygons and multipolygons, one after the other, each closed."""

    points: Points
    starts: Ints
    """(rings + 1,) where each ring begins in `points`."""
    outer: npt.NDArray[np.bool_]
    """(rings,) False for holes; they follow the ring that they are in."""
    first: Ints
    """(n + 1,) the first ring of each."""

    @classmethod
    def of(cls, geometries: Sequence[bytes]) -> Outlines:
        """Polygons and multipolygons without heights, in well-known binary of little-endian numbers."""
        pieces: list[bytes] = []
        outer: list[bool] = []
        first = [0]
        for wkb in geometries:
            for is_outer, start, end in _rings(wkb):
                pieces.append(wkb[start:end])
                outer.append(is_outer)
            first.append(len(outer))
        counts = np.array([0, *(len(piece) // 16 for piece in pieces)], np.int64)
        points = np.frombuffer(b"".join(pieces), "<f8").reshape(-1, 2)
        return cls(points, np.cumsum(counts), np.array(outer, bool), np.array(first, np.int64))

    def __len__(self) -> int:
        return len(self.first) - 1

    def ring(self, number: int) -> Points:
        """(k, 2) corners."""
        return self.points[self.starts[number] : self.starts[number + 1]]

    def areas(self) -> Floats:
        """(n,) by the shoelace formula, about each ring's first corner, where it keeps its digits."""
        x, y = (self.points - np.repeat(self.points[self.starts[:-1]], np.diff(self.starts), axis=0)).T
        doubled = np.zeros(len(x))
        doubled[:-1] = x[:-1] * y[1:] - x[1:] * y[:-1]
        doubled[self.starts[1:] - 1] = 0
        rings = np.abs(np.add.reduceat(doubled, self.starts[:-1])) / 2
        return self.sums(np.where(self.outer, rings, -rings))

    def lengths(self) -> Floats:
        """(n,) of all their rings."""
        edges = np.zeros(len(self.points))
        edges[:-1] = np.hypot(*np.diff(self.points, axis=0).T)
        edges[self.starts[1:] - 1] = 0
        return self.sums(np.add.reduceat(edges, self.starts[:-1]))

    def sums(self, rings: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """(n,) of what each ring has."""
        found: npt.NDArray[Scalar] = np.add.reduceat(rings, self.first[:-1])
        return found

    def segmentised(self, longest: float) -> Outlines:
        """The same with points along edges that are longer, as OGR's Segmentize sets them."""
        steps = np.zeros_like(self.points)
        steps[:-1] = np.diff(self.points, axis=0)
        steps[self.starts[1:] - 1] = 0
        parts = np.maximum(np.floor(np.hypot(*steps.T) / longest - 1e-2), 0).astype(np.int64) + 1
        ends = np.cumsum(parts)
        edge = np.repeat(np.arange(len(parts)), parts)
        share = (np.arange(len(edge)) - (ends - parts)[edge]) / parts[edge]
        points = self.points[edge] + share[:, None] * steps[edge]
        return replace(self, points=points, starts=np.append(0, ends)[self.starts])

    def moved(self, points: Points) -> Outlines:
        """The same with other `points`, as many."""
        return replace(self, points=points)

    def as_wkb(self) -> Iterator[bytes]:
        """Each as `of` takes it."""
        data, starts = np.ascontiguousarray(self.points, "<f8").data.cast("B"), (16 * self.starts).tolist()
        rings = [_COUNT.pack((end - start) // 16) + data[start:end] for start, end in itertools.pairwise(starts)]
        first, outer = self.first.tolist(), self.outer
        for begin, end in itertools.pairwise(first):
            parts = begin + np.flatnonzero(outer[begin:end])
            polygons = [
                _HEADER.pack(1, _POLYGON, until - since) + b"".join(rings[since:until])
                for since, until in zip(parts.tolist(), [*parts[1:].tolist(), end], strict=True)
            ]
            yield (
                polygons[0]
                if len(polygons) == 1
                else _HEADER.pack(1, _MULTIPOLYGON, len(polygons)) + b"".join(polygons)
            )


def _rings(wkb: bytes) -> Iterator[tuple[bool, int, int]]:
    """Of each: whether it is an outer one, and where its points begin and end."""
    _, kind, count = _HEADER.unpack_from(wkb)
    place = _HEADER.size
    for _ in range(count if kind == _MULTIPOLYGON else 1):
        if kind == _MULTIPOLYGON:
            _, _, rings = _HEADER.unpack_from(wkb, place)
            place += _HEADER.size
        else:
            rings = count
        for number in range(rings):
            (points,) = _COUNT.unpack_from(wkb, place)
            start, place = place + _COUNT.size, place + _COUNT.size + 16 * points
            yield number == 0, start, place
