"""The seam between a scene's way over a GPU and the calls into CUDA: memory, copies, kernels, streams and events.

Device memory is an address, an `int`. Everything with a stream returns at once and happens in that stream's order;
streams are ordered among each other by events alone. What is copied asynchronously must be pinned, and must stay as it
is until the copy's event has happened.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy.typing as npt

Array = npt.NDArray[Any]
Stream = Any
Event = Any

NETWORK_ROLES = "network"
"""How the roles of a network's memory begin. It outlives scenes, so nobody but the network gives it back."""


class Device(Protocol):
    """One GPU, used by the one thread that opened it.

    Every method raises DeviceLost where the GPU refuses: after that nothing works in this process. Only the two that
    allocate raise DeviceOutOfMemory, and leave everything as it was but for the role, which has nothing then.
    """

    copy_in: Stream
    compute: Stream
    copy_out: Stream

    def memory(self, role: str, size_bytes: int) -> int:
        """At least `size_bytes` of device memory for `role`: the same as the last time where that is large enough, so
        that scenes of one size allocate once; else new, and what was in the old is gone. 256-byte aligned.

        Raises DeviceOutOfMemory.
        """

    def pinned(self, role: str, shape: Sequence[int], dtype: npt.DTypeLike) -> Array:
        """Page-locked memory of the host for `role`, kept likewise. Raises PinnedOutOfMemory."""

    def free(self, role: str) -> None:
        """Give back the device memory of `role`, if it has any, once all work is done."""

    def release(self, keep: str | None = None) -> None:
        """Give back all memory of both kinds, once all work is done; but not the device memory of roles that begin with
        `keep`."""

    def upload(self, target: int, source: Array, stream: Stream) -> None:
        """Contiguous pinned `source` to the device."""

    def download(self, target: Array, source: int, stream: Stream) -> None: ...

    def fill(self, target: int, value: int, size_bytes: int, stream: Stream) -> None:
        """Set bytes."""

    def launch(self, kernel: str, pixels: tuple[int, int, int], arguments: Sequence[Any], stream: Stream) -> None:
        """A kernel of scene.cu over (width, height, planes); arguments are numpy scalars of the C types, addresses
        uint64."""

    def record(self, stream: Stream) -> Event:
        """An event after what is in the stream so far."""

    def order(self, stream: Stream, after: Event) -> None:
        """Let the stream wait for the event."""

    def wait(self, event: Event) -> None:
        """Let this thread wait for the event, without spinning."""

    def wait_for_all(self) -> None:
        """Let this thread wait for everything."""

    def seconds(self, start: Event, end: Event) -> float:
        """Between two events that happened, on the device's clock."""


class BatchNetwork(Protocol):
    """A network on a device, with memory for `batch` tiles, in roles that begin with NETWORK_ROLES."""

    batch: int
    input: int
    """(batch, C, T, T) float32 on the device."""
    output: int
    """(batch, 1, T, T) float32 on the device."""

    def enqueue(self, count: int, stream: Stream) -> None:
        """Answer the first `count` tiles of the input. Raises DeviceLost."""

    def halve(self) -> None:
        """Make do with half the batch or less, and give back the memory. Raises DeviceOutOfMemory where that cannot be,
        and leaves the network as it was."""
