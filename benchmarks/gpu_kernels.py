"""What the kernels around the network move: GB/s of each on a wide scene, by the device's own clock.

    python -m benchmarks.gpu_kernels [--size 27000x6000] [--json F]

The network answers nothing (its output is zeros), so that only copies and kernels are at work. Bytes are those that a
kernel must read and write once; what caches save is not counted, so a kernel can exceed what memory gives.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.device import Event, Stream
from runtime.backends.gpu.scene_run import GpuRun
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.tiling import TilePlan

TILE_PX, OVERLAP_PX, BATCH = 1024, 48, 8
PIXEL_BYTES = {"gather": 2 + 4, "place": 4 + 4, "join_columns": 12, "join_rows": 12, "finalise": 2 + 4 + 2}
"""Of one pixel of a launch: uint16 in, float32 answers, uint8 out; a join reads two answers and writes one."""
PIXEL_BYTES |= dict.fromkeys(("compare_columns", "compare_rows"), OVERLAP_PX * (2 + 4 + 4))
"""These have a thread for each line across a border."""


class Stopwatch(CudaDevice):
    """A device that notes when each kernel began and ended."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[tuple[str, int, Event, Event]] = []

    def launch(self, kernel: str, pixels: tuple[int, int, int], arguments: Sequence[Any], stream: Stream) -> None:
        before = self.record(stream)
        super().launch(kernel, pixels, arguments, stream)
        name = kernel.removesuffix("_uint16")
        self.launches.append((name, int(np.prod(pixels)) * PIXEL_BYTES[name], before, self.record(stream)))


class Silent:
    """A BatchNetwork that says nothing."""

    def __init__(self, device: CudaDevice) -> None:
        self.batch = BATCH
        self.input = device.memory("network input", BATCH * TILE_PX**2 * 4)
        self.output = device.memory("network output", BATCH * TILE_PX**2 * 4)
        device.fill(self.output, 0, BATCH * TILE_PX**2 * 4, device.compute)

    def enqueue(self, count: int, stream: Stream) -> None:
        """The output stays."""

    def halve(self) -> None:
        raise MemoryError("too little GPU memory for this benchmark; give a narrower --size")


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_kernels", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", default="27000x6000", metavar="WxH", help="default: %(default)s")
    parser.add_argument("--json", type=Path, metavar="F")
    arguments = parser.parse_args(argv)
    width_px, height_px = map(int, arguments.size.split("x"))
    device = Stopwatch()
    try:
        found = {"device": device.name, "size": arguments.size, "stages": measure(device, height_px, width_px)}
    finally:
        device.launches.clear()
        device.close()
    for stage, figures in found["stages"].items():
        print(f"{stage:16s} {figures['gb_per_s']:9.1f} GB/s {figures['ms']:9.3f} ms of {figures['launches']} launches")
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(device: Stopwatch, height_px: int, width_px: int) -> dict[str, dict[str, float]]:
    """Stage -> GB/s, milliseconds and launches, of the second of two runs."""
    plan = TilePlan(height_px, width_px, TILE_PX, OVERLAP_PX).with_wide_fades()
    strip = np.random.default_rng(0).integers(1, 200, (1, min(TILE_PX, height_px), width_px)).astype(np.uint16)
    network = Silent(device)
    for _ in range(2):
        device.launches.clear()
        run = GpuRun(plan, device, network, 1, 0, 0.5)
        for span in plan.rows:
            run.push(strip[:, : min(TILE_PX, height_px - span.start)])
    device.wait_for_all()
    totals: dict[str, list[tuple[int, float]]] = {}
    for name, size_bytes, before, after in device.launches:
        totals.setdefault(name, []).append((size_bytes, device.seconds(before, after)))
    totals["h2d"] = [(run.uploaded_bytes, run.counters.seconds["h2d"])]
    totals["d2h"] = [(2 * height_px * width_px, run.counters.seconds["d2h"])]
    return {name: _figures(pieces) for name, pieces in totals.items()}


def _figures(pieces: list[tuple[int, float]]) -> dict[str, float]:
    size_bytes, seconds = (sum(part) for part in zip(*pieces, strict=True))
    return {"gb_per_s": size_bytes / 1e9 / max(seconds, 1e-9), "ms": seconds * 1e3, "launches": len(pieces)}


if __name__ == "__main__":
    sys.exit(run_command(main))
