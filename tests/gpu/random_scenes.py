"""Random scenes over the device against numpy, bit for bit, with a network that is numpy itself: the device's kernels,
copies and ordering are all that differs. `python -m tests.gpu.random_scenes COUNT` for compute-sanitizer."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from runtime.backends.cpu.host import HostRun
from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.scene_run import GpuRun
from sarwater.errors import DeviceOutOfMemory
from sarwater.tiling import TilePlan
from tests.runtime.backends.gpu.test_scene_run import HostNetwork, formula, leaning
from tests.support.gpu_scenes import push_all, speckle

TILE_PX = 64


class RoundTripNetwork:
    """A BatchNetwork: tiles come to the host, numpy answers, the answers go back, all in the compute stream's order."""

    def __init__(
        self, device: CudaDevice, answer: Callable[[np.ndarray], np.ndarray], channels: int, batch: int
    ) -> None:
        self._device, self._answer, self._channels = device, answer, channels
        self._use(batch)

    def enqueue(self, count: int, stream: Any) -> None:
        device = self._device
        tiles = device.pinned("test tiles", (count, self._channels, TILE_PX, TILE_PX), np.float32)
        answers = device.pinned("test answers", (count, TILE_PX, TILE_PX), np.float32)
        device.download(tiles, self.input, stream)
        device.wait(device.record(stream))
        for tile, answer in zip(tiles, answers, strict=True):
            answer[...] = self._answer(tile)
        device.upload(self.output, answers, stream)
        device.wait(device.record(stream))  # `answers` is written again by the next batch

    def halve(self) -> None:
        if self.batch == 1:
            raise DeviceOutOfMemory("the scene")
        self._use(self.batch // 2)

    def _use(self, batch: int) -> None:
        self.batch = batch
        self.input = self._device.memory("network input", batch * self._channels * TILE_PX**2 * 4)
        self.output = self._device.memory("network output", batch * TILE_PX**2 * 4)


def differing_pixels(device: CudaDevice, seed: int) -> int:
    """One random scene: how many of its pixels are not numpy's."""
    dice = random.Random(seed)
    channels, height, width = dice.randint(1, 3), dice.randint(1, 330), dice.randint(1, 330)
    plan = TilePlan(height, width, TILE_PX, dice.choice([0, 4, 8, 16]))
    if dice.random() < 0.5:
        plan = plan.with_wide_fades()
    dtype, nodata = dice.choice([np.uint8, np.uint16, np.int16, np.float32]), dice.choice([None, 0, 7, -3, 0.5])
    answer = dice.choice([formula, leaning])
    pixels = speckle(channels, height, width, dtype, seed, dice.choice([0, 0.3, 1.0]))
    valid = dice.choice([None, (pixels != 0).any(axis=0), np.ones((height, width), bool)])
    network = RoundTripNetwork(device, answer, channels, dice.randint(1, 5))
    gains = [dice.uniform(0.3, 3) for _ in range(channels)] if dice.random() < 0.5 else []
    found = push_all(GpuRun(plan, device, network, channels, nodata, 0.5, gains), plan, pixels, valid)
    host = HostRun(plan, HostNetwork(channels, answer, TILE_PX), nodata, 0.5, gains)
    expected = push_all(host, plan, pixels, valid)
    return int(((found.mask != expected.mask) | (found.confidence != expected.confidence)).sum())


def main(count: int) -> int:
    device = CudaDevice()
    try:
        differing = {seed: differing_pixels(device, seed) for seed in range(count)}
    finally:
        device.close()
    wrong = {seed: pixels for seed, pixels in differing.items() if pixels}
    print(f"{count} random scenes, {len(wrong)} not numpy's: {wrong}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
