"""Runs that begin with the weights of another, and learn a part of them or go half of the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import UsageError
from tests.support.lakes import lake, write_lakes
from tests.support.runs import options_for, same_tensors
from train.data.labelled import find_labelled
from train.fit import fit
from train.loop.machine import Team
from train.loop.options import FitOptions
from train.loop.plan import make_plan
from train.loop.trainer import TrainingRun, level_known
from train.models.checkpoint import load_checkpoint
from train.scoring.predict import water_mask
from train.scoring.scores import score_tile


def test_a_run_starts_from_another_ones_weights(lakes: Path, whole_run: Path, tmp_path: Path, capsys: Any) -> None:
    fit(options_for(lakes, tmp_path / "run", steps=1, init=whole_run / "best.pt", channels="sar,gim"))
    assert "1 adapted, 0 skipped, 0 start fresh" in capsys.readouterr().err
    assert load_checkpoint(tmp_path / "run" / "best.pt").training["init"]["name"] == "best.pt"


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_normalisation_keeps_its_statistics_and_nothing_else(
    lakes: Path, whole_run: Path, tmp_path: Path, frozen: bool
) -> None:
    begun_with = whole_run / "last.pt"
    fit(options_for(lakes, tmp_path / "run", init=begun_with, frozen_norm=frozen, steps=2))
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    statistics = {name for name in before if "running_" in name}
    assert statistics
    assert all(torch.equal(before[name], after[name]) for name in statistics) == frozen
    kernels = {name for name in before if before[name].dim() == 4}
    assert kernels
    assert not any(torch.equal(before[name], after[name]) for name in kernels)


def test_the_gate_alone_is_trained_on_the_answers_of_a_network_that_stays_as_it_is(
    whole_run: Path, tmp_path: Path, capsys: Any
) -> None:
    begun_with = whole_run / "last.pt"
    lakes = write_lakes(tmp_path / "larger", 3, 160)
    fit(options_for(lakes, tmp_path / "run", init=begun_with, coarse=True, part="gate", crop_px=128, steps=3))
    assert "4 start fresh" in capsys.readouterr().err
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert all(after[name].abs().sum() > 0 for name in after.keys() - before.keys())


def test_the_gate_alone_needs_a_network_and_two_answers() -> None:
    for options in ({"coarse": True}, {"init": Path("best.pt")}):
        with pytest.raises(UsageError, match="--part gate"):
            FitOptions(model="unet", data=("lakes",), part="gate", **options)  # type: ignore[arg-type]


def test_the_level_alone_is_learned_from_crops_whose_gain_it_is_told(
    whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun_with = whole_run / "last.pt"
    lakes = write_lakes(tmp_path / "larger", 3, 160)
    options = {"coarse": True, "level_control": True, "part": "level", "gain_db": 6.0, "shoreline": 0.0}
    run = options_for(
        lakes,
        tmp_path / "run",
        init=begun_with,
        crop_px=128,
        steps=120,
        batch=4,
        learning_rate=1e-2,
        evaluate_every=120,
        **options,
    )
    fit(run)
    before, after = (load_checkpoint(path).state_dict for path in (begun_with, tmp_path / "run" / "last.pt"))
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert after.keys() - before.keys() > {"level.readout.2.weight"}
    segmenter = load_checkpoint(tmp_path / "run" / "last.pt").segmenter()
    amplitude = torch.from_numpy(lake(128, seed=3)[0].astype("float32"))[None, None]
    with torch.no_grad():
        off_db = [float(segmenter.off_level_db(amplitude * 10 ** (gain_db / 20))) for gain_db in (-5, 0, 5)]
    assert off_db[0] < off_db[1] < off_db[2]
    assert off_db[2] - off_db[0] > 5

    update = TrainingRun.update

    def interrupted(state: TrainingRun, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == 75:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    cut = run.but(out=tmp_path / "cut", evaluate_every=60)
    with monkeypatch.context() as patched:
        patched.setattr(TrainingRun, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(cut)
    fit(cut.but(resume=True))
    resumed = load_checkpoint(tmp_path / "cut" / "last.pt").state_dict
    assert all(torch.equal(tensor, resumed[name]) for name, tensor in after.items())


def test_who_tells_the_level_already_learns_from_the_answer_at_once(whole_run: Path, tmp_path: Path) -> None:
    lakes = write_lakes(tmp_path / "larger", 3, 160)
    options = {"coarse": True, "level_control": True, "part": "level", "gain_db": 6.0, "crop_px": 128, "steps": 1}
    first = options_for(lakes, tmp_path / "first", init=whole_run / "last.pt", **options)
    second = options_for(lakes, tmp_path / "second", init=tmp_path / "first" / "last.pt", **options)
    for run, alone_at_first in ((first, True), (second, False)):
        assert TrainingRun(make_plan(run, Team())).level_first == alone_at_first
        fit(run)


def test_the_level_is_told_by_land() -> None:
    truth = torch.full((4, 10, 10), WATER, dtype=torch.uint8)
    truth[1] = LAND
    truth[2, 0, :5] = LAND
    truth[3] = NODATA
    torch.testing.assert_close(level_known(truth).flatten(), torch.tensor([0.0, 1.0, 0.5, 0.0]))


def test_the_level_alone_needs_a_network_its_control_and_a_gain() -> None:
    whole = {"coarse": True, "level_control": True, "init": Path("best.pt"), "gain_db": 3.0}
    for missing in ({"level_control": False}, {"init": None}, {"gain_db": 0.0}):
        with pytest.raises(UsageError, match="--part level"):
            FitOptions(model="unet", data=("lakes",), part="level", **{**whole, **missing})  # type: ignore[arg-type]


def test_halfway_is_what_is_scored_and_kept_also_by_a_resumed_run(
    lakes: Path, whole_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = options_for(lakes, tmp_path / "run", init=whole_run / "last.pt", halfway=True, steps=4, evaluate_every=2)
    fit(options)
    last = load_checkpoint(tmp_path / "run" / "last.pt")
    assert last.resume is not None
    assert last.training["averaged_with"] == "last.pt"
    begun, learned = load_checkpoint(whole_run / "last.pt").state_dict, last.resume["average"]
    for name, tensor in last.state_dict.items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, (begun[name] + learned[name]) / 2)
    (scored,) = last.training["metrics"]["held_out"]["tiles"]
    (tile,) = (tile for tile in find_labelled(str(lakes)) if tile.name == scored["name"])
    mask = water_mask(last.segmenter(), tile, last.threshold)
    assert score_tile(tile.name, mask, tile.truth()).confusion.iou == scored["iou"]

    update = TrainingRun.update

    def interrupted(state: TrainingRun, pixels: torch.Tensor, truth: torch.Tensor) -> None:
        if state.step == 2:
            raise KeyboardInterrupt
        update(state, pixels, truth)

    again = options.but(out=tmp_path / "again")
    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit(again)
    fit(again.but(resume=True))
    assert same_tensors(tmp_path / "again" / "last.pt", tmp_path / "run" / "last.pt")


def test_halfway_needs_a_beginning() -> None:
    with pytest.raises(UsageError, match="--halfway"):
        FitOptions(model="unet", data=("lakes",), halfway=True)
