"""A model that takes several steps: recipes/<model>/recipe.toml, run from simulated scenes to the last checkpoint.

    model = "hrnet-w18-small"
    [fit]           options of every step, as in FitOptions
    [[simulate]]    folder = "simulated-k5", and the fields of train.simulator.simulate.Simulation
    [[step]]        name = "wider", init = "base" (an earlier step), and options of its own

Paths in `data` begin in the folder that --data names, or are a folder of [[simulate]]. A step is skipped where its
result is there, and goes on where it was interrupted. What a step ends with counts, not where it scored best.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sarwater.errors import ConfigurationError, SettingInvalid, UsageError
from sarwater.models import RUNS
from sarwater.record import Record
from sarwater.scenes.labels import find_files
from train.loop.options import FitOptions, field_named
from train.loop.recipes import model_recipe, read_toml
from train.loop.runs import link_latest
from train.simulator.simulate import Simulation, write_whole


class SimulatedFolder(Simulation):
    """One [[simulate]]."""

    folder: str
    """Its name, as `data` of the steps has it."""


class Recipe(Record):
    """A recipe as its file says it; `step` holds options that FitOptions validates."""

    model: str
    """The model that it makes."""
    fit: dict[str, Any] = Field(default_factory=dict)
    """Options of every step."""
    simulate: tuple[SimulatedFolder, ...] = ()
    """Folders of simulated scenes."""
    step: tuple[dict[str, Any], ...]
    """One after the other."""


@dataclass(frozen=True)
class Step:
    name: str
    options: FitOptions
    before: Step | None
    """Whose weights it begins with."""

    @property
    def result(self) -> Path:
        assert self.options.out is not None
        return self.options.out / "last.pt"


def run_recipe(name_or_path: str, given: Mapping[str, Any], until: str | None = None) -> Path:
    """Run what is missing; return the model, best.pt in the folder of the whole; of a part, or where something is held
    out, in that of the last step.

    `given` are options of the command line, which hold for every step; `data`, `holdout` and `out` are those of the
    whole. Raises UsageError and ConfigurationError before the first step, later as the simulator and `fit` do.
    """
    path = model_recipe(name_or_path)
    recipe = _read(path)
    out = given.get("out") or RUNS / recipe.model / "recipe"
    steps = _steps(path, recipe, given, out)
    names = [step.name for step in steps]
    if until is not None:
        if until not in names:
            raise UsageError(f"--until {until}: no such step; expected one of: {', '.join(names)}")
        steps = steps[: names.index(until) + 1]
    needed = {item.rpartition("=")[0] for step in steps for item in step.options.data}
    for scenes in recipe.simulate:
        if str(out / scenes.folder) in needed:
            write_whole(out / scenes.folder, scenes)
    for number, step in enumerate(steps, 1):
        _run(step, f"step {number} of {len(steps)}")
    whole = until is None and steps[-1].options.out == out / steps[-1].name
    return _publish(steps[-1], out if whole else steps[-1].result.parent)


def _read(path: Path) -> Recipe:
    document = read_toml(path)
    try:
        return Recipe(**document)
    except (SettingInvalid, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _steps(path: Path, recipe: Recipe, given: Mapping[str, Any], out: Path) -> list[Step]:
    root, holdout = _root(given), tuple(given.get("holdout", ()))
    simulated = {scenes.folder for scenes in recipe.simulate}
    of_all = {
        name: value
        for name, value in given.items()
        if name not in ("data", "simulated", "holdout", "out", "init", "resume")
    }
    steps: dict[str, Step] = {}
    apart: set[str] = set()  # steps that what is held out changes, and those that begin with one of them
    found: set[str] = set()
    for table in recipe.step:
        options = {field_named(key): value for key, value in (recipe.fit | table).items()}
        name, before = options.pop("name", None), options.pop("init", None)
        if not name or name in steps:
            raise ConfigurationError(f"{path}: name = {name!r}: expected a name of its own for every [[step]]")
        if before is not None and before not in steps:
            raise ConfigurationError(
                f"{path}: step {name}: init = {before!r}: expected an earlier step: {', '.join(steps) or 'none yet'}"
            )
        data = tuple(_data(item, root, out, simulated) for item in options.pop("data", ()))
        unseen = [item for item in holdout if item.partition("@")[0] in _scene_names(data, out)]
        found.update(unseen)
        if unseen or before in apart:
            apart.add(name)
        folder = out / (f"{name}-without-{'-'.join(holdout)}" if name in apart else name)
        options |= {
            "model": recipe.model,
            "data": data,
            "holdout": (*options.get("holdout", ()), *unseen),
            "out": folder,
            "init": steps[before].result if before else None,
        }
        try:
            steps[name] = Step(name, FitOptions(**(options | of_all)), steps.get(before or ""))
        except SettingInvalid as error:
            if error.key in of_all:
                raise
            raise ConfigurationError(f"{path}: step {name}: {error}") from error
    if lost := [item for item in holdout if item not in found]:
        raise UsageError(f"--holdout {lost[0]}: no such scene in the data of any step")
    return list(steps.values())


def _root(given: Mapping[str, Any]) -> Path:
    data: Sequence[str] = given.get("data", ())
    if len(data) != 1 or not Path(data[0]).is_dir():
        raise UsageError(f"--data {' '.join(data)}: a recipe takes one folder, in which its data lies")
    return Path(data[0])


def _data(item: str, root: Path, out: Path, simulated: set[str]) -> str:
    """`etci/vv.tif:etci/label.tif=0.6` -> the same with whole paths."""
    paths, equals, weight = item.rpartition("=")
    whole = [str((out if part in simulated else root) / part) for part in (paths if equals else weight).split(":")]
    return f"{':'.join(whole)}={weight if equals else '1'}"


def _scene_names(data: Sequence[str], out: Path) -> set[str]:
    """As --holdout calls them; of what is simulated none is held out."""
    from train.data.labelled import first_part

    names: set[str] = set()
    for item in data:
        where = item.rpartition("=")[0]
        if not Path(where).is_relative_to(out):
            files = find_files(where)
            names |= {each.name for each in files} | {first_part(each.image) for each in files}
    return names


def _run(step: Step, title: str) -> None:
    from train.fit import fit
    from train.models.checkpoint import load_checkpoint

    last = step.result
    if last.is_file() and load_checkpoint(last).training["step"] >= step.options.steps:
        print(f"{title}, {step.name}: done before, {last}", file=sys.stderr, flush=True)
        return
    print(f"{title}, {step.name}: {step.options.steps} steps", file=sys.stderr, flush=True)
    begun = last.is_file() or (last.parent / "options.json").is_file()
    fit(step.options.but(resume=begun))


def _publish(last: Step, out: Path) -> Path:
    """The last step's weights, with where those before came from."""
    from train.models.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(last.result)
    earlier, step = [], last.before
    while step is not None:
        training = load_checkpoint(step.result).training
        earlier.append({"step": step.name} | {key: training[key] for key in ("data", "held_out", "commit", "date")})
        step = step.before
    best = out / "best.pt"
    save_checkpoint(best, replace(checkpoint, training={**checkpoint.training, "earlier": earlier}, resume=None))
    if out != last.result.parent:
        link_latest(out)
    for name, score in _held_out(checkpoint.training).items():
        print(f"{name}  IoU {score:.4f}")
    print(f"{best}: ship it with `sarwater export {best} -o engines/{checkpoint.architecture.name}.onnx`")
    return best


def _held_out(training: Mapping[str, Any]) -> dict[str, float]:
    held_out = training["metrics"].get("held_out") or {"tiles": []}
    return {tile["name"]: tile["iou"] for tile in held_out["tiles"]}
