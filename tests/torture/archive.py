"""`make torture`: archives on Dask, two drivers on one plan, and everything killed at random.

    python -m tests.torture.archive [SCENES] [KILLS] [--rounds N] [--results FILE] [--minutes M] [--seed N]

Every round has a scheduler, two workers, two drivers and a bucket of its own; the store answers every twentieth request
wrongly. Counts scenes that were lost, committed twice, or are not byte for byte what one machine makes of them. Rounds
that are in FILE already are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

from runtime.archive.archive import Archive
from runtime.archive.layout import item_keys
from runtime.archive.listing import Filters, find_scenes
from runtime.archive.plan import Plan, made
from runtime.archive.upkeep import collect_garbage, verify
from runtime.backends import open_backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.manifest import sha256_of
from sarwater.models import find_model
from sarwater.request import Request
from tests.support.models import box_model
from tests.support.object_store import CREDENTIALS, ObjectStore, object_store
from tests.support.rasters import lake_scene, write_geotiff
from tests.torture.forked import started

FAULTS = ("500 InternalError", "503 SlowDown", "cut", "lost", "half")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.torture.archive", description="Kill what works an archive off."
    )
    parser.add_argument("scenes", type=int, nargs="?", default=10_000)
    parser.add_argument("kills", type=int, nargs="?", default=300)
    parser.add_argument("--rounds", type=int, default=20, help="scenes and kills are shared out among them")
    parser.add_argument("--results", type=Path, metavar="FILE", help="a JSON line for each round; it is added to")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no round begins after so many")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    arguments = parser.parse_args()
    began_s = time.monotonic()
    told = arguments.results.read_text().splitlines() if arguments.results and arguments.results.exists() else []
    rows = [json.loads(line) for line in told]
    for number in range(len(rows), arguments.rounds):
        if time.monotonic() - began_s > 60 * arguments.minutes:
            break
        scenes, kills = (_share(total, number, arguments.rounds) for total in (arguments.scenes, arguments.kills))
        row = torture(scenes, kills, seed=arguments.seed + 1000 * number)
        rows.append(row)
        print(json.dumps(row), flush=True)
        if arguments.results:
            with arguments.results.open("a") as file:
                file.write(json.dumps(row) + "\n")
    total = sum(map(Counter, ({k: v for k, v in row.items() if k != "seed"} for row in rows)), Counter())
    print(json.dumps({"rounds": len(rows), **total}))
    return 1 if any(total[name] for name in ("lost", "doubled", "corrupted", "set_aside", "orphans")) else 0


def _share(total: int, number: int, of: int) -> int:
    return (number + 1) * total // of - number * total // of


def torture(scenes: int, kills: int, seed: int) -> dict[str, int]:
    """A round; its counts."""
    began_s = time.monotonic()
    with object_store() as s3, tempfile.TemporaryDirectory() as folder:
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": s3.endpoint, "TMPDIR": folder}
        plan = prepare(s3, Path(folder), scenes, seed)
        faults = random.Random(seed + 1)
        s3.fault = lambda *_: faults.choice(FAULTS) if faults.random() < 0.05 else None
        killed = work_off(plan, Path(folder), kills, random.Random(seed))
        s3.fault = None
        row = count(plan, s3, Path(folder))
    return {"seed": seed, **row, **killed, "seconds": round(time.monotonic() - began_s)}


def prepare(s3: ObjectStore, folder: Path, scenes: int, seed: int) -> Plan:
    """The scenes in a bucket of their own, and beside them on disk; a plan of them."""
    bucket = f"torture-{seed}"
    s3.client.create_bucket(Bucket=bucket)
    (folder / "in").mkdir()
    for number in range(scenes):
        path = write_geotiff(folder / "in" / f"s{number:05}.tif", lake_scene(40, 50, seed=seed + number))
        s3.client.put_object(Bucket=bucket, Key=f"in/{path.name}", Body=path.read_bytes())
    root, found = find_scenes(f"s3://{bucket}/in", Filters())
    model = box_model(folder / "box.onnx").path
    request = Request(products="mask,stac")  # type: ignore[arg-type]
    plan = made(found, source=root, target=f"s3://{bucket}/out", model=str(model), device="fake", request=request)
    plan.write(folder / "run.json")
    return plan


class Cluster:
    """A scheduler, two workers and two drivers, each started anew when it is gone. A context manager."""

    def __init__(self, plan: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        worker = ["worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"]
        driver = ["sarwater", "archive", "run", str(plan), "--scheduler", address]
        self._commands = {
            "scheduler": ["scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"],
            **{f"worker {number}": worker for number in range(2)},
            **{f"driver {number}": driver for number in range(2)},
        }
        self._processes: dict[str, BaseProcess] = {}

    def keep_up(self) -> None:
        for name, command in self._commands.items():
            if name not in self._processes or not self._processes[name].is_alive():
                self._processes[name] = started(command, os.environ)

    def kill(self, chance: random.Random) -> str:
        """What was killed: any of the processes, or the one in a worker that makes masks; empty for none."""
        name = chance.choice([*self._processes, "worker's own 0", "worker's own 1"])
        pid = self._processes[name.replace("'s own", "")].pid
        if "own" in name:
            pid = next(iter(children_of(pid)), 0) if pid else 0
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return name.rpartition(" ")[0] or name
        return ""

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            process.kill()
            process.join()


def work_off(plan: Plan, folder: Path, kills: int, chance: random.Random) -> dict[str, int]:
    """Until nothing is left; how often what was killed. When to kill is told by how much is done: a machine that is
    busy with something else gets no more kills for the same scenes."""
    archive, killed = Archive(plan), Counter[str]()
    due = sorted(chance.uniform(0, len(plan.scenes) - 1) for _ in range(kills))
    with Cluster(folder / "run.json") as cluster:
        while (status := archive.status()).done < len(plan.scenes):
            cluster.keep_up()
            time.sleep(chance.uniform(1, 4))
            while due and due[0] <= status.done and (victim := cluster.kill(chance)):
                killed[f"killed {victim}"] += 1
                del due[0]
            if "worker_died" in status.reasons:
                archive.retry(["worker_died"])  # two kills met the same scene
    return dict(killed)


def children_of(pid: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            found += [int(child) for child in file.read_text().split()]
    return found


def count(plan: Plan, s3: ObjectStore, folder: Path) -> dict[str, int]:
    archive = Archive(plan)
    items, status = item_keys(archive.store), archive.status()
    requests = len(s3.seen)
    corrupted = sum(1 for _ in verify(archive))  # every mask has the sha256 that its item says
    here = masks_made_here(plan, folder)
    for key in items:
        item = json.loads(archive.store.read(f"items/{key}.json") or b"{}")
        water = item["assets"]["water"]
        corrupted += water["file:checksum"] != "1220" + here.get(water["href"].rpartition("/")[2], "")
    dead = len(collect_garbage(archive.store, 0))
    left = len(list(archive.store.list("items")))
    return {
        "scenes": len(plan.scenes),
        "lost": len(plan.scenes) - status.done,
        "doubled": len(items) - len(plan.scenes),
        "corrupted": corrupted,
        "set_aside": status.failed,
        "dead attempts removed": dead,
        "orphans": left - 2 * len(plan.scenes),
        "requests": requests,
    }


def masks_made_here(plan: Plan, folder: Path) -> dict[str, str]:
    """Name -> sha256 of each scene's mask, made by one process without any archive."""
    masks = {}
    with open_backend(find_model(plan.model), "fake") as backend:
        for path in sorted((folder / "in").iterdir()):
            staged = process_scene(path, backend, folder / "here", plan.asked)
            publish(staged)
            masks[staged.names[-1]] = sha256_of(staged.out_dir / staged.names[-1])
    return masks


if __name__ == "__main__":
    sys.exit(main())
