"""The command, for real: a small network adapted to small lakes, exported, and run by the daemon."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sarwater.cli import COMMANDS
from sarwater.errors import CheckpointInvalid, DataError, UnitMismatch, UsageError
from sarwater.manifest import Channel
from sarwater.models import shipped_model
from sarwater.request import Request
from tests.support.lakes import lake, write_lakes, write_raster
from tests.support.rasters import read_raster
from tests.support.runs import options_for
from train.data.labelled import find_labelled
from train.finetuning.finetune import finetune, main, steps_in
from train.finetuning.replay import write_replay
from train.finetuning.start import open_start, start_path
from train.loop.options import FitOptions
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.scoring.scores import Scores, score_tile

CHECKOUT = Path(__file__).resolve().parents[3]
STEPS = 16
pytestmark = pytest.mark.timeout(900)  # mostly waits for its turn where the machine is busy


def write_model(path: Path, channels: tuple[Channel, ...] = (Channel("sar", "amplitude_dn"),)) -> Path:
    """A network that knows nothing yet."""
    torch.manual_seed(0)
    segmenter = Segmenter(architecture("unet-w16", channels))
    save_checkpoint(path, Checkpoint(segmenter.arch, segmenter.net.state_dict()))
    return path


@pytest.fixture(scope="module")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lakes(tmp_path_factory.mktemp("lakes"), 3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "start.pt")


@pytest.fixture(scope="module")
def adapted(lakes: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt of a short run."""
    return finetune(str(lakes), str(model), tmp_path_factory.mktemp("runs") / "adapted", STEPS)


def write_decibels(folder: Path) -> Path:
    """The lakes in sigma0, decibels, of files that do not say so."""
    write_lakes(folder, 3)
    for number, image in enumerate(sorted((folder / "img").iterdir())):
        amplitude = read_raster(image).astype(np.float32)
        corner = (500_000.0 + 192 * number, 6_000_000.0)
        write_raster(image, 20 * np.log10(amplitude / 400), west_north=corner)
    return folder


def run(module: str, *arguments: str | Path, folder: Path) -> str:
    command = [sys.executable, "-m", module, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_tile_that_was_held_out_is_known_better_afterwards(adapted: Path) -> None:
    report = json.loads((adapted.parent / "finetune.json").read_text())
    held_out = report["held_out"]
    assert [tile["name"] for tile in held_out["after"]["tiles"]] == ["WTR0"]
    assert held_out["after"]["pooled_iou"] > held_out["before"]["pooled_iou"]
    assert len(report["simulated"]["before"]["tiles"]) == len(report["simulated"]["after"]["tiles"]) == 28
    assert report["from"]["name"] == "start.pt"


@pytest.fixture(scope="module")
def adapted_again(lakes: Path, adapted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of one step, so that its last weights are its best, from a start that is of use."""
    folder = tmp_path_factory.mktemp("runs") / "again"
    with contextlib.suppress(DataError):  # better or not does not matter here
        finetune(str(lakes), str(adapted), folder, 1)
    return folder


def test_a_start_that_is_of_use_keeps_its_normalisation_and_one_that_is_not_does_not(
    model: Path, adapted: Path, adapted_again: Path
) -> None:
    paths = (model, adapted, adapted_again / "last.pt")
    first, second, third = (load_checkpoint(path).state_dict for path in paths)
    statistics = [name for name in first if "running_" in name]
    assert statistics
    assert all(torch.equal(second[name], third[name]) for name in statistics)
    assert not any(torch.equal(first[name], second[name]) for name in statistics)


def test_the_result_of_a_start_that_is_of_use_is_halfway(adapted: Path, adapted_again: Path) -> None:
    (best,) = adapted_again.glob("best.pt*")
    begun, last, kept = (load_checkpoint(path) for path in (adapted, adapted_again / "last.pt", best))
    assert last.resume is not None
    learned = last.resume["average"]
    assert kept.training["averaged_with"] == adapted.name
    for name, tensor in kept.state_dict.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (begun.state_dict[name] + learned[name]) / 2)


def test_the_figures_afterwards_are_those_of_the_checkpoint_that_is_kept(adapted: Path) -> None:
    report = json.loads((adapted.parent / "finetune.json").read_text())
    metrics = load_checkpoint(adapted).training["metrics"]
    assert report["held_out"]["after"]["pooled_iou"] == metrics["held_out"]["pooled_iou"]


def test_simulated_scenes_are_rehearsed_with_a_small_weight(adapted: Path) -> None:
    training = load_checkpoint(adapted).training
    assert [(source["count"], source["weight"]) for source in training["data"]] == [(2, 1.0), (14, 0.1), (14, 0.1)]
    assert training["init"]["name"] == "start.pt"


def test_what_was_held_out_can_be_looked_up(adapted: Path) -> None:
    lists = {name: (adapted.parent / "split" / name).read_text() for name in ("train.txt", "val.txt")}
    assert "WTR0_K5_T.tif" in lists["val.txt"]
    assert "WTR0" not in lists["train.txt"]


def test_scenes_to_rehearse_and_scenes_to_prove_with_differ(adapted: Path) -> None:
    rehearsed, proof = (sorted((adapted.parent / name).rglob("img/*.tif")) for name in ("replay", "replay-test"))
    assert [path.name for path in rehearsed] == [path.name for path in proof]
    assert all(a.read_bytes() != b.read_bytes() for a, b in zip(rehearsed, proof, strict=True))


def test_the_result_exports_and_runs_like_any_other(adapted: Path, tmp_path: Path) -> None:
    engines = tmp_path / "engines"
    run("export.to_onnx", adapted, "-o", engines / "adapted.onnx", "--tile", "128", folder=tmp_path)
    incoming, outgoing = tmp_path / "in", tmp_path / "out"
    amplitude, label = lake(128, seed=9)
    incoming.mkdir()
    write_raster(incoming / "scene.tif", amplitude, west_north=(500_000.0, 6_000_000.0))
    daemon = ["--once", "--incoming", incoming, "--outgoing", outgoing, "--state", tmp_path / "state"]
    run("runtime.commands.watch", *daemon, "--model", engines / "adapted.onnx", folder=tmp_path)
    found = read_raster(outgoing / "scene_water.tif")
    assert score_tile("scene", found, label // 255).confusion.iou > 0.3


@pytest.mark.tensorrt
def test_an_engine_is_built_from_the_result(adapted: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    run("export.build_engine", adapted, "--precision", "fp32", "--tile", "128", folder=tmp_path)
    assert list((tmp_path / "engines").glob("*.engine"))


def test_a_result_that_is_no_better_is_put_aside(adapted: Path, tmp_path: Path) -> None:
    lakes = write_lakes(tmp_path / "lakes", 3)
    for mask in (lakes / "mask").glob("WTR[12]*"):  # wrong labels, but for the tile that is held out
        write_raster(mask, 255 - read_raster(mask))
    with pytest.raises(DataError, match=r"best\.pt\.rejected: no better than the model it started from"):
        finetune(str(lakes), str(adapted), tmp_path / "run", 4)
    assert not (tmp_path / "run" / "best.pt").exists()


def test_training_stops_when_the_held_out_score_no_longer_rises(
    lakes: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from train import fit

    perfect = Scores((score_tile("WTR0", *[np.ones((2, 2), np.uint8)] * 2, 1),))
    monkeypatch.setattr(fit, "_held_out_scores", lambda plan, training: perfect)
    out = tmp_path / "run"
    options = options_for(lakes, out, holdout=("WTR0",), steps=20, evaluate_every=2, log_every=10, patience=3)
    fit.fit(options)
    last = load_checkpoint(tmp_path / "run" / "last.pt")
    assert last.training["step"] == 2 + 3 * 2
    assert load_checkpoint(tmp_path / "run" / "best.pt").training["step"] == 2


def test_decibels_are_learned_from_beside_simulated_amplitudes(adapted: Path, model: Path, tmp_path: Path) -> None:
    data = write_decibels(tmp_path / "data")
    with contextlib.suppress(DataError):  # kept or rejected, it is the same
        finetune(str(data), str(model), tmp_path / "run", STEPS, request=Request(unit="sigma0_db"))
    before, after = (json.loads((out / "finetune.json").read_text()) for out in (adapted.parent, tmp_path / "run"))
    names = [tile["name"] for tile in after["held_out"]["before"]["tiles"]]
    assert names == [tile["name"] for tile in before["held_out"]["before"]["tiles"]]
    # The same pixels as amplitudes, but for rounding, and the same simulated scenes.
    assert after["simulated"]["before"] == before["simulated"]["before"]
    log, same = ((out / "log.csv").read_text().splitlines()[-1] for out in (tmp_path / "run", adapted.parent))
    assert float(log.split(",")[2]) == pytest.approx(float(same.split(",")[2]), rel=0.05)


def test_chips_smaller_than_the_crop_are_learned_from(model: Path, tmp_path: Path) -> None:
    data = write_lakes(tmp_path / "data", 5, size_px=24)
    with contextlib.suppress(DataError):  # kept or rejected, it is the same
        finetune(str(data), str(model), tmp_path / "run", 2)
    assert (tmp_path / "run" / "finetune.json").is_file()


def test_it_speaks_from_the_start_and_then_steadily(lakes: Path, model: Path, tmp_path: Path) -> None:
    code = (
        "import sys, sarwater.progress as progress; progress.FIRST_S = progress.EVERY_S = 0.5;"
        "from train.finetuning.finetune import main; main(sys.argv[1:])"
    )
    command = [sys.executable, "-u", "-c", code, str(lakes), "--from", str(model), "--steps", "2"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
    )
    lines = done.stderr.splitlines()
    assert lines[0] == f"adapt {model} to {lakes}"
    assert any(
        re.match(r"simulating scenes for replay: \d+ of 28 scenes, \d+%, about \d+ s left", line) for line in lines
    )
    assert any(line.startswith("step 2/2") for line in lines)


def test_a_result_that_is_no_better_leaves_the_link_to_the_run_before(
    lakes: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = tmp_path / "runs" / "unet-w16"
    (runs / "before").mkdir(parents=True)
    (runs / "before" / "best.pt").write_bytes(adapted.read_bytes())
    wrong = write_lakes(tmp_path / "wrong", 3)
    for mask in (wrong / "mask").glob("WTR[12]*"):
        write_raster(mask, 255 - read_raster(mask))
    with pytest.raises(DataError, match="no better"):
        finetune(str(wrong), str(runs / "before"), runs / "after", 4)
    assert (runs / "latest").resolve() == runs / "before"


def test_minutes_become_steps_by_measuring(lakes: Path, tmp_path: Path) -> None:
    options = FitOptions(model="unet-w16", data=(str(lakes),), crop_px=32, batch=1, out=tmp_path / "run")
    few, many = steps_in(60, 0.0, options), steps_in(6000, 0.0, options)
    assert 12 < few < many
    assert steps_in(60, 100.0, options) == 12, "evaluation eats up the time"
    assert not (tmp_path / "run").exists()


def test_the_model_that_ships_is_what_it_starts_from(tmp_path: Path) -> None:
    start = open_start(start_path("hrnet"))
    assert start.arch.name == "hrnet-w18-small"
    assert not start.segmenter.training
    assert start.threshold == shipped_model().manifest.threshold


def test_the_threshold_of_the_start_is_kept(lakes: Path, model: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.pt"
    save_checkpoint(start, replace(load_checkpoint(model), threshold=0.3))
    with contextlib.suppress(DataError):  # kept or rejected, it is the same
        finetune(str(lakes), str(start), tmp_path / "run", 1)
    (result,) = (tmp_path / "run").glob("best.pt*")
    assert load_checkpoint(result).threshold == 0.3


def test_every_scene_type_and_mode_is_rehearsed(tmp_path: Path) -> None:
    folders = write_replay(tmp_path, 64, seed=1)
    assert [Path(folder).name for folder in folders] == ["k5", "s1"]
    assert [len(find_labelled(folder)) for folder in folders] == [14, 14]


class TestRefusals:
    """Each before the first step."""

    def refuse(self, error: type[Exception], match: str, data: Path, model: Path, tmp_path: Path) -> None:
        with pytest.raises(error, match=match):
            finetune(str(data), str(model), tmp_path / "run", 2)
        assert not (tmp_path / "run").exists()

    def test_no_labels(self, model: Path, tmp_path: Path) -> None:
        write_lakes(tmp_path / "data", 2)
        for mask in (tmp_path / "data" / "mask").iterdir():
            mask.unlink()
        self.refuse(DataError, "no mask; expected", tmp_path / "data", model, tmp_path)

    def test_labels_without_water(self, model: Path, tmp_path: Path) -> None:
        write_lakes(tmp_path / "data", 2)
        for mask in (tmp_path / "data" / "mask").iterdir():
            write_raster(mask, np.zeros((96, 96), np.uint8))
        self.refuse(DataError, "no water in 2 label", tmp_path / "data", model, tmp_path)

    def test_a_single_tiny_tile(self, model: Path, tmp_path: Path) -> None:
        write_lakes(tmp_path / "data", 1, size_px=96)
        self.refuse(DataError, r"1 tile\(s\), and none of them, nor a part", tmp_path / "data", model, tmp_path)

    def test_decibels_that_nobody_declared(self, model: Path, tmp_path: Path) -> None:
        self.refuse(UnitMismatch, "--unit sigma0_db", write_decibels(tmp_path / "data"), model, tmp_path)

    def test_a_model_of_two_polarisations(self, lakes: Path, tmp_path: Path) -> None:
        channels = (Channel("vv", "amplitude_dn"), Channel("vh", "amplitude_dn"))
        model = write_model(tmp_path / "dual.pt", channels)
        self.refuse(UsageError, "takes vv, vh; only models of one SAR channel", lakes, model, tmp_path)

    def test_a_model_that_needs_the_incidence_angle_which_is_not_there(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "gim.pt", (Channel("sar", "amplitude_dn"), Channel("gim", "incidence_dn")))
        write_lakes(tmp_path / "data", 2)
        for gim in (tmp_path / "data" / "gim").iterdir():
            gim.unlink()
        self.refuse(DataError, "no incidence angle; expected", tmp_path / "data", model, tmp_path)

    def test_weights_of_another_program(self, lakes: Path, tmp_path: Path) -> None:
        torch.save({"conv.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "other.pt")
        self.refuse(CheckpointInvalid, "does not say which network it holds", lakes, tmp_path / "other.pt", tmp_path)

    def test_a_folder_that_holds_a_run(self, lakes: Path, model: Path, adapted: Path) -> None:
        with pytest.raises(UsageError, match="holds a run already"):
            finetune(str(lakes), str(model), adapted.parent, 2)

    def test_no_time_at_all(self, lakes: Path) -> None:
        with pytest.raises(UsageError, match="expected more than 0"):
            main([str(lakes), "--minutes", "0"])


def test_the_page_on_it_names_only_commands_that_exist() -> None:
    page = (CHECKOUT / "docs" / "finetune.md").read_text()
    named = set(re.findall(r"^    sarwater ([a-z-]+)", page, re.MULTILINE))
    assert named
    assert named <= COMMANDS.keys()


def test_a_bare_state_dict_with_foreign_prefixes_is_a_start(tmp_path: Path) -> None:
    segmenter = Segmenter(architecture("unet-w16"))
    tensors = {f"module._orig_mod.{name}": tensor for name, tensor in segmenter.net.state_dict().items()}
    torch.save(
        {"epoch": 3, "model_state_dict": tensors | {"module.loss.weight": torch.ones(1)}}, tmp_path / "their.pth"
    )
    start = open_start(tmp_path / "their.pth")
    assert start.arch == segmenter.arch
    assert all(torch.equal(start.segmenter.net.state_dict()[n], t) for n, t in segmenter.net.state_dict().items())
