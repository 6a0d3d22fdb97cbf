"""The operator's view of the ledger, and the two things an operator may change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from runtime.commands import queue
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from sarwater.errors import ConfigurationError, UsageError
from sarwater.shown import shown
from tests.torture.station import Station


@pytest.fixture(scope="module")
def worked_off(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """One scene in quarantine (job 1), one published (job 2)."""
    station = Station(tmp_path_factory.mktemp("queue"))
    station.drop("a-bad.tif", b"not a raster")
    station.drop("b-good.tif", 1)
    assert station.drain().returncode == 1
    return station


@pytest.fixture
def station(worked_off: Station, tmp_path: Path) -> Station:
    return worked_off.copied_to(tmp_path)


def test_list_show_and_stats_tell_what_the_ledger_knows(station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    at = ["--state", str(station.state), "--json"]
    assert queue.main([*at, "list"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["status"], row["reason"]) for row in listed] == [
        ("a-bad.tif", "QUARANTINED", "scene_unreadable")
    ]
    assert queue.main([*at, "show", "2"]) == 0
    shown = json.loads(capsys.readouterr().out)
    names = ["_water.json", "_water.tif"]
    assert shown["products"] == [f"b-good{name}" for name in names]
    assert queue.main([*at, "stats"]) == 0
    assert json.loads(capsys.readouterr().out)["PUBLISHED"] == 1
    assert queue.main(["list", "all", "--state", str(station.state)]) == 0
    assert "b-good.tif" in capsys.readouterr().out


def test_no_cell_of_the_list_is_cut_on_a_narrow_terminal(
    station: Station, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")  # taken for a terminal
    assert queue.main(["list", "--state", str(station.state)]) == 0
    text = capsys.readouterr().out
    assert "scene_unreadable" in text
    assert "…" not in text


def test_requeue_sends_a_scene_round_again_under_its_old_number(station: Station) -> None:
    assert queue.main(["--state", str(station.state), "requeue", "1"]) == 0
    assert (station.incoming / "a-bad.tif").read_bytes() == b"not a raster"
    station.drain()
    (row,) = station.rows(Status.QUARANTINED)
    assert (row.id, row.attempts) == (1, 1)


def test_a_published_scene_that_is_requeued_finds_its_own_mask(station: Station) -> None:
    assert queue.main(["--state", str(station.state), "requeue", "2"]) == 0
    station.drain()
    assert station.published() == ["b-good.tif"]
    assert len(station.masks()) == 1


def test_requeue_refuses_to_replace_a_scene_that_waits(station: Station) -> None:
    (station.incoming / "a-bad.tif").write_bytes(b"a newer one")
    with pytest.raises(UsageError, match="exists"):
        queue.main(["--state", str(station.state), "requeue", "1"])
    assert station.reasons() == {"a-bad.tif": "scene_unreadable"}


def test_drop_deletes_from_quarantine_and_from_nowhere_else(station: Station) -> None:
    with pytest.raises(UsageError, match="only quarantined"):
        queue.main(["--state", str(station.state), "drop", "2"])
    assert queue.main(["--state", str(station.state), "drop", "1"]) == 0
    assert station.reasons() == {}
    assert [row.reason for row in station.rows(Status.IGNORED)] == ["dropped"]


def test_a_job_that_is_not_there_is_a_usage_error(station: Station) -> None:
    with pytest.raises(UsageError, match="job 99: not in the ledger"):
        queue.main(["--state", str(station.state), "show", "99"])


def test_a_folder_without_a_ledger_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such ledger"):
        queue.main(["--state", str(tmp_path), "list"])


def test_a_ledger_that_a_full_disk_left_empty_says_so(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    with pytest.raises(ConfigurationError, match="empty; start the daemon"):
        queue.main(["--state", str(tmp_path), "list"])


def test_requeue_refuses_to_replace_a_row_that_waits(station: Station) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.seen("a-bad.tif", Status.SETTLING, 0, Fingerprint(1, 2, 3), "scan")
    with pytest.raises(UsageError, match="waits in the inbox as job 3"):
        queue.main(["--state", str(station.state), "requeue", "1"])
    assert [row.status for row in station.rows(Status.QUARANTINED)] == [Status.QUARANTINED]


def test_requeue_says_so_when_another_scene_of_its_name_arrives_in_that_moment(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        ledger.seen("a-bad.tif", Status.SETTLING, 0, Fingerprint(1, 2, 3), "scan")
    newest = Ledger.newest
    monkeypatch.setattr(Ledger, "newest", lambda self, name, *among: None if among else newest(self, name))
    with pytest.raises(UsageError, match="arrived just now"):
        queue.main(["--state", str(station.state), "requeue", "1"])
    assert station.reasons() == {"a-bad.tif": "scene_unreadable"}


def test_drop_says_what_it_found(station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(station.state / "quarantine/00000001")
    assert queue.main(["--state", str(station.state), "drop", "1"]) == 0
    text = capsys.readouterr().out
    assert "was not in" in text
    assert "deleted" not in text


def test_a_scene_is_meant_by_its_name_as_well_as_by_its_number(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--state", str(station.state)]
    assert queue.main([*at, "--json", "show", "b-good.tif"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == 2
    assert queue.main([*at, "requeue", "a-bad.tif"]) == 0
    assert (station.incoming / "a-bad.tif").exists()
    with pytest.raises(UsageError, match=r"scene c\.tif: not in the ledger"):
        queue.main([*at, "show", "c.tif"])


@pytest.mark.parametrize("name", ["한강.tif", "two\nlines.tif", "caf\udce9.tif", "99"])
def test_a_name_of_any_bytes_is_found_as_it_is_and_as_it_is_shown(
    name: str, station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = ledger.seen(name, Status.SETTLING, 0, Fingerprint(1, 2, 3), "scan")
    for written in (name, shown(name)):
        assert queue.main(["--state", str(station.state), "--json", "show", written]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == job


def test_the_newest_of_a_name_that_can_be_decided_about_is_meant(station: Station) -> None:
    with Ledger(station.state / FILE_NAME) as ledger:
        job = ledger.seen("a-bad.tif", Status.IGNORED, 0, Fingerprint(1, 2, 3), "scan")
        assert job == 3
    assert queue.main(["--state", str(station.state), "drop", "a-bad.tif"]) == 0
    assert station.reasons() == {}


def names(station: Station, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert queue.main(["--state", str(station.state), "--json", "list", *words]) == 0
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_a_list_is_of_the_reason_and_the_time_asked_for(station: Station, capsys: pytest.CaptureFixture[str]) -> None:
    assert names(station, capsys, "ALL") == ["a-bad.tif", "b-good.tif"]
    assert names(station, capsys, "ALL", "--reason", "scene_unreadable") == ["a-bad.tif"]
    assert names(station, capsys, "--reason", "worker_died") == []
    assert names(station, capsys, "--since", "1h") == ["a-bad.tif"]
    assert names(station, capsys, "--until", "1h") == []
    assert names(station, capsys, "PUBLISHED", "--since", "2020-01-01", "--until", "2999-01-01T12:00") == ["b-good.tif"]
    for nonsense in ("soon", "2026-13-01", "99999999999d", "-1h"):
        with pytest.raises(UsageError, match="is no time"):
            queue.main(["--state", str(station.state), "list", "--since", nonsense])


def test_all_scenes_of_a_reason_go_round_again_and_one_that_cannot_keeps_no_other(
    station: Station, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--state", str(station.state)]
    station.drop("c-bad.tif", b"not one either")
    station.drain()
    assert queue.main([*at, "requeue", "--all", "--reason", "worker_died"]) == 0
    assert "no scene in quarantine fits" in capsys.readouterr().out
    (station.incoming / "a-bad.tif").write_bytes(b"a newer one")
    with pytest.raises(UsageError, match=r"a-bad\.tif: exists"):
        queue.main([*at, "requeue", "--all", "--reason", "scene_unreadable"])
    assert (station.incoming / "c-bad.tif").exists()
    assert [row.name for row in station.rows(Status.QUARANTINED)] == ["a-bad.tif"]


@pytest.mark.parametrize("words", [[], ["1", "--all"], ["1", "--reason", "bug"], ["1", "--since", "1h"]])
def test_scenes_are_named_or_chosen_but_not_both(words: list[str], station: Station) -> None:
    for what in ("requeue", "drop"):
        with pytest.raises(UsageError, match="--all"):
            queue.main(["--state", str(station.state), what, *words])
    assert station.reasons() == {"a-bad.tif": "scene_unreadable"}


def test_the_station_is_found_by_its_settings_on_either_side_of_the_subcommand(
    station: Station, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "watch.toml"
    settings.write_text(f'state = "{station.state}"\n')
    for words in (["--config", str(settings), "stats"], ["stats", "--config", str(settings)]):
        assert queue.main(words) == 0
        assert "QUARANTINED      1" in capsys.readouterr().out
    with pytest.raises(UsageError, match="no such ledger"):
        queue.main(["--config", str(settings), "stats", "--state", str(tmp_path)])
