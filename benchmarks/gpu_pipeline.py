"""A whole scene from memory to finished rows on a GPU, beside the raw network: what the way around it costs.

    python -m benchmarks.gpu_pipeline [--model hrnet | FILE] [--device torch] [--size 27000x27000] [--json F]

Rows are in the computer's memory and masks stay there: no files, no GDAL. The raw network answers full batches that lie
on the device, on its clock. `share of the network` is the time that the raw network would take for the windows of the
scene, over the scene's wall-clock time; `computed` how many pixels were computed for each of the scene's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends import open_backend
from runtime.backends.gpu.scene_run import GpuRun
from runtime.backends.gpu.tensorrt import TensorRtBackend
from runtime.backends.pytorch.backend import TorchBackend
from runtime.backends.pytorch.network import HostNetwork
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DeviceUnavailable
from sarwater.models import find_model
from sarwater.tiling import TilePlan

RAW_BATCHES = 50
KEPT_INTERVALS = 2000


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    width_px, height_px = map(int, arguments.size.split("x"))
    with open_backend(find_model(arguments.model), arguments.device, arguments.tile) as backend:
        if not isinstance(backend, TensorRtBackend | TorchBackend) or backend._gpu is None:
            raise DeviceUnavailable(f"{arguments.device} runs on the {backend.device} here; this measures a GPU")
        report = measure(backend, height_px, width_px)
    for name, value in report.items():
        if name != "intervals":
            print(f"{name:24s} {value}")
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(report) + "\n", encoding="utf-8")
    return 0


def measure(backend: TensorRtBackend | TorchBackend, height_px: int, width_px: int) -> dict[str, Any]:
    """Plain JSON values; the scene runs twice, and the second time counts."""
    manifest, plan = backend.manifest, backend.plan(height_px, width_px)
    raw = raw_px_per_s(backend)
    strip = _strip(len(manifest.channels), min(plan.tile_px, height_px), width_px)
    for _ in range(2):
        run, seconds = _scene(backend, plan, strip)
    computed_px = plan.tiles * plan.tile_px**2
    return {
        "backend": backend.name,
        "device": backend.device,
        "model": f"{manifest.name} {manifest.precision}",
        "size": f"{width_px}x{height_px}",
        "batch": getattr(backend.network, "batch", 1),
        "raw_network_mpx_per_s": raw / 1e6,
        "scene_mpx_per_s": width_px * height_px / 1e6 / seconds,
        "scene_s": seconds,
        "share_of_the_network": computed_px / raw / seconds,
        "computed": computed_px / (width_px * height_px),
        "stage_s": run.counters.seconds,
        "intervals": [[item.stage, item.start_s, item.end_s] for item in run.intervals[:KEPT_INTERVALS]],
    }


def raw_px_per_s(backend: TensorRtBackend | TorchBackend) -> float:
    """Pixels of full batches, on the device's clock, after a warm-up as long."""
    gpu, network = backend._gpu, backend.network
    assert gpu is not None
    assert not isinstance(network, HostNetwork)
    for _ in range(2):
        before = gpu.record(gpu.compute)
        for _ in range(RAW_BATCHES):
            network.enqueue(network.batch, gpu.compute)
        after = gpu.record(gpu.compute)
        gpu.wait(after)
    return RAW_BATCHES * network.batch * backend.manifest.tile_px**2 / gpu.seconds(before, after)


def _scene(backend: TensorRtBackend | TorchBackend, plan: TilePlan, strip: np.ndarray) -> tuple[GpuRun, float]:
    started = time.perf_counter()
    run = backend.begin(plan, 0)
    for span in plan.rows:
        run.push(strip[:, : min(plan.tile_px, plan.height_px - span.start)])
    seconds = time.perf_counter() - started
    assert isinstance(run, GpuRun)
    return run, seconds


def _strip(channels: int, height_px: int, width_px: int) -> np.ndarray:
    """(C, height, width) uint16 speckle with lakes; every strip of the scene is this one."""
    rng = np.random.default_rng(0)
    x = np.arange(width_px)
    mean = np.where((x // 700) % 5 == 0, np.float32(14), np.float32(60))
    speckle = rng.rayleigh(0.8, (channels, height_px, width_px)).astype(np.float32)
    return np.clip(mean * speckle, 1, 65535).astype(np.uint16)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_pipeline", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="hrnet", help="an .onnx or .engine file, or a name (default: %(default)s)")
    parser.add_argument("--device", default="torch", choices=("torch", "gpu"), help="default: %(default)s")
    parser.add_argument("--tile", type=int, metavar="PX", help="default: the model's own")
    parser.add_argument("--size", default="27000x27000", metavar="WxH", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="F")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
