"""The lock on the daemon's folders; the torture tests fill a real disk under it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.daemon.folders import Folders, unpacked_folder
from runtime.daemon.lock import Lock
from sarwater.errors import ConfigurationError


def test_a_disk_too_full_for_the_process_number_leaves_no_lock_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            Lock(tmp_path)
    with Lock(tmp_path, patience_s=0.0):  # there is room again
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_names_the_process_that_holds_it(tmp_path: Path) -> None:
    with (
        Lock(tmp_path),
        pytest.raises(ConfigurationError, match=rf"another daemon \(process {os.getpid()}\) works on it"),
    ):
        Lock(tmp_path, patience_s=0.0)


def test_what_a_killed_worker_had_unpacked_goes(tmp_path: Path) -> None:
    left = unpacked_folder(tmp_path) / "worker" / "sarwater-unpacked-x" / "a.tif"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    folders = Folders(tmp_path, tmp_path, tmp_path)
    folders.drop_unpacked()
    assert not unpacked_folder(tmp_path).exists()
    folders.drop_unpacked()  # nothing to do
