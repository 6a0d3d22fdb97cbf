"""The recipe of the model that ships, whole but small: every step runs, on the data that it should, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train.default_recipe as numbers
import train.fit
from sarwater.errors import ModelNotFound
from sarwater.models import open_model
from tests.train.lakes import lake, write_lakes, write_raster
from train.checkpoint import load_checkpoint
from train.default_model import main
from train.init import read_weights
from train.options import FitOptions


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lakes(tmp_path / "data" / "k5", 2, 128)
    amplitude, label = lake(1024, seed=9)
    for name, pixels in (("vv", amplitude), ("vh", amplitude), ("flood_label", label)):
        write_raster(tmp_path / "data" / "etci" / f"{name}.tif", pixels)
    return tmp_path / "data"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FitOptions]:
    """One step each, on small crops; what was run, in order."""
    small_ones = {name: replace(scenes, count=1) for name, scenes in numbers.SIMULATIONS.items()}
    monkeypatch.setattr(numbers, "SIMULATIONS", small_ones)
    monkeypatch.setattr(numbers, "SCENE_PX", 128)
    for part in ("BASE", "WIDER", "GATE", "REFINE", "LEVEL"):
        monkeypatch.setattr(numbers, f"{part}_STEPS", 1)
    monkeypatch.setattr(numbers, "FURTHER", ((1, 1.6, 2), (1, 2.0, 3)))
    answered = tuple(replace(run, steps=1) for run in numbers.LEVEL_ANSWER[-2:])
    monkeypatch.setattr(numbers, "LEVEL_ANSWER", answered)
    ran: list[FitOptions] = []
    whole = train.fit.fit

    def small(options: FitOptions) -> Path:
        ran.append(options)
        return whole(replace(options, crop_px=128, batch=2, workers=0, tensorboard=False))

    monkeypatch.setattr(train.fit, "fit", small)
    return ran


def test_the_recipe_makes_a_model_and_a_fold_for_each_tile(
    data: Path, tmp_path: Path, runs: list[FitOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["--data", str(data), "--out", str(out)]
    assert main(command) == 0
    assert "leave-one-tile-out: pooled IoU" in capsys.readouterr().out
    learning = ["base", "wider", "further-1", "further-2"]
    folds = ["without-WTR0", "without-WTR1", "final"]
    level = ["levelled", "level-answered-1", "level-answered-2"]
    of_fold = [path for fold in folds for path in (f"gated/{fold}", fold)]
    assert [str(run.out.relative_to(out)) for run in runs if run.out] == [*learning, *of_fold, *level]

    for step in (*learning, *level):
        assert {"WTR0", "WTR1"}.isdisjoint(_seen(out / step / "last.pt"))
    for fold, unseen in zip(folds, (["WTR0"], ["WTR1"], []), strict=True):
        for path in (out / "gated" / fold / "last.pt", out / fold / "last.pt"):
            assert [name.split()[0] for name in load_checkpoint(path).training["held_out"]] == ["vv", "vh", *unseen]
            assert {"WTR0", "WTR1"} & _seen(path) == {"WTR0", "WTR1"}.difference(unseen)

    gated, final, model = (load_checkpoint(out / path) for path in ("gated/final/last.pt", "final/last.pt", "model.pt"))
    further = load_checkpoint(out / "further-2/last.pt")
    assert all(torch.equal(gated.state_dict[name], further.state_dict[name]) for name in further.state_dict)
    assert final.training["averaged_with"] == "last.pt"
    assert model.architecture.level_control
    assert all(torch.equal(model.state_dict[name], final.state_dict[name]) for name in final.state_dict)
    assert model.training["level"]["options"]["part"] == "level"
    assert {"WTR0", "WTR1"} <= {name for source in model.training["data"] for name in source["tiles"]}
    assert model.training["earlier_data"] == further.training["data"]
    metrics = model.training["metrics"]["k5_leave_one_out"]
    scores = json.loads((out / "leave_one_out.json").read_text())
    assert set(metrics["tiles"]) == {"WTR0", "WTR1"}
    assert metrics["pooled_iou"] == scores["pooled_iou"]

    runs.clear()
    assert main(command) == 0
    assert runs == []  # all of it is there


def test_it_begins_with_weights_that_an_earlier_run_left(
    data: Path, tmp_path: Path, runs: list[FitOptions], capsys: pytest.CaptureFixture[str]
) -> None:
    out, weights = tmp_path / "out", Path("docs/default-model/before-kompsat-5.onnx")
    assert main(["--data", str(data), "--out", str(out), "--begin-with", str(weights)]) == 0
    assert str(runs[0].out).endswith("gated/without-WTR0")
    assert not {"base", "wider", "further-1"} & {path.name for path in out.iterdir()}
    gated, begun_with = load_checkpoint(out / "gated/final/last.pt").state_dict, read_weights(weights).tensors
    assert all(torch.equal(gated[name], tensor) for name, tensor in begun_with.items())
    assert load_checkpoint(out / "model.pt").training["earlier_data"] == open_model(weights).manifest.training["data"]
    with pytest.raises(ModelNotFound, match=r"none\.onnx: no such model file"):
        main(["--data", str(data), "--out", str(out), "--begin-with", "none.onnx"])


def _seen(path: Path) -> set[str]:
    return {name for source in load_checkpoint(path).training["data"] for name in source["tiles"]}
