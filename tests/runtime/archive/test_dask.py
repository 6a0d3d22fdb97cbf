"""On a Dask cluster of real processes: workers, drivers and schedulers may die, and every scene is committed once."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.archive.archive import Archive, item_keys
from runtime.archive.cluster import open_client
from runtime.archive.upkeep import verify
from sarwater.errors import ConfigurationError
from tests.runtime.archive.conftest import MakePlan
from tests.support.object_store import ObjectStore
from tests.support.rasters import lake_scene, write_geotiff

SCENES = 6


@pytest.fixture(scope="module")
def client(s3: ObjectStore) -> Iterator[Any]:
    with open_client("local:2") as opened:
        yield opened


@pytest.fixture
def many(s3: ObjectStore, bucket: str, tmp_path: Path) -> str:
    for number in range(SCENES):
        path = write_geotiff(tmp_path / f"s{number:02}.tif", lake_scene(70, 80, seed=number))
        s3.client.upload_file(str(path), bucket, f"in/{path.name}")
    return f"s3://{bucket}/in"


def test_killed_workers_and_two_drivers_make_every_item_once(
    client: Any, many: str, bucket: str, plan_of: MakePlan
) -> None:
    plan = plan_of(many, f"s3://{bucket}/out")
    other: list[str] = []
    driver = threading.Thread(target=lambda: other.extend(r.outcome for r in Archive(plan).run(client)))
    driver.start()
    mine = []
    for number, result in enumerate(Archive(plan).run(client)):
        mine.append(result.outcome)
        if number == 1:  # a Dask worker; its own process of ours dies with it
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
    driver.join()
    archive = Archive(plan)
    assert len(item_keys(archive.store)) == SCENES
    counts = Counter([*mine, *other])
    assert counts["published"] == SCENES
    assert set(counts) <= {"published", "adopted"}
    assert archive.status().done == SCENES
    assert list(verify(archive)) == []


def test_a_worker_that_is_configured_wrong_ends_the_run(
    client: Any, scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    with pytest.raises(ConfigurationError):
        list(Archive(plan_of(scenes, tmp_path / "out", device="gpu")).run(client))
