"""The whole scene over a device against the numpy backend: the kernels are the real ones, only CUDA is missing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.backends.cpu.host import HostRun
from runtime.backends.gpu.scene_run import GpuRun, _batches
from sarwater.blending import BLOCK_PX
from sarwater.classes import NODATA
from sarwater.errors import DeviceOutOfMemory, ModelError
from sarwater.tiling import TilePlan
from tests.support.gpu_scenes import push_all, speckle
from tests.support.host_device import FormulaNetwork, HostDevice
from tests.support.host_kernels import HostKernels

TILE_PX = 32
DTYPES = (np.uint8, np.uint16, np.int16, np.float32)
SCENES = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def formula(tile: np.ndarray) -> np.ndarray:
    """Probability from the pixel, its neighbours and its place in the tile, so that nothing can be exchanged unseen."""
    place = np.arange(tile.shape[-1], dtype=np.float32)
    mixed = np.abs(tile).sum(axis=0, dtype=np.float32) + np.roll(tile[0], 1) + 3 * place[:, None] + 5 * place
    return ((mixed % np.float32(251)) / np.float32(251)).astype(np.float32)


def leaning(tile: np.ndarray) -> np.ndarray:
    """Every other window sees much more water in the same pixels."""
    probability = formula(tile)
    odds = np.float32(0.05 if int(tile[0, 0, 0]) % 2 else 20)
    return probability * odds / (1 + probability * (odds - 1))


class HostNetwork:
    """The same formula as a TileNetwork of the numpy backend."""

    depth = 2

    def __init__(
        self, channels: int, answer: Callable[[np.ndarray], np.ndarray] = formula, tile_px: int = TILE_PX
    ) -> None:
        self._answer = answer
        self._tiles = np.zeros((2, channels, tile_px, tile_px), np.float32)

    def input(self, slot: int) -> np.ndarray:
        return self._tiles[slot]

    def start(self, slot: int) -> None: ...

    def result(self, slot: int) -> np.ndarray:
        return self._answer(self._tiles[slot])


def gpu_run(
    kernels: HostKernels,
    plan: TilePlan,
    channels: int,
    nodata: float | None,
    *,
    batch: int = 4,
    grid: int | None = None,
    limit_bytes: int = 1 << 40,
    answer: Callable[[np.ndarray], np.ndarray] = formula,
    gains: Sequence[float] = (),
) -> tuple[GpuRun, HostDevice, FormulaNetwork]:
    kernels.seed = grid
    device = HostDevice(kernels, limit_bytes)
    network = FormulaNetwork(device, answer, channels, plan.tile_px, batch)
    return GpuRun(plan, device, network, channels, nodata, 0.5, gains), device, network


@SCENES
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    channels=st.integers(1, 3),
    overlap_px=st.sampled_from([0, 2, 4, 10]),
    answer=st.sampled_from([formula, leaning]),
    dtype=st.sampled_from(DTYPES),
    nodata=st.sampled_from([None, 0, 7, -3, 0.5, 70000]),
    given_valid=st.sampled_from(["no", "some", "all"]),
    batch=st.integers(1, 5),
    grid=st.sampled_from([None, 1, 2]),
    seed=st.integers(0, 999),
    holes=st.sampled_from([0, 0.3, 1.0]),
    gains=st.sampled_from([(), (0.4, 1.7, 1.0), (2.9, 0.3, 1.1)]),
)
def test_a_scene_over_the_device_is_the_scene_over_numpy(
    host_kernels: HostKernels,
    height: int,
    width: int,
    channels: int,
    overlap_px: int,
    answer: Callable[[np.ndarray], np.ndarray],
    dtype: type,
    nodata: float | None,
    given_valid: str,
    batch: int,
    grid: int | None,
    seed: int,
    holes: float,
    gains: tuple[float, ...],
) -> None:
    gains = gains[:channels]
    plan = TilePlan(height, width, TILE_PX, overlap_px)
    pixels = speckle(channels, height, width, dtype, seed, holes)
    valid = None
    if given_valid != "no":
        valid = (pixels != 0).any(axis=0) if given_valid == "some" else np.ones((height, width), bool)
    expected_run = HostRun(plan, HostNetwork(channels, answer), nodata, 0.5, gains)
    expected = push_all(expected_run, plan, pixels, valid)
    run, device, _ = gpu_run(host_kernels, plan, channels, nodata, batch=batch, grid=grid, answer=answer, gains=gains)
    found = push_all(run, plan, pixels, valid)
    device.check_guards()
    assert np.array_equal(found.mask, expected.mask)
    assert np.abs(found.confidence.astype(int) - expected.confidence.astype(int)).max() <= 1
    assert run.counters.tiles == expected_run.counters.tiles
    assert run.counters.tiles_skipped == expected_run.counters.tiles_skipped


@pytest.mark.parametrize("grid", [None, 1])
@pytest.mark.parametrize("nodata", [None, 0])
def test_windows_are_balanced_over_the_device_as_over_numpy(
    host_kernels: HostKernels, nodata: float | None, grid: int | None
) -> None:
    """Windows so large that their borders have several blocks, each with an odds ratio of its own."""
    plan = TilePlan(500, 700, 224, 10)
    assert plan.balance_px > plan.overlap_px
    assert plan.tile_px > 2 * BLOCK_PX
    pixels = speckle(1, 500, 700, np.uint16, 11, 0.5)
    pixels[:, :250] = pixels[:, :250] // 4 + 1
    expected = push_all(HostRun(plan, HostNetwork(1, leaning, 224), nodata, 0.5), plan, pixels)
    run, device, _ = gpu_run(host_kernels, plan, 1, nodata, batch=2, grid=grid, answer=leaning)
    found = push_all(run, plan, pixels)
    device.check_guards()
    assert np.array_equal(found.mask, expected.mask)
    assert np.array_equal(found.confidence, expected.confidence)


@SCENES
@given(
    slant=st.floats(-1, 1),
    share=st.floats(0.05, 1.2),
    overlap_px=st.sampled_from([0, 2, 4, 10]),
    batch=st.integers(1, 5),
    valid_given=st.booleans(),
)
def test_a_slanting_swath_over_the_device_is_the_one_over_numpy(
    host_kernels: HostKernels, slant: float, share: float, overlap_px: int, batch: int, valid_given: bool
) -> None:
    plan = TilePlan(130, 190, TILE_PX, overlap_px)
    pixels = speckle(1, 130, 190, np.uint16, 5, 0)
    y, x = np.ogrid[:130, :190]
    pixels[0, np.abs(x - 95 - slant * (y - 65)) > share * 95] = 0
    valid = pixels[0] != 0 if valid_given else None
    expected_run, (found_run, device, _) = (
        HostRun(plan, HostNetwork(1, leaning), 0, 0.5),
        gpu_run(host_kernels, plan, 1, 0, batch=batch, answer=leaning),
    )
    expected, found = push_all(expected_run, plan, pixels, valid), push_all(found_run, plan, pixels, valid)
    device.check_guards()
    assert np.array_equal(found.mask, expected.mask)
    assert np.abs(found.confidence.astype(int) - expected.confidence.astype(int)).max() <= 1
    assert found_run.counters.tiles_skipped == expected_run.counters.tiles_skipped


@pytest.mark.parametrize("first", [True, False])
def test_validity_of_some_strips_is_refused(host_kernels: HostKernels, first: bool) -> None:
    """Rows of a strip are finished with the next one: whose validity would count?"""
    plan = TilePlan(120, 50, TILE_PX, 6)
    pixels, valid = np.ones((1, TILE_PX, 50), np.uint8), np.ones((TILE_PX, 50), bool)
    run, _, _ = gpu_run(host_kernels, plan, 1, 0)
    run.push(pixels, valid if first else None)
    with pytest.raises(ValueError, match="expected with all of them or none"):
        run.push(pixels, None if first else valid)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_goes_up_is_hardly_more_than_the_scene(host_kernels: HostKernels, dtype: type) -> None:
    plan = TilePlan(400, 300, TILE_PX, 10)
    pixels = speckle(1, 400, 300, dtype, 0, 0.5)
    run, _, _ = gpu_run(host_kernels, plan, 1, 0)
    push_all(run, plan, pixels)
    assert pixels.nbytes <= run.uploaded_bytes <= 1.1 * pixels.nbytes


def test_validity_goes_up_as_bits(host_kernels: HostKernels) -> None:
    plan = TilePlan(400, 300, TILE_PX, 10)
    pixels = speckle(1, 400, 300, np.uint16, 0, 0.5)
    run, _, _ = gpu_run(host_kernels, plan, 1, 0)
    push_all(run, plan, pixels, pixels[0] != 0)
    assert run.uploaded_bytes <= 1.1 * pixels.nbytes


def test_a_second_scene_of_the_same_size_allocates_nothing(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 90, TILE_PX, 6)
    pixels = speckle(1, 100, 90, np.uint16, 0, 0.5)
    run, device, network = gpu_run(host_kernels, plan, 1, 0)
    first = push_all(run, plan, pixels)
    allocations = device.allocations
    second = push_all(GpuRun(plan, device, network, 1, 0, 0.5), plan, pixels)
    assert device.allocations == allocations
    assert first.confidence.tobytes() == second.confidence.tobytes()


def test_a_run_given_up_in_its_midst_leaves_nothing_to_the_next(host_kernels: HostKernels) -> None:
    plan = TilePlan(150, 90, TILE_PX, 6)
    pixels = speckle(1, 150, 90, np.uint16, 0, 0.5)
    run, device, network = gpu_run(host_kernels, plan, 1, 0)
    run.push(pixels[:, :TILE_PX])
    run.push(pixels[:, plan.rows[1].start : plan.rows[1].start + TILE_PX])
    found = push_all(GpuRun(plan, device, network, 1, 0, 0.5), plan, pixels)
    expected = push_all(HostRun(plan, HostNetwork(1), 0, 0.5), plan, pixels)
    assert np.array_equal(found.mask, expected.mask)


def test_out_of_memory_halves_the_batch_until_the_scene_fits(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 300, TILE_PX, 6)
    pixels = speckle(1, 100, 300, np.uint16, 0, 0)
    needed = 8 * 2 * TILE_PX**2 * 4
    run, _, network = gpu_run(host_kernels, plan, 1, 0, batch=8, limit_bytes=needed + 120_000)
    found = push_all(run, plan, pixels)
    assert network.batch < 8
    assert np.array_equal(found.mask, push_all(HostRun(plan, HostNetwork(1), 0, 0.5), plan, pixels).mask)


def test_a_scene_that_does_not_fit_at_a_batch_of_one_is_a_memory_error(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 3000, TILE_PX, 6)
    run, _, network = gpu_run(host_kernels, plan, 1, 0, limit_bytes=120_000)
    with pytest.raises(DeviceOutOfMemory):
        run.push(speckle(1, TILE_PX, 3000, np.uint16, 0, 0))
    assert network.batch == 1


def test_nan_from_the_network_is_an_error_and_not_land(host_kernels: HostKernels) -> None:
    plan = TilePlan(40, 40, TILE_PX, 6)
    run, _, _ = gpu_run(host_kernels, plan, 1, None, answer=lambda tile: np.full(tile.shape[1:], np.nan, np.float32))
    with pytest.raises(ModelError, match="NaN"):
        push_all(run, plan, np.ones((1, 40, 40), np.uint16))


def test_a_scene_of_nodata_never_meets_the_network(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 90, TILE_PX, 6)
    run, _, network = gpu_run(host_kernels, plan, 1, 0)
    found = push_all(run, plan, np.zeros((1, 100, 90), np.uint8))
    assert network.counts == []
    assert (found.mask == NODATA).all()
    assert (found.confidence == NODATA).all()


def test_the_network_works_in_the_compute_stream_and_waits_for_the_copy(host_kernels: HostKernels) -> None:
    plan = TilePlan(TILE_PX, TILE_PX, TILE_PX, 6)
    run, device, _ = gpu_run(host_kernels, plan, 1, 0)
    push_all(run, plan, np.ones((1, TILE_PX, TILE_PX), np.uint8))
    uploads = [number for number, call in enumerate(device.calls) if call == ("upload", "copy-in")]
    waits = device.calls.index(("order", "compute"))
    assert max(uploads) < waits < device.calls.index(("gather_uint8", "compute"))
    assert device.calls.index(("finalise_uint8", "compute")) < device.calls.index(("order", "copy-out"))
    assert device.calls[-1] == ("download", "copy-out")


def test_progress_is_told_batch_by_batch(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 300, TILE_PX, 6)
    run, _, _ = gpu_run(host_kernels, plan, 1, 0, batch=4)
    told: list[int] = []
    run.on_tile = lambda: told.append(run.counters.tiles)
    push_all(run, plan, speckle(1, 100, 300, np.uint8, 0, 0))
    assert told == sorted(told)
    assert len(told) == len(plan.rows) * len(_batches(len(plan.columns), 4))
    assert told[-1] == plan.tiles


def test_every_stage_has_its_seconds_on_the_device_clock(host_kernels: HostKernels) -> None:
    plan = TilePlan(100, 100, TILE_PX, 6)
    run, _, _ = gpu_run(host_kernels, plan, 1, 0)
    push_all(run, plan, speckle(1, 100, 100, np.uint8, 0, 0))
    assert all(run.counters.seconds[stage] > 0 for stage in ("h2d", "gather", "infer", "blend", "d2h"))
    assert sum(end - start for _, start, end in run.intervals) == sum(run.counters.seconds.values())


@given(tiles=st.integers(1, 200), most=st.integers(1, 32))
def test_batches_are_few_and_equal(tiles: int, most: int) -> None:
    batches = _batches(tiles, most)
    assert sum(batches) == tiles
    assert len(batches) == -(-tiles // most)
    assert max(batches) - min(batches) <= 1
    assert max(batches) <= most
