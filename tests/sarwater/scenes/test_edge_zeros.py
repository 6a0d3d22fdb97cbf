from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from scipy import ndimage

from sarwater.manifest import Channel
from sarwater.request import Window
from sarwater.scenes.array import ArrayBand
from sarwater.scenes.edge_zeros import EdgeZeros
from sarwater.scenes.joined_fill import CELL_PX
from sarwater.scenes.readers import open_model_input
from sarwater.scenes.valid_extent import is_empty
from tests.support.rasters import write_geotiff

Bool = npt.NDArray[np.bool_]
SAR = (Channel("sar", "amplitude_dn"),)
PASSAGE_PX = 2 * CELL_PX - 1
"""What is so wide holds a whole cell, wherever it lies."""


def edge_zeros(pixels: np.ndarray) -> EdgeZeros:
    return EdgeZeros((ArrayBand(pixels, 1, "sigma0_linear"),), pixels.shape[1], pixels.shape[0], None)


def read_in_strips(pixels: np.ndarray, rows_at_a_time: int) -> Bool:
    zeros = edge_zeros(pixels)
    height, width = pixels.shape
    starts = range(0, height, rows_at_a_time)
    windows = [Window(0, row, width, min(rows_at_a_time, height - row)) for row in starts]
    strips = (pixels[None, window.y_px : window.y_px + window.height_px] for window in windows)
    return np.concatenate([zeros.beyond(*part) for part in zip(strips, windows, strict=True)])


def joined_to_edge(empty: Bool) -> Bool:
    labels, _ = ndimage.label(np.pad(empty, 1, constant_values=True))
    return np.asarray(labels == labels[0, 0])[1:-1, 1:-1]


@settings(max_examples=60, deadline=None)
@given(
    coarse=st_numpy.arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7))),
    passage_px=st.integers(PASSAGE_PX, 20),
    cut=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    rows_at_a_time=st.integers(1, 90),
)
def test_exactly_the_zeros_that_are_joined_to_the_edge_are_beyond_it(
    coarse: Bool, passage_px: int, cut: tuple[int, int], rows_at_a_time: int
) -> None:
    empty = np.kron(coarse, np.ones((passage_px, passage_px), bool))[cut[0] :, cut[1] :]
    pixels = np.where(empty, 0, 0.1).astype(np.float32)
    assert np.array_equal(read_in_strips(pixels, rows_at_a_time), joined_to_edge(empty))


def spiral(size_px: int = 15, turns: int = 4) -> Bool:
    """A corridor of zeros that winds from the edge to the middle between walls."""
    side = (4 * turns + 1) * size_px
    wall = np.zeros((side, side), bool)
    for turn in range(turns):
        near, far = (2 * turn + 1) * size_px, side - (2 * turn + 1) * size_px
        wall[near:far, near : near + size_px] = wall[near:far, far - size_px : far] = True
        wall[near : near + size_px, near:far] = wall[far - size_px : far, near:far] = True
        door = slice(near + size_px, near + 2 * size_px) if turn % 2 else slice(far - 2 * size_px, far - size_px)
        wall[near : near + size_px, door] = False
    return ~wall


@pytest.mark.parametrize("rows_at_a_time", [255, 40, 7])
def test_fill_that_winds_inwards_is_followed_to_its_end(rows_at_a_time: int) -> None:
    empty = spiral()
    assert joined_to_edge(empty)[127, 127], "the middle"
    pixels = np.where(empty, 0, 0.1).astype(np.float32)
    assert np.array_equal(read_in_strips(pixels, rows_at_a_time), joined_to_edge(empty))


def test_slanted_notches_are_followed_to_their_last_pixels() -> None:
    down, across = np.mgrid[:300, :300]
    diamond = abs(down - 150) + abs(across - 150) < 150
    notch = (abs(across - down) < 30) & (down < 160) | (abs(across + down - 320) < 30) & (across < 200)
    empty = ~diamond | notch
    pixels = np.where(empty, 0, 0.1).astype(np.float32)
    assert np.array_equal(read_in_strips(pixels, 64), empty)


@pytest.mark.parametrize("share", [0.3, 0.65, 0.8])
def test_zeros_of_calm_water_at_the_edge_stay_water(share: float) -> None:
    """Chains of them lead to the edge from everywhere."""
    rng = np.random.default_rng(0)
    calm = ndimage.zoom(rng.random((150, 150)), 2, order=0) < share  # speckle of two pixels
    beyond = read_in_strips(np.where(calm, 0, 0.01).astype(np.float32), 64)
    assert joined_to_edge(calm)[20:280, 20:280].mean() > (0.5 if share > 0.59 else -1)
    assert beyond[40:260, 40:260].mean() < 0.02


def test_solid_zeros_inside_that_nothing_joins_to_the_edge_stay() -> None:
    pixels = np.full((120, 120), 0.1, np.float32)
    pixels[40:80, 40:80] = pixels[:10, 30:40] = 0
    beyond = read_in_strips(pixels, 50)
    assert not beyond[10:].any()
    assert beyond[:10, 30:40].all()


@pytest.mark.parametrize("rows_at_a_time", [200, 50, 17])
@pytest.mark.parametrize("looked_through", [False, True])
def test_solid_zeros_inside_a_scene_of_decibels_are_nodata_and_single_ones_levels(
    tmp_path: Path, rows_at_a_time: int, looked_through: bool
) -> None:
    pixels = np.random.default_rng(1).normal(-12, 2, (200, 240)).astype(np.float32)
    pixels[40:80, 90:130] = pixels[77:110, 120:190] = np.nan
    hole = np.isnan(pixels)
    pixels[hole] = 0
    pixels[150, 3::3] = pixels[160:163, 20:23] = 0  # 0 dB of a city
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=["Sigma0_VV_db"])
    with open_model_input(path, SAR) as scene:
        if looked_through:
            scene.look_through(64)
        starts = range(0, 200, rows_at_a_time)
        valid = np.concatenate([scene.read_valid(row, min(rows_at_a_time, 200 - row))[1] for row in starts])
        notes = " ".join(scene.notes)
    assert np.array_equal(valid, ~hole)
    assert "or are solid, were taken for nodata" in notes


@pytest.mark.parametrize(
    ("name", "about"),
    [("Sigma0_VV", {}), ("Intensity_VV_db", {}), ("Sigma0_VV_db", {"scale": "0.2", "offset": "-35"})],
)
def test_solid_zeros_inside_that_may_be_dark_stay_levels(tmp_path: Path, name: str, about: dict[str, str]) -> None:
    dtype = np.int16 if about else np.float32
    pixels = np.random.default_rng(1).uniform(1, 4, (120, 120)).astype(dtype)
    pixels[40:80, 40:80] = 0
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=[name], metadata=about)
    with open_model_input(path, SAR) as scene:
        assert scene.read_valid(0, 120)[1].all()


def test_a_window_of_a_scene_answers_as_all_of_it_does() -> None:
    pixels = np.where(spiral(), 0, 0.1).astype(np.float32)
    whole = read_in_strips(pixels, 255)
    part = Window(31, 47, 101, 90)
    inside = np.s_[47:137, 31:132]
    assert np.array_equal(edge_zeros(pixels).beyond(pixels[None][(slice(None), *inside)], part), whole[inside])


@pytest.mark.parametrize(("description", "dtype", "nodata"), [("Sigma0_VV_db", np.float32, None), ("", np.uint8, 255)])
@pytest.mark.parametrize("looked_through", [False, True])
def test_a_notch_round_a_corner_is_nodata(
    tmp_path: Path, description: str, dtype: type, nodata: float | None, looked_through: bool
) -> None:
    rng = np.random.default_rng(1)
    pixels = (rng.gamma(4, 20, (200, 240)).clip(1, 250) if nodata else rng.normal(-12, 2, (200, 240))).astype(dtype)
    pixels[:60, 100:120] = pixels[60:100, 60:180] = 0  # a T
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=[description], nodata=nodata)
    with open_model_input(path, SAR) as scene:
        if looked_through:
            scene.look_through(64)
        valid = np.concatenate([scene.read_valid(row, 50)[1] for row in range(0, 200, 50)])
        notes = " ".join(scene.notes)
    assert np.array_equal(valid, pixels != 0)
    assert "zeros that reach in from an edge" in notes


def test_a_scene_is_looked_at_once_more_only_where_solid_zeros_lie_beyond_straight_ways(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks: list[int] = []
    monkeypatch.setattr(EdgeZeros, "_look", lambda self: looks.append(1))
    pixels = np.full((300, 300), 0.1, np.float32)
    down, across = np.mgrid[:300, :300]
    pixels[abs(down - 150) + abs(across - 150) > 150] = 0
    pixels[np.random.default_rng(0).random((300, 300)) < 0.3] = 0
    read_in_strips(pixels, 64)
    assert not looks


@pytest.mark.parametrize("description", ["Sigma0_VV_db", "Gamma0_VV", "Sigma0_VV_amplitude"])
def test_stored_values_tell_where_a_conversion_gives_no_echo(tmp_path: Path, description: str) -> None:
    values = [0.0, -0.0, np.nan, np.inf, -np.inf, -9999, -500, -20, -0.01, 1e-4, 0.5, 3]
    pixels = np.random.default_rng(0).choice(np.array(values, np.float32), (40, 50))
    path = write_geotiff(tmp_path / "a.tif", pixels, descriptions=[description], nodata=-20)
    with open_model_input(path, SAR) as scene:
        band = replace(scene.bands[0], trusted=True)
        assert band.tells_empty
        window = Window(3, 5, 40, 30)
        assert np.array_equal(band.read_empty(window), is_empty(band.read(window)[None], None))
