"""PyTorch's side of a device whose memory is the host's: what TorchCuda is on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

Work = Callable[[], None]


def at_once(work: Work, stream: Any) -> None:
    work()


class HostCuda:
    """`put` puts work into a stream. What it records is run again by each replay."""

    def __init__(self, put: Callable[[Work, Any], None] = at_once) -> None:
        self._put = put
        self.recorded_works = 0

    def tensor(self, address: int, shape: tuple[int, ...]) -> torch.Tensor:
        values = ctypes.cast(address, ctypes.POINTER(ctypes.c_float))
        return torch.from_numpy(np.ctypeslib.as_array(values, shape))

    def run(self, work: Work, stream: Any) -> None:
        self._put(work, stream)

    def recorded(self, work: Work, stream: Any) -> Callable[[Any], None]:
        self.recorded_works += 1
        return lambda stream: self._put(work, stream)

    def forget(self) -> None:
        """Nothing is kept."""
