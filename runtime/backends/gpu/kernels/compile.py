"""scene.cu -> machine code for one GPU: with NVRTC where it is installed, else with nvcc; kept for the next start.

NVRTC goes first: it needs no C++ compiler, and takes a tenth of the time.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from runtime.cache import keep, recall
from sarwater.errors import DependencyMissing, DeviceUnavailable

SOURCE = Path(__file__).with_name("scene.cu")
OPTIONS = ("-std=c++17", "-fmad=false")
"""Both compilers know these. Without fused multiply-add, sums come out as numpy's do."""
INSTALL = (
    "`pip install nvidia-cuda-nvrtc` (CUDA 13; `nvidia-cuda-nvrtc-cu12` for CUDA 12), or a CUDA toolkit with nvcc "
    "(a Jetson: `apt install cuda-nvrtc-12-6`, by its CUDA version)"
)


class CompileError(Exception):
    """What a compiler said about the source or the GPU."""


class Compiler(Protocol):
    name: str
    version: tuple[int, int]
    """Of its CUDA toolkit."""

    def compile(self, source: Path, compute_capability: str) -> bytes:
        """A cubin for that GPU alone. Raises CompileError."""


def kernels_for(compute_capability: str, driver_version: tuple[int, int]) -> bytes:
    """The cubin of scene.cu for a GPU of `compute_capability` (`8.7`) under a driver for CUDA `driver_version`.

    Raises DependencyMissing without a compiler, DeviceUnavailable where none that is here can serve this GPU and
    driver.
    """
    found = list(compilers())
    if not found:
        raise DependencyMissing(
            "neither NVRTC nor nvcc was found; the kernels around the network are compiled for the GPU when it is "
            f"first used: {INSTALL}"
        )
    refusals = []
    for compiler in found:
        if compiler.version[0] > driver_version[0]:
            refusals.append(f"{compiler.name} is newer than the driver, which knows CUDA {_text(driver_version)}")
            continue
        name = _cache_name(compiler, compute_capability)
        if kept := recall(name):
            return kept
        try:
            cubin = compiler.compile(SOURCE, compute_capability)
        except CompileError as error:
            refusals.append(f"{compiler.name}: {error}")
            continue
        keep(name, cubin)
        return cubin
    raise DeviceUnavailable(
        f"no compiler here makes kernels for compute capability {compute_capability} ({'; '.join(refusals)}): update "
        f"the driver, or install a compiler that suits it: {INSTALL}"
    )


def compilers() -> Iterator[Compiler]:
    """Every compiler of this machine, the preferred one first."""
    for library in _nvrtc_libraries():
        try:
            yield Nvrtc(library)
        except OSError:
            continue
    for folder in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda"):
        if folder and (nvcc := shutil.which("nvcc", path=f"{folder}/bin")):
            yield Nvcc(nvcc)
            return
    if nvcc := shutil.which("nvcc"):
        yield Nvcc(nvcc)


class Nvcc:
    """The compiler of a CUDA toolkit; it needs the machine's C++ compiler, too."""

    def __init__(self, path: str) -> None:
        self._path = path
        told = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
        release = re.search(r"release (\d+)\.(\d+)", told)
        self.version = (int(release[1]), int(release[2])) if release else (0, 0)
        self.name = f"nvcc {_text(self.version)}"

    def compile(self, source: Path, compute_capability: str, options: Sequence[str] = ()) -> bytes:
        with tempfile.TemporaryDirectory(prefix="sarwater-") as folder:
            target = Path(folder) / "scene.cubin"
            command = [self._path, "-cubin", f"-arch={_architecture(compute_capability)}", *OPTIONS, *options]
            done = subprocess.run([*command, "-o", target, source], capture_output=True, text=True, check=False)
            if done.returncode:
                raise CompileError(_first_error(done.stderr + done.stdout))
            return target.read_bytes()


class Nvrtc:
    """NVIDIA's runtime compiler, a library that needs nothing beside it; through its C functions (nvrtc.h)."""

    def __init__(self, library: str) -> None:
        """Raises OSError where the library cannot be loaded."""
        self._library = ctypes.CDLL(library)
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)
        self.name = f"NVRTC {_text(self.version)}"

    def compile(self, source: Path, compute_capability: str, options: Sequence[str] = ()) -> bytes:
        program = ctypes.c_void_p()
        text, label = source.read_bytes(), source.name.encode()
        self._call("nvrtcCreateProgram", ctypes.byref(program), text, label, 0, None, None)
        try:
            wanted = [f"-arch={_architecture(compute_capability)}", *OPTIONS, *options]
            arguments = (ctypes.c_char_p * len(wanted))(*(option.encode() for option in wanted))
            try:
                self._call("nvrtcCompileProgram", program, len(wanted), arguments)
            except CompileError as error:
                said = self._read("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program)
                raise CompileError(_first_error(said.rstrip(b"\0").decode(errors="replace")) or str(error)) from None
            return self._read("nvrtcGetCUBINSize", "nvrtcGetCUBIN", program)
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _read(self, size_of: str, read: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(size_of, program, ctypes.byref(size))
        content = ctypes.create_string_buffer(size.value)
        self._call(read, program, content)
        return content.raw

    def _call(self, function: str, *arguments: Any) -> None:
        if code := getattr(self._library, function)(*arguments):
            raise CompileError(f"{function}: {self._library.nvrtcGetErrorString(code).decode()}")


def _nvrtc_libraries() -> Iterator[str]:
    """NVRTC of pip's NVIDIA packages, then of the system; newer ones first."""
    package = importlib.util.find_spec("nvidia")
    folders = list(package.submodule_search_locations or ()) if package else []
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    yield from map(str, sorted(found, key=lambda path: int(path.suffix[1:]), reverse=True))
    yield from ("libnvrtc.so.13", "libnvrtc.so.12")


def _cache_name(compiler: Compiler, compute_capability: str) -> str:
    made_of = [SOURCE.read_text(encoding="utf-8"), compiler.name, *OPTIONS]
    digest = hashlib.sha256("\0".join(made_of).encode()).hexdigest()
    return f"scene-{_architecture(compute_capability)}-{digest[:16]}.cubin"


def _architecture(compute_capability: str) -> str:
    return "sm_" + compute_capability.replace(".", "")


def _first_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line or "fatal" in line), lines[0] if lines else "")


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
