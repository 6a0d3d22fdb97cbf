"""Whole scenes through PyCUDA, byte for byte as numpy has them, however early or late the work in a stream runs."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from sarwater.models import open_model
from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.support.gpu_scenes import HostNetwork, assert_nothing_left, open_gpu, random_case


def in_every_order(engine: str, scenes: int, first_seed: int) -> None:
    from tests.support.cuda_driver import control

    network, manifest = HostNetwork(engine), open_model(Path(engine)).manifest
    cases = [random_case(network, manifest, seed) for seed in range(first_seed, first_seed + scenes)]
    for number, order in enumerate(control.ORDERS):
        control.order(order, first_seed + number)
        backend = open_gpu(engine)
        for case in cases:
            case.assert_same(backend)
        assert backend.network.has_graphs == (backend.name == "tensorrt")
        backend.close()
        assert_nothing_left(order)


def test_random_scenes_are_those_of_numpy_in_every_order(over_driver: OverDriver, engine: str) -> None:
    assert over_driver(in_every_order, engine, 4, 1) == ""


def test_scenes_of_two_channels_are_those_of_numpy_in_every_order(
    over_driver: OverDriver, two_channel_engine: str
) -> None:
    assert over_driver(in_every_order, two_channel_engine, 3, 21) == ""


@pytest.mark.slow
@pytest.mark.parametrize("first_seed", [1000, 2000, 3000])
def test_many_random_scenes_are_those_of_numpy_in_every_order(
    over_driver: OverDriver, engine: str, first_seed: int
) -> None:
    assert over_driver(in_every_order, engine, 60, first_seed) == ""


def tiles_alone(engine: str) -> None:
    from tests.support.cuda_driver import control

    network = HostNetwork(engine)
    tiles = np.random.default_rng(0).uniform(0, 250, (11, 1, *network.input(0).shape[1:])).astype(np.float32)
    expected = []
    for tile in tiles:
        network.input(0)[...] = tile
        expected.append(network.result(0))
    for order in control.ORDERS:
        control.order(order)
        backend = open_gpu(engine)
        assert np.array_equal(backend.infer(tiles)[:, 0], np.stack(expected)), order
        backend.close()
        assert_nothing_left(order)


def test_tiles_without_a_scene_are_those_of_the_network(over_driver: OverDriver, tensorrt_engine: str) -> None:
    assert over_driver(tiles_alone, tensorrt_engine) == ""


def in_two_threads(engine: str) -> None:
    from tests.support.cuda_driver import control

    network, manifest = HostNetwork(engine), open_model(Path(engine)).manifest
    cases = [random_case(network, manifest, seed) for seed in range(40, 44)]
    control.order("random", 3)
    failures: list[BaseException] = []

    def work(mine: int) -> None:
        try:
            backend = open_gpu(engine)
            for case in cases[mine::2] * 2:
                case.assert_same(backend)
            backend.close()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work, args=(mine,)) for mine in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert_nothing_left()


def test_two_threads_with_a_device_each_do_not_meet(over_driver: OverDriver, tensorrt_engine: str) -> None:
    assert over_driver(in_two_threads, tensorrt_engine) == ""
