"""Tiles through a network on a device without a scene around them: for warm-up, proofs and benchmarks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.backends.gpu.device import BatchNetwork, Device

Float32 = npt.NDArray[np.float32]


def infer(device: Device, network: BatchNetwork, tiles: Float32) -> Float32:
    """(N, C, T, T) float32 raw pixels -> (N, 1, T, T) float32 probability. Raises DeviceOutOfMemory, DeviceLost."""
    answers = np.empty((len(tiles), 1, *tiles.shape[2:]), np.float32)
    for first in range(0, len(tiles), network.batch):
        part = tiles[first : first + network.batch]
        host_input = device.pinned("infer input", part.shape, np.float32)
        host_output = device.pinned("infer output", (len(part), 1, *tiles.shape[2:]), np.float32)
        host_input[...] = part
        device.upload(network.input, host_input, device.compute)
        network.enqueue(len(part), device.compute)
        device.download(host_output, network.output, device.compute)
        device.wait(device.record(device.compute))
        answers[first : first + len(part)] = host_output
    return answers
