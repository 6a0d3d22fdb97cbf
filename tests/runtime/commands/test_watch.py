"""The daemon as a whole: real processes, real files, the fake backend."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.daemon.ledger import Status
from tests.support.rasters import lake_scene, read_raster, write_geotiff
from tests.torture.station import CHECKOUT, Station, until


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_drain_turns_every_scene_into_a_mask_and_keeps_the_inputs(station: Station) -> None:
    for number in range(3):
        station.drop(f"s{number}.tif", number)
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert [mask.name for mask in station.masks()] == ["s0_water.tif", "s1_water.tif", "s2_water.tif"]
    assert sorted(path.name for path in (station.state / "done").iterdir()) == ["s0.tif", "s1.tif", "s2.tif"]
    assert not any((station.state / "work").iterdir())


def test_bad_scenes_go_to_quarantine_a_text_is_left_alone_and_the_next_scene_runs(station: Station) -> None:
    station.drop("a-empty.tif", b"")
    station.drop("b-cut.tif", station.scene(1)[:3000])
    station.drop("c-note.txt", b"hello\n")
    station.drop("d-good.tif", 2)
    done = station.drain()
    assert done.returncode == 1, done.stderr
    assert station.reasons() == {
        "a-empty.tif": "scene_empty",
        "b-cut.tif": "scene_truncated",
    }
    assert (station.incoming / "c-note.txt").exists()
    assert station.published() == ["d-good.tif"]
    lines = [line for line in done.stderr.splitlines() if "b-cut.tif" in line]
    assert len(lines) == 2
    assert "kept in" in lines[0]
    assert "2 in quarantine: a-empty.tif (scene_empty), b-cut.tif (scene_truncated)" in lines[1]


def test_a_station_may_say_the_unit_and_the_nodata_value_of_its_scenes(station: Station, tmp_path: Path) -> None:
    decibels = 20 * np.log10(lake_scene(96, 96) / np.float32(400))
    decibels[:10] = -9999
    content = write_geotiff(tmp_path / "db.tif", decibels).read_bytes()
    station.drop("unsaid.tif", content)
    assert station.drain().returncode == 1
    assert station.reasons() == {"unsaid.tif": "unit_mismatch"}
    station.drop("said.tif", content)
    assert station.drain(unit="sigma0_db", nodata="-9999").returncode == 0
    mask = read_raster(station.outgoing / "said_water.tif")
    assert (mask[:10] == 255).all()
    assert set(np.unique(mask[10:])) == {0, 1}


def test_same_bytes_under_another_name_give_one_mask(station: Station) -> None:
    station.drop("one.tif", 7)
    station.drop("two.tif", 7)
    station.drain()
    assert [mask.name for mask in station.masks()] == ["one_water.tif"]
    assert [row.name for row in station.rows(Status.DUPLICATE)] == ["two.tif"]


def test_other_bytes_under_the_same_name_give_two_masks(station: Station) -> None:
    for content in (1, 2):
        station.drop("s.tif", content)
        station.drain()
    assert len(station.masks()) == 2
    assert len(list((station.state / "done").iterdir())) == 2


def test_a_tampered_model_is_refused_and_the_scenes_stay_in_the_inbox(station: Station) -> None:
    station.model.write_bytes(b"something else")
    path = station.drop("s.tif", 1)
    done = station.drain()
    assert done.returncode == 1
    assert "sha256" in done.stderr.splitlines()[-1]
    assert path.exists()


def test_a_missing_inbox_is_a_configuration_error(station: Station) -> None:
    station.incoming.rmdir()
    done = station.drain()
    assert done.returncode == 78
    assert str(station.incoming) in done.stderr


def test_a_second_daemon_exits_with_a_clear_message(station: Station) -> None:
    with station.start():
        until(lambda: (station.state / "lock").exists() and "ready" in station.log)
        second = station.drain()
    assert second.returncode == 78
    assert "another daemon" in second.stderr


def test_scenes_that_arrive_while_it_watches_are_published(station: Station) -> None:
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        station.drop("renamed.tif", 1)
        (station.incoming / "in-place.tif").write_bytes(station.scene(2))
        until(lambda: len(station.masks()) == 2)
        assert daemon.terminate() == 0


def test_sigterm_returns_what_is_not_finished_to_the_inbox(station: Station) -> None:
    names = [f"s{number}.tif" for number in range(12)]
    contents = {name: station.scene(number) for number, name in enumerate(names)}
    for name, content in contents.items():
        station.drop(name, content)
    with station.start() as daemon:
        until(lambda: len(station.masks()) >= 2)
        assert daemon.terminate() == 0
    assert not any((station.state / "work").iterdir())
    assert station.rows(Status.SEEN, Status.SETTLING)
    station.drain()
    assert not station.audit(contents)


def test_links_and_pipes_are_ignored_and_left_alone(station: Station, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.tif").write_bytes(station.scene(1))
    (station.incoming / "link.tif").symlink_to(tmp_path / "elsewhere.tif")
    os.mkfifo(station.incoming / "pipe.tif")
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert sorted(row.name for row in station.rows(Status.IGNORED)) == ["link.tif", "pipe.tif"]
    assert (station.incoming / "link.tif").is_symlink()
    assert station.masks() == []


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"model": "hrnt"}, "did you mean 'hrnet'?"),
        ({"model": "unet-w64"}, "no model of that name ships"),
        ({"model": "nowhere/x.onnx"}, "no such model file"),
        ({"device": "gpuu"}, "did you mean 'gpu'?"),
        ({"products": "mask,poligons"}, "did you mean 'polygons'?"),
        ({"sieve_px": "-1"}, "sieve_px"),
    ],
)
def test_a_setting_that_cannot_be_is_exit_78_and_one_line(station: Station, setting: dict[str, str], said: str) -> None:
    done = station.drain(**setting)
    assert done.returncode == 78, done.stderr
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_flag_that_is_not_there_is_exit_2_and_names_the_one_that_is(station: Station) -> None:
    done = station.drain("--setle-s=1")
    assert done.returncode == 2
    assert "--settle-s" in done.stderr


def test_check_takes_settings_before_and_after_it(station: Station, tmp_path: Path) -> None:
    settings = tmp_path / "watch.toml"
    folders = (f'{name} = "{getattr(station, name)}"\n' for name in ("incoming", "outgoing", "state"))
    settings.write_text("".join(folders) + f'model = "{station.model}"\nsettle_s = 3\n')
    command = [sys.executable, "-m", "sarwater", "watch", "--device", "fake", "check", str(settings), "--settle-s", "7"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "settle_s = 7.0" in done.stdout
    assert "device = fake" in done.stdout
