"""How fast the daemon is around the network: start, claim, overhead, throughput; every fsync in place.

    python -m benchmarks.daemon [--scene FILE] [--scenes 10000] [--repeat 20] [--json FILE]

claim        rename -> claimed, idle daemon
start        process start -> READY, with the default model on the CPU
overhead     complete -> visible in the daemon, beyond the same scene through the pipeline in one process
throughput   small scenes in a row with the fake backend
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.benchmarking.device_state import Sensors
from runtime.benchmarking.timing import summarise
from runtime.daemon.config import Config
from sarwater.command import run_command
from tests.torture.station import Station, until


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daemon", description="Time the daemon.")
    parser.add_argument("--scene", type=Path, help="scene for the overhead (default: a simulated one of 1024 px)")
    parser.add_argument("--scenes", type=int, default=10_000, help="small scenes for the throughput")
    parser.add_argument("--repeat", type=int, default=20, help="samples of everything else")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    result: dict[str, Any] = {"machine": asdict(Sensors().machine())}
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        root = Path(folder)
        result["claim"] = asdict(summarise(_claim_s(root / "claim", arguments.repeat)))
        result["start"] = asdict(summarise(_start_s(root / "start", min(5, arguments.repeat))))
        result["overhead_ms"] = _overhead_ms(root / "overhead", arguments.scene, arguments.repeat)
        result["scenes_per_s"] = _scenes_per_s(root / "throughput", arguments.scenes)
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


def _claim_s(root: Path, repeat: int) -> list[float]:
    station = Station(root)
    with station.start():
        until(lambda: "ready" in station.log)
        renamed_s = []
        for number in range(repeat + 1):
            content, hidden = station.scene(number), station.incoming / ".arriving"
            hidden.write_bytes(content)
            time.sleep(0.3)
            renamed_s.append(time.monotonic())
            hidden.rename(station.incoming / f"s{number}.tif")
            until(lambda n=number: len(station.masks()) > n)  # type: ignore[misc]
        records = _records(station, repeat + 1)  # before the end of the block kills the daemon
    claimed_s = [record["moments"]["claimed"]["monotonic_s"] for record in records]
    return [claimed - renamed for claimed, renamed in zip(claimed_s, renamed_s, strict=True)][1:]  # the first warms up


def _start_s(root: Path, repeat: int) -> list[float]:
    samples = []
    for number in range(repeat + 1):
        station = _with_default_model(root / str(number))
        address = root / f"notify{number}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(address))
            start_s = time.monotonic()
            with station.start(NOTIFY_SOCKET=str(address)):
                while b"READY=1" not in manager.recv(4096):
                    pass
                samples.append(time.monotonic() - start_s)
    return samples[1:]


def _overhead_ms(root: Path, scene: Path | None, repeat: int) -> dict[str, float]:
    from runtime.backends import open_backend
    from runtime.pipeline import process_scene
    from runtime.products.publish import publish
    from sarwater.models import shipped_model
    from sarwater.request import Request

    station = _with_default_model(root)
    options = Request(products=station.settings["products"])  # as many as the daemon makes
    content = scene.read_bytes() if scene else station.scene(0, size_px=1024)
    direct_s = []
    with open_backend(shipped_model()) as backend:
        for number in range(repeat + 1):
            path = root / f"direct{number}.tif"
            path.write_bytes(_numbered(content, number))
            start_s = time.monotonic()
            publish(process_scene(path, backend, root / "direct", options))
            direct_s.append(time.monotonic() - start_s)
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        for number in range(repeat + 1):
            station.drop(f"s{number}.tif", _numbered(content, number))
            until(lambda n=number: len(station.masks()) > n)  # type: ignore[misc]
        daemon.terminate()
    daemon_s = [record["total_s"] for record in _records(station, repeat + 1)]
    direct_ms, daemon_ms = (statistics.median(samples[1:]) * 1e3 for samples in (direct_s, daemon_s))
    return {"direct": round(direct_ms, 1), "daemon": round(daemon_ms, 1), "overhead": round(daemon_ms - direct_ms, 1)}


def _scenes_per_s(root: Path, count: int) -> float:
    station = Station(root, after="remove", scan_s=Config.model_fields["scan_s"].default)
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        start_s = time.monotonic()
        for number in range(count):
            station.drop(f"s{number:05d}.tif", number)
        # Seldom, for looking at so many files takes a processor of the daemon's.
        until(lambda: sum(1 for _ in os.scandir(station.outgoing)) >= 2 * count, 7200, poll_s=1.0)
        took_s = time.monotonic() - start_s
        daemon.terminate()
    return round(count / took_s, 1)


def _with_default_model(root: Path) -> Station:
    from sarwater.models import shipped_model

    station = Station(root, device="cpu")
    station.model = shipped_model().path
    return station


def _numbered(content: bytes, number: int) -> bytes:
    """The same scene with other bytes: the last pixels carry the number."""
    return content[:-8] + (number + 1).to_bytes(8, "little")


def _records(station: Station, count: int) -> list[dict[str, Any]]:
    """The latency records of `count` scenes; the last line follows the mask."""
    path = station.state / "latency.jsonl"
    until(lambda: path.exists() and path.read_text().count("\n") == count)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted(records, key=lambda record: int(record["job"]))


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
