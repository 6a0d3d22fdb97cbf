"""A mix of small sets, run for real; and the one of the models that ship, as far as reading it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sarwater.errors import ConfigurationError, UsageError
from sarwater.families import FAMILIES
from tests.support.lakes import write_lakes
from train.fit import main
from train.loop.recipe_run import _folders, _options, _read
from train.loop.recipes import recipes_folder
from train.models.checkpoint import load_checkpoint

MIX = """
model = "unet-w16"
crop_px = 32
batch = 2
workers = 0
tensorboard = false
evaluate_every = 1
steps = 2
data = ["lakes=2", "simulated-k5=0.5"]
measure_only = ["secret"]

[[simulate]]
folder = "simulated-k5"
count = 1
size = 64
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_lakes(tmp_path / "data" / "lakes", 2)
    write_lakes(tmp_path / "data" / "secret", 1)
    return tmp_path / "data"


def run(data: Path, *more: str, text: str = MIX) -> Path:
    path, out = data.parent / "my.toml", data.parent / "out"
    path.write_text(text)
    assert main(["--recipe", str(path), "--data", str(data), "-o", str(out), *more]) == 0
    return out


def test_one_run_learns_from_all_sets_in_their_shares(data: Path) -> None:
    checkpoint = load_checkpoint(run(data) / "last.pt")
    assert checkpoint.architecture.scales, "the network is that of the family's own recipe"
    assert checkpoint.level_db == -14
    assert checkpoint.training["step"] == 2
    assert [source["weight"] for source in checkpoint.training["data"]] == [2.0, 0.5]


def test_an_interrupted_run_goes_on_and_a_whole_one_is_left(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from train.loop.trainer import TrainingRun

    update, steps = TrainingRun.update, []

    def counted(training: TrainingRun, *batch: Any) -> None:
        if len(steps) == 1:
            steps.append(-1)
            raise KeyboardInterrupt
        steps.append(training.step)
        update(training, *batch)

    monkeypatch.setattr(TrainingRun, "update", counted)
    with pytest.raises(KeyboardInterrupt):
        run(data)
    scenes = sorted((data.parent / "out").rglob("*.tif"))
    before = [path.stat().st_mtime_ns for path in scenes]
    for _ in range(2):
        run(data)
    assert steps == [0, -1, 1]
    assert [path.stat().st_mtime_ns for path in scenes] == before


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("steps = 2", "step = 2", r"my\.toml: unknown key 'step'; did you mean 'steps'"),
        ("count = 1", "count = 0", r"my\.toml: .*count"),
        ("batch = 2", "batch = 0", r"my\.toml: batch = 0"),
        ('model = "unet-w16"', "", r"my\.toml: no model; expected"),
        ("data =", "dates =", r"my\.toml: .*data"),
    ],
)
def test_what_a_mix_cannot_say_is_refused_before_the_first_step(data: Path, old: str, new: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        run(data, text=MIX.replace(old, new))
    assert not (data.parent / "out").exists()


def test_a_set_that_may_only_measure_teaches_when_somebody_says_that_it_may(data: Path) -> None:
    text = MIX.replace("lakes=2", "secret")
    with pytest.raises(UsageError, match="secret: its terms let it measure, not teach"):
        run(data, text=text)
    run(data, "--whatever-terms", text=text)


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--data", "other"), "a recipe takes one folder"),
        (("unet",), "says which model"),
        (("--batch", "0"), "batch = '0'"),
    ],
)
def test_what_cannot_be_asked_of_a_recipe_is_refused(data: Path, more: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        run(data, *more)


def test_a_set_that_is_not_there_is_named(data: Path) -> None:
    with pytest.raises(UsageError, match="no ponds in it; expected the folders of the recipe"):
        run(data, text=MIX.replace("lakes", "ponds"))


def test_an_unknown_recipe_lists_those_that_there_are(data: Path) -> None:
    with pytest.raises(UsageError, match="expected a model"):
        main(["--recipe", "resnet", "--data", str(data)])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mix_of_the_models_that_ship_is_whole_for_every_family(tmp_path: Path, family: str) -> None:
    path = recipes_folder() / "open-data.toml"
    mix, written = _read(path)
    named = [item.partition("=")[0] for item in mix.data]
    for name in named:
        (tmp_path / name).mkdir()
    folders = _folders(mix, tmp_path, tmp_path / "out", whatever_terms=False)
    options = _options(path, written | {"model": family}, {"data": folders, "out": tmp_path / "out"})
    assert sum(float(item.partition("=")[2]) for item in mix.data) == pytest.approx(1)
    assert not {*named} & {*mix.measure_only}
    assert options.scales
