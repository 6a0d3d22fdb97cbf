"""The GPU's context is given back: whatever order devices are closed in, and where nobody closes them."""

from __future__ import annotations

import sys
import threading

import pytest

from sarwater.errors import DeviceLost
from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.runtime.backends.gpu.over_driver.test_memory import case
from tests.support.gpu_scenes import assert_nothing_left, open_gpu


def two_devices(engine: str) -> None:
    from tests.support.cuda_driver import control

    scene = case(engine)
    for first_closed in (0, 1):
        backends = [open_gpu(engine) for _ in range(2)]
        for backend in backends * 2:
            scene.assert_same(backend)
        backends.pop(first_closed).close()
        scene.assert_same(backends[0])
        assert control.retained() == 1
        backends[0].close()
        assert_nothing_left()


def test_two_devices_are_closed_in_either_order(over_driver: OverDriver, tensorrt_engine: str) -> None:
    assert over_driver(two_devices, tensorrt_engine) == ""


def open_and_close(engine: str) -> None:
    for _ in range(3):
        backend = open_gpu(engine)
        backend.close()
        backend.close()
        assert_nothing_left()


def test_a_device_may_be_closed_twice_and_opened_again(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(open_and_close, engine) == ""


def never_closed(engine: str) -> None:
    backend = open_gpu(engine)
    case(engine).assert_same(backend)
    sys.backend = backend  # type: ignore[attr-defined]  # it lives as long as the interpreter


def test_a_process_that_closes_nothing_ends_as_it_should(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(never_closed, engine) == ""


def thread_ends(engine: str) -> None:
    opened = []
    thread = threading.Thread(target=lambda: opened.append(open_gpu(engine)))
    thread.start()
    thread.join()
    with pytest.raises(DeviceLost):
        opened[0]._gpu.free_bytes()
    opened[0].close()


def test_a_thread_that_closes_nothing_ends_as_it_should(over_driver: OverDriver, tensorrt_engine: str) -> None:
    assert over_driver(thread_ends, tensorrt_engine) == ""
