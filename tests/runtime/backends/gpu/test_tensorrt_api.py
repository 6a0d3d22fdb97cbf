"""As tests/export/test_tensorrt_api.py: what running an engine asks of TensorRT exists in 10.3 to 11.x."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.support.tensorrt_api import REMOVED_IN_11, has_tensorrt_rtx, stubs, type_errors
from tests.support.tensorrt_signatures import parameters, signatures
from tests.support.tensorrt_stand_in import KINDS

__all__ = ["stubs"]

ENGINE = CHECKOUT / "runtime" / "backends" / "gpu" / "engine.py"

SINCE = {
    "ExecutionContextAllocationStrategy.USER_MANAGED": "10.0",
    "ICudaEngine.create_execution_context": "7",
    "ICudaEngine.get_tensor_name": "8.5",
    "ICudaEngine.get_tensor_shape": "8.5",
    "ICudaEngine.num_io_tensors": "8.5",
    "IExecutionContext.execute_async_v3": "8.5",
    "IExecutionContext.set_device_memory": "10.1",
    "IExecutionContext.set_input_shape": "8.5",
    "IExecutionContext.set_tensor_address": "8.5",
    "IExecutionContext.update_device_memory_size_for_shapes": "10.0",
    "ILogger": "7",
    "ILogger.Severity": "7",
    "Runtime": "7",
    "Runtime.deserialize_cuda_engine": "7",
}
"""Every name of all flavours that engine.py uses, and the release that brought it."""

RTX_ONLY = {
    "CudaGraphStrategy.DISABLED",
    "CudaGraphStrategy.WHOLE_GRAPH_CAPTURE",
    "DynamicShapesKernelSpecializationStrategy.EAGER",
    "ExecutionContextAllocationStrategy.USER_MANAGED",
    "ICudaEngine.create_runtime_config",
    "ICudaEngine.create_execution_context",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.dynamic_shapes_kernel_specialization_strategy",
    "IRuntimeConfig.set_execution_context_allocation_strategy",
    "IRuntimeConfig.set_runtime_cache",
}

CLASSES = {"engine": "ICudaEngine", "context": "IExecutionContext", "runtime": "Runtime"}
RTX_CLASSES = {
    "cache": "IRuntimeCache",
    "config": "IRuntimeConfig",
    "engine": "ICudaEngine",
    "strategy": "CudaGraphStrategy",
}


def used_names(module: str, classes: dict[str, str], functions: set[str] | None = None) -> set[str]:
    """Attributes of `module` and of the variables `classes` in engine.py, or in some functions of it."""
    tree = ast.parse(ENGINE.read_text())
    names = set()
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or (functions is not None) != (function.name == "_rtx_context"):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute):
                match node.value:
                    case ast.Name(id=name) if name == module:
                        names.add(node.attr)
                    case ast.Attribute(value=ast.Name(id=name), attr=owner) if name == module:
                        names.add(f"{owner}.{node.attr}")
                    case ast.Name(id=variable) if variable in classes:
                        names.add(f"{classes[variable]}.{node.attr}")
    owners = {name.split(".")[0] for name in names if "." in name}
    return {name for name in names if "." in name or name not in owners or name in SINCE}


def test_every_name_that_is_used_was_looked_up_and_no_other_is_listed() -> None:
    assert used_names("trt", CLASSES) == SINCE.keys()


def test_what_only_tensorrt_rtx_has_is_used_in_one_function_only() -> None:
    used = used_names("rtx", RTX_CLASSES, {"_rtx_context"})
    assert used <= RTX_ONLY
    assert {name for name in RTX_ONLY if name.split(".")[0] == "IRuntimeConfig"} <= used


def test_every_name_was_there_before_10_3() -> None:
    assert all(tuple(map(int, since.split("."))) <= (10, 3) for since in SINCE.values())


@pytest.mark.parametrize("name", sorted(SINCE))
def test_no_name_was_removed_in_11(name: str) -> None:
    assert not REMOVED_IN_11.fullmatch(name)


@pytest.mark.parametrize("name", sorted({*SINCE, *RTX_ONLY}))
def test_the_real_library_of_that_generation_has_every_name(name: str) -> None:
    assert has_tensorrt_rtx(name)


@pytest.mark.parametrize("version", signatures())
def test_the_bindings_of_each_generation_have_every_name(version: str) -> None:
    assert SINCE.keys() - signatures()[version].keys() == set()


@pytest.mark.parametrize("kind", KINDS)
def test_the_stand_in_is_called_as_the_real_ones_are(kind: type) -> None:
    """By parameters' names, in every release that has the function."""
    for name, function in vars(kind).items():
        if name.startswith("_") or not inspect.isfunction(function):
            continue
        own = list(inspect.signature(function).parameters)[1:]
        full_name = f"{kind.__name__}.{name}"
        in_releases = [table[full_name] for table in signatures().values() if full_name in table]
        rtx = getattr(getattr(pytest.importorskip("tensorrt_rtx"), kind.__name__), name)
        for overloads in (*in_releases, parameters(rtx.__doc__ or "")):
            assert own in overloads, (full_name, own, overloads)


MISUSE = """
import tensorrt as trt

def wrong(engine: trt.ICudaEngine, context: trt.IExecutionContext) -> None:
    context.execute_async_v3("stream")
    context.set_input_shape(3)
    engine.get_binding_shape(0)
"""


def test_the_calls_fit_the_type_stubs_of_tensorrt(stubs: Path, tmp_path: Path) -> None:
    assert type_errors(ENGINE, MISUSE, stubs, tmp_path) == []
