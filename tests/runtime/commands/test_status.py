"""What an operator sees of a daemon: idle, at work, paused, hanging, gone; in words, in JSON and in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.commands import station as finding
from runtime.commands import status
from runtime.commands.station import find_state
from runtime.daemon import health
from runtime.daemon.config import load
from runtime.daemon.latency_tail import LatencyTail
from runtime.daemon.ledger import FILE_NAME, Status
from runtime.daemon.status import StationView
from sarwater.errors import ConfigurationError, UsageError
from tests.torture.station import CHECKOUT, Daemon, Station, until

HOSTILE = "evil\x1b[2J\n| OK.tif"


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """A station after its work: one scene published, one in quarantine, no daemon."""
    station = Station(tmp_path_factory.mktemp("status"))
    station.drop("good.tif", 1)
    station.drop(HOSTILE, b"not a raster")
    assert station.drain().returncode == 1
    return station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


@pytest.fixture
def daemon(station: Station) -> Iterator[Daemon]:
    """One that is idle."""
    with station.start() as daemon:
        until(lambda: look(station).get("state") == "idle")
        yield daemon


def written_metrics(station: Station) -> str:
    """What the daemon has written; "" while it has written nothing."""
    path = station.state / "metrics.prom"
    return path.read_text() if path.is_file() else ""


def look(station: Station) -> dict[str, Any]:
    """What `sarwater status --json` prints; nothing before there is a ledger."""
    try:
        return StationView(station.state).status()
    except (UsageError, ConfigurationError):
        return {}


def check(station: Station, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    code = status.main(["--check", "--state", str(station.state), *more])
    return code, capsys.readouterr().out


def test_an_idle_daemon_says_what_it_runs_and_a_check_is_ok(
    station: Station, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    found = look(station)
    assert (found["pid"], found["why"], found["scene"]) == (daemon.pid, "", None)
    model = found["model"]
    assert (model["name"], model["precision"], model["backend"]) == ("hrnet-fake", "fp32", "fake")
    assert len(model["sha256"]) == 64
    code, line = check(station, capsys)
    assert (code, line.count("\n")) == (0, 1)
    assert line.startswith("SARWATER OK - idle | waiting=0 ")


def test_a_scene_at_work_has_its_stage_its_share_and_the_time_left(station: Station) -> None:
    station.module = "tests.torture.faulty_watch"
    with station.start():
        station.drop("slow.tif", 1)
        until(lambda: ((look(station).get("scene") or {}).get("share") or 0) > 0)
        found = look(station)
    assert found["state"] == "working"
    scene = found["scene"]
    assert (scene["name"], scene["attempt"]) == ("slow.tif", 1)
    assert scene["stage"] == "network"
    assert 0 < scene["share"] < 1
    assert scene["eta_s"] > 0
    assert [row["status"] for row in found["queue"]["scenes"]] != []


def test_a_ledger_that_is_held_pauses_the_daemon_and_the_status_says_by_whom(
    station: Station, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = sqlite3.connect(station.state / FILE_NAME, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    station.drop("a.tif", 1)
    until(lambda: look(station)["state"] == "paused")
    assert f"locked by process {os.getpid()} (" in look(station)["why"]
    code, line = check(station, capsys)
    assert code == 2
    assert "paused: the ledger is locked" in line
    until(lambda: 'sarwater_paused{reason="ledger"} 1.0' in written_metrics(station))
    shell.execute("COMMIT")
    until(lambda: look(station)["state"] == "idle")
    until(lambda: 'sarwater_paused{reason="ledger"} 0.0' in written_metrics(station))


def test_a_full_disk_pauses_the_daemon_and_the_status_says_so(station: Station) -> None:
    with station.start("--free-fraction=0.9999"):
        until(lambda: look(station).get("state") == "paused")
        assert "MB free" in look(station)["why"]
        until(lambda: 'sarwater_paused{reason="space"} 1.0' in written_metrics(station))


def test_a_daemon_that_shows_no_life_is_silent_and_one_that_was_killed_is_down(
    station: Station, daemon: Daemon, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    daemon.process.send_signal(signal.SIGSTOP)
    monkeypatch.setattr("runtime.daemon.status.SILENT_S", -1.0)
    code, line = check(station, capsys)
    assert (code, "silent: no sign of life for" in line) == (2, True)
    daemon.kill()
    until(lambda: check(station, capsys)[1].startswith("SARWATER CRITICAL - down: no daemon runs"))


def test_what_came_of_scenes_is_seen_without_a_daemon(past: Station, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--state", str(past.state)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("down: no daemon runs\n")
    assert "1 published, p50 " in text
    assert "quarantine  1: 1 scene_unreadable" in text
    assert "good.tif in " in text
    assert "\x1b" not in text
    assert "evil\\x1b[2J\\x0a| OK.tif: scene_unreadable" in text


def test_a_check_is_one_line_whatever_a_scene_is_called(past: Station, capsys: pytest.CaptureFixture[str]) -> None:
    code, line = check(past, capsys)
    assert (code, line.count("\n"), line.count("|")) == (2, 1, 1)


@pytest.mark.parametrize(("age_s", "level"), [(100, 0), (1000, 1), (4000, 2)])
def test_a_scene_that_waits_too_long_is_a_warning_and_then_critical(age_s: float, level: int) -> None:
    found = {
        "state": "idle", "why": "", "note": "", "queue": {"oldest_s": age_s}, "quarantine": {"count": 0, "reasons": {}},
        "outbox": {},
    }  # fmt: skip
    assert status.judge(found, 900, 3600)[0] == level


def test_a_folder_without_a_ledger_is_unknown_to_a_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status.main(["--check", "--state", str(tmp_path)]) == 3
    assert capsys.readouterr().out.startswith("SARWATER UNKNOWN - ")
    with pytest.raises(UsageError, match="no such ledger"):
        status.main(["--state", str(tmp_path)])


def test_watching_without_a_terminal_prints_a_line_of_json_each_time(past: Station) -> None:
    command = [sys.executable, "-m", "runtime.commands.status", "--watch", "--json", "--state", str(past.state)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    assert [json.loads(line)["state"] for line in lines] == ["down", "down"]


def test_looking_never_waits_for_who_writes_the_ledger(past: Station) -> None:
    shell = sqlite3.connect(past.state / FILE_NAME, isolation_level=None)
    shell.execute("BEGIN IMMEDIATE")
    assert look(past)["queue"]["waiting"] == 0
    shell.execute("ROLLBACK")
    shell.close()


def test_a_health_file_on_a_full_disk_is_written_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teller = health.Health(tmp_path / "health.json")
    teller.tell("idle")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    teller.tell("paused", "full")
    found = health.read_health(tmp_path / "health.json")
    assert found is not None
    assert (found["state"], found["why"]) == ("paused", "full")
    assert [path.name for path in tmp_path.iterdir()] == ["health.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"format": "other"}', b"[" * 100_000, b"\xff" * 100])
def test_a_health_file_that_is_none_of_ours_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "health.json").write_bytes(content)
    assert health.read_health(tmp_path / "health.json") is None
    (tmp_path / "health.json").unlink()
    os.mkfifo(tmp_path / "health.json")
    assert health.read_health(tmp_path / "health.json") is None


def test_the_state_folder_is_found_by_the_settings_that_are_installed(
    past: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SARWATER_STATE", raising=False)
    monkeypatch.setattr(finding, "SETTINGS_FOLDER", tmp_path)
    with pytest.raises(UsageError, match="no settings in"):
        find_state()
    (tmp_path / "north.toml").write_text(f'state = "{past.state}"\n')
    assert find_state() == past.state
    (tmp_path / "south.toml").write_text('state = "/elsewhere"\n')
    with pytest.raises(UsageError, match=r"several daemons \(north.toml, south.toml\)"):
        find_state()
    assert find_state(config=str(tmp_path / "south.toml")) == Path("/elsewhere")
    shutil.copy(tmp_path / "north.toml", tmp_path / "watch.toml")
    assert find_state() == past.state
    monkeypatch.setenv("SARWATER_STATE", "/by/environment")
    assert find_state() == Path("/by/environment")
    assert find_state("/named") == Path("/named")


def test_the_latencies_of_a_day_are_read_on_across_a_rotation(past: Station, tmp_path: Path) -> None:
    lines = (past.state / "latency.jsonl").read_bytes().splitlines()
    (line,) = (line for line in lines if json.loads(line)["outcome"] == "published")
    log = tmp_path / "latency.jsonl"
    log.write_bytes(line + b"\n" + line[:50])
    tail = LatencyTail(log)
    tail.read()
    assert len(tail.totals_s()) == 1
    with log.open("ab") as file:
        file.write(line[50:] + b"\n")
    tail.read()
    tail.read()
    assert len(tail.totals_s()) == 2
    log.rename(tmp_path / "latency.jsonl.1")
    log.write_bytes(line + b"\n[1]\nnonsense\n")
    tail.read()
    assert len(tail.totals_s()) == 3
    assert len(tail.totals_s(hours=-1)) == 0


def test_the_health_file_may_lie_elsewhere_and_is_found_by_the_ledger(tmp_path: Path) -> None:
    station = Station(tmp_path, health_file=str(tmp_path / "h.json"))
    with station.start():
        until(lambda: look(station).get("state") == "idle")
    assert load(None, {"incoming": "i", "outgoing": "o", "state": "s"}, {}).health_path == Path("s/health.json")
    assert not (station.state / "health.json").exists()
    assert station.rows(Status.QUARANTINED) == []
    assert time.time() - (tmp_path / "h.json").stat().st_mtime < 600
