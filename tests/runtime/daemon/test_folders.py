"""The lock on the daemon's folders; the torture tests fill a real disk under it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.daemon.folders import Lock
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
