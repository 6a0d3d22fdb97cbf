"""Everything here needs an NVIDIA GPU with its driver, PyCUDA and a compiler for the kernels; no GDAL, no OpenVINO.

Networks come from whatever is installed and serves the GPU: TensorRT, TensorRT-RTX, PyTorch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.tensorrt import TensorRtBackend
from runtime.backends.pytorch.backend import TorchBackend
from sarwater.errors import DependencyMissing, DeviceUnavailable
from sarwater.gpu import require_gpu
from sarwater.manifest import Engine, sha256_of
from sarwater.models import Model, open_model
from tests.support.models import box_model

TILE_PX = 128
OVERLAP_PX = 16


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = missing()
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def missing() -> str:
    """Why these tests cannot run here; empty where they can."""
    try:
        require_gpu()
        import pycuda.driver  # noqa: F401
    except DeviceUnavailable as error:
        return str(error)
    except ImportError as error:
        return f"PyCUDA is not usable ({error}): pip install 'sarwater[cuda]'"
    return ""


@pytest.fixture
def device() -> Iterator[CudaDevice]:
    device = CudaDevice()
    yield device
    device.close()


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Dark over a box is water: tiny, and exact enough to compare probabilities."""
    return box_model(tmp_path_factory.mktemp("model") / "box.onnx", tile_px=TILE_PX, overlap_px=OVERLAP_PX)


@pytest.fixture(scope="session")
def engine_model(onnx_model: Model) -> Model:
    """Its engine: of TensorRT where it is installed, else of TensorRT-RTX."""
    from export.plan import PlanOptions, build_plan, choose_library
    from sarwater.tensorrt_library import PORTABLE

    try:
        library, manifest = choose_library("auto"), onnx_model.manifest
    except (DependencyMissing, DeviceUnavailable) as error:
        pytest.skip(str(error))
    assert library.gpu is not None
    options = PlanOptions(tile_px=manifest.tile_px, channels=1, max_batch=8, opt_batch=4)
    plan, _ = build_plan(library, onnx_model.path.read_bytes(), options, lambda *event: None)
    path = onnx_model.path.with_suffix(".engine").with_stem("box-engine")
    path.write_bytes(plan)
    capability = library.gpu.compute_capability if library.flavor == "tensorrt" else PORTABLE
    engine = Engine(library.flavor, library.version, library.gpu.name, capability, 8, 4)
    manifest = dataclasses.replace(manifest, files={path.name: sha256_of(path)}, engine=engine)
    path.with_suffix(".json").write_text(manifest.to_json(), encoding="utf-8")
    return open_model(path)


Opened = Callable[[], TensorRtBackend | TorchBackend]


@pytest.fixture(params=["engine", "torch"])
def gpu_model(request: pytest.FixtureRequest, onnx_model: Model) -> tuple[Model, str]:
    """A model and the device that runs it; skipped where nothing here does."""
    if request.param == "torch":
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip(f"PyTorch {torch.__version__} uses no GPU here")
        return onnx_model, "torch"
    return request.getfixturevalue("engine_model"), "gpu"


@pytest.fixture
def open_gpu(gpu_model: tuple[Model, str]) -> Iterator[Opened]:
    """Open the network, in float32; it is closed at the test's end, whatever happened."""
    opened: list[TensorRtBackend | TorchBackend] = []
    model, device = gpu_model

    def open_backend() -> TensorRtBackend | TorchBackend:
        content, digest = model.manifest.read_verified(model.path)
        if device == "torch":
            opened.append(TorchBackend(model.path, model.manifest, content, digest, precision="fp32"))
        else:
            opened.append(TensorRtBackend(model.path, model.manifest, content, digest))
        return opened[-1]

    yield open_backend
    for backend in opened:
        backend.close()


@pytest.fixture
def open_engine(engine_model: Model) -> Iterator[Callable[[bool], TensorRtBackend]]:
    """Open the engine with CUDA graphs or without."""
    opened: list[TensorRtBackend] = []

    def open_backend(graphs: bool) -> TensorRtBackend:
        plan, digest = engine_model.manifest.read_verified(engine_model.path)
        opened.append(TensorRtBackend(engine_model.path, engine_model.manifest, plan, digest, graphs))
        return opened[-1]

    yield open_backend
    for backend in opened:
        backend.close()
