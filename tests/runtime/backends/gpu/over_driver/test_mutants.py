"""The driver of the tests notices what it is there to notice: each wait and each size that is taken away."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from runtime.backends.gpu.device import NETWORK_ROLES
from sarwater.models import open_model
from sarwater.tiling import TilePlan
from tests.conftest import CHECKOUT
from tests.runtime.backends.gpu.over_driver.conftest import OverDriver
from tests.support.gpu_scenes import (
    TILE_PX,
    Case,
    HostNetwork,
    assert_nothing_left,
    case_of,
    open_gpu,
    speckle,
)

MUTANTS = {
    "nothing": ("", ""),
    "the network does not wait for the pixels": ("device.order(device.compute, after)", "pass"),
    "the copy does not wait for the result": ("device.order(device.copy_out, after)", "pass"),
    "the host does not wait for the copy": ("device.wait(work.stages[-1][2])", "pass"),
    "the host does not wait for tiles": ("device.wait(device.record(device.compute))", "pass"),
    "memory is freed while it is used": ("self.wait_for_all()  # it may be in use", "pass"),
    "pinned memory is freed while it is used": (
        "self.wait_for_all()\n            self._pinned.pop",
        "self._pinned.pop",
    ),
    "both rows have one half": ("self._halves[number % 2]", "self._halves[0]"),
    "the ring is a row too small": ("2 * plan.tile_px + plan.balance_px,", "2 * plan.tile_px + plan.balance_px - 1,"),
    "the ring has no rows of the strip before": ("2 * plan.tile_px + plan.balance_px,", "2 * plan.tile_px,"),
    "answers are a row too small": ("height * width * 4)", "(height - 1) * width * 4)"),
    "ends are a row too small": ("columns * height * plan.overlap_px)", "columns * (height - 1) * plan.overlap_px)"),
    "odds have a block too few": ("max(self.column_odds_bytes, self.row_odds_bytes)", "_ODDS_BYTES"),
    "the table of windows lacks one": ("columns * COLUMN_BYTES)", "(columns - 1) * COLUMN_BYTES)"),
    "results have no rows of the strip before": ("2 * (height + plan.balance_px) * width", "2 * height * width"),
}
"""What is taken away: the text in one file of the GPU half, and what stands there then.

Not among them: the waits for each batch in `_collect`, which only progress needs, and that of a new run, whose work
follows in the same streams: the waits beside them cover both.
"""
PLANS = (
    TilePlan(96, 100, TILE_PX, 0),  # as many new rows in each strip as the ring has room for
    TilePlan(91, 100, TILE_PX, 0).with_wide_fades(),
    TilePlan(TILE_PX, 150, TILE_PX, 10),  # one strip, as high as memory is made for
    TilePlan(130, 150, TILE_PX, 10).with_wide_fades(),
    TilePlan(60, 100, TILE_PX, 4).with_wide_fades(),
)
ORDERS = ("lazy", "copies first", "compute first", "in first")


def noticed(folder: str, engine: str) -> None:
    """Prints the names of the mutants that fail; each in a fork, for some of them crash."""
    sys.dont_write_bytecode = True
    network, manifest = HostNetwork(engine), open_model(Path(engine)).manifest
    scenes = [(plan, speckle(1, plan.height_px, plan.width_px, np.uint16, 5, 0.1)) for plan in PLANS]
    cases = [case_of(network, manifest, plan, pixels) for plan, pixels in scenes]
    for name, (old, new) in MUTANTS.items():
        path = _file_with(Path(folder) / "runtime" / "backends" / "gpu", old)
        pristine = path.read_text()
        path.write_text(pristine.replace(old, new) if old else pristine)
        child = os.fork()
        if not child:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            for module in [module for module in sys.modules if module.startswith("runtime.backends.gpu")]:
                del sys.modules[module]
            try:
                _run_all(engine, cases, network)
            except BaseException:
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            print(name, file=sys.stderr)
        path.write_text(pristine)


def _file_with(folder: Path, text: str) -> Path:
    found = [path for path in sorted(folder.rglob("*.py")) if text in path.read_text()]
    assert len(found) == 1 or not text, (text, found)
    return found[0]


def _run_all(engine: str, cases: list[Case], network: HostNetwork) -> None:
    """Raises where something is not as it should be."""
    from tests.support.cuda_driver import control

    tiles = np.random.default_rng(0).uniform(0, 250, (9, 1, TILE_PX, TILE_PX)).astype(np.float32)
    for order in ORDERS:
        control.order(order, 5)
        backend = open_gpu(engine)
        for case in cases:
            backend._gpu.release(keep=NETWORK_ROLES)  # memory is made for each
            case.assert_same(backend)
        _give_up(backend, case)
        backend._gpu.pinned("rows 0", (1 << 20,), np.uint8)
        _give_up(backend, case)
        backend._gpu.memory("ring", 1 << 20)
        answers = backend.infer(tiles)
        for tile, answer in zip(tiles, answers, strict=True):
            network.input(0)[...] = tile
            assert np.array_equal(network.result(0), answer[0])
        backend.close()
        assert_nothing_left(order)


def _give_up(backend: Any, case: Case) -> None:
    """A scene whose first rows are on their way, and of which nobody wants to hear any more."""
    backend.begin(case.plan, case.nodata).push(case.pixels[:, :TILE_PX])


def test_every_wait_and_every_size_that_is_missing_is_noticed(
    over_driver: OverDriver, tensorrt_engine: str, tmp_path: Path
) -> None:
    shutil.copytree(CHECKOUT / "runtime", tmp_path / "runtime", ignore=shutil.ignore_patterns("__pycache__"))
    found = over_driver(noticed, str(tmp_path), tensorrt_engine, sources=tmp_path).splitlines()
    assert set(found) ^ set(MUTANTS) == {"nothing"}
