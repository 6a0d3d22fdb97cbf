"""Rows of the ledger for what comes, goes and comes again under one name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.daemon.claim import Claims
from runtime.daemon.config import Config
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.folders import Folders
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.daemon.metrics import Metrics
from runtime.daemon.recovery import recover
from runtime.daemon.room import Room


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "in").mkdir()
    config = Config(incoming=tmp_path / "in", outgoing=tmp_path / "out", state=tmp_path / "state", settle_s=0)
    folders = Folders(config.incoming, config.outgoing, config.state)
    folders.prepare()
    room = Room(config.outgoing, config.state)
    with Ledger(config.state / FILE_NAME) as ledger:
        yield SimpleNamespace(config=config, folders=folders, ledger=ledger, metrics=Metrics(), room=room)


def test_what_comes_again_before_anybody_noted_that_it_left_gets_a_row_of_its_own(context: Any) -> None:
    path = context.config.incoming / "a.tif"
    claims = Claims(context, None)
    path.write_bytes(b"first")
    claims.look()
    path.unlink()
    claims._inbox._look("a.tif", "event", arrived=False)
    path.write_bytes(b"second")
    claims._inbox._look("a.tif", "event", arrived=True)
    claims._register()
    assert [(row.status, row.reason) for row in context.ledger.rows()] == [
        (Status.IGNORED, "vanished"),
        (Status.SEEN, None),
    ]
    scene = claims.claim()
    assert scene is not None
    assert (scene.job, scene.path.read_bytes()) == (2, b"second")


def test_a_scene_that_may_not_be_moved_leaves_no_folder_in_work(context: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    (context.config.incoming / "a.tif").write_bytes(b"immutable")
    claims = Claims(context, None)
    claims.look()
    claims._inbox._look("a.tif", "scan", arrived=False)
    claims._register()
    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert claims.claim() is None
    assert not any(context.folders.work.iterdir())
    assert [row.status for row in context.ledger.rows()] == [Status.SETTLING]


def test_a_scene_in_work_whose_row_has_ended_returns_to_the_inbox(context: Any) -> None:
    job = context.ledger.seen("a.tif", Status.SEEN, 0, Fingerprint(0, 0, 0), "scan")
    context.ledger.ignored(job, "vanished", "it left the inbox before it was claimed")
    context.folders.folder(job).mkdir()
    (context.folders.folder(job) / "input.tif").write_bytes(b"pixels")
    recover(context.ledger, context.folders, remove_done=False)
    assert (context.config.incoming / "recovered-00000001.tif").read_bytes() == b"pixels"
