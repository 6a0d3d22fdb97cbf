"""The recipe of the model that ships, whole but small: every step runs, on the data that it should, once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import train.default_recipe as numbers
import train.fit
from sarwater.errors import CheckpointInvalid, ModelNotFound, UsageError
from sarwater.models import open_model
from tests.support.lakes import lake, write_lakes, write_raster
from train.default_model import main
from train.default_recipe import Recipe
from train.loop.options import FitOptions
from train.models.checkpoint import load_checkpoint
from train.models.initialise import read_weights


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lakes(tmp_path / "data" / "k5", 2, 128)
    amplitude, label = lake(1024, seed=9)
    for name, pixels in (("vv", amplitude), ("vh", amplitude), ("flood_label", label)):
        write_raster(tmp_path / "data" / "etci" / f"{name}.tif", pixels)
    return tmp_path / "data"


def _small(runs: Any) -> Any:
    if isinstance(runs, list):
        return [_small(run) for run in runs]
    return replace(runs, crop_px=128, batch=2, workers=0, tensorboard=False)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[FitOptions]:
    """One step each, on small crops; what was run in this process, in order."""
    small_ones = {name: replace(scenes, count=1) for name, scenes in numbers.SIMULATIONS.items()}
    monkeypatch.setattr(numbers, "SIMULATIONS", small_ones)
    monkeypatch.setattr(numbers, "SCENE_PX", 128)
    for part in ("BASE", "WIDER", "GATE", "REFINE", "LEVEL"):
        monkeypatch.setattr(numbers, f"{part}_STEPS", 1)
    monkeypatch.setattr(numbers, "FURTHER", ((1, 1.6, 2), (1, 2.0, 3)))
    monkeypatch.setattr(numbers, "LEVEL_ANSWER", tuple(replace(run, steps=1) for run in numbers.LEVEL_ANSWER))
    for step in ("base", "wider", "further", "gated", "refined", "levelled", "level_answered"):
        whole_step = getattr(Recipe, step)
        monkeypatch.setattr(
            Recipe, step, lambda recipe, *arguments, _step=whole_step: _small(_step(recipe, *arguments))
        )
    ran: list[FitOptions] = []
    whole = train.fit.fit

    def recorded(options: FitOptions) -> Path:
        ran.append(options)
        return whole(options)

    monkeypatch.setattr(train.fit, "fit", recorded)
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
    whole = ["gated/final", "final", *level]
    of_fold = [path for fold in folds[:2] for path in (f"gated/{fold}", fold)]
    assert [str(run.out.relative_to(out)) for run in runs if run.out] == [*learning, *whole, *of_fold]

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

    scenes = sorted((out / "simulation-s1").rglob("*.tif"))
    bytes_before = [path.read_bytes() for path in scenes]
    half = (out / "simulation-s1").rename(out / "simulation-s1.unfinished")
    next(half.rglob("*_label.tif")).unlink()
    assert main(command) == 0
    assert [path.read_bytes() for path in scenes] == bytes_before
    assert not half.exists()


def test_it_begins_with_weights_that_an_earlier_run_left_and_two_processes_make_the_same_as_one(
    data: Path, tmp_path: Path, runs: list[FitOptions], capfd: pytest.CaptureFixture[str]
) -> None:
    out, weights = tmp_path / "out", Path("docs/default-model/before-kompsat-5.onnx")
    begun = ["--data", str(data), "--begin-with", str(weights)]
    assert main([*begun, "--out", str(out)]) == 0
    assert str(runs[0].out).endswith("gated/final")
    assert not {"base", "wider", "further-1"} & {path.name for path in out.iterdir()}
    gated, begun_with = load_checkpoint(out / "gated/final/last.pt").state_dict, read_weights(weights).tensors
    assert all(torch.equal(gated[name], tensor) for name, tensor in begun_with.items())
    assert load_checkpoint(out / "model.pt").training["earlier_data"] == open_model(weights).manifest.training["data"]

    runs.clear()
    assert main([*begun, "--out", str(tmp_path / "two"), "--jobs", "2"]) == 0
    assert runs == []  # all in other processes
    one, two = (load_checkpoint(tmp_path / name / "model.pt") for name in ("out", "two"))
    for name, tensor in one.state_dict.items():
        torch.testing.assert_close(two.state_dict[name], tensor, rtol=1e-3, atol=1e-5)
    scores = [(tmp_path / name / "leave_one_out.json").read_text() for name in ("out", "two")]
    assert scores[0] == scores[1]
    capfd.readouterr()

    spoilt = tmp_path / "two" / "final" / "last.pt"
    spoilt.write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointInvalid, match=r"last\.pt"):
        main([*begun, "--out", str(tmp_path / "two"), "--jobs", "2"])
    assert "no further step begins" in capfd.readouterr().err


def test_what_cannot_be_is_said_before_the_first_step(data: Path, tmp_path: Path) -> None:
    command = ["--data", str(data), "--out", str(tmp_path / "out")]
    with pytest.raises(ModelNotFound, match=r"none\.onnx: no such model file"):
        main([*command, "--begin-with", "none.onnx"])
    with pytest.raises(UsageError, match="--jobs 0: expected at least 1"):
        main([*command, "--jobs", "0"])


def _seen(path: Path) -> set[str]:
    return {name for source in load_checkpoint(path).training["data"] for name in source["tiles"]}
