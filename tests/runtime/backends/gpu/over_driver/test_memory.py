"""Memory that is refused: that scene fails at most, the next one is right, and nothing is used that was given back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.backends.gpu.device import NETWORK_ROLES
from sarwater.errors import DeviceLost, DeviceOutOfMemory, DeviceUnavailable, PinnedOutOfMemory
from sarwater.models import open_model
from sarwater.tiling import TilePlan
from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.support.gpu_scenes import TILE_PX, Case, HostNetwork, assert_nothing_left, case_of, open_gpu, speckle


def case(engine: str, height: int = 90, width: int = 110) -> Case:
    plan = TilePlan(height, width, TILE_PX, 6).with_wide_fades()
    pixels = speckle(1, height, width, np.uint16, height, 0.3)
    return case_of(HostNetwork(engine), open_model(Path(engine)).manifest, plan, pixels)


def twice_short(engine: str) -> None:
    from tests.support.cuda_driver import control

    small, large = case(engine), case(engine, 140, 200)
    backend = open_gpu(engine)
    small.assert_same(backend)
    control.fail("cuMemAlloc")
    with pytest.raises(DeviceOutOfMemory):
        large.run(backend)
    control.fail_nothing()
    assert backend.network.batch == 8
    large.assert_same(backend)
    small.assert_same(backend)
    backend.close()
    assert_nothing_left()


def test_a_network_that_cannot_be_made_smaller_stays_as_it_was(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(twice_short, engine) == ""


def once_short(engine: str) -> None:
    from tests.support.cuda_driver import control

    scene = case(engine)
    backend = open_gpu(engine)
    control.fail("cuMemAlloc", 3, 4)  # PyCUDA asks twice
    scene.assert_same(backend)
    assert backend.network.batch == 4
    assert not any(role.startswith(NETWORK_ROLES) and "8" in role for role in backend._gpu._memory)
    control.fail_nothing()
    for _ in range(3):  # each batch is run again, then recorded, then replayed
        scene.assert_same(backend)
    assert backend.network.has_graphs == (backend.name == "tensorrt")
    backend.close()
    assert_nothing_left()


def test_a_halved_batch_is_run_in_its_memory_before_it_is_recorded(over_driver: OverDriver, engine: str) -> None:
    assert "4 tiles at a time" in over_driver(once_short, engine)


def not_pinned(engine: str) -> None:
    from tests.support.cuda_driver import control

    scene = case(engine)
    backend = open_gpu(engine)
    control.fail("cuMemHostAlloc")
    with pytest.raises(PinnedOutOfMemory, match="page-locked"):
        scene.run(backend)
    control.fail_nothing()
    assert backend.network.batch == 8
    assert all(role.startswith(NETWORK_ROLES) for role in backend._gpu._memory)
    scene.assert_same(backend)
    backend.close()
    assert_nothing_left()


def test_pinned_memory_that_is_refused_does_not_halve_the_batch(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(not_pinned, engine) == ""


def sizes_asked(engine: str) -> None:
    backend = open_gpu(engine, graphs=False)
    tiles = np.zeros((3, 1, TILE_PX, TILE_PX), np.float32)
    backend.infer(tiles)
    before = backend.network._context.sizes_asked
    for _ in range(5):
        backend.infer(tiles)
    assert backend.network._context.sizes_asked == before
    backend.infer(tiles[:2])
    assert backend.network._context.sizes_asked == before + 1
    backend.close()


def test_the_size_of_scratch_is_asked_for_when_the_batch_changes(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(sizes_asked, engine) == ""


def refused(engine: str, entry_point: str, step: int) -> None:
    """One call after the other is refused: alone, and with all that follow."""
    from tests.support.cuda_driver import control

    scene = case(engine, 70, 80)
    backend = open_gpu(engine)
    scene.assert_same(backend)
    backend.close()
    calls = control.calls(entry_point)
    assert calls
    for call in range(1, calls + 1, step):
        for last in (call, 1 << 40):
            control.reset()
            control.order("lazy", 0)
            control.fail(entry_point, call, last)
            about = (entry_point, call, last)
            backend = None
            try:
                backend = open_gpu(engine)
                scene.assert_same(backend)
            except DeviceLost:
                assert entry_point not in ("cuMemAlloc", "cuMemHostAlloc"), about
                if backend is not None:
                    backend.close()
                continue
            except (DeviceOutOfMemory, DeviceUnavailable):
                pass  # anything else ends this test
            control.fail_nothing()
            if backend is not None:
                scene.assert_same(backend)
                backend.close()
            assert_nothing_left(*about)


MEMORY = ("cuMemAlloc", "cuMemHostAlloc")
OTHERS = (
    "cuDevicePrimaryCtxRetain",
    "cuModuleLoadDataEx",
    "cuModuleGetFunction",
    "cuStreamCreate",
    "cuEventCreate",
    "cuStreamWaitEvent",
    "cuEventRecord",
    "cuStreamBeginCapture",
    "cuStreamEndCapture",
    "cuGraphInstantiateWithFlags",
    "cuMemGetInfo",
)


@pytest.mark.parametrize("entry_point", MEMORY)
def test_memory_refused_at_any_call_leaves_the_next_scene_right(
    over_driver: OverDriver, tensorrt_engine: str, entry_point: str
) -> None:
    over_driver(refused, tensorrt_engine, entry_point, 2)


@pytest.mark.slow
@pytest.mark.parametrize("entry_point", [*MEMORY, *OTHERS])
def test_anything_refused_at_any_call_is_an_error_of_ours(
    over_driver: OverDriver, tensorrt_engine: str, entry_point: str
) -> None:
    over_driver(refused, tensorrt_engine, entry_point, 1)


def each_refused(engine: str) -> None:
    from tests.support.cuda_driver import control

    for entry_point in OTHERS:
        control.reset()
        refused(engine, entry_point, 17)


def test_anything_refused_at_some_call_is_an_error_of_ours(over_driver: OverDriver, tensorrt_engine: str) -> None:
    over_driver(each_refused, tensorrt_engine)
