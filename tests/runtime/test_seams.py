"""A network that sees further than the overlap answers differently near a tile's edge: blending must hide that."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.seams import Comparison, compare, main
from runtime.backends import open_backend
from sarwater.request import Window
from tests.support.models import box_model
from tests.support.rasters import lake_scene, write_geotiff

TILE_PX, SIZE = 128, 640
REACH_PX = 15
"""Half the box that the network averages over; beyond a tile's edge it sees zeros, that is, water."""


def compared(tmp_path: Path, overlap_px: int) -> Comparison:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(SIZE + TILE_PX, SIZE + TILE_PX, seed=5, lake=40, land=90))
    model = box_model(
        tmp_path / "wide.onnx", tile_px=TILE_PX, overlap_px=overlap_px, box_px=2 * REACH_PX + 1, steepness=0.05
    )
    with open_backend(model) as backend:
        return compare(path, backend, Window(0, 0, SIZE, SIZE))


def test_blended_tiles_leave_no_line_along_their_borders(tmp_path: Path) -> None:
    comparison = compared(tmp_path, overlap_px=40)
    figures = comparison.figures()
    assert figures["difference_on_borders_points"] < 0.6
    assert figures["difference_elsewhere_points"] < 0.1
    assert np.max(np.abs(comparison.difference)) <= 5


@pytest.mark.parametrize("overlap_px", [24, 40])
def test_classes_hardly_depend_on_where_the_tiles_lie(tmp_path: Path, overlap_px: int) -> None:
    assert compared(tmp_path, overlap_px).figures()["classes_differ_percent"] < 0.5


def test_tiles_without_overlap_would_be_seen(tmp_path: Path) -> None:
    """The measure itself works: it sees the lines that tiles laid edge to edge leave."""
    figures = compared(tmp_path, overlap_px=0).figures()
    assert figures["difference_on_borders_points"] > 2 * figures["difference_elsewhere_points"]
    assert figures["classes_differ_percent"] > 1


def test_a_line_is_seen_that_the_mean_difference_would_hide() -> None:
    """Over both windows the difference is as large, but for its sign."""
    fades = np.zeros(600, bool)
    fades[290:310] = True
    nodata = np.zeros((600, 600), bool)
    nodata[:50] = True
    noise = np.random.default_rng(2).normal(0, 5, (600, 600))
    found = []
    for line in (0, 3):
        difference = (noise + np.where(np.arange(600) < 300, line / 2, -line / 2)[:, None]).round().astype(np.int16)
        found.append(Comparison(256, ~nodata, nodata, difference, fades, np.zeros(600, bool), 20).figures())
    plain, lined = found
    assert lined["difference_on_borders_points"] == pytest.approx(lined["difference_elsewhere_points"], abs=0.2)
    assert plain["step_across_borders_points"] < 2 * plain["step_elsewhere_points"]
    assert lined["step_across_borders_points"] == pytest.approx(3, abs=0.3)
    assert lined["step_elsewhere_points"] < 0.5


@pytest.mark.realdata
@pytest.mark.timeout(900)
def test_the_model_that_ships_hardly_shows_its_tiles_on_a_real_scene(
    realdata: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(realdata / "etci" / "vv.tif")]) == 0
    figures = json.loads(capsys.readouterr().out)
    # Measured: 1.13 %, 2.79 and 2.31, 2.84 and 2.42. An earlier model, which leant on absolute levels: 0.28 %, 0.54 and
    # 0.45, 0.63 and 0.54 (benchmarks/cpu-2core-epyc.md); unbalanced, 0.91 and 0.59.
    assert figures["classes_differ_percent"] < 1.6
    assert figures["difference_on_borders_points"] < 1.4 * figures["difference_elsewhere_points"]
    assert figures["step_across_borders_points"] < 1.4 * figures["step_elsewhere_points"]
