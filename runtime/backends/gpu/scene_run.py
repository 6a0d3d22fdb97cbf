"""One scene over a GPU: raw rows go up once, finished rows come down once, and the network is never kept waiting.

    copy-in   | rows 1 | rows 2 |                                         | rows 3 |
    compute            | tiles 1: gather, infer, place ... join, finalise | tiles 2 ...         | tiles 3 ...
    copy-out                                                              | mask 1 |            | mask 2 |

Scene rows live in a ring on the device, of a little more than two tiles' height: a tile row reads what the one before
it brought, and only its new rows are copied, while the one before it is still at work. All else is double: tile row n
uses half n % 2. `push` hands tile row n to the device, then waits for tile row n - 1; so when n comes, n - 2 has left
its half, and the ring's rows that n overwrites.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.backends.base import FinishedRows, RunCounters, SceneRun
from runtime.backends.cpu.host import as_pixel
from runtime.backends.cpu.windows import windows_with_data
from runtime.backends.gpu.device import NETWORK_ROLES, BatchNetwork, Device, Event
from runtime.backends.gpu.device_kernels import SceneKernels, Strip
from runtime.backends.gpu.memory import RESULT_HEAD_BYTES, SceneMemory
from sarwater.errors import DeviceOutOfMemory, ModelError, PinnedOutOfMemory
from sarwater.tiling import TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]


class Interval(NamedTuple):
    """Some work of one stream, in seconds since the run's start on the device's clock."""

    stage: str
    """h2d, gather, infer, blend (with all that follows on the network) or d2h."""
    start_s: float
    end_s: float


@dataclass(frozen=True)
class _Work:
    """What was put into the streams for a strip."""

    strip: Strip
    batches: list[tuple[int, Event]] = field(default_factory=list)
    """Tiles, and the event of their answers' being in place."""
    stages: list[tuple[str, Event, Event]] = field(default_factory=list)


class GpuRun(SceneRun):
    """Batches never reach over a tile row; its tiles are spread evenly over as few batches as will do."""

    def __init__(
        self,
        plan: TilePlan,
        device: Device,
        network: BatchNetwork,
        channels: int,
        nodata: float | None,
        threshold: float,
        gains: Sequence[float] = (),
    ) -> None:
        self.counters = RunCounters(seconds=dict.fromkeys(("h2d", "gather", "infer", "blend", "d2h"), 0.0))
        self.intervals: list[Interval] = []
        """What the device did when, for proofs and pictures; complete after the last push."""
        self._plan = plan
        self._device = device
        self._network = network
        self._channels = channels
        self._nodata = nodata
        self._threshold = np.float32(threshold)
        self._gains = gains
        self._memory: SceneMemory | None = None
        self._kernels: SceneKernels
        self._north: Strip | None = None
        self._waiting: list[_Work] = []
        self._pushed = 0
        self._rows_end = self._valid_end = 0
        """Scene rows before these were copied, and so was their validity where it was given."""
        device.wait_for_all()  # a run that was given up in its midst may still be using the memory
        self._started = device.record(device.copy_in)

    @property
    def uploaded_bytes(self) -> int:
        """Bytes copied to the device so far."""
        return self._memory.uploaded_bytes if self._memory else 0

    def push(self, rows: Pixels, valid: Bool | None = None) -> FinishedRows:
        """Raises ModelError for an answer that is no number, DeviceOutOfMemory, DeviceLost."""
        if self._pushed and (valid is None) != (self._valid_end == 0):
            raise ValueError("validity is given with some strips of the scene; expected with all of them or none")
        memory = self._memory = self._memory or self._allocate(rows.dtype)
        work = _Work(self._next_strip(memory, rows, valid))
        self._copy_in(memory, work, rows, valid)
        self._infer(work)
        self._finalise(work)
        self._copy_out(work)
        self._waiting.append(work)
        self._north = work.strip
        if skipped := len(self._plan.columns) - len(work.strip.columns):
            self.counters.tiles_skipped += skipped
            self._tick()
        last = self._pushed == len(self._plan.rows)
        return self._joined([self._collect() for _ in range(len(self._waiting) - (not last))])

    def _allocate(self, dtype: np.dtype[np.generic]) -> SceneMemory:
        """Memory for this scene; where it is short, the network makes do with half its batch."""
        while True:
            try:
                memory = SceneMemory(self._device, self._plan, self._channels, dtype)
            except PinnedOutOfMemory:
                self._device.release(keep=NETWORK_ROLES)
                raise
            except DeviceOutOfMemory:
                self._device.release(keep=NETWORK_ROLES)
                self._network.halve()
            else:
                self._kernels = SceneKernels(
                    self._device, self._plan, memory, as_pixel(self._nodata, dtype), self._gains
                )
                return memory

    def _next_strip(self, memory: SceneMemory, rows: Pixels, valid: Bool | None) -> Strip:
        number, plan = self._pushed, self._plan
        self._pushed += 1
        span, last = plan.rows[number], number + 1 == len(plan.rows)
        return Strip(
            span,
            tuple(windows_with_data(plan, span, rows, valid, as_pixel(self._nodata, rows.dtype))),
            memory.half(number),
            0 if valid is None else memory.valid_ring,
            span.lo - plan.balance_px if number else 0,
            span.hi if last else plan.rows[number + 1].lo - plan.balance_px,
        )

    def _copy_in(self, memory: SceneMemory, work: _Work, rows: Pixels, valid: Bool | None) -> None:
        """Only what is not on the device yet; the compute stream waits for it."""
        device, half, columns = self._device, work.strip.half, work.strip.columns
        start = work.strip.span.start
        end = start + rows.shape[1]
        before = device.record(device.copy_in)
        memory.put_rows(half, rows[:, self._rows_end - start :], self._rows_end)
        self._rows_end = end
        if valid is not None:
            first = max(self._valid_end, start)
            memory.put_valid(half, valid[first - start :], first)
            self._valid_end = end
        if columns:
            table = half.host_columns[: len(columns)]
            table[...] = [(column.start, column.lo, column.hi) for column in columns]
            memory.upload(half.columns, table)
        after = device.record(device.copy_in)
        device.order(device.compute, after)
        work.stages.append(("h2d", before, after))

    def _infer(self, work: _Work) -> None:
        """Gather and infer the strip's tiles and place their answers, batch by batch from west to east."""
        device, network, kernels, strip = self._device, self._network, self._kernels, work.strip
        kernels.clear(strip)
        done = 0
        for count in _batches(len(strip.columns), network.batch):
            times = [device.record(device.compute)]
            kernels.gather(strip, done, count, network.input)
            times.append(device.record(device.compute))
            network.enqueue(count, device.compute)
            times.append(device.record(device.compute))
            kernels.place(strip, done, count, network.output)
            times.append(device.record(device.compute))
            work.stages.extend(zip(("gather", "infer", "blend"), times, times[1:]))  # noqa: B905 - pairs of neighbours
            work.batches.append((count, times[-1]))
            done += count

    def _finalise(self, work: _Work) -> None:
        """Join the strip's windows, and the strip with the one before; threshold what is finished."""
        device, kernels, strip = self._device, self._kernels, work.strip
        before = device.record(device.compute)
        kernels.join_columns(strip)
        if self._north:
            kernels.join_rows(self._north, strip)
        kernels.finalise(self._north, strip, self._threshold)
        after = device.record(device.compute)
        device.order(device.copy_out, after)
        work.stages.append(("blend", before, after))

    def _copy_out(self, work: _Work) -> None:
        device, half = self._device, work.strip.half
        size_bytes = RESULT_HEAD_BYTES + 2 * (work.strip.done_to - work.strip.done_from) * self._plan.width_px
        before = device.record(device.copy_out)
        device.download(half.host_result[:size_bytes], half.result, device.copy_out)
        work.stages.append(("d2h", before, device.record(device.copy_out)))

    def _collect(self) -> FinishedRows:
        """Wait for the oldest strip, telling of each batch, and take its rows out of the pinned memory."""
        work, device = self._waiting.pop(0), self._device
        strip = work.strip
        for tiles, placed in work.batches:
            device.wait(placed)
            self.counters.tiles += tiles
            self._tick()
        device.wait(work.stages[-1][2])
        for stage, start, end in work.stages:
            start_s, end_s = (device.seconds(self._started, event) for event in (start, end))
            self.counters.seconds[stage] += end_s - start_s
            self.intervals.append(Interval(stage, start_s, end_s))
        result = strip.half.host_result
        if result[:4].any():
            raise ModelError(
                "the network's answer holds NaN or infinity; expected probabilities: "
                "use the fp32 model, or export this precision again and verify it"
            )
        shape = (2, strip.done_to - strip.done_from, self._plan.width_px)
        size_bytes = shape[0] * shape[1] * shape[2]
        mask, confidence = result[RESULT_HEAD_BYTES : RESULT_HEAD_BYTES + size_bytes].reshape(shape).copy()
        return FinishedRows(strip.done_from, mask, confidence)

    def _joined(self, parts: list[FinishedRows]) -> FinishedRows:
        if len(parts) == 1:
            return parts[0]
        nothing = np.zeros((0, self._plan.width_px), np.uint8)
        masks, confidences = [part.mask for part in parts], [part.confidence for part in parts]
        row = parts[0].row if parts else 0
        return FinishedRows(row, np.concatenate([nothing, *masks]), np.concatenate([nothing, *confidences]))

    def _tick(self) -> None:
        if self.on_tile:
            self.on_tile()


def _batches(tiles: int, most: int) -> list[int]:
    """As few as will do, as equal as they can be: 27 tiles by 8 are 7, 7, 7, 6."""
    batches = -(-tiles // most)
    return [tiles // batches + (number < tiles % batches) for number in range(batches)]
