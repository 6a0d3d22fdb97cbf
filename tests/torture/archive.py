"""`make torture`: an archive on two Dask workers, two drivers on one plan, and everything killed at random.

    python -m tests.torture.archive [SCENES] [KILLS] [--seed N]

The store answers every twentieth request wrongly. Counts scenes that were lost, committed twice, or are not byte for
byte what one machine makes of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from runtime.archive.archive import Archive, item_keys
from runtime.archive.cluster import open_client
from runtime.archive.listing import Filters, find_scenes
from runtime.archive.plan import Plan, made
from runtime.archive.upkeep import verify
from runtime.backends import open_backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.models import find_model
from sarwater.request import Request
from tests.support.models import box_model
from tests.support.object_store import CREDENTIALS, ObjectStore, object_store
from tests.support.rasters import lake_scene, write_geotiff

BUCKET = "torture"
FAULTS = ("500", "503", "cut", "lost", "half")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.archive", description="Kill what works an archive off."
    )
    parser.add_argument("scenes", type=int, nargs="?", default=10_000)
    parser.add_argument("kills", type=int, nargs="?", default=300)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with object_store() as s3, tempfile.TemporaryDirectory() as folder:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": s3.endpoint}
        plan = prepare(s3, Path(folder), arguments.scenes)
        chance = random.Random(arguments.seed)
        faults = random.Random(arguments.seed + 1)
        s3.fault = lambda *_: faults.choice(FAULTS) if faults.random() < 0.05 else None
        kills = work_off(plan, Path(folder), arguments.kills, chance)
        s3.fault = None
        row = count(plan, s3, Path(folder)) | {"kills": kills}
    print(json.dumps(row))
    return 1 if any(row[name] for name in ("lost", "doubled", "corrupted", "set_aside")) else 0


def prepare(s3: ObjectStore, folder: Path, scenes: int) -> Plan:
    """The scenes in a bucket, and beside them on disk; a plan of them."""
    s3.client.create_bucket(Bucket=BUCKET)
    (folder / "in").mkdir()
    for number in range(scenes):
        path = write_geotiff(folder / "in" / f"s{number:05}.tif", lake_scene(40, 50, seed=number))
        s3.client.upload_file(str(path), BUCKET, f"in/{path.name}")
    root, found = find_scenes(f"s3://{BUCKET}/in", Filters())
    model = box_model(folder / "box.onnx").path
    request = Request(products="mask,stac")  # type: ignore[arg-type]
    plan = made(found, source=root, target=f"s3://{BUCKET}/out", model=str(model), device="fake", request=request)
    plan.write(folder / "run.json")
    return plan


def work_off(plan: Plan, folder: Path, kills: int, chance: random.Random) -> int:
    """Two drivers until nothing is left; returns how often something was killed."""
    archive, killed = Archive(plan), 0
    with open_client("local:2") as client:
        command = [sys.executable, "-m", "sarwater", "archive", "run", str(folder / "run.json"), "--scheduler"]
        command.append(client.scheduler.address)
        drivers: list[subprocess.Popen[bytes]] = []
        while archive.status().done < len(plan.scenes):
            drivers = [driver for driver in drivers if driver.poll() is None]
            drivers += [subprocess.Popen(command) for _ in range(2 - len(drivers))]
            time.sleep(chance.uniform(2, 10))
            if killed < kills:
                killed += kill(chance, drivers, client)
            for token, record in archive.failures().items():
                if record["reason"] == "worker_died":  # two kills met the same scene
                    archive.store.delete([f".sarwater/failed/{token}"])
        for driver in drivers:
            driver.wait()
    return killed


def kill(chance: random.Random, drivers: list[subprocess.Popen[bytes]], client: Any) -> int:
    """A driver, a Dask worker, or the process in it that makes masks."""
    workers = list(client.run(os.getpid, on_error="ignore").values())
    children = [pid for worker in workers for pid in children_of(worker)]
    victims = [[driver.pid for driver in drivers], workers, children][chance.randrange(3)]
    if not victims:
        return 0
    try:
        os.kill(chance.choice(victims), signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def children_of(pid: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in file.read_text().split()]
    return found


def count(plan: Plan, s3: ObjectStore, folder: Path) -> dict[str, int]:
    archive = Archive(plan)
    items, status = item_keys(archive.store), archive.status()
    with open_backend(find_model(plan.model), "fake") as backend:
        for path in sorted((folder / "in").iterdir()):
            publish(process_scene(path, backend, folder / "here", plan.asked))
    corrupted = sum(1 for _ in verify(archive))
    for key in items:
        item = json.loads(archive.store.read(f"items/{key}.json") or b"{}")
        href = item["assets"]["water"]["href"]
        there = archive.store.read(f"items/{href[2:]}")
        corrupted += there != (folder / "here" / href.rpartition("/")[2]).read_bytes()
    return {
        "scenes": len(plan.scenes),
        "lost": len(plan.scenes) - status.done,
        "doubled": len(items) - len(plan.scenes),
        "corrupted": corrupted,
        "set_aside": status.failed,
        "requests": len(s3.seen),
    }


if __name__ == "__main__":
    sys.exit(main())
