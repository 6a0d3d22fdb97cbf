"""What can stand in the way of one scene, in the outgoing folder and after its mask: it costs that scene nothing."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from runtime.backends.fake import FakeBackend
from runtime.daemon.ledger import Status
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from tests.support.deliveries import write_safe
from tests.support.rasters import lake_scene, write_geotiff
from tests.torture import crafted
from tests.torture.station import Station


@pytest.fixture
def station(tmp_path: Path) -> Station:
    return Station(tmp_path)


def test_what_stands_in_outgoing_and_names_alike_cost_no_scene_an_attempt(station: Station) -> None:
    station.outgoing.mkdir()
    os.mkfifo(station.outgoing / "pipe_water.tif")
    (station.outgoing / "folder_water.tif").mkdir()
    (station.outgoing / "link_water.tif").symlink_to("nowhere")
    (station.outgoing / "theirs_water.tif").write_bytes(crafted.changed(42112, crafted.ASCII, b"<a>" * 100_000))
    os.mkfifo(station.outgoing / "pipe_water.json")
    (station.outgoing / "theirs_water.json").write_text('{"type": "Feature"}')
    other = write_geotiff(station.root / "predicted.tif", lake_scene(64, 64))
    staged = process_scene(other, FakeBackend(), station.outgoing)  # `sarwater predict`, in the middle of its work
    twins = [unicodedata.normalize(form, "é-강.tif") for form in ("NFC", "NFD")]
    names = [
        *("pipe.tif", "folder.tif", "link.tif", *twins, "flood 1.tif", "flood_1.tif", "flood 1.tiff"),
        *("alone.done", "alone.sha256", "x.tif", "x.tif.done", "n" * 200 + "1.tif", "n" * 200 + "2.tif"),
    ]
    for seed, name in enumerate(names):
        station.drop(name, seed)
    assert station.drain().returncode == 0
    rows = station.rows()
    assert sorted(row.name for row in rows) == sorted(names)
    assert {(row.status, row.attempts) for row in rows} == {(Status.PUBLISHED, 1)}
    masks = {row.mask for row in rows}
    assert len(masks) == len(names)
    assert "folder_water.tif" not in masks
    publish(staged)
    assert (station.outgoing / "predicted_water.tif").is_file()


def test_a_scene_that_may_not_be_removed_whole_is_kept_under_done(station: Station) -> None:
    scene = write_safe(station.incoming / ".arriving", {"vv": lake_scene(64, 64)}, calibrated=False)
    (scene / "measurement").chmod(0o555)
    name = "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054921_06B0A4_1234.SAFE"
    scene.rename(station.incoming / name)
    station.drop("z-behind.tif", 1)
    done = station.drain(after="remove")
    (station.state / "done/00000001/input.safe/measurement").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert "cannot be moved or removed (Permission denied); kept in" in done.stderr
    assert {row.status for row in station.rows()} == {Status.PUBLISHED}
    assert not any((station.state / "work").iterdir())


def test_a_quarantined_scene_of_a_read_only_inbox_goes_round_again_where_it_lies(station: Station) -> None:
    station.settings["read_only_inbox"] = "true"
    bad = station.drop("bad.tif", b"not a raster")
    assert station.drain().returncode == 1
    (before,) = station.rows(Status.QUARANTINED)
    done = station.queue("requeue", str(before.id))
    assert done.returncode == 0, done.stderr
    assert "waits again" in done.stdout
    assert station.drain().returncode == 1
    (row,) = station.rows()
    assert (row.id, row.status, row.attempts) == (before.id, Status.QUARANTINED, 1)
    assert row.finished_utc != before.finished_utc
    assert bad.read_bytes() == b"not a raster"
