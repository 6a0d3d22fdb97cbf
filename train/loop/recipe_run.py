"""A model that ships, made anew in one run: the network of recipes/<family>/default.toml, on the data of a mix.

    data = ["k5=0.2", "simulated-k5"]      folders under the one that --data names, or of [[simulate]], with weights
    measure_only = ["hrsid_coast"]         folders that must not teach
    steps = 8000                           and other options of FitOptions
    [[simulate]]  folder = "simulated-k5"  and the fields of train.simulator.simulate.Simulation

recipes/open-data.toml is the mix of all models that ship. A run that was interrupted goes on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from sarwater.errors import ConfigurationError, SettingInvalid, UsageError
from sarwater.families import FAMILIES, family_of
from sarwater.models import RUNS
from sarwater.record import Record
from train.loop.options import FitOptions, field_named, options_of
from train.loop.recipes import read_toml, recipes_folder
from train.simulator.simulate import Simulation, write_whole

RESULT = "last.pt"
"""The weights at the end of the schedule."""


class SimulatedFolder(Simulation):
    """One [[simulate]]."""

    folder: str
    """Its name, as `data` has it."""


class Mix(Record):
    """What a mix says beside the options of the run."""

    data: tuple[str, ...] = Field(min_length=1)
    """FOLDER=WEIGHT each."""
    measure_only: tuple[str, ...] = ()
    """Folders whose terms do not let them teach a model that is passed on."""
    simulate: tuple[SimulatedFolder, ...] = ()
    """Folders of simulated scenes."""


def run_recipe(name: str, given: Mapping[str, Any], *, whatever_terms: bool = False) -> Path:
    """Train the model `name`, a family or one of its variants, or what the mix FILE.toml says with its `model`; return
    the checkpoint.

    `given` are options of the command line; its `data` is the folder that the mix's begin in. Raises UsageError and
    ConfigurationError before the first step, later as the simulator and `fit` do.
    """
    path = Path(name) if name.endswith(".toml") else recipes_folder() / "open-data.toml"
    mix, written = _read(path)
    if path.name == "open-data.toml" and path.parent == recipes_folder():
        if name.partition("-")[0] not in FAMILIES:
            raise UsageError(f"--recipe {name}: no such recipe; expected a model ({', '.join(FAMILIES)}), or FILE.toml")
        written["model"] = name
    if "model" not in written:
        raise ConfigurationError(f"{path}: no model; expected `model` to be one of: {', '.join(FAMILIES)}")
    chosen = {key: value for key, value in given.items() if key != "data"}
    out = chosen.pop("out", None) or RUNS / family_of(written["model"]).name / "recipe"
    data = _folders(mix, _root(given), out, whatever_terms=whatever_terms)
    begun = (out / "options.json").is_file()
    options = _options(path, written, chosen | {"data": data, "out": out, "resume": begun})
    for scenes in mix.simulate:
        write_whole(out / scenes.folder, scenes)
    return _train(options)


def _read(path: Path) -> tuple[Mix, dict[str, Any]]:
    """The mix, and the options that are written beside it."""
    document = read_toml(path)
    about = {key: document.pop(key) for key in Mix.model_fields if key in document}
    try:
        return Mix(**about), document
    except (SettingInvalid, ValidationError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _options(path: Path, written: Mapping[str, Any], given: Mapping[str, Any]) -> FitOptions:
    try:
        return options_of({**{field_named(key): value for key, value in written.items()}, **given})
    except SettingInvalid as error:
        if error.key in written and error.key not in given:
            raise ConfigurationError(f"{path}: {error}") from error
        raise


def _root(given: Mapping[str, Any]) -> Path:
    data: Sequence[str] = given.get("data", ())
    if len(data) != 1 or not Path(data[0]).is_dir():
        raise UsageError(f"--data {' '.join(data)}: a recipe takes one folder, in which its data lies")
    return Path(data[0])


def _folders(mix: Mix, root: Path, out: Path, *, whatever_terms: bool) -> tuple[str, ...]:
    """`k5=0.2` -> the same with a whole path."""
    simulated = {scenes.folder for scenes in mix.simulate}
    folders = []
    for item in mix.data:
        folder, equals, weight = item.rpartition("=")
        folder = folder if equals else weight
        if folder in mix.measure_only and not whatever_terms:
            raise UsageError(
                f"{folder}: its terms let it measure, not teach; leave it out of `data`, or say with "
                "--whatever-terms that you may"
            )
        whole = (out if folder in simulated else root) / folder
        if folder not in simulated and not whole.is_dir():
            raise UsageError(
                f"--data {root}: no {folder} in it; expected the folders of the recipe: {', '.join(mix.data)}"
            )
        folders.append(f"{whole}={weight if equals else '1'}")
    return tuple(folders)


def _train(options: FitOptions) -> Path:
    from train.fit import fit
    from train.models.checkpoint import load_checkpoint

    assert options.out is not None
    last = options.out / RESULT
    if not (last.is_file() and load_checkpoint(last).training["step"] >= options.steps):
        fit(options)
    print(f"{last}: ship it with `sarwater export {last} -o engines/{options.model}.onnx`")
    return last
