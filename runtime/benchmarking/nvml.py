"""What NVIDIA's driver says of a GPU: NVML, through NVIDIA's own binding (nvidia-ml-py). Everything else works without.

Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Callable
from typing import Any

# nvmlClocksEventReason*, nvml.h: why a clock is lower than it could be. "idle" is not a fault but spoils a figure, too.
_REASONS = {
    0x001: "idle",
    0x002: "application clocks",
    0x004: "software power cap",
    0x008: "hardware slowdown",
    0x010: "sync boost",
    0x020: "software thermal slowdown",
    0x040: "hardware thermal slowdown",
    0x080: "hardware power brake",
    0x100: "display clocks",
}


class Nvml:
    """One GPU. Every reading is None where this GPU or driver does not have it (a Jetson's has little)."""

    def __init__(self, library: Any, gpu: Any) -> None:
        self._library = library
        self._gpu = gpu

    @classmethod
    def open(cls) -> Nvml | None:
        """The GPU that CUDA calls device 0, or None without a driver, a GPU or nvidia-ml-py."""
        try:
            import pynvml
        except ImportError:
            return None
        try:
            pynvml.nvmlInit()
            return cls(pynvml, _gpu_of_cuda(pynvml))
        except pynvml.NVMLError:
            return None

    def about(self) -> dict[str, Any]:
        """What does not change: name, memory, driver, the CUDA version that the driver speaks."""
        library = self._library
        cuda = self._read(library.nvmlSystemGetCudaDriverVersion_v2, of_system=True)
        memory = self._read(library.nvmlDeviceGetMemoryInfo)
        return {
            "gpu": self._read(library.nvmlDeviceGetName),
            "gpu_memory_bytes": None if memory is None else memory.total,
            "gpu_driver": self._read(library.nvmlSystemGetDriverVersion, of_system=True),
            "cuda_of_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
        }

    def settings(self) -> dict[str, Any]:
        """What somebody may have set: limits and modes."""
        library = self._library
        limit_mw = self._read(library.nvmlDeviceGetEnforcedPowerLimit)
        return {
            "gpu_power_limit_w": None if limit_mw is None else limit_mw / 1000,
            "gpu_persistence": _yes(self._read(library.nvmlDeviceGetPersistenceMode)),
            "gpu_max_mhz": self._read(library.nvmlDeviceGetMaxClockInfo, library.NVML_CLOCK_SM),
        }

    def clock_mhz(self) -> int | None:
        clock: int | None = self._read(self._library.nvmlDeviceGetClockInfo, self._library.NVML_CLOCK_SM)
        return clock

    def temperature_c(self) -> float | None:
        celsius: float | None = self._read(self._library.nvmlDeviceGetTemperature, self._library.NVML_TEMPERATURE_GPU)
        return celsius

    def throttling(self) -> list[str] | None:
        """Why the clocks are held back at this moment; empty where they are not."""
        mask = self._read(self._library.nvmlDeviceGetCurrentClocksThrottleReasons)
        return None if mask is None else [reason for bit, reason in _REASONS.items() if mask & bit]

    def joules(self) -> float | None:
        """Energy since the driver was loaded."""
        millijoules = self._read(self._library.nvmlDeviceGetTotalEnergyConsumption)
        return None if millijoules is None else millijoules / 1000

    def watts(self) -> float | None:
        milliwatts = self._read(self._library.nvmlDeviceGetPowerUsage)
        return None if milliwatts is None else milliwatts / 1000

    def _read(self, call: Callable[..., Any], *arguments: Any, of_system: bool = False) -> Any:
        try:
            value = call(*arguments) if of_system else call(self._gpu, *arguments)
        except self._library.NVMLError:
            return None
        return value.decode() if isinstance(value, bytes) else value


def _gpu_of_cuda(library: Any) -> Any:
    """CUDA and NVML may count several GPUs in different orders (CUDA_VISIBLE_DEVICES), so they are matched by UUID."""
    found = _uuid_of_cuda()
    if found is not None:
        try:
            return library.nvmlDeviceGetHandleByUUID(f"GPU-{found}")
        except library.NVMLError:  # a Jetson has no UUIDs, a MIG slice has its own kind
            pass
    return library.nvmlDeviceGetHandleByIndex(0)


def _uuid_of_cuda() -> uuid.UUID | None:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    device, number = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0) or driver.cuDeviceGetUuid(number, device):
        return None
    return uuid.UUID(bytes=bytes(number))


def _yes(value: int | None) -> bool | None:
    return None if value is None else bool(value)
