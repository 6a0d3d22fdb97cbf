"""The device, the arithmetic and the fellow processes of a run."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from sarwater.errors import DeviceUnavailable, UsageError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""As in malloc.h."""


def choose_device(name: str, local_rank: int = 0) -> torch.device:
    """`auto`, `cpu` or `cuda`; on a CPU, this process keeps the memory it frees from here on.

    Raises DeviceUnavailable for a GPU that is not there.
    """
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        _keep_freed_memory()
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise DeviceUnavailable("--device cuda: PyTorch finds no GPU; check nvidia-smi, or leave --device at auto")
    return torch.device("cuda", local_rank)


def _keep_freed_memory() -> None:
    """Up to a gigabyte, where glibc manages it.

    Each step wants blocks as large as those of the last. Given back in between, as they are by default, their pages
    have to be found and cleared again every time: mallopt(3), M_TRIM_THRESHOLD and M_MMAP_THRESHOLD.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        for parameter in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            mallopt(parameter, 2**30)


def choose_precision(name: str, device: torch.device) -> torch.dtype:
    """float32, bfloat16 or float16. Raises UsageError for float16 on a CPU, which has no arithmetic for it."""
    if name == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if native else torch.float32
    if name == "fp16" and device.type == "cpu":
        raise UsageError("--precision fp16 needs a GPU; a CPU computes in fp32 or bf16")
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


@dataclass(frozen=True)
class Team:
    """The processes that train together: those that `torchrun` started, or this one alone."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """True for the one process that writes files and talks."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every process the leader's running statistics, which its own crops have moved apart."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


@contextmanager
def team(device_name: str) -> Iterator[Team]:
    """Join the processes that torchrun announced in the environment."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Team()
        return
    local_rank = int(os.environ["LOCAL_RANK"])
    device = choose_device(device_name, local_rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Team(int(os.environ["RANK"]), size, local_rank)
    finally:
        dist.destroy_process_group()
