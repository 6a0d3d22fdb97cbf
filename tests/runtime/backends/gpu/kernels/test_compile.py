from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from runtime.backends.gpu.kernels import compile as compile_module
from runtime.backends.gpu.kernels.compile import (
    SOURCE,
    CompileError,
    Compiler,
    Nvcc,
    Nvrtc,
    _nvrtc_libraries,
    kernels_for,
)
from sarwater.errors import DependencyMissing, DeviceUnavailable

ARCHITECTURES = ("7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "12.0")
WITHOUT_WARNINGS = "-Werror=all-warnings"


class Recorder:
    """A compiler that counts."""

    def __init__(self, name: str = "test 13.0", version: tuple[int, int] = (13, 0), says: str = "") -> None:
        self.name, self.version = name, version
        self.says = says
        self.compiled: list[str] = []

    def compile(self, source: Path, compute_capability: str) -> bytes:
        self.compiled.append(compute_capability)
        if self.says:
            raise CompileError(self.says)
        return f"cubin of {self.name} for {compute_capability}".encode()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SARWATER_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def here(monkeypatch: pytest.MonkeyPatch, *found: Compiler) -> None:
    monkeypatch.setattr(compile_module, "compilers", lambda: iter(found))


@pytest.fixture(scope="module")
def nvcc() -> Nvcc:
    path = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    if path is None:
        pytest.skip("no nvcc on this machine")
    return Nvcc(path)


@pytest.mark.parametrize("compute_capability", ARCHITECTURES)
def test_nvcc_compiles_for_every_gpu_without_a_warning(nvcc: Nvcc, compute_capability: str) -> None:
    assert nvcc.compile(SOURCE, compute_capability, (WITHOUT_WARNINGS,)).startswith(b"\x7fELF")


def test_nvrtc_compiles_without_a_compiler_of_the_machine() -> None:
    for library in _nvrtc_libraries():
        try:
            nvrtc = Nvrtc(library)
        except OSError:
            continue
        assert nvrtc.compile(SOURCE, "8.9").startswith(b"\x7fELF")
        with pytest.raises(CompileError, match="architecture"):
            nvrtc.compile(SOURCE, "99.0")
        return
    pytest.skip("no NVRTC on this machine")


def test_a_gpu_that_nvcc_does_not_know_is_said_in_one_line(nvcc: Nvcc) -> None:
    with pytest.raises(CompileError, match=r"sm_990") as caught:
        nvcc.compile(SOURCE, "99.0")
    assert "\n" not in str(caught.value)


def test_kernels_are_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = Recorder()
    here(monkeypatch, compiler)
    assert kernels_for("8.7", (13, 0)) == kernels_for("8.7", (13, 0))
    assert compiler.compiled == ["8.7"]
    assert next(cache.iterdir()).name.startswith("scene-sm_87-")


@pytest.mark.parametrize("what", ["gpu", "compiler", "source"])
def test_another_gpu_compiler_or_source_compiles_again(
    cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, what: str
) -> None:
    here(monkeypatch, Recorder())
    kernels_for("8.7", (13, 0))
    second = Recorder("test 13.1" if what == "compiler" else "test 13.0")
    here(monkeypatch, second)
    if what == "source":
        source = tmp_path / "scene.cu"
        source.write_text(SOURCE.read_text() + "\n")
        monkeypatch.setattr(compile_module, "SOURCE", source)
    kernels_for("8.9" if what == "gpu" else "8.7", (13, 0))
    assert len(second.compiled) == 1


def test_a_cache_that_cannot_be_written_costs_time_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SARWATER_CACHE", str(tmp_path / "file" / "cache"))
    here(monkeypatch, Recorder())
    assert kernels_for("8.7", (13, 0))


def test_a_compiler_newer_than_the_driver_is_passed_over(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer, older = Recorder("NVRTC 13.0"), Recorder("nvcc 12.6", (12, 6))
    here(monkeypatch, newer, older)
    assert b"nvcc 12.6" in kernels_for("8.7", (12, 4))
    assert newer.compiled == []


def test_a_driver_too_old_for_every_compiler_is_a_configuration_error(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here(monkeypatch, Recorder("NVRTC 13.0"))
    with pytest.raises(DeviceUnavailable, match=r"13\.0 is newer than the driver, which knows CUDA 12\.4") as caught:
        kernels_for("8.7", (12, 4))
    assert caught.value.exit_code == 78


def test_no_compiler_at_all_says_what_to_install(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch)
    with pytest.raises(DependencyMissing, match=r"neither NVRTC nor nvcc.*pip install nvidia-cuda-nvrtc") as caught:
        kernels_for("8.7", (13, 0))
    assert caught.value.exit_code == 78


def test_what_every_compiler_said_is_told(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here(monkeypatch, Recorder("A", says="unknown sm_990"), Recorder("B", says="no C++ compiler"))
    with pytest.raises(DeviceUnavailable, match=r"A: unknown sm_990; B: no C\+\+ compiler"):
        kernels_for("99.0", (13, 0))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SARWATER_CACHE": "/a", "STATE_DIRECTORY": "/b", "XDG_CACHE_HOME": "/c"}, "/a"),
        ({"STATE_DIRECTORY": "/b:/d", "XDG_CACHE_HOME": "/c"}, "/b/cache"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/sarwater"),
        ({"HOME": "/h"}, "/h/.cache/sarwater"),
    ],
)
def test_the_cache_is_where_it_may_be_written(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    from runtime.cache import cache_folder

    monkeypatch.setattr(os, "environ", variables)
    assert str(cache_folder()) == expected
