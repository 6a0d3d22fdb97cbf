"""Which NVIDIA GPU this machine has, asked of the driver itself: no CUDA toolkit, no context, nothing to install."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# CUdevice_attribute, cuda.h of the CUDA driver API.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76


@dataclass(frozen=True)
class Gpu:
    name: str
    compute_capability: str
    """`8.7` and the like."""


def first_gpu() -> Gpu | None:
    """The first GPU that the driver sees (`CUDA_VISIBLE_DEVICES` counts), or None without a driver or a GPU."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        return None
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (_COMPUTE_CAPABILITY_MAJOR, _COMPUTE_CAPABILITY_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    return Gpu(name.value.decode(), ".".join(capability))
