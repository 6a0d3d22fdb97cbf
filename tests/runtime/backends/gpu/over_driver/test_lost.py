"""A GPU that is lost, at any piece of work: one error of ours, one line, and nothing more is asked of it."""

from __future__ import annotations

import gc
import sys
import weakref

import pytest

from sarwater.errors import DeviceLost
from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.runtime.backends.gpu.over_driver.test_memory import case
from tests.support.gpu_scenes import open_gpu


def lost_at_each(engine: str, stack_fails: bool, step: int) -> None:
    from tests.support.cuda_driver import control

    scene = case(engine, 70, 80)
    for order in ("eager", "lazy"):
        control.reset()
        control.order(order, 0)
        backend = open_gpu(engine)
        scene.assert_same(backend)
        whole = control.work()
        backend.close()
        for work in range(1, whole + 1, step):
            control.reset()
            control.order(order, 0)
            control.lose(work, stack_fails)
            backend = None
            try:
                backend = open_gpu(engine)
                scene.assert_same(backend)
            except DeviceLost:
                pass
            else:
                raise AssertionError(f"nothing was lost with work {work}")
            if backend is not None:
                engine_of_it = weakref.ref(backend.network._engine)
                backend.close()
                del backend
                gc.collect()
                assert engine_of_it() is None, work


@pytest.mark.parametrize("stack_fails", [False, True])
def test_a_gpu_lost_at_some_work_is_one_error_and_silence(
    over_driver: OverDriver, tensorrt_engine: str, stack_fails: bool
) -> None:
    assert over_driver(lost_at_each, tensorrt_engine, stack_fails, 13) == ""


@pytest.mark.slow
@pytest.mark.parametrize("stack_fails", [False, True])
def test_a_gpu_lost_at_any_work_is_one_error_and_silence(
    over_driver: OverDriver, engine: str, stack_fails: bool
) -> None:
    assert over_driver(lost_at_each, engine, stack_fails, 1) == ""


def lost_in_a_command(engine: str, stack_fails: bool, closes: bool) -> None:
    from sarwater.command import run_command
    from tests.support.cuda_driver import control

    def main(argv: list[str] | None = None) -> int:
        scene = case(engine)
        backend = open_gpu(engine)
        control.lose(20, stack_fails)
        if closes:
            with backend:
                scene.run(backend)
        sys.backend = backend  # type: ignore[attr-defined]  # it lives as long as the interpreter
        scene.run(backend)
        return 0

    sys.exit(run_command(main))


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("stack_fails", [True, False])
def test_a_command_that_loses_the_gpu_says_one_line(
    over_driver: OverDriver, tensorrt_engine: str, stack_fails: bool, closes: bool
) -> None:
    said = over_driver(lost_in_a_command, tensorrt_engine, stack_fails, closes, code=1)
    assert len(said.splitlines()) == 1, said
    assert "this process cannot use the GPU any more" in said
