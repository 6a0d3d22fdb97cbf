"""Which engines are refused, and how, before a byte of them is deserialised; and every way to meet no GPU."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from enum import IntEnum
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from runtime.backends import BACKENDS, DEVICES, Entry, open_backend
from runtime.backends.fake import FAKE_MANIFEST
from runtime.backends.gpu.engine import check_engine
from runtime.backends.gpu.tensorrt import TensorRtBackend
from sarwater.errors import DependencyMissing, DeviceUnavailable, HashMismatch, UsageError
from sarwater.gpu import require_gpu
from sarwater.manifest import Engine, sha256_of
from sarwater.models import Model
from sarwater.tensorrt_library import Library, find_library
from tests.conftest import CHECKOUT
from tests.support.rasters import lake_scene, write_geotiff

ORIN = Engine("tensorrt", "10.3.0", "Orin", "8.7", 8, 4)
PORTABLE = Engine("tensorrt-rtx", "1.7.1.116", "RTX GPUs of compute capability 8.0, 8.6", "portable", 8, 4)


def library(name: str, version: str) -> Library:
    module = ModuleType(name)
    module.__version__ = version  # type: ignore[attr-defined]
    module.Runtime = object  # type: ignore[attr-defined]
    if name == "tensorrt_rtx":
        module.ComputeCapability = IntEnum("ComputeCapability", {"NONE": 0, "SM75": 75, "SM89": 89, "SM120": 120})  # type: ignore[attr-defined]
    return Library("tensorrt-rtx" if name == "tensorrt_rtx" else "tensorrt", module)


@pytest.fixture
def engine_model(tmp_path: Path) -> Model:
    path = tmp_path / "lakes.engine"
    path.write_bytes(b"a plan")
    manifest = dataclasses.replace(FAKE_MANIFEST, files={path.name: sha256_of(path)}, engine=PORTABLE)
    path.with_suffix(".json").write_text(manifest.to_json())
    return Model(path, manifest)


def test_the_engine_of_this_gpu_and_version_is_taken() -> None:
    check_engine(ORIN, False, library("tensorrt", "10.3.0"), "Orin", "8.7")
    check_engine(PORTABLE, False, library("tensorrt_rtx", "1.7.1.116"), "NVIDIA RTX 4000 Ada", "8.9")


@pytest.mark.parametrize("version", ["11.0.0", "10.4.0", "8.6.1"])
def test_an_engine_of_another_version_is_refused(version: str) -> None:
    with pytest.raises(DeviceUnavailable, match=rf"built by tensorrt 10\.3\.0, here is tensorrt {version}") as caught:
        check_engine(ORIN, False, library("tensorrt", version), "Orin", "8.7")
    assert caught.value.exit_code == 78


def test_a_version_compatible_engine_runs_on_other_releases_of_its_generation_only() -> None:
    check_engine(ORIN, True, library("tensorrt_lean", "10.13.0"), "Orin", "8.7")
    with pytest.raises(DeviceUnavailable, match=r"11\.0\.0"):
        check_engine(ORIN, True, library("tensorrt", "11.0.0"), "Orin", "8.7")


@pytest.mark.parametrize(("gpu", "capability"), [("NVIDIA L4", "8.9"), ("Another of its kind", "8.7")])
def test_an_engine_of_another_gpu_is_refused(gpu: str, capability: str) -> None:
    with pytest.raises(DeviceUnavailable, match=rf"is for Orin .*, here is {gpu} \({capability}\)") as caught:
        check_engine(ORIN, False, library("tensorrt", "10.3.0"), gpu, capability)
    assert caught.value.exit_code == 78


def test_a_portable_engine_is_refused_on_a_gpu_that_is_too_old() -> None:
    with pytest.raises(DeviceUnavailable, match=r"Tesla T4 \(7\.5\)"):
        check_engine(PORTABLE, False, library("tensorrt_rtx", "1.7.1.116"), "Tesla T4", "7.5")


@pytest.mark.parametrize(("gpu", "capability"), [("Orin", "8.7"), ("NVIDIA H200", "9.0")])
def test_a_gpu_that_rtx_does_not_serve_is_told_to_take_tensorrt(gpu: str, capability: str) -> None:
    with pytest.raises(
        DeviceUnavailable, match=rf"{gpu} has .* {capability}, .*7\.5, 8\.9, 12\.0: it wants TensorRT, not"
    ):
        check_engine(PORTABLE, False, library("tensorrt_rtx", "1.7.1.116"), gpu, capability)


def test_an_engine_bound_to_some_gpus_is_refused_on_others() -> None:
    bound = dataclasses.replace(PORTABLE, compute_capability="8.6, 8.9")
    check_engine(bound, False, library("tensorrt_rtx", "1.7.1.116"), "x", "8.9")
    with pytest.raises(DeviceUnavailable, match=r"12\.0"):
        check_engine(bound, False, library("tensorrt_rtx", "1.7.1.116"), "x", "12.0")


def installed(monkeypatch: pytest.MonkeyPatch, **modules: ModuleType | None) -> None:
    for name in ("tensorrt", "tensorrt_lean", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, modules.get(name))


def test_the_lean_runtime_is_enough_for_a_version_compatible_engine_only(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorrt_lean=library("tensorrt_lean", "10.13.0").module)
    assert find_library(ORIN.flavor, ORIN.library_version, version_compatible=True).name == "tensorrt_lean"
    with pytest.raises(DependencyMissing, match=r"tensorrt 10\.3\.0, which is not installed.*sarwater\[tensorrt\]"):
        find_library(ORIN.flavor, ORIN.library_version, version_compatible=False)


def test_type_stubs_alone_are_not_taken_for_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, tensorrt=ModuleType("tensorrt"))
    with pytest.raises(DependencyMissing):
        find_library(ORIN.flavor, ORIN.library_version, version_compatible=False)


def test_the_library_is_that_of_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    full, rtx = library("tensorrt", "10.3.0"), library("tensorrt_rtx", "1.7.1.116")
    installed(monkeypatch, tensorrt=full.module, tensorrt_rtx=rtx.module)
    assert find_library(ORIN.flavor, ORIN.library_version, False).module is full.module
    assert find_library(PORTABLE.flavor, PORTABLE.library_version, False).is_rtx


def test_a_changed_engine_is_refused_before_a_gpu_is_looked_for(engine_model: Model) -> None:
    engine_model.path.write_bytes(b"another plan")
    with pytest.raises(HashMismatch, match=r"lakes\.engine"):
        open_backend(engine_model)


def test_an_engine_does_not_run_on_the_cpu(engine_model: Model) -> None:
    with pytest.raises(UsageError, match=r"no backend runs \.engine files on cpu"):
        open_backend(engine_model, "cpu")


def test_a_device_is_one_of_a_list(engine_model: Model) -> None:
    assert ("auto", *(entry.device for entry in BACKENDS)) == DEVICES
    with pytest.raises(UsageError, match=r"device 'gppu' is unknown;.*did you mean 'gpu'"):
        open_backend(engine_model, "gppu")
    with pytest.raises(UsageError, match="expected one of: auto, cpu, gpu, torch, fake"):
        open_backend(engine_model, "abacus")


def test_a_new_backend_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.kmodel"
    path.write_bytes(b"a model")
    manifest = dataclasses.replace(FAKE_MANIFEST, files={path.name: sha256_of(path)})
    with pytest.raises(UsageError, match=r"no backend runs \.kmodel files; expected one of: \.onnx \(cpu\)"):
        open_backend(Model(path, manifest))
    entry = Entry("abacus", ".kmodel", "runtime.backends.fake:FakeBackend", "carve one")
    monkeypatch.setattr("runtime.backends.BACKENDS", (*BACKENDS, entry))
    monkeypatch.setattr("runtime.backends.DEVICES", (*DEVICES, "abacus"))
    for device in ("auto", "abacus"):
        assert open_backend(Model(path, manifest), device).name == "fake"


def without_driver() -> bool:
    try:
        require_gpu()
    except DeviceUnavailable:
        return True
    return False


@pytest.mark.skipif(not without_driver(), reason="there is a GPU here")
@pytest.mark.parametrize("arguments", [["--model", "lakes.engine"], ["--device", "gpu"]])
def test_without_a_gpu_one_clear_line_and_exit_78(engine_model: Model, tmp_path: Path, arguments: list[str]) -> None:
    write_geotiff(tmp_path / "scene.tif", lake_scene(64, 64).astype(np.uint16))
    given = [argument.replace("lakes.engine", str(engine_model.path)) for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "runtime.predict", str(tmp_path / "scene.tif"), "-o", str(tmp_path / "out"), *given],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        timeout=120,
    )
    assert done.returncode == 78, done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("model ")]
    assert len(errors) == 1
    assert "NVIDIA" in errors[0]
    assert not (tmp_path / "out").exists()


def test_what_is_run_is_what_was_verified(engine_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is exchanged in between is an engine that nobody vouches for."""
    read_bytes = Path.read_bytes

    def read_and_exchange(path: Path) -> bytes:
        content = read_bytes(path)
        path.write_bytes(b"another plan")
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_exchange)
    taken: list[object] = []
    monkeypatch.setattr(TensorRtBackend, "__init__", lambda self, *arguments: taken.extend(arguments))
    open_backend(engine_model)
    plan, digest = taken[2:]
    assert plan == b"a plan"
    assert digest == engine_model.manifest.files[engine_model.path.name]
