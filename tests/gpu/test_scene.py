"""Whole scenes on a real GPU, through every network that serves it."""

from __future__ import annotations

import dataclasses
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import open_backend
from runtime.backends.base import Backend, FinishedRows, SceneRun
from runtime.backends.cpu.host import HostRun
from runtime.backends.gpu.scene_run import GpuRun
from runtime.backends.gpu.tensorrt import TensorRtBackend
from sarwater.classes import NODATA
from sarwater.errors import DeviceOutOfMemory, DeviceUnavailable, HashMismatch, ModelError
from sarwater.models import Model
from sarwater.tiling import TilePlan
from tests.conftest import CHECKOUT
from tests.gpu.conftest import OVERLAP_PX, TILE_PX, Opened
from tests.support.models import box_probability
from tests.support.scenes import lake_scene

SCENES = 1000


def pixels_of(height: int, width: int, dtype: type = np.uint16) -> np.ndarray:
    """A lake with a corner of nodata, (1, H, W)."""
    pixels = np.minimum(lake_scene(height, width), 250).astype(dtype)[None]
    pixels[:, : height // 3, : width // 2] = 0
    return pixels


def run_scene(backend: Backend, pixels: np.ndarray, nodata: float | None = 0) -> tuple[FinishedRows, GpuRun]:
    plan = TilePlan(pixels.shape[1], pixels.shape[2], TILE_PX, OVERLAP_PX)
    run = backend.begin(plan, nodata)
    return pushed(run, plan, pixels), run  # type: ignore[return-value]


def pushed(run: SceneRun, plan: TilePlan, pixels: np.ndarray) -> FinishedRows:
    parts = [run.push(pixels[:, span.start : span.start + TILE_PX]) for span in plan.rows]
    parts = [part for part in parts if part.mask.size]
    return FinishedRows(
        0, np.concatenate([part.mask for part in parts]), np.concatenate([part.confidence for part in parts])
    )


class BoxNetwork:
    """The network of `box_model` in numpy, a TileNetwork."""

    depth = 1

    def __init__(self) -> None:
        self._tile = np.zeros((1, TILE_PX, TILE_PX), np.float32)

    def input(self, slot: int) -> np.ndarray:
        return self._tile

    def start(self, slot: int) -> None: ...

    def result(self, slot: int) -> np.ndarray:
        return box_probability(self._tile[0]).astype(np.float32)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("shape", [(700, 900), (100, 60), (1, 1), (1000, 128)])
def test_a_scene_is_the_same_on_cpu_and_gpu(open_gpu: Opened, dtype: type, shape: tuple[int, int]) -> None:
    pixels = pixels_of(*shape, dtype)
    found, _ = run_scene(open_gpu(), pixels)
    plan = TilePlan(*shape, TILE_PX, OVERLAP_PX)
    expected = pushed(HostRun(plan, BoxNetwork(), 0, 0.5), plan, pixels)
    assert np.array_equal(found.mask == NODATA, expected.mask == NODATA)
    off = np.abs(found.confidence.astype(int) - expected.confidence.astype(int))
    assert off.max() <= 1
    # A probability on the threshold may fall to either side; nothing else may differ.
    on_threshold = np.abs(expected.confidence.astype(int) - 50) <= 1
    assert np.array_equal(found.mask[~on_threshold], expected.mask[~on_threshold])


def test_one_scene_gives_the_same_bytes_every_time(open_gpu: Opened) -> None:
    backend, pixels = open_gpu(), pixels_of(700, 900)
    first, _ = run_scene(backend, pixels)
    for _ in range(5):
        again, _ = run_scene(backend, pixels)
        assert again.mask.tobytes() == first.mask.tobytes()
        assert again.confidence.tobytes() == first.confidence.tobytes()


def test_a_graph_gives_what_single_launches_give(open_engine: Callable[[bool], TensorRtBackend]) -> None:
    pixels = pixels_of(700, 900)
    with_graphs, without = open_engine(True), open_engine(False)
    assert not without.network.has_graphs
    assert run_scene(with_graphs, pixels)[0].confidence.tobytes() == run_scene(without, pixels)[0].confidence.tobytes()


def test_copies_overlap_with_inference(open_gpu: Opened) -> None:
    """On the device's own clock: rows of one band go up while the band before it is inferred."""
    _, run = run_scene(open_gpu(), pixels_of(6000, 8000))
    inferred = [interval for interval in run.intervals if interval.stage == "infer"]
    copies = [interval for interval in run.intervals if interval.stage == "h2d"][1:]
    hidden = [
        copy for copy in copies if any(work.start_s < copy.end_s and copy.start_s < work.end_s for work in inferred)
    ]
    assert len(hidden) > len(copies) / 2


def test_what_goes_up_is_hardly_more_than_the_scene(open_gpu: Opened) -> None:
    pixels = pixels_of(3000, 4000)
    _, run = run_scene(open_gpu(), pixels)
    assert run.uploaded_bytes <= 1.1 * pixels.nbytes


def test_a_thousand_scenes_leave_nothing_behind(open_gpu: Opened) -> None:
    backend = open_gpu()
    sizes = [(300, 400), (200, 700), (129, 129)]
    for height, width in sizes:
        run_scene(backend, pixels_of(height, width))
    gc.collect()
    before, resident = backend._gpu.free_bytes(), resident_bytes()
    for number in range(SCENES):
        run_scene(backend, pixels_of(*sizes[number % len(sizes)]))
    gc.collect()
    assert before - backend._gpu.free_bytes() < 4 << 20
    assert resident_bytes() - resident < 64 << 20


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def test_out_of_memory_halves_the_batch_and_the_scene_still_comes_out(
    open_gpu: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, pixels = open_gpu(), pixels_of(700, 900)
    expected, _ = run_scene(backend, pixels)
    backend._gpu.release()
    backend.network.halve()
    batch = backend.network.batch
    allocate, refused = backend._gpu.memory, []

    def short(role: str, size_bytes: int) -> int:
        if role == "ring" and not refused:
            refused.append(role)
            raise DeviceOutOfMemory("for a test")
        return allocate(role, size_bytes)

    monkeypatch.setattr(backend._gpu, "memory", short)
    found, _ = run_scene(backend, pixels)
    assert backend.network.batch == batch // 2
    assert np.array_equal(found.mask, expected.mask)


def test_memory_that_no_gpu_has_is_refused_and_the_next_scene_runs(open_gpu: Opened) -> None:
    backend = open_gpu()
    with pytest.raises(DeviceOutOfMemory, match="MiB"):
        backend._gpu.memory("too much", 1 << 50)
    run_scene(backend, pixels_of(300, 300))


def test_nan_from_the_network_is_an_error(open_gpu: Opened) -> None:
    with pytest.raises(ModelError, match="NaN"):
        run_scene(open_gpu(), np.full((1, 300, 300), np.nan, np.float32), None)


def test_a_lost_gpu_ends_the_process_with_one_line(gpu_model: tuple[Model, str]) -> None:
    """An address that nobody allocated poisons the context, so this happens in a process of its own."""
    model, device = gpu_model
    code = f"""
import sys
from pathlib import Path
import numpy as np
from runtime.backends import open_backend
from sarwater.command import run_command
from sarwater.models import open_model

def main(argv=None):
    with open_backend(open_model(Path({str(model.path)!r})), {device!r}) as backend:
        gpu = backend._gpu
        none = np.uint64(0)
        sizes = [np.int32(n) for n in (1, {TILE_PX}, 0, {TILE_PX})]
        ring = [np.int32(n) for n in (1, {TILE_PX}, {TILE_PX}, 0)]
        gains = [np.float32(1)] * 3
        size = ({TILE_PX}, {TILE_PX}, 1)
        asked = (np.uint64(64), none, none, none, *sizes, *gains, *ring, np.float32(0))
        gpu.launch("gather_uint8", size, asked, gpu.compute)
        gpu.wait_for_all()

sys.exit(run_command(main))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, timeout=300)
    assert done.returncode == 1
    assert "this process cannot use the GPU any more" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_engine_is_refused(engine_model: Model, tmp_path: Path) -> None:
    path = tmp_path / engine_model.path.name
    content = bytearray(engine_model.path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(HashMismatch):
        open_backend(Model(path, engine_model.manifest))


@pytest.mark.parametrize(
    "change",
    [{"library_version": "8.6.1"}, {"compute_capability": "3.5"}],
    ids=["another version", "another GPU"],
)
def test_an_engine_of_another_machine_is_refused(engine_model: Model, change: dict[str, str]) -> None:
    manifest = engine_model.manifest
    assert manifest.engine is not None
    other = dataclasses.replace(manifest, engine=dataclasses.replace(manifest.engine, **change))
    with pytest.raises(DeviceUnavailable) as caught:
        TensorRtBackend(engine_model.path, other, engine_model.path.read_bytes(), "0" * 64)
    assert caught.value.exit_code == 78


def test_inference_of_any_number_of_tiles_is_that_of_single_tiles(open_gpu: Opened) -> None:
    backend = open_gpu()
    tiles = np.random.default_rng(0).uniform(0, 120, (11, 1, TILE_PX, TILE_PX)).astype(np.float32)
    together = backend.infer(tiles)
    alone = np.concatenate([backend.infer(tile[None]) for tile in tiles])
    assert np.abs(together - alone).max() < 1e-3


def test_every_stage_has_its_seconds(open_gpu: Opened) -> None:
    _, run = run_scene(open_gpu(), pixels_of(700, 900))
    assert all(run.counters.seconds[stage] > 0 for stage in ("h2d", "gather", "infer", "blend", "d2h"))
