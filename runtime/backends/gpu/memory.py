"""What one scene needs on the device and in pinned memory, and the way of its pixels there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.backends.gpu.device import Array, Device
from sarwater.blending import BLOCK_PX
from sarwater.tiling import TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

RESULT_HEAD_BYTES = 256
"""Before mask and confidence: the `unsound` flag, and room so that they begin aligned."""


COLUMN_BYTES = 12
"""Of a window: start, lo and hi, int32."""
_ODDS_BYTES = 16
"""The two sums of an odds ratio, uint64."""


class Half:
    """What two tile rows at work must not share."""

    def __init__(self, number: int, device: Device, plan: TilePlan, channels: int, dtype: np.dtype[np.generic]) -> None:
        height, width, columns = min(plan.tile_px, plan.height_px), plan.width_px, len(plan.columns)
        result_bytes = RESULT_HEAD_BYTES + 2 * (height + plan.balance_px) * width
        self.answers = device.memory(f"answers {number}", height * width * 4)
        """(height, W) float32: of the rows that the tile row answers for."""
        self.columns = device.memory(f"columns {number}", columns * COLUMN_BYTES)
        """(tiles, 3) int32: start, lo, hi of the windows that are inferred."""
        self.result = device.memory(f"result {number}", result_bytes)
        """The flag, then (n, W) uint8 mask and (n, W) uint8 confidence, one behind the other."""
        self.host_rows = device.pinned(f"rows {number}", (channels, height, width), dtype)
        self.host_valid = device.pinned(f"valid {number}", (1, height, -(-width // 8)), np.uint8)
        self.host_columns = device.pinned(f"columns {number}", (columns, 3), np.int32)
        self.host_result = device.pinned(f"result {number}", (result_bytes,), np.uint8)


class SceneMemory:
    """Memory for one scene. Raises DeviceOutOfMemory where the device has too little."""

    def __init__(self, device: Device, plan: TilePlan, channels: int, dtype: np.dtype[np.generic]) -> None:
        self.uploaded_bytes = 0
        self.channels, self.dtype = channels, dtype
        # `balance_px` rows of the tile row before are finished last, when the next one is coming in.
        self.ring_rows = min(2 * plan.tile_px + plan.balance_px, plan.height_px)
        self.ring = device.memory("ring", channels * self.ring_rows * plan.width_px * dtype.itemsize)
        """(C, ring_rows, W) pixels: scene row y at y % ring_rows."""
        self.valid_ring = device.memory("valid ring", self.ring_rows * -(-plan.width_px // 8))
        """(ring_rows, W / 8) bits."""
        height, columns = min(plan.tile_px, plan.height_px), len(plan.columns)
        self.ends = device.memory("ends", 4 * max(1, columns * height * plan.overlap_px))
        """(tiles, height, overlap) float32: what each window says of its last columns."""
        self.column_odds_bytes = _ODDS_BYTES * (columns - 1) * -(-height // BLOCK_PX)
        self.row_odds_bytes = _ODDS_BYTES * -(-plan.width_px // BLOCK_PX)
        self.odds = device.memory("odds", max(self.column_odds_bytes, self.row_odds_bytes))
        """(borders, blocks, 2) uint64 along the borders of windows, or (blocks, 2) along that of two tile rows."""
        fades = np.concatenate([plan.ramp, plan.decline])
        self.ramp = device.memory("fades", 4 * max(1, len(fades)))
        self.decline = self.ramp + 4 * plan.overlap_px
        host_fades = device.pinned("fades", fades.shape, np.float32)
        self._halves = [Half(number, device, plan, channels, dtype) for number in range(2)]
        self._device = device
        if len(fades):
            host_fades[...] = fades
            self.upload(self.ramp, host_fades)

    def half(self, number: int) -> Half:
        """For tile row `number`; whoever takes it knows that tile row `number - 2` is done."""
        return self._halves[number % 2]

    def put_rows(self, half: Half, rows: Pixels, first: int) -> None:
        """(C, n, W) pixels of the scene rows from `first` on."""
        self._to_ring(self.ring, half.host_rows[:, : rows.shape[1]], rows, first)

    def put_valid(self, half: Half, valid: Bool, first: int) -> None:
        """(n, W) validity, of which one bit per pixel goes up, and nothing at all where every pixel is valid."""
        if not valid.all():
            bits = np.packbits(valid, axis=1, bitorder="little")[None]
            self._to_ring(self.valid_ring, half.host_valid[:, : len(valid)], bits, first)
            return
        row_bytes = half.host_valid.shape[2]
        for place, _, count in self._places(first, len(valid)):
            self._device.fill(self.valid_ring + place * row_bytes, 255, count * row_bytes, self._device.copy_in)

    def upload(self, target: int, source: Array) -> None:
        self._device.upload(target, source, self._device.copy_in)
        self.uploaded_bytes += source.nbytes

    def _to_ring(self, ring: int, staged: Array, rows: Pixels, first: int) -> None:
        staged[...] = rows
        row_bytes = rows.shape[2] * rows.itemsize
        for channel in range(len(rows)):
            for place, done, count in self._places(first, rows.shape[1]):
                target = ring + (channel * self.ring_rows + place) * row_bytes
                self.upload(target, staged[channel, done : done + count])

    def _places(self, first: int, count: int) -> list[tuple[int, int, int]]:
        """Where `count` rows from scene row `first` on lie in the ring: (ring row, rows before, rows) of each piece."""
        place = first % self.ring_rows
        until_wrap = min(count, self.ring_rows - place)
        pieces = [(place, 0, until_wrap), (0, until_wrap, count - until_wrap)]
        return [piece for piece in pieces if piece[2]]
