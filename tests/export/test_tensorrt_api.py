"""What export asks of TensorRT exists in every version from 10.3 to 11.4, though none can be installed here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.support.tensorrt_api import REMOVED_IN_11, has_tensorrt_rtx, stubs, type_errors
from tests.support.tensorrt_signatures import signatures

__all__ = ["stubs"]

PLAN = CHECKOUT / "export" / "plan.py"

SINCE = {
    "Builder": "7",
    "Builder.build_serialized_network": "8.0",
    "Builder.create_builder_config": "7",
    "Builder.create_network": "7",
    "Builder.create_optimization_profile": "7",
    "Builder.num_DLA_cores": "7",
    "BuilderFlag.EXCLUDE_LEAN_RUNTIME": "8.6",
    "BuilderFlag.GPU_FALLBACK": "7",
    "BuilderFlag.VERSION_COMPATIBLE": "8.6",
    "DeviceType.DLA": "7",
    "Dims4": "7",
    "EngineInspector.get_engine_information": "8.2",
    "IBuilderConfig.DLA_core": "7",
    "IBuilderConfig.add_optimization_profile": "7",
    "IBuilderConfig.create_timing_cache": "8.0",
    "IBuilderConfig.default_device_type": "7",
    "IBuilderConfig.get_timing_cache": "8.0",
    "IBuilderConfig.profiling_verbosity": "8.0",
    "IBuilderConfig.progress_monitor": "8.6",
    "IBuilderConfig.set_flag": "7",
    "IBuilderConfig.set_memory_pool_limit": "8.4",
    "IBuilderConfig.set_timing_cache": "8.0",
    "ICudaEngine.create_engine_inspector": "8.2",
    "ILayer.get_output": "7",
    "ILayer.name": "7",
    "ILayer.type": "7",
    "ILogger": "7",
    "ILogger.Severity": "7",
    "INetworkDefinition.get_layer": "7",
    "INetworkDefinition.num_layers": "7",
    "IOptimizationProfile.set_shape": "7",
    "IProgressMonitor": "8.6",
    "ITensor.dtype": "7",
    "ITensor.shape": "7",
    "ITimingCache.serialize": "8.0",
    "LayerInformationFormat.JSON": "8.2",
    "MemoryPoolType.WORKSPACE": "8.4",
    "NetworkDefinitionCreationFlag.STRONGLY_TYPED": "9.1",
    "OnnxParser": "7",
    "OnnxParser.get_error": "7",
    "OnnxParser.num_errors": "7",
    "OnnxParser.parse": "7",
    "ParserError.desc": "7",
    "ParserError.node": "7",
    "ParserError.node_name": "10.0",
    "ParserError.node_operator": "10.0",
    "ProfilingVerbosity.DETAILED": "8.0",
    "Runtime": "7",
    "Runtime.deserialize_cuda_engine": "7",
}
"""Every name that export/plan.py uses, and the release that brought it. A new call is looked up first, then added."""

CLASSES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "engine": "ICudaEngine",
    "first": "ParserError",
    "layer": "ILayer",
    "network": "INetworkDefinition",
    "output": "ITensor",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
}
"""How export/plan.py calls its objects of TensorRT."""
CALL_RESULTS = {
    "create_engine_inspector": "EngineInspector",
    "get_timing_cache": "ITimingCache",
    "Runtime": "Runtime",
}
RTX_ONLY = {"IBuilderConfig.num_compute_capabilities", "IBuilderConfig.set_compute_capability"}


def used_names() -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(PLAN.read_text())):
        if not isinstance(node, ast.Attribute):
            continue
        match node.value:
            case ast.Name(id="trt" | "tensorrt"):
                names.add(node.attr)
            case ast.Attribute(value=ast.Name(id="trt" | "tensorrt"), attr=owner):
                names.add(f"{owner}.{node.attr}")
            case ast.Name(id=variable) if variable in CLASSES:
                names.add(f"{CLASSES[variable]}.{node.attr}")
            case ast.Call(func=ast.Attribute(attr=method)) if method in CALL_RESULTS:
                names.add(f"{CALL_RESULTS[method]}.{node.attr}")
    owners = {name.split(".")[0] for name in names if "." in name}
    return {name for name in names if "." in name or name not in owners or name in SINCE} - RTX_ONLY


def test_every_name_that_is_used_was_looked_up() -> None:
    assert used_names() - SINCE.keys() - {"IBuilderConfig", "INetworkDefinition", "IOptimizationProfile"} == set()


def test_no_name_is_listed_that_nobody_uses() -> None:
    assert SINCE.keys() - used_names() == set()


def test_every_name_was_there_before_10_3() -> None:
    assert all(tuple(map(int, since.split("."))) <= (10, 3) for since in SINCE.values())


@pytest.mark.parametrize("name", sorted(SINCE))
def test_no_name_was_removed_in_11(name: str) -> None:
    assert not REMOVED_IN_11.fullmatch(name)


@pytest.mark.parametrize("name", sorted(SINCE))
def test_the_real_library_of_that_generation_has_every_name(name: str) -> None:
    assert has_tensorrt_rtx(name)


@pytest.mark.parametrize("version", signatures())
def test_the_bindings_of_each_generation_have_every_name(version: str) -> None:
    assert SINCE.keys() - signatures()[version].keys() == set()


MISUSE = """
import tensorrt as trt

def wrong(builder: trt.Builder, config: trt.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.NO_SUCH_FLAG)
    config.set_memory_pool_limit("WORKSPACE", 1)
    builder.build_engine()
"""


def test_the_calls_fit_the_type_stubs_of_tensorrt(stubs: Path, tmp_path: Path) -> None:
    assert type_errors(PLAN, MISUSE, stubs, tmp_path) == []
