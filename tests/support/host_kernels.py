"""scene.cu compiled for the processor: each call of a kernel does the work of one CUDA thread after the other."""

from __future__ import annotations

import ctypes
import itertools
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.backends.gpu.cuda import BLOCK
from runtime.backends.gpu.kernels.compile import SOURCE

FLAGS = ("-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-ffp-contract=off")

_C_TYPES = {"uint64": ctypes.c_uint64, "int32": ctypes.c_int32, "float32": ctypes.c_float}


class Dim3(ctypes.Structure):
    _fields_ = (("x", ctypes.c_uint), ("y", ctypes.c_uint), ("z", ctypes.c_uint))


class HostKernels:
    """The kernels as functions. `seed` shuffles the order of a small grid's threads; None runs one thread for all."""

    def __init__(self, library: Path) -> None:
        self._library = ctypes.CDLL(str(library))
        self._index = {
            name: Dim3.in_dll(self._library, name) for name in ("blockIdx", "threadIdx", "blockDim", "gridDim")
        }
        self.seed: int | None = None

    def launch(self, kernel: str, pixels: tuple[int, int, int], arguments: Sequence[Any]) -> None:
        function = getattr(self._library, kernel)
        function.argtypes = [_C_TYPES[argument.dtype.name] for argument in arguments]
        function.restype = None
        values = [argument.item() for argument in arguments]
        grid, block = ((1, 1, 1), (1, 1, 1)) if self.seed is None else ((2, 3, min(2, pixels[2])), (5, *BLOCK[1:]))
        threads = list(itertools.product(*(range(count) for count in (*grid, *block))))
        random.Random(self.seed).shuffle(threads)
        self._set(gridDim=grid, blockDim=block)
        for thread in threads:
            self._set(blockIdx=thread[:3], threadIdx=thread[3:])
            function(*values)

    def _set(self, **indices: tuple[int, ...]) -> None:
        for name, values in indices.items():
            index = self._index[name]
            index.x, index.y, index.z = values


def host_compiler() -> str | None:
    """A C++ compiler of this machine."""
    return shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def compile_for_host(folder: Path) -> HostKernels:
    """Skips the test where there is no C++ compiler."""
    compiler = host_compiler()
    if compiler is None:
        pytest.skip("no C++ compiler to compile the kernels for the host with")
    library = folder / "scene.so"
    subprocess.run([compiler, *FLAGS, "-x", "c++", str(SOURCE), "-o", str(library)], check=True, timeout=120)
    return HostKernels(library)


def address(array: np.ndarray) -> np.uint64:
    return np.uint64(array.ctypes.data)
