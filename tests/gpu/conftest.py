"""Everything here needs an NVIDIA GPU with its driver, PyCUDA, a TensorRT and a compiler for the kernels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends.gpu.tensorrt import TensorRtBackend
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

        from export.plan import choose_library

        choose_library("auto")
    except (DependencyMissing, DeviceUnavailable) as error:
        return str(error)
    except ImportError as error:
        return f"PyCUDA is not usable ({error}): pip install 'sarwater[cuda]'"
    return ""


@pytest.fixture(scope="session")
def onnx_model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """Dark over a box is water: tiny, and exact enough to compare probabilities."""
    return box_model(tmp_path_factory.mktemp("model") / "box.onnx", tile_px=TILE_PX, overlap_px=OVERLAP_PX)


@pytest.fixture(scope="session")
def engine_model(onnx_model: Model) -> Model:
    """Its engine: of TensorRT where it is installed, else of TensorRT-RTX."""
    from export.plan import PORTABLE, PlanOptions, build_plan, choose_library

    library, manifest = choose_library("auto"), onnx_model.manifest
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


Opened = Callable[..., TensorRtBackend]


@pytest.fixture
def open_gpu(engine_model: Model) -> Iterator[Opened]:
    """Open the engine; it is closed at the test's end, whatever happened."""
    opened: list[TensorRtBackend] = []

    def open_backend(graphs: bool = True) -> TensorRtBackend:
        plan, digest = engine_model.manifest.read_verified(engine_model.path)
        opened.append(TensorRtBackend(engine_model.path, engine_model.manifest, plan, digest, graphs))
        return opened[-1]

    yield open_backend
    for backend in opened:
        backend.close()
