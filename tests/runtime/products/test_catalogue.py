from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pystac
import pytest
from pystac.validation import validate_dict

from runtime.backends.fake import FakeBackend
from runtime.pipeline import process_scene
from runtime.products import catalogue
from runtime.products.catalogue import COLLECTION, Catalogue, update_catalogue
from runtime.products.publish import publish
from sarwater.request import Request
from tests.support.rasters import TRANSFORM, lake_scene, write_geotiff


def publish_scene(tmp_path: Path, out: Path, name: str, east_m: float = 0) -> None:
    transform = (TRANSFORM[0] + east_m, *TRANSFORM[1:])
    path = write_geotiff(tmp_path / f"{name}.tif", lake_scene(60, 70, seed=int(east_m)), transform=transform)
    publish(process_scene(path, FakeBackend(), out, Request(products=("mask", "stac"))))


@pytest.fixture
def filled(tmp_path: Path, out: Path) -> Path:
    publish_scene(tmp_path, out, "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054321_069C11_ABCD")
    publish_scene(tmp_path, out, "K5_20240727091530_000000_12345_D_ES19_HH_GTC_B_L1D", 5000)
    assert update_catalogue(out) == 2
    return out


def collection(folder: Path) -> dict[str, object]:
    document: dict[str, object] = json.loads((folder / COLLECTION).read_text())
    return document


def test_the_folder_is_a_valid_static_catalogue(filled: Path) -> None:
    validate_dict(collection(filled))
    found = pystac.Collection.from_file(str(filled / COLLECTION))
    items = list(found.get_items())
    assert len(items) == 2
    for item in items:
        validate_dict({**item.to_dict(), "stac_extensions": []})
        assert item.get_collection() is found
        assert item.get_root() is found
        west, south, east, north = item.bbox or ()
        box = found.extent.spatial.bboxes[0]
        assert box[0] <= west < east <= box[2]
        assert box[1] <= south < north <= box[3]
    first, last = found.extent.temporal.intervals[0]
    assert [time.isoformat()[:10] for time in (first, last) if time] == ["2024-07-26", "2024-07-27"]


def test_only_new_items_are_read(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = catalogue._read
    monkeypatch.setattr(catalogue, "_read", lambda path: read.append(path.name) or real(path))
    publish_scene(tmp_path, filled, "third", 9000)
    assert update_catalogue(filled) == 3
    assert read == [COLLECTION, "third_water.json"]


def test_an_item_that_is_gone_is_named_no_more(filled: Path) -> None:
    next(filled.glob("K5_*_water.json")).unlink()
    assert update_catalogue(filled) == 1
    assert json.dumps(collection(filled)).count("2024-07-27") == 0


def test_a_damaged_item_and_a_damaged_collection_cost_nothing(filled: Path) -> None:
    before = collection(filled)
    (filled / "torn_water.json").write_text('{"type": "Feat')
    (filled / COLLECTION).write_text("[" * 100_000)
    assert update_catalogue(filled) == 2
    assert collection(filled) == before


def test_the_collection_of_somebody_else_stays(filled: Path) -> None:
    theirs = json.dumps({"type": "Collection", "id": "theirs", "links": []})
    (filled / COLLECTION).write_text(theirs)
    assert update_catalogue(filled) == 0
    assert (filled / COLLECTION).read_text() == theirs


def test_an_empty_folder_gets_no_collection(tmp_path: Path) -> None:
    assert update_catalogue(tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_two_processes_do_not_write_at_once(filled: Path) -> None:
    next(filled.glob("K5_*_water.json")).unlink()
    with (filled / f".{COLLECTION}.tmp").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert update_catalogue(filled) is None
    assert update_catalogue(filled) == 1
    assert not (filled / f".{COLLECTION}.tmp").exists()


def test_the_daemon_that_locks_the_folder_keeps_its_catalogue(filled: Path) -> None:
    (filled / COLLECTION).unlink()
    handle = os.open(filled, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    Catalogue(filled).update()
    assert (filled / COLLECTION).exists()
    os.close(handle)


def test_a_folder_that_has_not_changed_is_not_looked_at_again(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Path] = []
    monkeypatch.setattr(catalogue, "update_catalogue", lambda folder: looked.append(folder) or 0)
    keeper = Catalogue(filled)
    keeper.update()
    keeper.update(now=True)
    assert looked == [filled]


def test_a_scene_across_the_antimeridian_widens_the_extent_to_all_longitudes() -> None:
    found = catalogue.collection_of([], [(179.0, -17.0, -179.0, -16.0), (10.0, 0.0, 11.0, 1.0)], [])
    assert found["extent"]["spatial"]["bbox"] == [[-180.0, -17.0, 180.0, 1.0]]


@pytest.mark.parametrize(
    "text",
    ["[" * 5000, '{"type": "Feature"}', '{"type": "Feature", "bbox": [1, "x"], "properties": {"datetime": 7}}',
     '{"type": "Feature", "bbox": 5, "properties": []}'],
)  # fmt: skip
def test_an_item_of_somebody_else_that_says_nothing_sensible_changes_no_extent(filled: Path, text: str) -> None:
    before = collection(filled)["extent"]
    (filled / "theirs_water.json").write_text(text)
    update_catalogue(filled)
    assert collection(filled)["extent"] == before


@pytest.mark.parametrize("links", [7, [7], [{"rel": "item", "href": 7}]])
def test_a_damaged_collection_of_ours_is_made_anew(filled: Path, links: object) -> None:
    damaged = {"type": "Collection", "id": "sarwater", "links": links, "extent": {"temporal": []}}
    (filled / COLLECTION).write_text(json.dumps(damaged))
    assert update_catalogue(filled) == 2
    validate_dict(collection(filled))


def test_a_pipe_called_as_an_item_is_not_waited_for(filled: Path) -> None:
    os.mkfifo(filled / "pipe_water.json")
    assert update_catalogue(filled) == 2
