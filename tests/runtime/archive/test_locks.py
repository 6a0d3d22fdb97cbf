"""Claims in place of conditional writes: of many at one time one writes, and the dead hold nobody up for ever."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runtime.archive.archive import Archive
from runtime.archive.layout import item_keys
from runtime.archive.locks import LEASE_S, WithLocks
from runtime.archive.plan import Plan, made
from runtime.archive.store import StoreError, open_store
from runtime.archive.upkeep import verify
from tests.runtime.archive.conftest import MakePlan
from tests.support.object_store import ObjectStore

SETTLE_S = 1.2
"""moto's clock has seconds."""


@pytest.fixture(autouse=True)
def forgetful(s3: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that knows no conditional writes."""

    def forget(_: int, environ: dict[str, Any]) -> None:
        environ.pop("HTTP_IF_NONE_MATCH", None)

    s3.fault = forget
    monkeypatch.setattr("runtime.archive.locks.SETTLE_S", SETTLE_S)


def test_of_many_at_one_time_one_writes(s3: ObjectStore, bucket: str) -> None:
    store = open_store(f"s3://{bucket}")

    def attempt(number: int) -> bool:
        try:
            return WithLocks(store).create("items/one.json", b"%d" % number)
        except StoreError:
            return False

    with ThreadPoolExecutor(8) as pool:
        wrote = [number for number, first in enumerate(pool.map(attempt, range(8))) if first]
    assert len(wrote) == 1
    assert s3.client.get_object(Bucket=bucket, Key="items/one.json")["Body"].read() == b"%d" % wrote[0]
    assert not WithLocks(store).create("items/one.json", b"later")
    assert s3.keys(bucket) == ["items/one.json"]


@pytest.mark.parametrize(("age_s", "written"), [(1.0, False), (LEASE_S + 60, True)])
def test_the_claim_of_a_dead_attempt_ends(age_s: float, written: bool, tmp_path: Path) -> None:
    claim = tmp_path / ".sarwater" / "claims" / "one" / "other"
    claim.parent.mkdir(parents=True)
    claim.touch()
    then_s = time.time() - age_s
    os.utime(claim, (then_s, then_s))
    store = WithLocks(open_store(str(tmp_path)))
    if written:
        assert store.create("one", b"mine")
    else:
        with pytest.raises(StoreError, match="another attempt"):
            store.create("one", b"mine")
    assert (tmp_path / "one").exists() == written


def test_a_plan_with_a_lock_table_is_worked_off(in_bucket: str, bucket: str, plan_of: MakePlan, tmp_path: Path) -> None:
    asked = plan_of(in_bucket, f"s3://{bucket}/out")
    plan = made(
        asked.scenes[:1],
        source=asked.source,
        target=asked.target,
        model=asked.model,
        device="fake",
        request=asked.asked,
        lock_table=True,
    )
    plan.write(tmp_path / "run.json")
    archive = Archive(Plan.read(tmp_path / "run.json"))
    assert [result.outcome for result in archive.run()] == ["published"]
    assert len(item_keys(archive.store)) == 1
    assert list(verify(archive)) == []
    assert list(archive.store.list(".sarwater/claims")) == []
