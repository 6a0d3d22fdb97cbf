from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from runtime.backends import open_backend
from runtime.backends.base import Backend
from runtime.backends.cpu.openvino import THREADS_VARIABLE
from sarwater.errors import ConfigurationError, HashMismatch, ManifestInvalid, UsageError
from sarwater.manifest import ModelManifest, sha256_of
from sarwater.models import Model, open_model
from sarwater.tiling import TilePlan
from tests.support.models import box_model, box_probability


def test_inference_agrees_with_the_formula_of_the_graph(backend: Backend) -> None:
    tiles = np.random.default_rng(0).uniform(0, 120, (3, 1, 64, 64)).astype(np.float32)
    found = backend.infer(tiles)
    assert found.shape == (3, 1, 64, 64)
    assert found.dtype == np.float32
    expected = np.stack([box_probability(tile[0]) for tile in tiles])
    assert np.abs(found[:, 0] - expected).max() < 1e-5


def test_a_changed_model_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    model = box_model(tmp_path / "box.onnx")
    model.path.write_bytes(b"no graph at all")
    for device in ("auto", "fake"):
        with pytest.raises(HashMismatch, match=r"box\.onnx"):
            open_backend(model, device)


def test_a_graph_that_is_not_the_one_described_is_refused(tmp_path: Path) -> None:
    path = box_model(tmp_path / "box.onnx", tile_px=64).path
    text = path.with_suffix(".json").read_text().replace('"tile_px": 64', '"tile_px": 96')
    path.with_suffix(".json").write_text(text)
    with pytest.raises(ManifestInvalid, match="96"):
        open_backend(open_model(path))


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    model = box_model(tmp_path / "box.onnx")
    model.path.write_bytes(b"no graph at all")
    files = {model.path.name: sha256_of(model.path)}
    manifest = ModelManifest(**{**vars(model.manifest), "files": files})
    with pytest.raises(ManifestInvalid, match="cannot read"):
        open_backend(Model(model.path, manifest))


def test_an_unknown_device_is_a_usage_error(model: Model) -> None:
    with pytest.raises(UsageError, match="auto, cpu"):
        open_backend(model, "abacus")


def test_a_senseless_number_of_threads_is_a_configuration_error(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS_VARIABLE, "many")
    with pytest.raises(ConfigurationError, match="many"):
        open_backend(model)


def test_more_tiles_than_slots_come_back_in_their_order(backend: Backend) -> None:
    tiles = np.arange(40, dtype=np.float32)[:, None, None, None] * np.ones((1, 1, 64, 64), np.float32)
    middle = backend.infer(tiles)[:, 0, 32, 32]
    assert np.all(np.diff(middle) < 0)  # darker is wetter


def test_an_onnx_file_runs_at_another_tile_size_than_its_own(model: Model) -> None:
    with open_backend(model, tile_px=96) as wider:
        assert (wider.manifest.tile_px, wider.manifest.overlap_px) == (96, 16)
        assert wider.infer(np.zeros((1, 1, 96, 96), np.float32)).shape == (1, 1, 96, 96)


def test_a_smaller_tile_takes_a_smaller_overlap(model: Model) -> None:
    with open_backend(model, tile_px=32) as narrower:
        assert narrower.manifest.overlap_px == 10


def test_a_scene_takes_the_tile_that_fits_it_and_its_answers_are_that_tiles(tmp_path: Path) -> None:
    # Two tiles of 1024 px each way where one of 1152 px is enough.
    model = box_model(tmp_path / "box.onnx", tile_px=1024)
    rows = np.random.default_rng(0).uniform(0, 120, (1, 1300, 1140)).astype(np.float32)
    with open_backend(model) as free, open_backend(model, tile_px=1152) as fixed:
        plan = free.plan(1300, 1140)
        assert plan.tile_px == 1152
        found, expected = (_confidence(backend, plan, rows) for backend in (free, fixed))
        assert np.array_equal(found, expected)
        assert _confidence(free, free.plan(512, 512), rows[:, :512, :512]).shape == (512, 512)
        assert fixed.plan(512, 512).tile_px == 1152


def _confidence(backend: Backend, plan: TilePlan, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    run = backend.begin(plan, nodata=None)
    return np.concatenate([run.push(rows[:, span.start : span.start + plan.tile_px]).confidence for span in plan.rows])


LET_GO_IN_A_THREAD = """
import os, signal, sys, threading
import subprocess
import sys
from pathlib import Path
from runtime.backends import open_backend
from sarwater.models import find_model

backends = [open_backend(find_model(Path(sys.argv[1])))]
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
thread = threading.Thread(target=lambda: backends.pop().close())
thread.start()
thread.join()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_a_signal_is_survived_once_a_model_was_closed_in_another_thread(model: Model) -> None:
    """It was a segmentation fault: OpenVINO frees the signal stack of the thread that loaded it."""
    command = [sys.executable, "-c", LET_GO_IN_A_THREAD, str(model.path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_openvino_reports_to_nobody_and_leaves_the_home_alone(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from runtime.backends.cpu.openvino import require_openvino\n"
        "require_openvino().Core()\n"
        "assert sys.modules['openvino_telemetry'] is None\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=250,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())
