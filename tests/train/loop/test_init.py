"""Runs that begin with the weights of another, keep its statistics, or go half of the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sarwater.errors import UsageError
from tests.support.runs import options_for, same_tensors
from train.data.labelled import find_labelled
from train.fit import fit
from train.loop.options import FitOptions
from train.loop.trainer import TrainingRun
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
    (tile,) = (tile.levelled(last.level_db) for tile in find_labelled(str(lakes)) if tile.name == scored["name"])
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
