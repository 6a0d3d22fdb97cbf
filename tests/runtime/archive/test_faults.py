"""What stores and workers do wrong costs time, not scenes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.archive.archive import Archive
from runtime.archive.job import Head, Job, SceneResult
from runtime.archive.layout import DONE, FAILED, item_keys
from runtime.archive.local import LocalStore
from runtime.archive.patience import Patience
from runtime.archive.store import StoreError, StoreRefused, open_store
from runtime.archive.upkeep import collect_garbage, forget, verify
from runtime.archive.work import SceneWorker
from runtime.commands.archive import main
from sarwater.errors import DeviceUnavailable
from tests.conftest import CHECKOUT
from tests.runtime.archive.conftest import MakePlan
from tests.support.object_store import ObjectStore
from tests.support.rasters import lake_scene, write_geotiff

FAULTY_WORKER = (sys.executable, str(CHECKOUT / "tests" / "torture" / "faulty_worker.py"))


@pytest.fixture
def archive(in_bucket: str, bucket: str, plan_of: MakePlan) -> Archive:
    return Archive(plan_of(in_bucket, f"s3://{bucket}/out"))


@pytest.fixture
def job(archive: Archive, tmp_path: Path) -> Job:
    return Job.of(archive.plan, Head.of(archive.plan, tmp_path / "scratch"), archive.plan.scenes[0])


@pytest.fixture
def worker(job: Job) -> Iterator[SceneWorker]:
    with SceneWorker(job.head) as opened:
        yield opened


def clear(s3: ObjectStore, bucket: str) -> None:
    for key in s3.keys(bucket):
        if key.startswith("out/"):
            s3.client.delete_object(Bucket=bucket, Key=key)
    s3.seen.clear()


def test_a_fault_at_any_request_of_a_scene_costs_time_alone(
    archive: Archive, job: Job, worker: SceneWorker, s3: ObjectStore, bucket: str
) -> None:
    clear(s3, bucket)
    sound = worker.process(job)
    assert (sound.outcome, sum(sound.requests.values())) == ("published", len(s3.seen))
    requests = len(s3.seen)
    assert requests == 5  # the scene, its item (not yet there), the mask, the item, the record
    for number in range(requests):
        for fault in ("500 InternalError", "503 SlowDown", "cut", "lost", "half"):
            clear(s3, bucket)
            s3.fault = lambda seen, _, at=number, kind=fault: kind if seen == at else None
            result = worker.process(job)
            s3.fault = None
            assert (result.outcome, result.message) == ("published", ""), (number, fault)
            assert len(item_keys(archive.store)) == 1
            assert list(verify(archive)) == []


def test_a_store_that_is_down_leaves_the_scene_for_later(
    archive: Archive, job: Job, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.s3.TRIES", 1)
    with SceneWorker(job.head) as worker:
        s3.fault = lambda *_: "503 SlowDown"
        result = worker.process(job)
        s3.fault = None
        assert (result.outcome, result.reason, result.blamed) == ("later", "store", False)
        assert worker.process(job).outcome == "published"
    assert archive.status().failed == 0


@pytest.mark.parametrize("fault", ["429 TooManyRequests", "silent"])
def test_what_lasts_at_any_request_of_a_scene_leaves_it_for_later(
    fault: str, archive: Archive, job: Job, s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.s3.TRIES", 1)
    monkeypatch.setattr("runtime.archive.s3.ANSWER_S", 0.3)
    with SceneWorker(job.head) as worker:
        for number in range(5):
            clear(s3, bucket)
            s3.fault = lambda seen, _, at=number: fault if seen >= at else None
            result = worker.process(job)
            assert (result.outcome, result.reason, result.blamed) == ("later", "store", False), number
            s3.fault = None
            assert worker.process(job).outcome in ("published", "adopted")
            assert len(item_keys(archive.store)) == 1
    assert list(verify(archive)) == []


@pytest.mark.parametrize(
    ("code", "told"), [("RequestTimeTooSkewed", "this machine's clock"), ("InvalidObjectState", "restore it")]
)
def test_what_somebody_has_to_put_right_is_told(code: str, told: str, bucket: str, s3: ObjectStore) -> None:
    s3.fault = lambda *_: f"403 {code}"
    with pytest.raises(StoreError, match=told):
        open_store(f"s3://{bucket}").read("one")


def test_credentials_that_were_renewed_are_read_again(
    job: Job, s3: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "old")
    s3.fault = lambda _, environ: "400 ExpiredToken" if "=old/" in environ["HTTP_AUTHORIZATION"] else None
    with SceneWorker(job.head) as worker:
        assert "renew them" in worker.process(job).message
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "new")
        tries = [worker.process(job).outcome for _ in range(2)]  # two stores, each of which has to notice
        assert tries[-1] == "published"


@pytest.mark.parametrize(("name", "value"), [("AWS_ENDPOINT_URL", "host:9000"), ("AWS_PROFILE", "nobody")])
def test_settings_of_the_store_that_cannot_be_are_told_in_one_line(
    name: str, value: str, archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StoreRefused, match="check AWS_ENDPOINT_URL") as caught:
        _ = archive.store
    assert "\n" not in str(caught.value)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True).returncode:
        pytest.skip("nothing may be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # the process that decoded may have its last scene open


def test_a_full_scratch_disk_costs_time_alone(
    small_disk: Path, scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    write_geotiff(scenes / "large.tif", lake_scene(1000, 1000))
    plan = plan_of(scenes / "large.tif", tmp_path / "out")
    head = Head.of(plan, small_disk)
    with SceneWorker(head) as worker:
        result = worker.process(Job.of(plan, head, plan.scenes[0]))
        assert (result.outcome, result.blamed) == ("later", False)
        assert "No space left" in result.message
        subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
        assert worker.process(Job.of(plan, head, plan.scenes[0])).outcome == "published"


def settled(outcome: str, reason: str = "", blamed: bool = False) -> SceneResult:
    return SceneResult("token", "scene", outcome, reason, "said", blamed=blamed)


def test_a_scene_is_tried_thrice_for_what_may_be_its_own_fault() -> None:
    patience = Patience()
    assert [patience.is_over(settled("later", "out_of_memory", blamed=True)) for _ in range(3)] == [False, False, True]


def test_an_outage_is_waited_out_and_a_refusal_of_everything_is_not() -> None:
    outage = Patience()
    assert not any(outage.is_over(settled("later", "store")) for _ in range(19))
    patient = [outage.is_over(settled("later", "store")) for _ in range(200)]
    assert outage.in_trouble
    assert not any(patient)
    assert outage.is_over(settled("published"))
    assert not outage.in_trouble
    assert outage.is_over(settled("later", "store"))  # of this scene alone, so it seems
    assert Patience(patience_s=-1).is_over(settled("later", "store"))
    refused = Patience()
    with pytest.raises(StoreRefused, match="said"):
        _ = [refused.is_over(settled("later", "store_refused")) for _ in range(20)]


def test_a_store_without_conditional_writes_is_refused_at_the_start(archive: Archive, s3: ObjectStore) -> None:
    def forget(_: int, environ: dict[str, Any]) -> None:
        environ.pop("HTTP_IF_NONE_MATCH", None)

    s3.fault = forget
    with pytest.raises(StoreRefused, match="conditional write"):
        list(archive.run())
    s3.fault = None
    assert list(archive.store.list(".sarwater/probe")) == []


def test_a_scene_that_ends_two_workers_is_set_aside_and_the_next_one_succeeds(
    scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    first = next(scenes.rglob("*.tif"))
    (scenes / "segfault.tif").write_bytes(first.read_bytes())
    plan = plan_of(scenes, tmp_path / "out")
    head = Head.of(plan, tmp_path / "scratch")
    jobs = [Job.of(plan, head, scene) for scene in sorted(plan.scenes, key=lambda scene: scene.name, reverse=True)]
    with SceneWorker(head, FAULTY_WORKER) as worker:
        results = [worker.process(job) for job in jobs[:2]]
    assert [result.outcome for result in results] == ["failed", "published"]
    assert results[0].reason == "worker_died"
    assert "SIGSEGV" in results[0].message
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == []


def test_a_scene_that_takes_more_memory_than_it_may_is_set_aside(
    scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    (scenes / "hungry.tif").write_bytes(next(scenes.rglob("*.tif")).read_bytes())
    plan = plan_of(scenes, tmp_path / "out")
    head = Head.of(plan, memory_bytes=700 << 20)
    jobs = [Job.of(plan, head, scene) for scene in sorted(plan.scenes, key=lambda scene: scene.name, reverse=True)]
    with SceneWorker(head, FAULTY_WORKER) as worker:
        results = [worker.process(job) for job in jobs[:2]]
    assert [(result.outcome, result.reason) for result in results] == [("failed", "worker_died"), ("published", "")]
    assert "more than the 0.73 GB it may have" in results[0].message
    assert results[0].memory_bytes > 700 << 20


def test_a_limit_on_memory_that_no_worker_keeps_ends_the_run(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    with pytest.raises(DeviceUnavailable, match="than the 0\\.00 GB it may have"):
        list(Archive(plan_of(scenes, tmp_path / "out"), memory_bytes=1 << 20).run())


def test_a_clock_that_jumps_changes_nothing(
    archive: Archive, s3: ObjectStore, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.client.put_object(Bucket=bucket, Key=f"out/items/{'0' * 64}/alive/y_water.tif", Body=b"in work")
    real, chance = time.time, random.Random(1)
    monkeypatch.setattr(time, "time", lambda: real() + chance.uniform(-1, 1) * 30 * 86400)
    assert [result.outcome for result in archive.run()] == ["published"] * 3
    assert collect_garbage(archive.store) == []
    assert list(verify(archive)) == []


def test_gc_removes_what_a_dead_attempt_left_and_nothing_else(
    archive: Archive, job: Job, worker: SceneWorker, s3: ObjectStore, bucket: str
) -> None:
    assert worker.process(job).outcome == "published"
    (key,) = item_keys(archive.store)
    before = s3.keys(bucket)
    for orphan in (f"out/items/{key}/dead/x_water.tif", f"out/items/{'0' * 64}/dead/y_water.tif"):
        s3.client.put_object(Bucket=bucket, Key=orphan, Body=b"half")
    upload = s3.client.create_multipart_upload(Bucket=bucket, Key=f"out/items/{key}/dead/z.tif")
    assert collect_garbage(archive.store) == []  # too young to be dead
    removed = collect_garbage(archive.store, 0)
    assert sorted(removed) == [f"items/{'0' * 64}/dead/y_water.tif", f"items/{key}/dead/x_water.tif"]
    assert s3.keys(bucket) == before
    left = s3.client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
    assert upload["UploadId"] not in [each["UploadId"] for each in left]
    assert list(verify(archive)) == []


def test_verify_names_what_is_damaged_and_what_is_missing(
    archive: Archive, job: Job, worker: SceneWorker, s3: ObjectStore, bucket: str
) -> None:
    assert worker.process(job).outcome == "published"
    mask = next(key for key in s3.keys(bucket) if key.endswith("_water.tif"))
    body = s3.client.get_object(Bucket=bucket, Key=mask)["Body"].read()
    s3.client.put_object(Bucket=bucket, Key=mask, Body=body[:-1] + b"\1")
    assert ["its sha256 is not the one" in fault.what for fault in verify(archive)] == [True]
    s3.client.delete_object(Bucket=bucket, Key=mask)
    assert ["is missing" in fault.what for fault in verify(archive)] == [True]


def test_what_verify_found_is_made_again_when_it_is_forgotten(
    archive: Archive, job: Job, worker: SceneWorker, s3: ObjectStore, bucket: str
) -> None:
    assert worker.process(job).outcome == "published"
    mask = next(key for key in s3.keys(bucket) if key.endswith("_water.tif"))
    s3.client.put_object(Bucket=bucket, Key=mask, Body=b"damaged")
    assert forget(archive.store, verify(archive)) == [job.url]
    assert job.token in archive.pending()
    assert worker.process(job).outcome == "published"
    assert list(verify(archive)) == []
    assert [f"out/{key}" for key in collect_garbage(archive.store, 0)] == [mask]


@pytest.mark.parametrize("item", [b"{oops", b"[]", b"{}", b'{"assets": {"water": {"href": 5}}}'])
def test_an_item_that_somebody_damaged_is_told_and_costs_no_products(item: bytes, archive: Archive) -> None:
    token, key = next(iter(archive.tokens)), "0" * 64
    archive.store.write(f"{DONE}/{token}", json.dumps({"scene": "scene", "item": f"items/{key}.json"}).encode())
    archive.store.write(f"items/{key}.json", item)
    archive.store.write(f"items/{key}/attempt/x_water.tif", b"mask")
    assert {fault.scene for fault in verify(archive)} == {"scene"}
    assert collect_garbage(archive.store, 0) == []


def test_a_collection_and_records_that_somebody_damaged_are_made_anew(archive: Archive) -> None:
    token = next(iter(archive.tokens))
    archive.store.write("collection.json", b"<html>")
    for number, item in enumerate((b"{}", b'{"type": "Feature", "id": "x"}')):
        archive.store.write(f"items/{str(number) * 64}.json", item)
    archive.store.write(f"{FAILED}/{token}", b"oops")
    assert archive.write_collection() == 0
    assert archive.status().reasons == {"unknown": 1}
    assert archive.retry(["unknown"]) == [archive.plan.url_of(archive.tokens[token].path)]


def test_names_that_no_disk_takes_are_the_fault_of_the_scene(bucket: str, s3: ObjectStore, plan_of: MakePlan) -> None:
    product = "K5_20190716093112_000001_12345_D_ES04_HH_GTC_B_L1D"
    for key in (f"{product}/a.tif", f"{product}/a.tif/b.xml", "l" * 256 + ".tif"):
        s3.client.put_object(Bucket=bucket, Key=f"in/{key}", Body=b"scene")
    plan = plan_of(f"s3://{bucket}/in", f"s3://{bucket}/out")
    head = Head.of(plan)
    with SceneWorker(head) as worker:
        results = [worker.process(Job.of(plan, head, scene)) for scene in plan.scenes]
    assert [(result.outcome, result.reason) for result in results] == [("failed", "scene_unreadable")] * 2


@pytest.mark.parametrize(
    ("source", "target", "code", "told"),
    [
        ("s3://no-such-bucket/in", "OUT", 78, "no such bucket"),
        ("IN", "s3://no-such-bucket/out", 78, "no such bucket"),
        ("s3://", "OUT", 2, "names no bucket"),
        ("https://example.org/in", "OUT", 2, "expected a path or s3://"),
        ("/no/such/folder", "OUT", 78, "no such folder"),
        ("/", "OUT", 78, "the whole disk"),
    ],
)
def test_a_place_that_is_not_there_is_told_in_one_line(
    source: str, target: str, code: int, told: str, scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    from sarwater.errors import SarwaterError

    source, target = source.replace("IN", str(scenes)), target.replace("OUT", str(tmp_path / "out"))
    plan = ["plan", source, "--to", target, "--device", "fake", "-o", str(tmp_path / "run.json")]
    with pytest.raises(SarwaterError, match=told) as caught:
        _ = main(plan) or main(["run", str(tmp_path / "run.json")])
    assert caught.value.exit_code == code
    assert "\n" not in str(caught.value)


def test_an_unfinished_upload_is_no_scene(bucket: str, s3: ObjectStore) -> None:
    s3.client.create_multipart_upload(Bucket=bucket, Key="in/half.tif")
    assert list(open_store(f"s3://{bucket}/in").list()) == []


def test_a_large_product_that_fails_in_parts_is_told_like_any_other(
    bucket: str, s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.archive.s3._IN_PARTS_BYTES", 0)
    monkeypatch.setattr("runtime.archive.s3.TRIES", 1)
    large = tmp_path / "large.tif"
    large.write_bytes(random.Random(1).randbytes(9 << 20))
    store = open_store(f"s3://{bucket}")

    def fail(code: str) -> Callable[[int, dict[str, Any]], str | None]:
        return lambda _, environ: code if "partNumber" in environ["QUERY_STRING"] else None

    for code, error in (("403 AccessDenied", StoreRefused), ("503 SlowDown", StoreError)):
        s3.fault = fail(code)
        with pytest.raises(error):
            store.upload(large, "large.tif")
    s3.fault = None
    assert store.read("large.tif") is None
    store.upload(large, "large.tif")
    assert store.read("large.tif") == large.read_bytes()


def test_a_small_object_whose_answer_is_cut_off_is_asked_for_again(s3: ObjectStore, bucket: str) -> None:
    store = open_store(f"s3://{bucket}")
    store.write("one", b"of some length")
    first = len(s3.seen)
    s3.fault = lambda seen, _: "half" if seen == first else None
    assert store.read("one") == b"of some length"


def test_a_record_that_cannot_be_written_leaves_the_scene_to_the_next_run(
    scenes: Path, tmp_path: Path, plan_of: MakePlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (scenes / "broken.tif").write_bytes(b"II*\0 no more than that")
    archive = Archive(plan_of(scenes, tmp_path / "out"))
    write = LocalStore.write

    def full(store: LocalStore, key: str, body: bytes) -> None:
        if key.startswith(FAILED):
            raise StoreError("no space left")
        write(store, key, body)

    monkeypatch.setattr(LocalStore, "write", full)
    assert sorted(result.outcome for result in archive.run()) == ["later", *["published"] * 3]
    monkeypatch.undo()
    assert [result.reason for result in archive.run()] == ["scene_truncated"]
