"""A running daemon takes up the model that the link leads to, and goes back by itself from one that is wrong."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.activation import FIRST_SCENES, model_in_force, read_activation
from runtime.commands.activate import main as activate
from runtime.daemon.ledger import Status
from sarwater.models import Model
from sarwater.tags import MODEL_SHA256_TAG
from tests.support.derived import BRIGHT, derived
from tests.support.models import box_model
from tests.support.rasters import write_geotiff
from tests.torture.station import Daemon, Station, until


@pytest.fixture
def box(tmp_path: Path) -> Model:
    return box_model(tmp_path / "box.onnx")


@pytest.fixture
def station(tmp_path: Path, box: Model) -> Station:
    station = Station(tmp_path / "station", device="cpu", health_file=str(tmp_path / "health.json"))
    station.model = tmp_path / "active"
    put(station, box)
    return station


def put(station: Station, model: Model) -> None:
    activate([str(model.path), f"--link={station.model}", "--may-lose=100"])


def made_by(station: Station) -> dict[str, str]:
    """Name of each mask -> sha256 of the model that made it."""
    from osgeo import gdal

    return {mask.name: gdal.Open(str(mask)).GetMetadataItem(MODEL_SHA256_TAG) for mask in station.masks()}


def sha256(model: Model) -> str:
    return model.manifest.files[model.path.name]


def reload(daemon: Daemon, station: Station, says: str) -> None:
    before = station.log.count(says)
    daemon.process.send_signal(signal.SIGHUP)
    until(lambda: station.log.count(says) > before)


def bright_scene(path: Path) -> Path:
    """Land that is brighter than any golden scene, with a dark lake."""
    pixels = np.full((96, 96), BRIGHT + 10_000, np.uint16)
    pixels[20:50, 20:50] = 5
    return write_geotiff(path, pixels)


def test_a_good_model_is_taken_up_at_a_reload_and_no_scene_is_lost(station: Station, box: Model) -> None:
    new = derived(box, box.path.with_name("new.onnx"))
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        for number in range(3):
            station.drop(f"before-{number}.tif", number)
        until(lambda: len(station.masks()) == 3)
        put(station, new)
        station.drop("between.tif", 3)  # the daemon keeps to what it opened
        until(lambda: len(station.masks()) == 4)
        assert set(made_by(station).values()) == {sha256(box)}
        for number in range(4, 8):
            station.drop(f"during-{number}.tif", number)
        reload(daemon, station, "ready")
        for number in range(8, 12):
            station.drop(f"after-{number}.tif", number)
        until(lambda: len(station.masks()) == 12)
        assert daemon.terminate() == 0
    assert {made_by(station)[f"after-{number}_water.tif"] for number in range(8, 12)} == {sha256(new)}
    assert station.log.count("of the pixels compared differ from the CPU's") == FIRST_SCENES
    known = read_activation(station.model)
    assert known is not None
    assert known.unchecked == 0
    assert len(station.rows(Status.PUBLISHED)) == 12


def test_a_model_whose_first_scene_differs_is_rolled_back_before_its_mask_is_visible(
    station: Station, box: Model
) -> None:
    wrong = derived(box, box.path.with_name("wrong.onnx"), wrong_where_bright=True)
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        put(station, wrong)
        reload(daemon, station, "ready")
        station.drop("bright.tif", bright_scene(station.root / "bright.tif").read_bytes())
        until(lambda: len(station.masks()) == 1)
        until(lambda: health(station)["model"]["rolled_back"] is not None)
        station.drop("next.tif", 1)
        until(lambda: len(station.masks()) == 2)
        assert daemon.terminate() == 0
    assert set(made_by(station).values()) == {sha256(box)}
    assert model_in_force(station.model) == box.path
    (line,) = [line for line in station.log.splitlines() if "rolled back" in line]
    assert "bright.tif" in line
    assert "% of the pixels of 4 windows differ" in line
    assert f"{box.path} is in force again" in line
    assert "sarwater_model_rollbacks_total 1.0" in (station.state / "metrics.prom").read_text()
    assert [row.attempts for row in station.rows(Status.PUBLISHED)] == [1, 1]


def test_a_model_that_changed_since_it_was_proven_is_rolled_back_at_the_reload(station: Station, box: Model) -> None:
    new = derived(box, box.path.with_name("new.onnx"))
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        put(station, new)
        derived(box, new.path, gain=0.5)  # a sound file, but another
        reload(daemon, station, "reload refused")
        station.drop("s.tif", 1)
        until(lambda: len(station.masks()) == 1)
        assert daemon.terminate() == 0
    assert "was proven" in station.log
    assert model_in_force(station.model) == box.path
    assert set(made_by(station).values()) == {sha256(box)}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"not a graph")])
def test_a_new_model_that_cannot_be_opened_at_the_start_is_rolled_back(
    station: Station, box: Model, damage: Callable[[Path], object]
) -> None:
    new = derived(box, box.path.with_name("new.onnx"))
    put(station, new)
    damage(new.path)
    station.drop("s.tif", 1)
    done = station.drain()
    assert done.returncode == 0, done.stderr
    assert "rolled back" in done.stderr
    assert set(made_by(station).values()) == {sha256(box)}


def test_without_a_model_before_it_the_daemon_ends_with_78_and_keeps_the_scene(tmp_path: Path, box: Model) -> None:
    station = Station(tmp_path / "first", device="cpu")
    station.model = tmp_path / "first" / "active"
    put(station, derived(box, box.path.with_name("wrong.onnx"), wrong_where_bright=True))
    station.drop("bright.tif", bright_scene(station.root / "bright.tif").read_bytes())
    done = station.drain()
    assert done.returncode == 78, done.stderr
    assert "no model was in force before it" in done.stderr.splitlines()[-1]
    assert station.masks() == []
    put(station, box)
    assert station.drain().returncode == 0
    assert list(made_by(station).values()) == [sha256(box)]


def health(station: Station) -> dict[str, dict[str, str | None]]:
    found: dict[str, dict[str, str | None]] = json.loads(Path(station.settings["health_file"]).read_text())
    return found
