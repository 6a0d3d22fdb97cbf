"""A plan is worked off exactly once, wherever its scenes lie and whoever works."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jsonschema
import pystac
import pytest
from pystac.validation import validate_dict

from runtime.archive.archive import Archive, Shard
from runtime.archive.layout import item_keys
from runtime.archive.upkeep import verify
from runtime.backends import open_backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.errors import UsageError
from sarwater.models import find_model
from tests.runtime.archive.conftest import MakePlan
from tests.runtime.products.test_stac import SCHEMAS
from tests.support.object_store import ObjectStore


def outcomes(archive: Archive, **how: object) -> Counter[str]:
    return Counter(result.outcome for result in archive.run(**how))  # type: ignore[arg-type]


@pytest.mark.parametrize("where", ["folder", "bucket"])
def test_every_scene_is_committed_once_and_a_second_run_does_nothing(
    where: str, scenes: Path, in_bucket: str, bucket: str, tmp_path: Path, plan_of: MakePlan
) -> None:
    source, target = (scenes, tmp_path / "out") if where == "folder" else (in_bucket, f"s3://{bucket}/out")
    archive = Archive(plan_of(source, target))
    assert outcomes(archive) == {"published": 3}
    assert outcomes(Archive(archive.plan)) == {}
    assert len(item_keys(archive.store)) == 3
    assert (archive.status().done, archive.status().pending) == (3, 0)
    assert list(verify(archive)) == []


def test_the_masks_are_those_that_one_machine_makes(
    scenes: Path, in_bucket: str, bucket: str, tmp_path: Path, s3: ObjectStore, plan_of: MakePlan
) -> None:
    plan = plan_of(in_bucket, f"s3://{bucket}/out", device="auto")
    assert outcomes(Archive(plan)) == {"published": 3}
    with open_backend(find_model(plan.model)) as backend:
        for path in sorted(scenes.rglob("*.tif")):
            publish(process_scene(path, backend, tmp_path / "here", plan.asked))
    masks = [key for key in s3.keys(bucket) if key.endswith("_water.tif")]
    assert len(masks) == 3
    for key in masks:
        there = s3.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        assert there == (tmp_path / "here" / key.rpartition("/")[2]).read_bytes()


def test_shards_cover_a_plan_without_overlap(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    plan = plan_of(scenes, tmp_path / "out")
    assert outcomes(Archive(plan), shard=Shard(1, 2)) == {"published": 2}
    assert outcomes(Archive(plan), shard=Shard(2, 2)) == {"published": 1}
    assert Archive(plan).status().done == 3


def test_a_driver_looks_for_what_others_did_meanwhile(
    scenes: Path, tmp_path: Path, plan_of: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.archive._LOOK_EVERY_S", 0.0)
    plan = plan_of(scenes, tmp_path / "out")
    first = Archive(plan).run()
    results = [next(first)]
    assert outcomes(Archive(plan)) == {"published": 2}
    results += first
    assert [(result.outcome, bool(result.requests)) for result in results] == [
        ("published", True),
        ("adopted", False),
        ("adopted", False),
    ]


def test_an_item_whose_record_was_lost_is_adopted(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    assert outcomes(archive) == {"published": 3}
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "items").rglob("*.*")}
    for record in (tmp_path / "out" / ".sarwater" / "done").iterdir():
        record.unlink()
    assert outcomes(archive) == {"adopted": 3}
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "items").rglob("*.*")} == before


def test_another_setting_makes_new_items_beside_the_old(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    assert outcomes(archive) == {"published": 3}
    assert outcomes(Archive(plan_of(scenes, tmp_path / "out", threshold=0.3))) == {"published": 3}
    assert len(item_keys(archive.store)) == 6


def test_a_copy_of_a_scene_gets_the_item_of_the_first(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    first = next(scenes.rglob("*.tif"))
    (scenes / "again.tif").write_bytes(first.read_bytes())
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    assert outcomes(archive) == {"published": 3, "adopted": 1}
    assert len(item_keys(archive.store)) == 3


def test_a_broken_scene_is_set_aside_until_retry(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    (scenes / "broken.tif").write_bytes(b"II*\0 no more than that")
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    assert outcomes(archive) == {"published": 3, "failed": 1}
    assert archive.status().reasons == {"scene_truncated": 1}
    assert outcomes(Archive(archive.plan)) == {}
    with pytest.raises(UsageError, match="expected one of: scene_truncated"):
        archive.retry(["worker_died"])
    assert archive.retry() == [str(scenes / "broken.tif")]
    assert outcomes(Archive(archive.plan)) == {"failed": 1}


def test_a_scene_that_changed_since_the_plan_is_not_taken(
    in_bucket: str, bucket: str, s3: ObjectStore, plan_of: MakePlan
) -> None:
    archive = Archive(plan_of(in_bucket, f"s3://{bucket}/out"))
    first, second, _ = archive.plan.scenes
    body = s3.client.get_object(Bucket=bucket, Key=f"in/{first.path}")["Body"].read()
    s3.client.put_object(Bucket=bucket, Key=f"in/{first.path}", Body=body + b"\0")
    s3.client.delete_object(Bucket=bucket, Key=f"in/{second.path}")
    assert outcomes(archive) == {"published": 1, "failed": 2}
    told = sorted(record["message"] for record in archive.failures().values())
    assert "is gone since the plan was made" in told[0]
    assert "was changed since the plan was made" in told[1]


def test_the_items_and_the_collection_are_valid_stac(
    in_bucket: str, bucket: str, s3: ObjectStore, plan_of: MakePlan
) -> None:
    archive = Archive(plan_of(in_bucket, f"s3://{bucket}/out"))
    assert outcomes(archive) == {"published": 3}
    assert archive.write_collection() == archive.write_collection() == 3
    documents = {
        key: json.loads(s3.client.get_object(Bucket=bucket, Key=key)["Body"].read())
        for key in s3.keys(bucket)
        if key.endswith(".json")
    }
    for document in documents.values():
        validate_dict({**document, "stac_extensions": []})
    for path, document in documents.items():
        for rules in map(json.loads, (schema.read_text() for schema in SCHEMAS)):
            if "/items/" in path and rules["$id"] in document["stac_extensions"]:
                jsonschema.validate(document, rules)
    collection = pystac.Collection.from_dict(documents["out/collection.json"])
    assert [link.rel for link in collection.links].count("item") == 3
    item = next(document for key, document in documents.items() if "/items/" in key)
    assert [link["href"].rpartition("/")[0] for link in item["links"] if link["rel"] == "derived_from"] == [
        f"{in_bucket}/2019"
    ]
    assert {frozenset(link) for link in item["links"]} == {frozenset({"rel", "href", "type"})}  # a table has no gaps
    west, south, east, north = collection.extent.spatial.bboxes[0]
    assert west <= item["bbox"][0] <= item["bbox"][2] <= east
    assert south <= item["bbox"][1] <= item["bbox"][3] <= north


def test_the_catalogue_opens_wherever_it_lies(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    assert outcomes(archive) == {"published": 3}
    archive.write_collection()
    (tmp_path / "out").rename(tmp_path / "moved")
    collection = pystac.Collection.from_file(str(tmp_path / "moved" / "collection.json"))
    items = list(collection.get_items())
    assert len(items) == 3
    for item in items:
        assert (item.get_root(), item.get_parent(), item.get_collection()) == (collection,) * 3
        water = Path(item.assets["water"].get_absolute_href() or "")
        assert water.stat().st_size == item.assets["water"].extra_fields["file:size"]
