"""A recipe of small steps, run for real: each step on its data, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sarwater.errors import ConfigurationError, UsageError
from tests.support.lakes import lake, write_lakes, write_raster
from train.fit import main
from train.loop.options import FitOptions
from train.loop.recipe_run import _read, _steps
from train.loop.recipes import model_recipe
from train.models.checkpoint import load_checkpoint

RECIPE = """
model = "unet-w16"

[fit]
crop_px = 32
batch = 2
workers = 0
tensorboard = false
evaluate_every = 2
holdout = ["sea@40"]

[[simulate]]
folder = "simulated-k5"
count = 1
size = 64

[[step]]
name = "base"
data = ["simulated-k5=0.5", "pair/sea.tif:pair/sea_label.tif"]
steps = 2

[[step]]
name = "refined"
init = "base"
data = ["k5=2", "pair/sea.tif:pair/sea_label.tif=0.5"]
steps = 3
halfway = true
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lakes(tmp_path / "data" / "k5", 2)
    amplitude, label = lake(96, seed=9)
    write_raster(tmp_path / "data" / "pair" / "sea.tif", amplitude)
    write_raster(tmp_path / "data" / "pair" / "sea_label.tif", label)
    return tmp_path / "data"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the folders of the runs, as they begin."""
    import train.fit

    names: list[str] = []
    whole = train.fit.fit

    def recorded(options: FitOptions) -> Path:
        assert options.out is not None
        names.append(options.out.name)
        return whole(options)

    monkeypatch.setattr(train.fit, "fit", recorded)
    return names


def run(data: Path, *more: str, text: str = RECIPE) -> Path:
    path, out = data.parent / "my.toml", data.parent / "out"
    path.write_text(text)
    assert main(["--recipe", str(path), "--data", str(data), "-o", str(out), *more]) == 0
    return out


def seen(path: Path) -> set[str]:
    return {name for source in load_checkpoint(path).training["data"] for name in source["tiles"]}


def test_each_step_is_run_once_on_its_data_from_the_weights_of_another(data: Path, ran: list[str]) -> None:
    out = run(data)
    assert ran == ["base", "refined"]
    base, refined, best = (load_checkpoint(out / name) for name in ("base/last.pt", "refined/last.pt", "best.pt"))
    assert seen(out / "base" / "last.pt") == {"SIM00001", "sea"}
    assert seen(out / "refined" / "last.pt") == {"WTR0", "WTR1", "sea"}
    assert [source["weight"] for source in refined.training["data"]] == [2.0, 0.5]
    assert refined.training["averaged_with"] == "last.pt"
    assert all(torch.equal(best.state_dict[name], tensor) for name, tensor in refined.state_dict.items())
    assert best.resume is None
    assert [(step["step"], step["data"]) for step in best.training["earlier"]] == [("base", base.training["data"])]

    ran.clear()
    run(data)
    assert ran == []


def test_a_fold_has_its_own_steps_from_where_the_scene_is_seen(
    data: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = run(data, "--until", "base")
    run(data, "--holdout", "WTR1")
    assert ran == ["base", "refined-without-WTR1"]
    fold = out / "refined-without-WTR1" / "last.pt"
    assert seen(fold) == {"WTR0", "sea"}
    assert [name.split()[0] for name in load_checkpoint(fold).training["held_out"]] == ["WTR1", "sea"]
    assert "WTR1  IoU" in capsys.readouterr().out
    assert not (out / "best.pt").exists(), "neither a part of the recipe nor a fold is the model"
    assert load_checkpoint(fold.with_name("best.pt")).training["earlier"][0]["step"] == "base"


def test_a_simulation_that_was_killed_is_not_taken_for_whole(data: Path) -> None:
    out = run(data, "--until", "base")
    scenes = sorted((out / "simulated-k5").rglob("*.tif"))
    before = [path.read_bytes() for path in scenes]
    half = (out / "simulated-k5").rename(out / "simulated-k5.unfinished")
    next(half.rglob("*_label.tif")).unlink()
    run(data, "--until", "base")
    assert [path.read_bytes() for path in scenes] == before
    assert not half.exists()


def test_an_interrupted_step_goes_on(data: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from train.loop.trainer import TrainingRun

    update = TrainingRun.update

    def interrupted(training: TrainingRun, *batch: Any) -> None:
        if training.plan.options.steps == 3 and training.step == 2:
            raise KeyboardInterrupt
        update(training, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(TrainingRun, "update", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(data)
    out = run(data)
    assert ran == ["base", "refined", "refined"]
    assert load_checkpoint(out / "best.pt").training["step"] == 3


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('init = "base"', 'init = "basis"', r"my\.toml: step refined: init = 'basis': expected an earlier step: base"),
        ("steps = 3", "step = 3", r"my\.toml: step refined: unknown key 'step'; did you mean 'steps'"),
        ("count = 1", "count = 0", r"my\.toml: count = 0"),
        ('name = "refined"', 'name = "base"', r"my\.toml: name = 'base': expected a name of its own"),
        ("[[step]]", "[[steps]]", r"my\.toml: .*step"),
    ],
)
def test_what_a_recipe_cannot_say_is_refused_before_the_first_step(
    data: Path, ran: list[str], old: str, new: str, complaint: str
) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        run(data, text=RECIPE.replace(old, new))
    assert ran == []
    assert not (data.parent / "out").exists()


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--until", "end"), "--until end: no such step; expected one of: base, refined"),
        (("--holdout", "WTR7"), "--holdout WTR7: no such scene"),
        (("--data", "other"), "a recipe takes one folder"),
        (("unet",), "says which model"),
        (("--batch", "0"), "batch = '0'"),
    ],
)
def test_what_cannot_be_asked_of_a_recipe_is_refused(data: Path, more: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(data, *more)


def test_an_unknown_recipe_lists_those_that_there_are(data: Path) -> None:
    with pytest.raises(UsageError, match="expected one of: hrnet-w18-small, or a file"):
        main(["--recipe", "hrnet-w99", "--data", str(data)])


def test_the_recipe_of_the_model_that_ships_is_whole(tmp_path: Path) -> None:
    amplitude, label = lake(64, seed=9)
    write_lakes(tmp_path / "k5", 2)
    for name, pixels in (("vv", amplitude), ("vh", amplitude), ("flood_label", label)):
        write_raster(tmp_path / "etci" / f"{name}.tif", pixels)
    path = model_recipe("hrnet-w18-small")
    steps = _steps(path, _read(path), {"data": (str(tmp_path),), "holdout": ("WTR0",)}, tmp_path / "out")
    assert [step.options.out.name for step in steps if step.options.out][:6] == [
        *("base", "wider", "further-1", "further-2", "further-3", "gated-without-WTR0")
    ]
    assert {step.options.threshold for step in steps} == {0.75}
    assert sum(step.options.steps for step in steps) == 11_500
