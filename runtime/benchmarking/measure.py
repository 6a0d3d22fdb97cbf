"""The benchmark's measurements: start-up, the network alone, and whole scenes beside the network on their tiles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends import Backend, open_backend
from runtime.backends.cpu.host import as_pixel, gather
from runtime.benchmarking.conditions import Conditions, Watch
from runtime.benchmarking.device_state import Sensors
from runtime.benchmarking.timing import Patience, enough, interval, sample, summarise, warm_up
from runtime.products import PRODUCTS
from sarwater.errors import SceneError, UsageError
from sarwater.models import Model
from sarwater.request import Request, Window
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]
Say = Callable[[str], None]

BATCHES = (1, 2, 4, 8)
RAW_TILES = 24
"""Tiles of a scene on which the network runs alone: enough to keep it busy, few enough to hold."""
SCENE_ROUNDS = 5


@dataclass(frozen=True)
class Task:
    """What to measure of every model."""

    batches: tuple[int, ...] | None = None
    """None: BATCHES, as far as an engine goes."""
    tiles_px: tuple[int, ...] = ()
    """None of them: the model's own."""
    scene_px: tuple[int, int] | None = (4096, 4096)
    """(width, height) of a simulated scene, or None for no scene."""
    patience: Patience = field(default_factory=Patience)
    starts: int = 3
    """Processes started to time the start-up; 0 leaves it out."""


def check(model: Model, task: Task) -> None:
    """Raise UsageError for what this model cannot do, before anything is measured."""
    engine = model.manifest.engine
    if engine is None:
        return
    own_px = model.manifest.tile_px
    if other := [tile_px for tile_px in task.tiles_px if tile_px != own_px]:
        raise UsageError(
            f"{model.path}: its tile of {own_px} px was fixed when it was built, so it cannot run at {other[0]} px; "
            f"build another: `sarwater build-engine {model.manifest.family} --tile {other[0]}`"
        )
    if too_large := [batch for batch in task.batches or () if batch > engine.max_batch]:
        raise UsageError(
            f"{model.path}: was built for batches of up to {engine.max_batch}, not {too_large[0]}; "
            f"leave --batch out, or build another: `sarwater build-engine --max-batch {too_large[0]}`"
        )


def measure(
    model: Model, device: str, tile_px: int | None, task: Task, sensors: Sensors, say: Say = lambda _: None
) -> dict[str, Any]:
    """Everything about one model at one tile size, as plain JSON values. Raises as open_backend does."""
    say("start-up")
    start = start_up(model, device, tile_px, task.starts)
    with open_backend(model, device, tile_px) as backend:
        manifest, engine = backend.manifest, backend.manifest.engine
        most = engine.max_batch if engine else max(BATCHES)
        network = []
        for batch in task.batches or [batch for batch in BATCHES if batch <= most]:
            say(f"network, batch {batch}")
            network.append(_network(backend, batch, task.patience, sensors))
        scene, why_not = None, None
        if task.scene_px:
            say("scene of {} x {} px".format(*task.scene_px))
            try:
                scene = _scene(backend, task.scene_px, task.patience, sensors)
            except SceneError as error:  # a model that wants more than a simulated scene has
                why_not = str(error)
        return {
            "name": manifest.name,
            "file": model.path.name,
            "sha256": backend.model_sha256,
            "precision": manifest.precision,
            "backend": backend.name,
            "device": backend.device,
            "tile_px": manifest.tile_px,
            "overlap_px": manifest.overlap_px,
            "start_up": start,
            "network": network,
            "scene": scene,
            "scene_not_measured": why_not,
        }


def start_up(model: Model, device: str, tile_px: int | None, count: int) -> dict[str, Any] | None:
    """Seconds from the start of a process to an opened backend, and of its first inference, in fresh processes."""
    open_s, first_s = [], []
    for _ in range(count):
        command = [
            sys.executable,
            "-m",
            "runtime.commands.benchmark",
            str(model.path),
            "--device",
            device,
            "--start-once",
        ]
        if tile_px is not None:
            command += ["--tile", str(tile_px)]
        started_s = time.monotonic()
        child = subprocess.run(command, capture_output=True, text=True, env=_with_this_package())
        if child.returncode:
            return None  # opening it here says what is wrong
        moments = json.loads(child.stdout)
        open_s.append(moments["opened_s"] - started_s)
        first_s.append(moments["inferred_s"] - moments["opened_s"])
    if not count:
        return None
    return {"to_open_s": open_s, "first_inference_s": first_s}


def start_once(model: Model, device: str, tile_px: int | None) -> dict[str, float]:
    """The child's part of `start_up`: moments on the monotonic clock, which all processes of a machine share."""
    with open_backend(model, device, tile_px) as backend:
        opened_s = time.monotonic()
        backend.infer(_speckle(backend, 1))
        return {"opened_s": opened_s, "inferred_s": time.monotonic()}


def _network(backend: Backend, batch: int, patience: Patience, sensors: Sensors) -> dict[str, Any]:
    tiles = _speckle(backend, batch)
    warm_up(lambda: backend.infer(tiles), least_s=min(1.0, patience.limit_s / 10))
    with Watch(sensors) as watch:
        seconds = sample(lambda: backend.infer(tiles), patience)
    latency = summarise(seconds)
    mpx = batch * backend.manifest.tile_px**2 / 1e6
    return {
        "batch": batch,
        "latency": asdict(latency),
        "tiles_per_s": batch / latency.mean_s,
        "mpx_per_s": mpx / latency.mean_s,
        **_seen(watch.conditions(), mpx * len(seconds)),
    }


def _scene(backend: Backend, size_px: tuple[int, int], patience: Patience, sensors: Sensors) -> dict[str, Any]:
    """Whole scenes, all products, in turns with the network alone on tiles of the same scene."""
    from runtime.benchmarking.simulated import write_scene
    from runtime.pipeline import open_for, process_scene
    from runtime.products.publish import discard

    width_px, height_px = size_px
    manifest = backend.manifest
    options = _options_for(backend)
    with tempfile.TemporaryDirectory(prefix="sarwater-benchmark-") as name:
        folder = Path(name)
        path = write_scene(folder / "scene.tif", height_px, width_px, bands=_bands_for(backend))
        with open_for(backend, path, options) as scene:
            plan = backend.plan(height_px, width_px)
            tiles = tiles_of(scene, plan)

        def run(options: Request) -> dict[str, Any]:
            staged = process_scene(path, backend, folder / "products", options)
            discard(staged)
            return staged.record

        corner = Window(0, 0, min(width_px, manifest.tile_px), min(height_px, manifest.tile_px))
        run(Request(**{**vars(options), "window": corner}))  # warm-up: every library loaded, every path taken
        _all_tiles(backend, tiles)
        seconds: list[float] = []
        records: list[dict[str, Any]] = []
        watch, raw_s = Watch(sensors), [_timed(lambda: _all_tiles(backend, tiles))]
        begun, rounds = time.perf_counter(), Patience(patience.limit_s, SCENE_ROUNDS, patience.tightness)
        while not enough(seconds, time.perf_counter() - begun, rounds):
            with watch:
                seconds.append(_timed(lambda: records.append(run(options))))
            raw_s.append(_timed(lambda: _all_tiles(backend, tiles)))
    return _scene_figures(seconds, raw_s, records, len(tiles), plan) | _seen(
        watch.conditions(), width_px * height_px / 1e6 * len(seconds)
    )


def _scene_figures(
    seconds: list[float], raw_s: list[float], records: list[dict[str, Any]], raw_tiles: int, plan: TilePlan
) -> dict[str, Any]:
    summary = summarise(seconds)
    inferred = records[0]["tiles"]
    # The network alone ran before and after each scene, so that a drift of the machine meets both alike.
    of_network_s = [(raw_s[i] + raw_s[i + 1]) / 2 / raw_tiles * inferred for i in range(len(seconds))]
    share = [network_s / scene_s for network_s, scene_s in zip(of_network_s, seconds, strict=True)]
    stages = {
        stage: float(np.mean([record[f"{stage}_s"] for record in records]))
        for stage in ("read", "h2d", "infer", "d2h", "post", "write")
        if records[0][f"{stage}_s"] is not None
    }
    return {
        "width_px": plan.width_px,
        "height_px": plan.height_px,
        "products": [product.name for product in PRODUCTS],
        "tiles": inferred,
        "tiles_skipped": records[0]["tiles_skipped"],
        "overlap_waste": plan.waste,
        "latency": asdict(summary),
        "tiles_per_s": inferred / summary.mean_s,
        "mpx_per_s": plan.width_px * plan.height_px / 1e6 / summary.mean_s,
        "network_tiles_per_s": raw_tiles / float(np.mean(raw_s)),
        "share_of_network": asdict(interval(share)),
        "network_busy": stages["infer"] / summary.mean_s if "infer" in stages else None,
        "stages_s": stages,
    }


def _seen(conditions: Conditions, mpx: float) -> dict[str, Any]:
    joules = conditions.joules
    per_mpx = None if joules is None else {sensor: energy / mpx for sensor, energy in joules.items()}
    return {"joules_per_mpx": per_mpx, "conditions": asdict(conditions)}


def _speckle(backend: Backend, batch: int) -> Float32:
    """(batch, C, T, T) float32: numbers like those of a scene; zeros and denormals can be quicker or slower."""
    manifest = backend.manifest
    shape = (batch, len(manifest.channels), manifest.tile_px, manifest.tile_px)
    return np.random.default_rng(0).rayleigh(40.0, shape).astype(np.float32)


def _bands_for(backend: Backend) -> list[str]:
    """Descriptions of the bands that the model's channels look for; `sar` takes any."""
    names = [channel.name for channel in backend.manifest.channels if channel.name != "gim"]
    return ["" if name == "sar" else name for name in names]


def _options_for(backend: Backend) -> Request:
    channels = backend.manifest.channels
    numbers = [str(number) for number, channel in enumerate(channels, 1) if channel.name == "sar"]
    return Request(unit=channels[0].unit, polarisations=tuple(numbers))


def tiles_of(scene: Any, plan: TilePlan) -> Float32:
    """(N, C, T, T) float32 tiles from all over the scene, as the pipeline would cut them."""
    places = [(row, column) for row in plan.rows for column in plan.columns]
    tiles = []
    for row, column in places[:: max(1, len(places) // RAW_TILES)][:RAW_TILES]:
        pixels, valid = scene.read(row.start, min(plan.tile_px, plan.height_px))
        tile = np.empty((len(pixels), plan.tile_px, plan.tile_px), np.float32)
        gather(pixels, valid, as_pixel(scene.nodata, pixels.dtype), column.start, tile)
        tiles.append(tile)
    return np.stack(tiles)


def _all_tiles(backend: Backend, tiles: Float32) -> None:
    """The network alone, as busy as it can be: an engine at its largest batch, requests on the CPU side by side."""
    engine = backend.manifest.engine
    batch = engine.max_batch if engine else len(tiles)
    for first in range(0, len(tiles), batch):
        backend.infer(tiles[first : first + batch])


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _with_this_package() -> dict[str, str]:
    """An environment in which a child finds this very package, from wherever it was imported."""
    here = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
