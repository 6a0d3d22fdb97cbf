"""How much of the network's own speed is left in a whole scene, and how much memory a tall one takes.

    python -m benchmarks.scene [--model MODEL] [--scene FILE] [--size WxH] [--rounds N] [--memory]

Without --scene, one is simulated. The raw network runs on tiles of the same scene, before and after it, in the same
process; both figures count the same tiles. A machine whose neighbours come and go changes its speed within seconds, so
this is done N times in turn and the medians are shown, with the shares of every round beside them. The processor
seconds depend less on the neighbours than those on the wall.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.benchmarking.measure import tiles_of
from runtime.benchmarking.simulated import write_scene
from sarwater.command import run_command
from sarwater.errors import UsageError
from sarwater.models import Model, find_model

K5_PX = 27_000
"""Width and height of a full KOMPSAT-5 GTC scene."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    if arguments.rounds < 1:
        raise UsageError(f"--rounds {arguments.rounds}: expected 1 or more")
    model = find_model(arguments.model)
    with tempfile.TemporaryDirectory(prefix="sarwater-benchmark-") as folder:
        if arguments.peak:
            print(json.dumps(_peak(model, arguments.scene, Path(folder))))
            return 0
        scene = arguments.scene
        if scene is None:
            width, height = (int(part) for part in arguments.size.split("x"))
            scene = write_scene(Path(folder) / "scene.tif", height, width)
        report = compare(model, scene, Path(folder), arguments.rounds)
        if arguments.memory:
            report |= compare_memory(model, Path(folder))
    print(json.dumps(report, indent=2))
    return 0


def compare(model: Model, scene: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Throughput of the whole scene, all products, against that of the raw network on the same tiles."""
    from runtime.backends import open_backend
    from runtime.pipeline import open_for
    from sarwater.request import Request

    with open_backend(model) as backend:
        manifest = backend.manifest
        with open_for(backend, scene, Request()) as opened:
            plan = backend.plan(opened.height_px, opened.width_px)
            tiles = tiles_of(opened, plan)
        backend.infer(tiles[:4])  # warm-up
        raw = [_run_raw(backend, tiles)]
        wholes = []
        for _ in range(rounds):
            wholes.append(_run_whole(backend, scene, folder))
            raw.append(_run_raw(backend, tiles))
    record = wholes[0]["record"]
    tile_share = record["tiles"] / len(tiles)
    shares = [
        [
            (one + other) / 2 * tile_share / total
            for one, other, total in zip(before, after, whole["total_s"], strict=True)
        ]
        for (before, after), whole in zip(pairwise(raw), wholes, strict=True)
    ]
    wall_s = median(whole["total_s"][0] for whole in wholes)
    return {
        "device": record["device"],
        "model": manifest.name,
        "scene_px": [record["width_px"], record["height_px"]],
        "rounds": rounds,
        "tiles": record["tiles"],
        "tiles_skipped": record["tiles_skipped"],
        "tile_px": plan.tile_px,
        "overlap_waste": plan.waste,
        "raw_tiles_per_s": len(tiles) / median(wall for wall, _ in raw),
        "scene_tiles_per_s": record["tiles"] / wall_s,
        "share_of_raw_wall": median(wall for wall, _ in shares),
        "share_of_raw_processor": median(processor for _, processor in shares),
        "shares_wall": [wall for wall, _ in shares],
        "shares_processor": [processor for _, processor in shares],
        "scene_mpx_per_s": record["width_px"] * record["height_px"] / wall_s / 1e6,
        "seconds": {
            stage: median(whole["record"][f"{stage}_s"] for whole in wholes)
            for stage in ("read", "infer", "post", "write")
        },
        "tail_s": median(whole["tail_s"] for whole in wholes),
        "total_s": wall_s,
        "peak_memory_mb": _peak_mb(),
    }


def compare_memory(model: Model, folder: Path) -> dict[str, Any]:
    """Peak memory of a full-size scene and of one a tenth as tall, each in a process of its own."""
    peaks = {}
    for name, height in (("full", K5_PX), ("tenth", K5_PX // 10)):
        scene = write_scene(folder / f"{name}.tif", height, K5_PX, data_rows=2500)
        command = [
            sys.executable,
            "-m",
            "benchmarks.scene",
            "--model",
            str(model.path),
            "--scene",
            str(scene),
            "--peak",
        ]
        peaks[name] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    full, tenth = peaks["full"]["peak_memory_mb"], peaks["tenth"]["peak_memory_mb"]
    return {"memory_full_mb": full, "memory_tenth_mb": tenth, "memory_ratio": full / tenth}


def _peak(model: Model, scene: Path, folder: Path) -> dict[str, float]:
    from runtime.backends import open_backend
    from runtime.pipeline import process_scene

    with open_backend(model) as backend:
        process_scene(scene, backend, folder / "products")
    return {"peak_memory_mb": _peak_mb()}


def _run_raw(backend: Any, tiles: npt.NDArray[np.float32]) -> tuple[float, float]:
    """(wall, processor) seconds of the network alone, with all of its slots kept busy."""
    wall, processor = time.perf_counter(), time.process_time()
    backend.infer(tiles)
    return time.perf_counter() - wall, time.process_time() - processor


def _run_whole(backend: Any, scene: Path, folder: Path) -> dict[str, Any]:
    """`total_s`, (wall, processor) seconds of one scene with all products; `tail_s` and its latency `record`."""
    from runtime.pipeline import process_scene

    wall, processor = time.perf_counter(), time.process_time()
    staged = process_scene(scene, backend, folder / "products")
    total_s = time.perf_counter() - wall, time.process_time() - processor
    shutil.rmtree(staged.folder)
    moments = staged.record["moments"]
    tail_s = moments["written"]["monotonic_s"] - moments["last_tile"]["monotonic_s"]
    return {"record": staged.record, "total_s": total_s, "tail_s": tail_s}


def _peak_mb() -> float:
    """Of this program. The peak that getrusage knows begins with that of the process which started it."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.scene", description="Whole-scene speed against the raw network's."
    )
    parser.add_argument("--model", default="hrnet", help="an .onnx file or a model name (default: %(default)s)")
    parser.add_argument("--scene", type=Path, help="a scene to run (default: a simulated one)")
    parser.add_argument(
        "--size", default="8192x8192", metavar="WxH", help="of the simulated scene (default: %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--memory", action="store_true", help=f"also compare memory at {K5_PX} x {K5_PX} px and a tenth"
    )
    parser.add_argument("--peak", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
