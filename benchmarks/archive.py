"""How an archive grows with its workers, and what it costs beside the masks: the fake backend on Dask, here.

    python -m benchmarks.archive [--scenes 200] [--size 512] [--workers 1,2] [--bucket] [--json FILE]

scenes per second and their ratio are of the wall: they want a machine with an idle core for every worker.
overhead is processor time per scene of driver, scheduler and Dask workers: all but the process that makes masks.
by the clock is what of it they spend with nothing to do, too: heartbeats and the like, more where scenes take longer.
The store is a folder; with --bucket it is moto's server, a process of its own that takes part of a core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import dask.config

from runtime.archive.archive import Archive
from runtime.archive.cluster import open_client
from runtime.archive.listing import Filters, find_scenes
from runtime.archive.plan import Plan, made
from runtime.benchmarking.device_state import Sensors
from sarwater.command import run_command
from sarwater.request import Request
from tests.support.models import box_model
from tests.support.object_store import CREDENTIALS
from tests.support.rasters import lake_scene, write_geotiff

_WARM = 3
"""Scenes for each worker before the clock starts, which start its processes."""
_IDLE_S = 5.0
_SERVER = "from tests.support.object_store import ObjectStore as O; s = O(); print(s.endpoint, flush=True); input()"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.archive", description="Time an archive on Dask.")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--size", type=int, default=512, help="edge of the scenes in pixels")
    parser.add_argument("--workers", default="1,2", metavar="N,N")
    parser.add_argument("--bucket", action="store_true", help="products go to moto's server in place of a folder")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    result: dict[str, Any] = {"machine": asdict(Sensors().machine()), "scenes": arguments.scenes}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder, _store(arguments.bucket, Path(folder)) as store:
        os.environ["TMPDIR"] = folder
        for workers in map(int, arguments.workers.split(",")):
            source = _scenes(Path(folder, str(workers)), arguments.scenes + _WARM * workers, arguments.size)
            result[f"{workers} workers"] = _measured(_plan(source, f"{store}/{workers}"), workers)
    rates = [row["scenes_per_s"] for key, row in result.items() if key.endswith("workers")]
    result["ratio"] = round(rates[-1] / rates[0], 2)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


def _scenes(folder: Path, number: int, size_px: int) -> Path:
    folder.mkdir()
    for each in range(number):
        write_geotiff(folder / f"s{each:05}.tif", lake_scene(size_px, size_px, seed=each))
    return folder


def _plan(source: Path, target: str) -> Plan:
    root, found = find_scenes(str(source), Filters())
    model = box_model(source.with_suffix(".onnx")).path
    request = Request(products="mask,stac")
    return made(found, source=root, target=target, model=str(model), device="fake", request=request)


def _measured(plan: Plan, workers: int) -> dict[str, Any]:
    warm = replace(plan, scenes=plan.scenes[: _WARM * workers])
    # Dask's profiler takes samples by the clock: on a busy machine more for the same work.
    with dask.config.set({"distributed.worker.profile.enabled": False}), open_client(f"local:{workers}") as client:
        for _ in Archive(warm).run(client):
            pass
        idle_s = -_processor_s(client)
        time.sleep(_IDLE_S)
        idle_s += _processor_s(client)
        began_s, spent_s = time.monotonic(), _processor_s(client)
        results = list(Archive(plan).run(client))
        seconds, spent_s = time.monotonic() - began_s, _processor_s(client) - spent_s
    assert {result.outcome for result in results} == {"published"}, results
    return {
        "scenes_per_s": round(len(results) / seconds, 2),
        "overhead_ms": round(1000 * spent_s / len(results), 1),
        "by_the_clock_ms": round(1000 * idle_s / _IDLE_S * seconds / len(results), 1),
        "requests": sum(sum(result.requests.values()) for result in results) / len(results),
        "input_bytes": sum(result.input_bytes for result in results) // len(results),
        "output_bytes": sum(result.output_bytes for result in results) // len(results),
        "memory_gb": round(max(result.memory_bytes for result in results) / 1e9, 2),
    }


def _processor_s(client: Any) -> float:
    """Of the Dask workers, and of this process, which is driver and scheduler."""
    return time.process_time() + sum(client.run(time.process_time).values())


@contextmanager
def _store(bucket: bool, folder: Path) -> Iterator[str]:
    if not bucket:
        yield str(folder / "out")
        return
    server = subprocess.Popen([sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with server:
        assert server.stdout is not None
        os.environ |= CREDENTIALS | {"AWS_ENDPOINT_URL": server.stdout.readline().strip()}
        import boto3

        boto3.client("s3").create_bucket(Bucket="masks")
        try:
            yield "s3://masks"
        finally:
            server.terminate()


if __name__ == "__main__":
    sys.exit(run_command(main))
