"""What becomes of a scene when the worker fails, and how settings change while the daemon runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.daemon.ledger import Status
from tests.support.deliveries import write_k5_folder, write_safe
from tests.support.rasters import lake_scene, write_geotiff
from tests.torture.station import Station, until


@pytest.fixture
def station(tmp_path: Path) -> Station:
    station = Station(tmp_path)
    station.module = "tests.torture.faulty_watch"
    return station


def attempts(station: Station) -> list[int]:
    return [row.attempts for row in station.rows(Status.CLAIMED)]


def test_every_kind_of_failure_ends_in_quarantine_and_the_next_scene_succeeds(station: Station) -> None:
    station.settings["stall_s"] = "2"
    for number, name in enumerate(["segfault.tif", "hang.tif", "bug.tif", "memory.tif", "gpu.tif", "sound.tif"]):
        station.drop(name, number)
    done = station.drain()
    assert done.returncode == 1, done.stderr
    assert station.reasons() == {
        "segfault.tif": "worker_died",
        "hang.tif": "worker_died",
        "bug.tif": "bug",
        "memory.tif": "out_of_memory",
        "gpu.tif": "gpu",
    }
    assert station.published() == ["sound.tif"]
    attempts = {row.name: row.attempts for row in station.rows(Status.QUARANTINED)}
    assert attempts == {"segfault.tif": 2, "hang.tif": 2, "bug.tif": 3, "memory.tif": 3, "gpu.tif": 3}
    assert 'sarwater_gpu_errors_total{kind="LaunchError"} 3.0' in (station.state / "metrics.prom").read_text()


def test_a_scene_in_the_middle_of_a_stop_returns_to_the_inbox_without_an_attempt(station: Station) -> None:
    station.drop("slow.tif", 1)
    with station.start() as daemon:
        until(lambda: "ready" in station.log and attempts(station) == [1])
        assert daemon.terminate(timeout_s=20) == 0
    (row,) = station.rows(Status.SEEN)
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


def test_a_scene_is_not_opened_when_its_checksum_says_other_bytes(station: Station) -> None:
    station.settings["require_marker"] = "true"
    path = station.drop("s.tif", 1)
    path.with_name("s.tif.sha256").write_text("0" * 64 + "  s.tif\n")
    done = station.drain()
    assert done.returncode == 1, done.stderr
    assert station.reasons() == {"s.tif": "checksum_mismatch"}


def test_a_read_only_inbox_is_worked_off_once_and_left_as_it_is(station: Station) -> None:
    station.settings["read_only_inbox"] = "true"
    station.drop("good.tif", 1)
    station.drop("bad.tif", b"not a raster")
    assert [station.drain().returncode for _ in range(2)] == [1, 0]
    assert sorted(path.name for path in station.incoming.iterdir()) == ["bad.tif", "good.tif"]
    assert {row.name: row.status for row in station.rows()} == {
        "good.tif": Status.PUBLISHED,
        "bad.tif": Status.QUARANTINED,
    }


def test_the_priority_rule_decides_the_order(station: Station) -> None:
    station.settings["priority"] = '[{"glob": "*URGENT*", "priority": 1}]'
    for number, name in enumerate(["a.tif", "b.tif", "c-URGENT.tif"]):
        station.drop(name, number)
    station.drain()
    finished = sorted(station.rows(Status.PUBLISHED), key=lambda row: row.finished_utc or "")
    assert [row.name for row in finished] == ["c-URGENT.tif", "a.tif", "b.tif"]


def test_a_product_folder_is_claimed_whole(station: Station) -> None:
    product = write_k5_folder(station.incoming / ".arriving", lake_scene(96, 96))
    files = sorted(path.name for path in product.iterdir())
    product.rename(station.incoming / "K5_X")
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert [mask.name for mask in station.masks()] == ["K5_X_water.tif"]
    assert sorted(path.name for path in (station.state / "done/K5_X").iterdir()) == files


def test_an_incomplete_product_is_quarantined_after_its_time_with_what_it_lacks(station: Station) -> None:
    station.settings["product_timeout_s"] = "0.5"
    (write_safe(station.incoming / "S1.SAFE", {"vv": lake_scene(8, 8)}) / "manifest.safe").unlink()
    with station.start() as daemon:
        until(lambda: station.reasons() == {"S1.SAFE": "scene_incomplete"})
        assert daemon.terminate() == 0
    assert "without manifest.safe" in station.log


def test_a_folder_that_becomes_a_product_while_the_daemon_watches_is_published(station: Station) -> None:
    folder = station.incoming / "delivery"
    folder.mkdir()
    with station.start() as daemon:
        until(lambda: "delivery: ignored; a folder of no kind" in station.log)
        write_k5_folder(station.root / "K5_Y", lake_scene(96, 96))
        for path in (station.root / "K5_Y").iterdir():
            path.rename(folder / path.name)
        until(lambda: [mask.name for mask in station.masks()] == ["delivery_water.tif"])
        assert daemon.terminate() == 0
    assert [row.status for row in station.rows()] == [Status.IGNORED, Status.PUBLISHED]
    assert 'sarwater_scenes_total{outcome="ignored"} 1.0' in (station.state / "metrics.prom").read_text()


def test_a_folder_that_was_nothing_for_one_daemon_is_taken_up_by_the_next(station: Station) -> None:
    station.settings["read_only_inbox"] = "true"
    folder = station.incoming / "delivery"
    folder.mkdir()
    assert station.drain().returncode == 0
    write_k5_folder(station.root / "K5_Y", lake_scene(96, 96))
    for path in (station.root / "K5_Y").iterdir():
        path.rename(folder / path.name)
    for _ in range(2):
        assert station.drain().returncode == 0
    assert [row.status for row in station.rows()] == [Status.IGNORED, Status.PUBLISHED]


def test_products_of_ours_are_no_scenes(station: Station) -> None:
    station.drop("s.tif", 1)
    assert station.drain(products="mask,confidence").returncode == 0
    for product in station.outgoing.glob("*.tif"):
        station.drop(product.name, product.read_bytes())
    done = station.drain()
    assert done.returncode == 1
    reasons = {"s_confidence.tif": "scene_is_product", "s_water.tif": "scene_is_product"}
    assert station.reasons() == reasons
    assert all(f"{name} ({reason})" in done.stderr.splitlines()[-1] for name, reason in reasons.items())
    assert station.drain().returncode == 0  # those that are in quarantine by now are known


def test_what_is_wrong_with_a_scene_is_said_of_it_and_not_of_the_name_that_it_has_in_work(station: Station) -> None:
    scene = write_geotiff(station.root / "x.tif", lake_scene(200, 200), options=("COMPRESS=DEFLATE", "TILED=YES"))
    content = bytearray(scene.read_bytes())
    content[2000:9000] = bytes(byte ^ 0x5A for byte in content[2000:9000])
    station.drop("damaged.tif", bytes(content))
    station.drop("closed.tif", 1).chmod(0)
    (station.incoming / "K5_no_image").mkdir()
    (station.incoming / "K5_no_image" / "K5_Aux.xml").write_text("<x/>")
    done = station.drain(product_timeout_s="0.1")
    assert station.reasons() == {"damaged.tif": "scene_unreadable", "closed.tif": "scene_unreadable"} | {
        "K5_no_image": "scene_incomplete"
    }
    assert "rows 0..199 cannot be decoded (damaged.tif" in done.stderr or "(damaged.tif, band 1" in done.stderr
    assert "may not be read by this user" in done.stderr
    assert "a KOMPSAT-5 folder without an image" in done.stderr
    assert "work/0" not in done.stderr


def test_a_product_that_is_asked_for_later_is_put_beside_the_mask_that_is_there(station: Station) -> None:
    station.drop("s.tif", 1)
    station.drain()
    (mask,) = station.masks()
    before = mask.stat().st_ino
    station.module = "runtime.commands.queue"
    subprocess.run(station.command("requeue", "1"), check=True, cwd=station.checkout)
    station.module = "runtime.commands.watch"
    done = station.drain(products="mask,stac,polygons")
    assert done.returncode == 0, done.stderr
    assert "adopted" in done.stderr
    assert (station.outgoing / "s_water.gpkg").exists()
    assert mask.stat().st_ino == before
    assert [row.products for row in station.rows()] == ['["s_water.gpkg", "s_water.json", "s_water.tif"]']


def test_a_window_outside_of_a_scene_costs_this_scene_alone(station: Station, tmp_path: Path) -> None:
    station.settings["window"] = "0,0,90,90"
    station.drop("large.tif", 1)
    station.drop("small.tif", write_geotiff(tmp_path / "small.tif", lake_scene(80, 80)).read_bytes())
    assert station.drain().returncode == 1
    assert station.reasons() == {"small.tif": "usage"}
    assert station.published() == ["large.tif"]
    assert [row.attempts for row in station.rows(Status.QUARANTINED)] == [1]


@pytest.mark.parametrize(
    ("setting", "value", "says"),
    [
        ("model", "hrnt", "unknown model"),
        ("model", "nowhere/x.onnx", "no such model file"),
        ("device", "tpu", "device 'tpu' is unknown"),
        ("products", "masc", "did you mean 'mask'"),
    ],
)
def test_a_setting_that_no_restart_mends_ends_with_78(station: Station, setting: str, value: str, says: str) -> None:
    station.drop("s.tif", 1)
    station.module = "runtime.commands.watch"
    done = station.drain(**{setting: value})
    assert done.returncode == 78, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert (station.incoming / "s.tif").exists()


def test_a_reload_takes_all_of_the_new_settings_or_none(station: Station) -> None:
    del station.settings["settle_s"], station.settings["products"]
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
