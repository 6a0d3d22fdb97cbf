"""Files and folders that are there whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from sarwater import atomic
from sarwater.atomic import make_folder


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_there_needs_no_sync_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(path: Path) -> None:
        raise OSError(number, "refused", str(path))

    monkeypatch.setattr(atomic, "fsync_folder", refuse)
    make_folder(tmp_path)


def test_a_folder_that_cannot_be_synced_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, "broken", str(path))

    monkeypatch.setattr(atomic, "fsync_folder", fail)
    with pytest.raises(OSError, match="broken"):
        make_folder(tmp_path)
