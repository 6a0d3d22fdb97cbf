"""A scene through PyTorch: on the CPU, and on a device whose memory is the host's."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.backends import open_backend
from runtime.backends.base import Backend, FinishedRows
from runtime.backends.cpu.host import HostRun
from runtime.backends.gpu.inference import infer
from runtime.backends.gpu.scene_run import GpuRun
from runtime.backends.pytorch.graph import TorchGraph
from runtime.backends.pytorch.network import HostNetwork, TorchNetwork
from runtime.commands.predict import predict
from sarwater.command import run
from sarwater.errors import (
    DependencyMissing,
    DeviceLost,
    DeviceOutOfMemory,
    DeviceUnavailable,
    HashMismatch,
    UsageError,
)
from sarwater.gpu import Gpu
from sarwater.models import Model, shipped_model
from sarwater.tiling import TilePlan
from tests.support.gpu_scenes import push_all
from tests.support.host_device import HostDevice
from tests.support.host_kernels import HostKernels, compile_for_host
from tests.support.models import box_model
from tests.support.rasters import write_geotiff
from tests.support.scenes import lake_scene
from tests.support.torch_host import HostCuda

TILE_PX = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return box_model(tmp_path_factory.mktemp("model") / "box.onnx", tile_px=TILE_PX)


@pytest.fixture(scope="module")
def graph(model: Model) -> TorchGraph:
    return TorchGraph(model.path.read_bytes(), "box")


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> HostKernels:
    return compile_for_host(tmp_path_factory.mktemp("kernels"))


def scene(height: int = 150, width: int = 190) -> np.ndarray:
    pixels = lake_scene(height, width)[None]
    pixels[:, :40, :50] = 0
    return pixels


def whole(backend: Backend, plan: TilePlan, pixels: np.ndarray) -> FinishedRows:
    return push_all(backend.begin(plan, 0), plan, pixels)


def test_the_model_that_ships_answers_as_with_openvino() -> None:
    pixels, shipped = scene(), shipped_model()
    with open_backend(shipped, "cpu", 128) as openvino, open_backend(shipped, "torch", 128) as torch:
        assert torch.name == "torch"
        plan = torch.plan(*pixels.shape[1:])
        expected, found = (whole(backend, plan, pixels) for backend in (openvino, torch))
        tiles = np.stack([pixels[:, :128, :128], pixels[:, 20:148, 60:188]]).astype(np.float32)
        assert np.abs(openvino.infer(tiles) - torch.infer(tiles)).max() < 1e-3
    confidence, wanted = (rows.confidence.astype(int) for rows in (found, expected))
    assert np.abs(confidence - wanted).max() <= 1
    differs = found.mask != expected.mask
    assert differs.mean() < 1e-3
    threshold = 100 * shipped.manifest.threshold
    assert (np.abs(wanted[differs] - threshold) <= 1).all()


def test_a_scene_over_a_device_is_the_one_on_the_cpu(model: Model, graph: TorchGraph, kernels: HostKernels) -> None:
    pixels = scene()
    plan = TilePlan(*pixels.shape[1:], TILE_PX, 16).with_wide_fades()
    device, cuda = HostDevice(kernels), HostCuda()
    network = TorchNetwork(device, cuda, graph, 1, TILE_PX, 3)
    assert cuda.recorded_works == 3
    found = push_all(GpuRun(plan, device, network, 1, 0, 0.5), plan, pixels)
    expected = push_all(HostRun(plan, HostNetwork(graph, 1, TILE_PX), 0, 0.5), plan, pixels)
    device.check_guards()
    assert np.array_equal(found.mask, expected.mask)
    assert np.abs(found.confidence.astype(int) - expected.confidence.astype(int)).max() <= 1


def test_inference_over_a_device_takes_any_number_of_tiles(graph: TorchGraph, kernels: HostKernels) -> None:
    device = HostDevice(kernels)
    network = TorchNetwork(device, HostCuda(), graph, 1, TILE_PX, 3)
    tiles = np.random.default_rng(0).uniform(0, 120, (7, 1, TILE_PX, TILE_PX)).astype(np.float32)
    alone = np.concatenate([infer(device, network, tile[None]) for tile in tiles])
    np.testing.assert_allclose(infer(device, network, tiles), alone, atol=1e-6)


def test_the_batch_is_what_the_memory_holds(graph: TorchGraph, kernels: HostKernels) -> None:
    tile_bytes = 2 * TILE_PX**2 * 4
    network = TorchNetwork(HostDevice(kernels, 3 * tile_bytes + 4096), HostCuda(), graph, 1, TILE_PX, 8)
    assert network.batch == 2
    with pytest.raises(DeviceUnavailable, match=f"too little GPU memory for one tile of {TILE_PX} px"):
        TorchNetwork(HostDevice(kernels, tile_bytes // 2), HostCuda(), graph, 1, TILE_PX, 8)


def test_half_the_batch_has_records_of_its_own(graph: TorchGraph, kernels: HostKernels) -> None:
    device, cuda = HostDevice(kernels), HostCuda()
    network = TorchNetwork(device, cuda, graph, 1, TILE_PX, 2)
    device.release()
    network.halve()
    assert (network.batch, cuda.recorded_works) == (1, 3)
    with pytest.raises(DeviceOutOfMemory, match="one tile at a time"):
        network.halve()
    assert network.batch == 1


def test_without_room_for_one_tile_the_process_ends(graph: TorchGraph, kernels: HostKernels) -> None:
    device = HostDevice(kernels)
    network = TorchNetwork(device, HostCuda(), graph, 1, TILE_PX, 2)
    device.release()
    device.limit_bytes = 0
    with pytest.raises(DeviceLost, match="no GPU memory is left for one tile"):
        network.halve()


def test_a_tile_that_does_not_suit_is_refused() -> None:
    shipped = shipped_model()
    graph = TorchGraph(shipped.path.read_bytes(), shipped.path.name)
    graph.check_tile(1, 64)
    with pytest.raises(UsageError, match=r"hrnet-w18-small\.onnx: cannot be run at a tile of 72 px"):
        graph.check_tile(1, 72)


def test_an_int8_graph_is_refused() -> None:
    with pytest.raises(UsageError, match=r"an int8 graph, which PyTorch does not run; give the fp32 or fp16 file"):
        open_backend(shipped_model("int8"), "torch")


def test_without_pytorch_the_message_says_how_to_get_it(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(DependencyMissing, match=r"PyTorch needs torch.*sarwater\[torch\]"):
        open_backend(model, "torch")


def test_a_gpu_that_pytorch_cannot_use_is_not_passed_over(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.backends.pytorch.backend.first_gpu", lambda: Gpu("NVIDIA H200", "9.0"))
    with pytest.raises(DeviceUnavailable, match=r"there is an NVIDIA GPU, but PyTorch .* cannot use it"):
        open_backend(model, "torch")


def test_an_engine_does_not_run_in_pytorch(tmp_path: Path, model: Model) -> None:
    engine = Model(tmp_path / "x.engine", model.manifest)
    with pytest.raises(UsageError, match=r"no backend runs \.engine files on torch, which wants an \.onnx file"):
        open_backend(engine, "torch")


def test_a_changed_file_is_refused(tmp_path: Path, model: Model) -> None:
    changed = tmp_path / model.path.name
    changed.write_bytes(model.path.read_bytes() + b"x")
    with pytest.raises(HashMismatch):
        open_backend(Model(changed, model.manifest), "torch")


def test_a_scene_becomes_a_mask_through_pytorch(
    tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    scene_path = write_geotiff(tmp_path / "a.tif", lake_scene(100, 120))
    asked = [str(scene_path), "-o", str(tmp_path / "out"), "--model", str(model.path), "--json"]
    assert run(predict, [*asked, "--backend", "torch"]) == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert (outcome["latency"]["backend"], outcome["latency"]["device"]) == ("torch", "CPU")
    assert (tmp_path / "out" / "a_water.tif").is_file()
