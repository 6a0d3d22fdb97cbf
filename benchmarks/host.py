"""What the host costs where the network costs nothing: the whole way of a scene, all products, with answers at once.

    python -m benchmarks.host [--size WxH] [--products mask,polygons] [--rounds N]

The scene is the golden ones beside each other, mirrored; the answers are those of a box filter, made before the clock
starts. Of each step: processor seconds of its thread, which neighbours on the machine hardly change, and seconds on the
wall, which they do. `memory_mb` is what the run takes beyond the answers that are held for it. `side_by_side`: what the
wall would see with a processor for each step that can run beside the others, rows and then the ends of files, and how
many processors that keeps busy. Below, what the same machine takes for a COG of the scene alone, as a measure.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows, RunCounters, SceneRun
from runtime.backends.cpu.host import as_pixel
from runtime.backends.cpu.windows import windows_with_data
from runtime.backends.fake import FakeBackend
from sarwater.command import run_command
from sarwater.golden import golden_scene
from sarwater.models import find_model
from sarwater.tiling import TilePlan

UInt8 = npt.NDArray[np.uint8]
_BOX_PX, _DARK_DN, _SLOPE_DN = 25, 70.0, 12.0
_ROWS = 1024
_PEAK = Path("/proc/self/clear_refs")
"""Writing 5 forgets the largest memory so far (proc(5))."""


class _AtOnce(SceneRun):
    """What the host does for a run on a GPU: which windows, rows into memory of its own, results out of it."""

    def __init__(self, plan: TilePlan, nodata: float | None, answers: tuple[UInt8, UInt8]) -> None:
        self.counters = RunCounters()
        self._plan, self._nodata, self._answers = plan, nodata, answers
        self._pushed = self._done = self._copied = 0
        self._ring: npt.NDArray[Any] | None = None

    def push(self, rows: npt.NDArray[Any], valid: npt.NDArray[np.bool_] | None = None) -> FinishedRows:
        plan, span = self._plan, self._plan.rows[self._pushed]
        self.counters.tiles += len(windows_with_data(plan, span, rows, valid, as_pixel(self._nodata, rows.dtype)))
        self._ring = np.empty_like(rows) if self._ring is None else self._ring
        fresh = rows[:, self._copied - span.start :]
        self._ring[:, : fresh.shape[1]], self._copied = fresh, span.start + rows.shape[1]
        self._pushed += 1
        last = self._pushed == len(plan.rows)
        first, self._done = self._done, plan.height_px if last else plan.rows[self._pushed].lo - plan.balance_px
        mask, confidence = (answer[first : self._done].copy() for answer in self._answers)
        return FinishedRows(first, mask, confidence)


class AtOnceBackend(FakeBackend):
    """Answers with `answers`, (H, W) mask and confidence of the scene to come."""

    def __init__(self, answers: tuple[UInt8, UInt8]) -> None:
        super().__init__(find_model("hrnet").manifest)
        self._answers = answers

    def begin(
        self, plan: TilePlan, nodata: float | None, threshold: float | None = None, gains: Sequence[float] = ()
    ) -> SceneRun:
        return _AtOnce(plan, nodata, self._answers)


def write_scene(path: Path, width_px: int, height_px: int) -> npt.NDArray[np.uint16]:
    """A tiled, deflated GeoTIFF; (H, W) its pixels."""
    from sarwater.scenes.raster import close_dataset, gdal, osr

    channels = find_model("hrnet").manifest.channels
    pixels = golden_scene(channels, max(width_px, height_px))[0][0, :height_px, :width_px].astype(np.uint16)
    options = ["TILED=YES", "COMPRESS=DEFLATE", "ZLEVEL=1", "BLOCKXSIZE=512", "BLOCKYSIZE=512", "NUM_THREADS=ALL_CPUS"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width_px, height_px, 1, gdal.GDT_UInt16, options)
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(32632)
    dataset.SetProjection(reference.ExportToWkt())
    dataset.SetGeoTransform((500_000, 1.1, 0, 5_000_000, 0, -1.1))
    dataset.GetRasterBand(1).SetNoDataValue(0)
    dataset.GetRasterBand(1).WriteArray(pixels)
    close_dataset(dataset)
    return pixels


def answers_for(pixels: npt.NDArray[np.uint16]) -> tuple[UInt8, UInt8]:
    """(H, W) mask and confidence: dark is water, by the mean over a box."""
    mask, confidence = np.empty(pixels.shape, np.uint8), np.empty(pixels.shape, np.uint8)
    for row in range(0, len(pixels), _ROWS):
        part = np.pad(pixels[row : row + _ROWS].astype(np.float32), ((_BOX_PX, 0), (_BOX_PX, 0)), mode="edge")
        sums = part.cumsum(0, dtype=np.float64).cumsum(1)
        boxes = sums[_BOX_PX:, _BOX_PX:] - sums[:-_BOX_PX, _BOX_PX:]
        boxes -= sums[_BOX_PX:, :-_BOX_PX] - sums[:-_BOX_PX, :-_BOX_PX]
        water = 1 / (1 + np.exp((boxes / _BOX_PX**2 - _DARK_DN) / _SLOPE_DN))
        mask[row : row + _ROWS], confidence[row : row + _ROWS] = water >= 0.5, water * 100 + 0.5
    missing = pixels == 0
    mask[missing] = confidence[missing] = 255
    return mask, confidence


class Clock:
    """Processor and wall seconds by step, of whichever thread takes it."""

    def __init__(self) -> None:
        self.cpu_s: defaultdict[str, float] = defaultdict(float)
        self.wall_s: defaultdict[str, float] = defaultdict(float)

    def timed(self, name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            wall_s, cpu_s = time.perf_counter(), time.thread_time()
            try:
                return step(*arguments, **named)
            finally:
                self.cpu_s[name] += time.thread_time() - cpu_s
                self.wall_s[name] += time.perf_counter() - wall_s

        return call

    def table(self, pixels: int) -> dict[str, dict[str, float]]:
        return {
            name: {
                "cpu_s": round(self.cpu_s[name], 3),
                "wall_s": round(self.wall_s[name], 3),
                "cpu_ns_per_px": round(1e9 * self.cpu_s[name] / pixels, 1),
            }
            for name in sorted(self.cpu_s, key=lambda name: -self.cpu_s[name])
        }


def measure(
    scene: Path, answers: tuple[UInt8, UInt8], folder: Path, products: tuple[str, ...] | None
) -> dict[str, Any]:
    """One scene the whole way. The child that decodes counts, too."""
    from runtime import pipeline
    from runtime.products import PRODUCTS, polygons
    from runtime.tally import Tally
    from sarwater.request import Request
    from sarwater.scenes.model_input import ModelInput

    clock = Clock()
    patched: list[tuple[Any, str, Any]] = []

    def time_it(owner: Any, name: str, label: str) -> None:
        patched.append((owner, name, getattr(owner, name)))
        setattr(owner, name, clock.timed(label, getattr(owner, name)))

    for product in PRODUCTS:
        for step in ("write", "finish", *(["see"] if product.sees else [])):
            time_it(product, step, f"{product.name} {step}")
    time_it(polygons, "strip_of", "polygons strips")
    time_it(Tally, "add", "tally")
    time_it(ModelInput, "_read_into", "read")
    time_it(_AtOnce, "push", "push")
    time_it(pipeline, "scene_sha256", "hash input")
    try:
        _PEAK.write_text("5")  # from here on
        held_mb = _status_mb("VmRSS")
        before = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        started_s = time.perf_counter()
        pipeline.process_scene(scene, AtOnceBackend(answers), folder, Request(products=products))
        wall_s = time.perf_counter() - started_s
        after = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    finally:
        for owner, name, real in patched:
            setattr(owner, name, real)
        shutil.rmtree(folder, ignore_errors=True)
    ours, children = (
        (end.ru_utime + end.ru_stime) - (start.ru_utime + start.ru_stime)
        for start, end in zip(before, after, strict=True)
    )
    pixels = answers[0].size
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(ours, 2),
        "children_cpu_s": round(children, 2),
        "cpu_ns_per_px": round(1e9 * (ours + children) / pixels, 1),
        "memory_mb": round(_status_mb("VmHWM") - held_mb),
        "side_by_side": side_by_side(clock.cpu_s, polygons.STRIPS_AT_ONCE),
        "steps": clock.table(pixels),
    }


def _status_mb(name: str) -> float:
    """Of this process, as the kernel knows it."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024


def side_by_side(cpu_s: Mapping[str, float], strips_at_once: int) -> dict[str, float]:
    """From the processor seconds of each step: the seconds that the longest thread takes, and processors in use."""
    reading_s = sum(seconds for name, seconds in cpu_s.items() if name == "read" or name.endswith(" see"))
    alone = {name: seconds for name, seconds in cpu_s.items() if name != "read" and not name.endswith(" see")}
    alone["polygons strips"] = alone.get("polygons strips", 0) / strips_at_once
    rows_s = max(reading_s, *(seconds for name, seconds in alone.items() if not name.endswith(" finish")))
    finish_s = max(seconds for name, seconds in alone.items() if name.endswith(" finish"))
    wall_s = rows_s + finish_s
    found = {"rows_s": rows_s, "finish_s": finish_s, "processors": sum(cpu_s.values()) / wall_s}
    return {name: round(value, 2) for name, value in found.items()}


def cog_alone(scene: Path, folder: Path) -> dict[str, float]:
    """The peer: GDAL's own COG of the scene, as `gdal_translate -of COG` makes it."""
    from sarwater.scenes.raster import close_dataset, gdal

    wall_s, cpu_s = time.perf_counter(), time.process_time()
    source = gdal.Open(str(scene))
    target = folder / "cog.tif"
    close_dataset(gdal.GetDriverByName("COG").CreateCopy(str(target), source, options=["NUM_THREADS=ALL_CPUS"]))
    target.unlink()
    return {"wall_s": round(time.perf_counter() - wall_s, 2), "cpu_s": round(time.process_time() - cpu_s, 2)}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="8192x8192", metavar="WxH")
    parser.add_argument("--products", metavar="A,B")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-peer", action="store_true", help="leave GDAL's own COG out")
    arguments = parser.parse_args(argv)
    width_px, height_px = (int(part) for part in arguments.size.split("x"))
    products = tuple(arguments.products.split(",")) if arguments.products else None
    with tempfile.TemporaryDirectory(prefix="sarwater-benchmark-") as name:
        folder = Path(name)
        answers = answers_for(write_scene(folder / "scene.tif", width_px, height_px))
        runs = [measure(folder / "scene.tif", answers, folder / "out", products) for _ in range(arguments.rounds)]
        best = min(runs, key=lambda run: float(run["cpu_s"]))
        report = {"size": arguments.size, "rounds": len(runs), **best}
        if not arguments.no_peer:
            report["gdal_cog_alone"] = cog_alone(folder / "scene.tif", folder)
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
