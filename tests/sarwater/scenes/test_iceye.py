"""ICEYE in HDF5: value by its calibration factor, place by its corners, polarisation and time."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from sarwater.errors import SceneUnreadable
from sarwater.manifest import Channel
from sarwater.scenes.readers import open_model_input, open_scene
from tests.support.hdf5_products import iceye_corners, write_iceye
from tests.support.rasters import lake_scene

SAR = (Channel("sar", "amplitude_dn"),)
HEIGHT, WIDTH = 90, 110
TIMES = 0.25
"""The product's DN are so much smaller than 400 for 0 dB."""
FACTOR = (1 / (400 * TIMES)) ** 2


def amplitude() -> np.ndarray:
    return np.maximum(lake_scene(HEIGHT, WIDTH), 20).astype(np.float32)


@pytest.mark.parametrize("complex_pixels", [True, False])
def test_its_pixels_are_what_its_factor_makes_of_them(tmp_path: Path, complex_pixels: bool) -> None:
    path = write_iceye(tmp_path / "a.h5", amplitude() * TIMES, factor=FACTOR, complex_pixels=complex_pixels)
    with open_model_input(path, SAR) as scene:
        rows, _ = scene.read(0, HEIGHT)
        assert scene.calibrated
    assert np.abs(rows[0] - amplitude()).max() <= 1 / TIMES, "but for rounding to whole DN"


def test_place_polarisation_and_time_are_those_that_it_states(tmp_path: Path) -> None:
    with open_scene(write_iceye(tmp_path / "a.h5", amplitude(), factor=FACTOR)) as scene:
        assert scene.format == "ICEYE SLC HDF5"
        assert scene.bands[0].polarisation == "vv"
        assert scene.bands[0].unit == "sigma0_amplitude"
        assert scene.acquired == "2024-07-26T09:15:30Z"
        corners = iceye_corners(WIDTH, HEIGHT)
        found = {gcp.name: (gcp.pixel + 0.5, gcp.line + 0.5, gcp.y, gcp.x) for gcp in scene.georeference.gcps}
        assert found == {name: pytest.approx(corner) for name, corner in corners.items()}


def test_corners_without_usable_pixels_lie_where_their_names_say(tmp_path: Path) -> None:
    path = write_iceye(tmp_path / "a.h5", amplitude(), factor=FACTOR)
    with h5py.File(path, "a") as file:
        for name in iceye_corners(WIDTH, HEIGHT):
            file[f"coord_{name}"][:2] = 0
    with open_scene(path) as scene:
        places = {gcp.name: (gcp.pixel, gcp.line) for gcp in scene.georeference.gcps}
    assert places == {
        "first_near": (0, 0),
        "first_far": (WIDTH, 0),
        "last_near": (0, HEIGHT),
        "last_far": (WIDTH, HEIGHT),
    }


def test_without_a_factor_its_pixels_are_dn(tmp_path: Path) -> None:
    path = write_iceye(tmp_path / "a.h5", amplitude(), factor=float("nan"))
    with open_scene(path) as scene:
        assert scene.bands[0].unit == "amplitude_dn"


def test_without_its_imaginary_part_it_is_refused(tmp_path: Path) -> None:
    path = write_iceye(tmp_path / "a.h5", amplitude(), factor=FACTOR)
    with h5py.File(path, "a") as file:
        del file["s_q"]
    with pytest.raises(SceneUnreadable, match="ICEYE without s_q; send the whole product again"):
        open_scene(path)
