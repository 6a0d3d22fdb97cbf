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

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from runtime.backends.base import BandCounters, FinishedRows, SceneRun
from runtime.backends.device import BatchNetwork, Device, Event
from runtime.backends.gpu_memory import RESULT_HEAD_BYTES, Half, SceneMemory
from runtime.backends.host import as_pixel
from runtime.backends.windows import windows_with_data
from sarwater.blending import prior_of
from sarwater.errors import DeviceOutOfMemory, ModelError
from sarwater.tiling import Span, TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

# The `rules` of scene.cu.
_BLANK_INVALID, _BLANK_NODATA, _HAS_NODATA = 1, 2, 4


class Interval(NamedTuple):
    """Some work of one stream, in seconds since the run's start on the device's clock."""

    stage: str
    """h2d, gather, infer, blend (with all that follows on the network) or d2h."""
    start_s: float
    end_s: float


@dataclass
class _Band:
    """A tile row on its way."""

    number: int
    span: Span
    done_from: int
    done_to: int
    """The scene rows that are finished with this tile row."""
    half: Half
    valid: int
    """Address of the validity ring; 0 where nodata alone decides."""
    rules: int
    columns: list[Span]
    batches: list[tuple[int, Event]] = field(default_factory=list)
    """Tiles, and the event of their answers' being blended."""
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
    ) -> None:
        self.counters = BandCounters(seconds=dict.fromkeys(("h2d", "gather", "infer", "blend", "d2h"), 0.0))
        self.intervals: list[Interval] = []
        """What the device did when, for proofs and pictures; complete after the last push."""
        self._plan = plan
        self._device = device
        self._network = network
        self._channels = channels
        self._nodata = nodata
        self._threshold = np.float32(threshold)
        self._memory: SceneMemory | None = None
        self._bands: list[_Band] = []
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
        memory = self._memory = self._memory or self._allocate(rows.dtype)
        band = self._next_band(memory, rows, valid)
        self._copy_in(memory, band, rows, valid)
        self._infer(memory, band, rows.dtype)
        self._finalise(memory, band, rows.dtype)
        self._copy_out(band)
        self._bands.append(band)
        if skipped := len(self._plan.columns) - len(band.columns):
            self.counters.tiles_skipped += skipped
            self._tick()
        last = self._pushed == len(self._plan.rows)
        return self._joined([self._collect() for _ in range(len(self._bands) - (not last))])

    def _allocate(self, dtype: np.dtype[np.generic]) -> SceneMemory:
        """Memory for this scene; where it is short, the network makes do with half its batch."""
        while True:
            try:
                return SceneMemory(self._device, self._plan, self._channels, dtype)
            except DeviceOutOfMemory:
                self._device.release()
                self._network.halve()

    def _next_band(self, memory: SceneMemory, rows: Pixels, valid: Bool | None) -> _Band:
        number, plan = self._pushed, self._plan
        self._pushed += 1
        span = plan.rows[number]
        nodata = as_pixel(self._nodata, rows.dtype)
        return _Band(
            number,
            span,
            span.lo - plan.balance_px if number else 0,
            plan.rows[number + 1].lo - plan.balance_px if number + 1 < len(plan.rows) else span.hi,
            memory.half(number),
            0 if valid is None else memory.valid_ring,
            _rules(nodata, self._channels, valid is not None),
            windows_with_data(plan, span, rows, valid, nodata),
        )

    def _copy_in(self, memory: SceneMemory, band: _Band, rows: Pixels, valid: Bool | None) -> None:
        """Only what is not on the device yet; the compute stream waits for it."""
        device, start, end = self._device, band.span.start, band.span.start + rows.shape[1]
        before = device.record(device.copy_in)
        memory.put_rows(band.half, rows[:, self._rows_end - start :], self._rows_end)
        self._rows_end = end
        if valid is not None:
            first = max(self._valid_end, start)
            memory.put_valid(band.half, valid[first - start :], first)
            self._valid_end = end
        if band.columns:
            table = band.half.host_columns[: len(band.columns)]
            table[...] = [(column.start, column.lo, column.hi) for column in band.columns]
            memory.upload(band.half.columns, table)
        after = device.record(device.copy_in)
        device.order(device.compute, after)
        band.stages.append(("h2d", before, after))

    def _infer(self, memory: SceneMemory, band: _Band, dtype: np.dtype[np.generic]) -> None:
        """Gather and infer the band's tiles and place their answers, batch by batch from west to east."""
        device, plan, span, network = self._device, self._plan, band.span, self._network
        rows = span.hi - span.lo
        device.fill(band.half.answers, 0, rows * plan.width_px * 4, device.compute)
        done = 0
        for count in _batches(len(band.columns), network.batch):
            columns = band.half.columns + 12 * done
            times = [device.record(device.compute)]
            pixels = (plan.tile_px, plan.tile_px, count * self._channels)
            self._launch(
                f"gather_{dtype}",
                pixels,
                *_addresses(network.input, memory.ring, band.valid, columns),
                *_ints(count, plan.tile_px, span.start, self._channels, memory.ring_rows),
                *_ints(plan.height_px, plan.width_px, band.rules),
                self._nodata_value(band),
            )
            times.append(device.record(device.compute))
            network.enqueue(count, device.compute)
            times.append(device.record(device.compute))
            ends = memory.ends + 4 * done * rows * plan.overlap_px
            self._launch(
                "place",
                (min(plan.width_px, count * plan.tile_px), rows, 1),
                *_addresses(band.half.answers, ends, network.output, columns),
                *_ints(count, plan.tile_px, plan.overlap_px, span.start, span.lo, span.hi, plan.width_px),
            )
            times.append(device.record(device.compute))
            band.stages += zip(("gather", "infer", "blend"), times, times[1:])  # noqa: B905 - pairs of neighbours
            band.batches.append((count, times[-1]))
            done += count

    def _finalise(self, memory: SceneMemory, band: _Band, dtype: np.dtype[np.generic]) -> None:
        """Join the band's windows, and the band with the one before; threshold what is finished."""
        device, plan, half = self._device, self._plan, band.half
        before = device.record(device.compute)
        if plan.overlap_px and len(band.columns) > 1:
            self._join_columns(memory, band, dtype)
        left, north = 0, 0
        if band.number:
            left = band.span.lo - band.done_from
            other = memory.half(band.number - 1)
            north = other.answers + 4 * (band.done_from - plan.rows[band.number - 1].lo) * plan.width_px
            if plan.overlap_px:
                self._join_rows(memory, band, north, dtype)
        count = band.done_to - band.done_from
        mask = half.result + RESULT_HEAD_BYTES
        device.fill(half.result, 0, RESULT_HEAD_BYTES, device.compute)
        self._launch(
            f"finalise_{dtype}",
            (plan.width_px, count, 1),
            *_addresses(mask, mask + count * plan.width_px, half.result, half.answers, north, memory.ring, band.valid),
            *_ints(band.done_from, band.done_to, left, self._channels, memory.ring_rows, plan.width_px),
            self._threshold,
            *_ints(band.rules),
            self._nodata_value(band),
        )
        after = device.record(device.compute)
        device.order(device.copy_out, after)
        band.stages.append(("blend", before, after))

    def _join_columns(self, memory: SceneMemory, band: _Band, dtype: np.dtype[np.generic]) -> None:
        plan, span, columns = self._plan, band.span, band.half.columns
        borders, rows = len(band.columns) - 1, span.hi - span.lo
        answers_and_ends = _addresses(band.half.answers, memory.ends)
        if plan.balance_px:
            self._device.fill(memory.odds, 0, memory.column_odds_bytes, self._device.compute)
            self._launch(
                f"compare_columns_{dtype}",
                (rows, 1, borders),
                *_addresses(memory.odds),
                *answers_and_ends,
                *_addresses(memory.ring, band.valid, columns),
                *_ints(borders, plan.overlap_px, span.lo, span.hi, self._channels, memory.ring_rows, plan.width_px),
                *_ints(band.rules),
                self._nodata_value(band),
            )
        self._launch(
            "join_columns",
            (plan.overlap_px + 2 * plan.balance_px, rows, borders),
            *answers_and_ends,
            *_addresses(memory.odds, columns, memory.ramp, memory.decline),
            *_ints(borders, plan.overlap_px, plan.balance_px, prior_of(plan.overlap_px), rows, plan.width_px),
        )

    def _join_rows(self, memory: SceneMemory, band: _Band, north: int, dtype: np.dtype[np.generic]) -> None:
        plan, south = self._plan, band.half.answers
        if plan.balance_px:
            self._device.fill(memory.odds, 0, memory.row_odds_bytes, self._device.compute)
            self._launch(
                f"compare_rows_{dtype}",
                (plan.width_px, 1, 1),
                *_addresses(memory.odds, north + 4 * plan.balance_px * plan.width_px, south, memory.ring, band.valid),
                *_ints(plan.overlap_px, band.span.lo, self._channels, memory.ring_rows, plan.width_px, band.rules),
                self._nodata_value(band),
            )
        self._launch(
            "join_rows",
            (plan.width_px, plan.overlap_px + 2 * plan.balance_px, 1),
            *_addresses(north, south, memory.odds, memory.ramp, memory.decline),
            *_ints(plan.overlap_px, plan.balance_px, prior_of(plan.overlap_px), band.span.hi - band.span.lo),
            *_ints(plan.width_px),
        )

    def _copy_out(self, band: _Band) -> None:
        device = self._device
        size_bytes = RESULT_HEAD_BYTES + 2 * (band.done_to - band.done_from) * self._plan.width_px
        before = device.record(device.copy_out)
        device.download(band.half.host_result[:size_bytes], band.half.result, device.copy_out)
        band.stages.append(("d2h", before, device.record(device.copy_out)))

    def _collect(self) -> FinishedRows:
        """Wait for the oldest band, telling of each batch, and take its rows out of the pinned memory."""
        band, device = self._bands.pop(0), self._device
        for tiles, blended in band.batches:
            device.wait(blended)
            self.counters.tiles += tiles
            self._tick()
        device.wait(band.stages[-1][2])
        for stage, start, end in band.stages:
            start_s, end_s = (device.seconds(self._started, event) for event in (start, end))
            self.counters.seconds[stage] += end_s - start_s
            self.intervals.append(Interval(stage, start_s, end_s))
        result = band.half.host_result
        if result[:4].any():
            raise ModelError(
                "the network's answer holds NaN or infinity; expected probabilities: "
                "use the fp32 model, or export this precision again and verify it"
            )
        shape = (2, band.done_to - band.done_from, self._plan.width_px)
        size_bytes = shape[0] * shape[1] * shape[2]
        mask, confidence = result[RESULT_HEAD_BYTES : RESULT_HEAD_BYTES + size_bytes].reshape(shape).copy()
        return FinishedRows(band.done_from, mask, confidence)

    def _launch(self, kernel: str, pixels: tuple[int, int, int], *arguments: Any) -> None:
        self._device.launch(kernel, pixels, arguments, self._device.compute)

    def _nodata_value(self, band: _Band) -> np.float32:
        value: np.float32 = np.float32(self._nodata if self._nodata is not None and band.rules & _HAS_NODATA else 0)
        return value

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


def _rules(nodata: np.generic | None, channels: int, valid_given: bool) -> int:
    """Which pixels enter the network as 0, as in host.gather."""
    rules = 0
    if nodata is not None:
        rules |= _HAS_NODATA
    if (valid_given or nodata is not None) and not (nodata == 0 and channels == 1):
        rules |= _BLANK_INVALID
    if nodata is not None and nodata != 0 and channels > 1:
        rules |= _BLANK_NODATA
    return rules


def _batches(tiles: int, most: int) -> list[int]:
    """As few as will do, as equal as they can be: 27 tiles by 8 are 7, 7, 7, 6."""
    batches = -(-tiles // most)
    return [tiles // batches + (number < tiles % batches) for number in range(batches)]


def _addresses(*values: int) -> tuple[np.uint64, ...]:
    return tuple(np.uint64(value) for value in values)


def _ints(*values: int) -> tuple[np.int32, ...]:
    return tuple(np.int32(value) for value in values)
