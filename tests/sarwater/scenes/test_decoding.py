from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from sarwater import open_scene
from sarwater.errors import SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes import decoding, trial
from sarwater.scenes.trial import open_on_trial
from tests.support.on_trial import Strange
from tests.support.rasters import lake_scene, write_geotiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the plain way elsewhere")

LIMITS = Limits(max_open_s=1, max_open_bytes=100 << 20)
SCENE = lake_scene(90, 70)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a trial may take long, and a scene is then decoded here."""
    monkeypatch.setattr(trial, "PATIENCE_S", 120)


def decode(look: str) -> np.ndarray:
    decoder = open_on_trial(Path(f"decode-{look}"), "x", LIMITS)
    assert decoder is not None
    return decoder.wrap(Strange("nothing")).GetRasterBand(1).ReadAsArray(0, 0, 8, 8)


def children() -> list[int]:
    """Those of the server."""
    assert trial._server is not None
    process = trial._server.pid
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "a.tif", SCENE)


@pytest.mark.usefixtures("looks")
class TestBudget:
    def test_what_never_ends_is_ended(self) -> None:
        with pytest.raises(SceneUnsafe, match=r"^x: takes more than 1 s to be decoded"):
            decode("never-end")

    def test_what_takes_all_memory_is_refused_it(self) -> None:
        with pytest.raises(SceneUnsafe, match=r"^x: needs more than 104,857,600 bytes of memory to be decoded"):
            decode("take-200-mib")

    def test_memory_within_the_limit_is_given(self) -> None:
        assert (decode("take-50-mib") == 7).all()

    def test_a_crash_is_one_of_the_child_and_the_next_scene_has_another(self) -> None:
        with pytest.raises(SceneUnreadable, match=r"^x: the library that decodes it crashed \(SIGSEGV\)"):
            decode("crash")
        assert (decode("nothing") == 7).all()

    def test_an_error_that_nobody_foresaw_costs_the_file_alone(self) -> None:
        with pytest.raises(SceneUnreadable, match=r"^x: cannot be made sense of \(IndexError: 7\)"):
            decode("index")


@pytest.mark.parametrize("part_bytes", [1, 3000, 16 << 20])
@pytest.mark.parametrize("window", [(0, 0, 70, 90), (3, 5, 60, 80), (69, 89, 1, 1)])
def test_every_window_has_the_pixels_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_bytes: int, window: tuple[int, int, int, int]
) -> None:
    monkeypatch.setattr(decoding, "PART_BYTES", part_bytes)
    tiled = tmp_path / "tiled.tif"
    options = ["TILED=YES", "BLOCKXSIZE=16", "BLOCKYSIZE=32"]
    driver = gdal.GetDriverByName("GTiff")
    dataset = driver.Create(str(tiled), 70, 90, 2, gdal.GDT_UInt16, options)
    for number, plane in enumerate((SCENE, SCENE[::-1]), 1):
        dataset.GetRasterBand(number).WriteArray(plane)
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
    dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", None)
    dataset.GetRasterBand(1).GetMaskBand().WriteArray(np.where(SCENE > 100, 255, 0).astype(np.uint8))
    del dataset
    x, y, width, height = window
    part = np.s_[y : y + height, x : x + width]
    with open_scene(tiled) as scene:
        assert isinstance(scene.bands[0].dataset, decoding.Raster)
        out = np.zeros((height, 2 * width), np.uint16)[:, ::2]  # not in one piece
        scene.bands[0].read_into(out, scene.inside(window))
        assert np.array_equal(out, SCENE[part])
        assert np.array_equal(scene.read(window, band=2), SCENE[::-1][part])
        mask = scene.bands[0].read_mask(scene.inside(window))
        assert np.array_equal(mask, (SCENE > 100)[part])


def test_a_scene_that_is_closed_leaves_no_process(path: Path) -> None:
    before = children() if trial._server else []  # of a test before, which the server has not waited for
    with open_scene(path) as scene:
        (child,) = set(children()) - set(before)
        scene.read()
    deadline_s = time.monotonic() + 30
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline_s:
        with open_scene(path):  # the server waits for those that have ended
            pass
    assert child not in children()


def test_whoever_kills_the_server_costs_no_scene(path: Path) -> None:
    with open_scene(path) as scene:
        assert trial._server is not None
        os.kill(trial._server.pid, signal.SIGKILL)
        assert np.array_equal(scene.read(), SCENE)


def test_a_fork_decodes_by_itself_and_takes_no_answer_of_its_parent(path: Path) -> None:
    with open_scene(path) as scene:
        child = os.fork()
        if child == 0:
            os._exit(0 if np.array_equal(scene.read(), SCENE) else 1)
        for _ in range(5):
            assert np.array_equal(scene.read(), SCENE)
        assert os.waitpid(child, 0)[1] == 0
