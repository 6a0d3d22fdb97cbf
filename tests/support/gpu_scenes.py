"""Scenes over the CUDA driver of the tests, in a process that loads it: how one is started, and what runs in it."""

from __future__ import annotations

import dataclasses
import gc
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.base import FinishedRows, SceneRun
from runtime.backends.cpu.host import HostRun
from sarwater.manifest import Engine, ModelManifest, sha256_of
from sarwater.models import Model, open_model
from sarwater.tiling import TilePlan
from tests.conftest import CHECKOUT
from tests.support.cuda_driver.build import Built

TILE_PX = 32
FLAVOURS = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
Body = Callable[..., None]


def run_over(
    built: Built, body: Body, *arguments: object, sources: Path = CHECKOUT
) -> subprocess.CompletedProcess[str]:
    """`body`, a function of a module of tests, in a process over the driver. `sources`: where the packages are from."""
    paths = [built.packages, sources, CHECKOUT]
    code = f"from {body.__module__} import {body.__name__} as body; body(*{arguments!r})"
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=sources,
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(built.driver),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
        },
        timeout=900,
    )


def as_engine(model: Model, path: Path, flavour: str) -> None:
    """The ONNX file of `model` as an engine of the stand-in for `flavour`, with its manifest."""
    path.write_bytes(model.path.read_bytes())
    version = {"tensorrt": "10.13.0", "tensorrt-rtx": "1.7.1.116"}[flavour]
    capability = "portable" if flavour == "tensorrt-rtx" else "8.9"
    engine = Engine(flavour, version, "GPU of the tests", capability, 8, 4)
    manifest = dataclasses.replace(model.manifest, files={path.name: sha256_of(path)}, engine=engine)
    path.with_suffix(".json").write_text(manifest.to_json(), encoding="utf-8")


def install_stand_ins() -> None:
    """TensorRT's, and in place of NVRTC's machine code some that only the driver of the tests takes."""
    import runtime.backends.gpu.cuda as cuda
    from tests.support import tensorrt_stand_in

    for name in FLAVOURS.values():
        sys.modules[name] = tensorrt_stand_in.module(name)
    cuda.kernels_for = lambda *asked: b"\x7fELF"


def open_gpu(engine: str, graphs: bool = True) -> Any:
    """The TensorRtBackend of an engine that `as_engine` made."""
    install_stand_ins()
    from runtime.backends.gpu.tensorrt import TensorRtBackend

    model = open_model(Path(engine))
    os.environ["SARWATER_CACHE"] = str(model.path.parent)
    plan, digest = model.manifest.read_verified(model.path)
    return TensorRtBackend(model.path, model.manifest, plan, digest, graphs)


def assert_nothing_left(*about: object) -> None:
    """Of what was closed; and that nothing was done wrongly."""
    from tests.support.cuda_driver import control

    gc.collect()
    found = control.problems()
    assert not found, (*about, found)
    assert control.retained() == 0, about
    assert control.depth() == 0, about


class HostNetwork:
    """The engine's graph as a TileNetwork of the numpy backend."""

    depth = 1

    def __init__(self, engine: str) -> None:
        from tests.support.tensorrt_stand_in import ICudaEngine, session_of

        made = ICudaEngine(session_of(Path(engine).read_bytes()))
        self._answer, self._tile = made.answer, np.zeros(made.tile_shape, np.float32)

    def input(self, slot: int) -> np.ndarray:
        return self._tile

    def start(self, slot: int) -> None: ...

    def result(self, slot: int) -> np.ndarray:
        return self._answer(self._tile)


@dataclass(frozen=True)
class Case:
    """A scene, and what numpy makes of it."""

    plan: TilePlan
    pixels: np.ndarray
    valid: np.ndarray | None
    nodata: float | None
    gains: tuple[float, ...]
    expected: FinishedRows

    def run(self, backend: Any) -> FinishedRows:
        return push_all(backend.begin(self.plan, self.nodata, gains=self.gains), self.plan, self.pixels, self.valid)

    def assert_same(self, backend: Any) -> None:
        found = self.run(backend)
        assert np.array_equal(found.mask, self.expected.mask), self.plan
        assert np.array_equal(found.confidence, self.expected.confidence), self.plan


def random_case(network: HostNetwork, manifest: ModelManifest, seed: int, largest_px: int = 150) -> Case:
    rng = np.random.default_rng(seed)
    height, width = (int(size) for size in rng.integers(1, largest_px, 2))
    plan = TilePlan(height, width, TILE_PX, int(rng.choice([0, 2, 4, 10])))
    if rng.random() < 0.5:
        plan = plan.with_wide_fades()
    dtype = [np.uint8, np.uint16, np.int16, np.float32][rng.integers(4)]
    nodata = [None, 0, 7, -3, 0.5][rng.integers(5)]
    pixels = speckle(len(manifest.channels), height, width, dtype, seed, float(rng.choice([0, 0.3, 1])))
    valid = [None, (pixels != 0).any(axis=0), np.ones((height, width), bool)][rng.integers(3)]
    gains = tuple(rng.uniform(0.3, 3, len(manifest.channels))) if rng.random() < 0.5 else ()
    return case_of(network, manifest, plan, pixels, valid, nodata, gains)


def case_of(
    network: HostNetwork,
    manifest: ModelManifest,
    plan: TilePlan,
    pixels: np.ndarray,
    valid: np.ndarray | None = None,
    nodata: float | None = 0,
    gains: tuple[float, ...] = (),
) -> Case:
    expected = push_all(HostRun(plan, network, nodata, manifest.threshold, gains), plan, pixels, valid)
    return Case(plan, pixels, valid, nodata, gains, expected)


def push_all(run: SceneRun, plan: TilePlan, pixels: np.ndarray, valid: np.ndarray | None = None) -> FinishedRows:
    parts = []
    for span in plan.rows:
        stop = min(span.start + plan.tile_px, plan.height_px)
        parts.append(run.push(pixels[:, span.start : stop], None if valid is None else valid[span.start : stop]))
    parts = [part for part in parts if part.mask.size]
    assert [part.row for part in parts] == list(np.cumsum([0, *(len(part.mask) for part in parts[:-1])]))
    return FinishedRows(
        0, np.concatenate([part.mask for part in parts]), np.concatenate([part.confidence for part in parts])
    )


def speckle(channels: int, height: int, width: int, dtype: type, seed: int, holes: float) -> np.ndarray:
    """Speckle with blocks of zeros, some of them in one channel alone."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(1, 255, (channels, height, width)).astype(dtype)
    if np.issubdtype(dtype, np.signedinteger):
        pixels -= 100
    for _ in range(int(holes * 10)):
        y, x, size = rng.integers(height), rng.integers(width), rng.integers(1, 70)
        pixels[rng.integers(channels) if rng.random() < 0.5 else slice(None), y : y + size, x : x + size] = 0
    return pixels
