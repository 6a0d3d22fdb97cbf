"""On a Dask cluster of real processes: workers, drivers and schedulers may die, and every scene is committed once."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import distributed
import pytest

from runtime.archive.archive import Archive
from runtime.archive.cluster import open_client
from runtime.archive.executors import OnDask, SchedulerLost
from runtime.archive.layout import item_keys
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


def test_a_cluster_without_workers_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        assert OnDask(client).results(0.01) == []
        assert f"`dask worker {cluster.scheduler_address}" in caplog.text


def dask(*arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]])


@contextmanager
def cluster(port: int) -> Iterator[None]:
    """A scheduler and a worker, which are killed at the end."""
    scheduler = dask("scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    worker = dask("worker", f"tcp://127.0.0.1:{port}", "--nthreads", "1", "--no-nanny", "--no-dashboard")
    try:
        yield
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_driver_and_a_scheduler_that_are_killed_cost_no_scene(
    many: str, bucket: str, plan_of: MakePlan, tmp_path: Path
) -> None:
    archive = Archive(plan_of(many, f"s3://{bucket}/out"))
    archive.plan.write(tmp_path / "run.json")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sarwater", "archive", "run", str(tmp_path / "run.json")]
    run = [*command, "--scheduler", f"tcp://127.0.0.1:{port}"]

    with ExitStack() as stack:
        with cluster(port):
            driver = subprocess.Popen(run)
            while not item_keys(archive.store):
                time.sleep(0.2)
            driver.kill()
            driver.wait()
            client = stack.enter_context(open_client(f"tcp://127.0.0.1:{port}"))
            results = Archive(archive.plan).run(client)
            next(results)
        with pytest.raises(SchedulerLost):  # its scheduler and its worker were killed
            list(results)
    with cluster(port):
        assert subprocess.run(run).returncode == 0
    assert archive.status().done == len(item_keys(archive.store)) == SCENES
    assert list(verify(archive)) == []
