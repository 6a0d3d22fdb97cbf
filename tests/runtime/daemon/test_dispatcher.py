"""What becomes of a scene when the worker fails, and how settings change while the daemon runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.daemon.ledger import State
from tests.torture.station import Station, until


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path, stall_s=1)
    station.module = "tests.torture.faulty_watch"
    return station


def attempts(station: Station) -> list[int]:
    return [row.attempts for row in station.rows(State.CLAIMED)]


def test_every_kind_of_failure_ends_in_quarantine_and_the_next_scene_succeeds(station: Station) -> None:
    for number, name in enumerate(["segfault.tif", "hang.tif", "bug.tif", "memory.tif", "gpu.tif", "sound.tif"]):
        station.drop(name, number)
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert station.reasons() == {
        "segfault.tif": "worker_died",
        "hang.tif": "worker_died",
        "bug.tif": "bug",
        "memory.tif": "out_of_memory",
        "gpu.tif": "gpu",
    }
    assert station.published() == ["sound.tif"]
    attempts = {row.name: row.attempts for row in station.rows(State.QUARANTINED)}
    assert attempts == {"segfault.tif": 2, "hang.tif": 2, "bug.tif": 3, "memory.tif": 3, "gpu.tif": 3}
    assert 'sarwater_gpu_errors_total{kind="LaunchError"} 3.0' in (station.state / "metrics.prom").read_text()


def test_a_scene_in_the_middle_of_a_stop_returns_to_the_inbox_without_an_attempt(station: Station) -> None:
    station.drop("slow.tif", 1)
    with station.start() as daemon:
        until(lambda: "ready" in station.log and attempts(station) == [1])
        assert daemon.terminate(timeout_s=20) == 0
    (row,) = station.rows(State.SEEN)
    assert row.attempts == 0
    assert (station.incoming / "slow.tif").exists()
    assert list(station.outgoing.iterdir()) == []


def test_a_scene_that_changes_while_it_is_worked_on_settles_again(station: Station) -> None:
    station.drop("slow.tif", 1)
    with station.start() as daemon:
        until(lambda: "ready" in station.log and attempts(station) == [1])
        held = next((station.state / "work").glob("*/input.tif"))
        held.write_bytes(station.scene(2))
        daemon.terminate(timeout_s=20)
    station.module = "runtime.commands.watch"
    station.drain()
    (mask,) = station.masks()
    assert station.published() == ["slow.tif"]
    assert "SARWATER_INPUT_SHA256" in mask.read_bytes()[:4096].decode(errors="replace")


def test_a_scene_is_not_opened_when_its_manifest_says_other_bytes(station: Station) -> None:
    station.settings["require_marker"] = "true"
    path = station.drop("s.tif", 1)
    path.with_name("s.tif.sha256").write_text("0" * 64 + "  s.tif\n")
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert station.reasons() == {"s.tif": "checksum_mismatch"}


def test_a_read_only_inbox_is_worked_off_once_and_left_as_it_is(station: Station) -> None:
    station.settings["read_only_inbox"] = "true"
    station.drop("good.tif", 1)
    station.drop("bad.tif", b"not a raster")
    for _ in range(2):
        done = station.drain()
        assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in station.incoming.iterdir()) == ["bad.tif", "good.tif"]
    assert {row.name: row.state for row in station.rows()} == {
        "good.tif": State.PUBLISHED,
        "bad.tif": State.QUARANTINED,
    }


def test_the_priority_rule_decides_the_order(station: Station) -> None:
    station.settings["priority"] = '[{"glob": "*URGENT*", "priority": 1}]'
    for number, name in enumerate(["a.tif", "b.tif", "c-URGENT.tif"]):
        station.drop(name, number)
    station.drain()
    finished = sorted(station.rows(State.PUBLISHED), key=lambda row: row.finished_utc or "")
    assert [row.name for row in finished] == ["c-URGENT.tif", "a.tif", "b.tif"]


def test_a_folder_product_is_claimed_whole_and_its_main_file_processed(station: Station) -> None:
    station.settings["product"] = '[{"folder": "K5_*", "main": ["*_L1D.tif"], "members": ["*_Aux.xml"]}]'
    product = station.incoming / ".arriving"
    product.mkdir()
    (product / "K5_X_L1D.tif").write_bytes(station.scene(1))
    (product / "K5_X_Aux.xml").write_text("<x/>")
    product.rename(station.incoming / "K5_X")
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert [mask.name for mask in station.masks()] == ["K5_X_water.tif"]
    assert sorted(path.name for path in (station.state / "done/K5_X").iterdir()) == ["K5_X_Aux.xml", "K5_X_L1D.tif"]


def test_a_reload_takes_all_of_the_new_settings_or_none(station: Station) -> None:
    del station.settings["settle_s"]
    station.module = "runtime.commands.watch"
    file = station.root / "watch.toml"
    file.write_text("settle_s = 1000\n")
    (station.incoming / "s.tif").write_bytes(station.scene(1))
    with station.start(f"--config={file}") as daemon:
        until(lambda: "ready" in station.log)
        for wrong in ("settle_s = -1\n", "setle_s = 1\n", 'settle_s = 0\nthreshold = 0.4\ndevice = "nonsense"\n'):
            refusals = station.log.count("reload refused")
            file.write_text(wrong.replace('device = "nonsense"', f'products = ["mask", "{"nonsense"}"]'))
            daemon.process.send_signal(signal.SIGHUP)
            until(lambda seen=refusals: station.log.count("reload refused") > seen)  # type: ignore[misc]
        assert station.masks() == []
        file.write_text("settle_s = 0\nthreshold = 0.4\n")
        daemon.process.send_signal(signal.SIGHUP)
        until(lambda: len(station.masks()) == 1)
        assert daemon.terminate() == 0


def test_a_worker_whose_supervisor_is_gone_does_not_start() -> None:
    arguments = [sys.executable, "-m", "runtime.daemon.worker", "0", str(os.getppid())]
    assert subprocess.run(arguments, stdin=subprocess.DEVNULL, timeout=60, check=False).returncode == 1
