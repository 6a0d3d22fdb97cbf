"""Which NVIDIA GPU this machine has, asked of the driver itself: no CUDA toolkit, no context, nothing to install."""

from __future__ import annotations

import contextlib
import ctypes
from dataclasses import dataclass

from sarwater.errors import DeviceUnavailable

# CUdevice_attribute, cuda.h of the CUDA driver API.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Gpu:
    name: str
    compute_capability: str
    """`8.7` and the like."""


def require_gpu() -> Gpu:
    """The first GPU that the driver sees (`CUDA_VISIBLE_DEVICES` counts). Raises DeviceUnavailable."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise _unavailable("no NVIDIA driver (libcuda.so.1) is installed") from None
    device = ctypes.c_int()
    if code := driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        reason = ctypes.c_char_p()
        driver.cuGetErrorName(code, ctypes.byref(reason))
        raise _unavailable(
            f"the NVIDIA driver finds no usable GPU ({(reason.value or b'unknown error').decode()}, {code})"
        )
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return Gpu(name.value.decode(), ".".join(capability))


def first_gpu() -> Gpu | None:
    """As `require_gpu`, or None without a driver or a GPU."""
    with contextlib.suppress(DeviceUnavailable):
        return require_gpu()
    return None


def _unavailable(problem: str) -> DeviceUnavailable:
    return DeviceUnavailable(
        f"{problem}; an engine needs an NVIDIA GPU and its driver: check `nvidia-smi`, or use an .onnx model, which "
        "runs on the CPU"
    )
