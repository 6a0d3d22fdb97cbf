"""A machine that is short of something: memory, inotify, a standard stream. It says so, and the scene is kept."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime.daemon.ledger import Status
from tests.torture.faults.machine import NO_INOTIFY
from tests.torture.station import WITHOUT_PRIVILEGES, Station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path)
    station.drop("a.tif", 1)
    return station


def drain_in_shell(station: Station, before: str, after: str = "") -> int:
    command = [*WITHOUT_PRIVILEGES, *station.command("--once")]
    shell = ["sh", "-c", f'{before} "$@" {after}', "sh", *command]
    return subprocess.run(shell, env=station.environment(), cwd=station.checkout, timeout=300).returncode


def test_closed_standard_streams_are_nobodys_file(station: Station) -> None:
    assert drain_in_shell(station, "", "<&- >&- 2>&-") == 0
    assert station.published() == ["a.tif"]
    assert (station.state / "lock").read_text().strip().isdigit()


def test_too_little_memory_is_called_so_and_costs_no_scene_for_good(station: Station) -> None:
    code = drain_in_shell(station, "ulimit -v 300000;")  # too little for a library, or for a thread
    assert set(station.reasons().values()) <= {"out_of_memory", "worker_died"}  # OpenBLAS ends the process by itself
    if code == 1:
        assert station.queue("requeue", "1").returncode == 0
    assert station.drain().returncode == 0
    assert not station.audit({"a.tif": station.scene(1)})


@pytest.mark.skipif(
    subprocess.run([*NO_INOTIFY, "true"], capture_output=True).returncode != 0, reason="needs user namespaces"
)
def test_without_inotify_the_inbox_is_scanned_and_the_log_says_why(station: Station) -> None:
    done = subprocess.run(
        [*NO_INOTIFY, *station.command("--once")],
        capture_output=True,
        text=True,
        env={**os.environ, **station.environment()},
        cwd=station.checkout,
    )
    assert done.returncode == 0, done.stderr
    assert "no events, the inbox is scanned every 0.5 s (Too many open files; raise fs.inotify" in done.stderr
    assert [row.found_by for row in station.rows(Status.PUBLISHED)] == ["scan"]
