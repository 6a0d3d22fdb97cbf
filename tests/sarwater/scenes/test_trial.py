from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

import pytest

from sarwater import open_scene
from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes import trial
from sarwater.scenes.trial import open_on_trial
from tests.support.rasters import lake_scene, write_geotiff

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the plain way elsewhere")

LIMITS = Limits(max_open_s=1, max_open_bytes=100 << 20)


def never_end() -> None:
    while True:
        pass


def wait() -> None:
    os.read(os.pipe()[0], 1)


def fail(error: Exception) -> None:
    raise error


def test_what_never_ends_is_ended() -> None:
    with pytest.raises(SceneUnsafe, match=r"^x: takes more than 1 s .* --max-open-s"):
        open_on_trial("x", LIMITS, never_end)


def test_what_takes_all_memory_is_refused_it() -> None:
    with pytest.raises(SceneUnsafe, match=r"^x: needs more than 104,857,600 bytes .* --max-open-bytes"):
        open_on_trial("x", LIMITS, lambda: bytearray(200 << 20))


def test_memory_within_the_limit_is_given() -> None:
    open_on_trial("x", LIMITS, lambda: bytearray(50 << 20))


def test_a_crash_is_one_of_the_child() -> None:
    with pytest.raises(SceneUnreadable, match=r"^x: the library that decodes it crashed \(SIGSEGV\)"):
        open_on_trial("x", LIMITS, lambda: ctypes.string_at(0))


def test_an_error_that_is_known_is_the_same_error() -> None:
    with pytest.raises(SceneTruncated, match=r"^x: cut\\x0ashort$"):
        open_on_trial("x", LIMITS, lambda: fail(SceneTruncated("x: cut\nshort")))


def test_an_error_that_nobody_foresaw_costs_the_file_alone() -> None:
    with pytest.raises(SceneUnreadable, match=r"^x: cannot be made sense of \(IndexError: 7\).* report it"):
        open_on_trial("x", LIMITS, lambda: fail(IndexError(7)))


def test_a_disk_at_fault_is_left_to_the_plain_way() -> None:
    open_on_trial("x", LIMITS, lambda: fail(OSError(5, "Input/output error")))


def test_who_waits_without_computing_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_PATIENCE_S", 0.2)
    open_on_trial("x", LIMITS, wait)


def test_nothing_is_left_behind() -> None:
    before = os.listdir("/proc/self/fd")
    open_on_trial("x", LIMITS, lambda: None)
    for look in (never_end, lambda: ctypes.string_at(0)):
        with pytest.raises((SceneUnsafe, SceneUnreadable)):
            open_on_trial("x", LIMITS, look)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    open_on_trial("x", LIMITS, lambda: os.write(2, b"a library complains"))
    assert capfd.readouterr() == ("", "")


def test_a_sound_scene_is_open_afterwards(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", lake_scene(20, 30))
    with open_scene(path, Limits(max_open_s=10)) as scene:
        assert (scene.width_px, scene.height_px) == (30, 20)
