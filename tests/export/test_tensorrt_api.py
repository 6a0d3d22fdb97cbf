"""What export asks of TensorRT exists in every version from 10.3 to 11.4, though none can be installed here.

Three witnesses: the type stubs of 10.13, the real TensorRT-RTX, whose Python API is that of TensorRT 11, and the list
of what TensorRT 11 removed (NVIDIA, "Removed Python APIs and Replacements", migration guide 10.x -> 11.x).
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

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

REMOVED_IN_11 = re.compile(
    r"BuilderFlag\.(FP16|INT8|FP8|BF16|INT4|FP4|OBEY_PRECISION_CONSTRAINTS|PREFER_PRECISION_CONSTRAINTS|DIRECT_IO)"
    r"|IBuilderConfig\.(int8_calibrator|\w*calibration_profile|\w*quantization_flags?|algorithm_selector)"
    r"|IInt8\w+|IAlgorithm\w*|Builder\.platform_has_fast_\w+|ICudaEngine\.device_memory_size\w*"
    r"|ILayer\.(precision|set_output_type|reset_precision)|ITensor\.\w*dynamic_range"
)

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
    found = pytest.importorskip("tensorrt_rtx")
    for part in name.split("."):
        found = getattr(found, part)


MISUSE = """
import tensorrt as trt

def wrong(builder: trt.Builder, config: trt.IBuilderConfig) -> None:
    config.set_flag(trt.BuilderFlag.NO_SUCH_FLAG)
    config.set_memory_pool_limit("WORKSPACE", 1)
    builder.build_engine()
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The type stubs of TensorRT 10.13, with the lines that no type checker can read made readable.

    Their generator leaves a few plugin methods with parameters called `in`; nothing here uses those.
    """
    try:
        files = metadata.files("tensorrt-stubs")
    except metadata.PackageNotFoundError:
        pytest.skip("tensorrt-stubs is not installed")
    folder = tmp_path_factory.mktemp("stubs")
    for file in files or []:
        if file.suffix == ".pyi":
            target = folder / file
            target.parent.mkdir(exist_ok=True)
            shutil.copy(str(file.locate()), target)
            # They also name a variable `bool`, which hides the type of that name.
            target.write_text(readable(re.sub("^bool: DataType.*", "", target.read_text(), flags=re.MULTILINE)))
    return folder


def readable(source: str) -> str:
    while True:
        try:
            ast.parse(source)
        except SyntaxError as error:
            lines = source.splitlines()
            number = (error.lineno or 1) - 1
            name = re.search(r"def (\w+)\(", lines[number])
            assert name, lines[number]
            indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
            lines[number] = f"{indent}def {name[1]}(self, *args: typing.Any, **options: typing.Any) -> typing.Any:"
            source = "\n".join(lines) + "\n"
        else:
            return source


def test_the_calls_fit_the_type_stubs_of_tensorrt(stubs: Path, tmp_path: Path) -> None:
    misuse = tmp_path / "misuse.py"
    misuse.write_text(MISUSE)
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={tmp_path}", "--no-error-summary"]
    done = subprocess.run(
        [*command, "--follow-imports=silent", str(PLAN), str(misuse)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "MYPYPATH": str(stubs)},
        timeout=280,
    )
    errors = done.stdout.splitlines()
    assert [line for line in errors if line.startswith("export/plan.py")] == []
    found = [line for line in errors if "misuse.py" in line]
    assert len(found) >= 3, done.stdout + done.stderr  # so the stubs are really looked at
