"""A network that sees further than the overlap answers differently near a tile's edge: blending must hide that."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import Backend, open_backend
from runtime.pipeline import SceneOptions, Window, infer_scene, open_for
from sarwater.tiling import TilePlan
from tests.runtime.models import box_model
from tests.runtime.rasters import lake_scene, write_geotiff

TILE_PX, SIZE = 128, 700
HALF = TILE_PX // 2
REACH_PX = 15
"""Half the box that the network averages over; beyond a tile's edge it sees zeros, that is, water."""


def confidence(path: Path, backend: Backend, window: Window) -> np.ndarray:
    options = SceneOptions(window=window)
    with open_for(backend, path, options) as scene:
        return np.concatenate([part.confidence for part in infer_scene(scene, backend, options)]).astype(int)


def differences(tmp_path: Path, overlap_px: int) -> tuple[np.ndarray, np.ndarray]:
    """(difference of two tilings that lie half a tile apart in percent, where either has a tile border)."""
    path = write_geotiff(tmp_path / "a.tif", lake_scene(SIZE, SIZE, seed=5, lake=40, land=90))
    model = box_model(
        tmp_path / "wide.onnx", tile_px=TILE_PX, overlap_px=overlap_px, box_px=2 * REACH_PX + 1, steepness=0.05
    )
    with open_backend(model) as backend:
        whole = confidence(path, backend, Window(0, 0, SIZE, SIZE))[HALF:-HALF, HALF:-HALF]
        shifted = confidence(path, backend, Window(HALF, HALF, SIZE - 2 * HALF, SIZE - 2 * HALF))
    margin = slice(REACH_PX, -REACH_PX)  # at its own edge, the shifted scene ends for the network too
    border = borders(SIZE, overlap_px)[HALF:-HALF] | borders(SIZE - 2 * HALF, overlap_px)
    return (whole - shifted)[margin, margin], (border[:, None] | border)[margin, margin]


def borders(length_px: int, overlap_px: int) -> np.ndarray:
    """(length,) bool: within 3 px of the middle between two windows."""
    near = np.zeros(length_px, bool)
    spans = TilePlan(length_px, length_px, TILE_PX, overlap_px).rows
    for before, after in itertools.pairwise(spans):
        cut = (before.hi + after.lo) // 2
        near[cut - 3 : cut + 3] = True
    return near


def test_blended_tiles_leave_no_line_along_their_borders(tmp_path: Path) -> None:
    difference, border = differences(tmp_path, overlap_px=40)
    assert np.mean(np.abs(difference)[border]) < 1.5 * np.mean(np.abs(difference)[~border])
    assert np.max(np.abs(difference)) <= 5


@pytest.mark.parametrize("overlap_px", [24, 40])
def test_classes_hardly_depend_on_where_the_tiles_lie(tmp_path: Path, overlap_px: int) -> None:
    difference, _ = differences(tmp_path, overlap_px)
    assert np.mean(np.abs(difference) > 5) < 0.005


def test_without_overlap_the_seams_would_show(tmp_path: Path) -> None:
    """The measure itself works: it sees the lines that tiles laid edge to edge leave."""
    difference, border = differences(tmp_path, overlap_px=0)
    assert np.mean(np.abs(difference)[border]) > 5 * np.mean(np.abs(difference)[~border])
    assert np.mean(np.abs(difference)[border]) > 2
