from __future__ import annotations

import json
from pathlib import Path

import pytest

from sarwater.errors import ConfigurationError, UsageError
from sarwater.families import FAMILIES
from train.fit import fit_command, main
from train.loop.losses import LOSSES
from train.loop.options import ALIASES, GROUPS, FitOptions, help_of
from train.loop.recipes import recipes_folder


def parse(arguments: list[str]) -> FitOptions:
    """What a command line asks `fit` for."""
    asked: list[FitOptions] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("train.fit.fit", asked.append)
        main(arguments)
    return asked[0]


def write(folder: Path, text: str) -> str:
    path = folder / "my.toml"
    path.write_text(text)
    return str(path)


def test_a_flag_wins_over_the_file_and_the_file_over_the_default_recipe(tmp_path: Path) -> None:
    config = write(tmp_path, 'model = "fcn-vgg19"\ndata = ["tiles"]\nbatch = 2\nsteps = 7\n')
    options = parse(["--config", config, "--steps", "9"])
    assert (options.model, options.batch, options.steps, options.learning_rate) == ("fcn-vgg19", 2, 9, 3e-4)


def test_every_option_can_be_said_in_a_file(tmp_path: Path) -> None:
    default = FitOptions(model="unet", data=("tiles",))
    lines = [f"{key} = {json.dumps(value)}" for key, value in default.model_dump().items() if value is not None]
    assert len(lines) == len(FitOptions.model_fields) - 8  # those without a value cannot be written
    assert parse(["--config", write(tmp_path, "\n".join(lines))]) == default


def test_every_option_is_a_flag_with_a_help_text_in_a_group() -> None:
    by_hand = {"model", "data", "simulated", "holdout", "class_weights", "out"}
    assert {name for names in GROUPS.values() for name in names} | by_hand == set(FitOptions.model_fields)
    flags = {flag for parameter in fit_command.params for flag in parameter.opts}
    for name in set(FitOptions.model_fields) - {"model"}:
        assert f"--{name.replace('_', '-')}" in flags
        assert help_of(name)


@pytest.mark.parametrize(
    ("old", "field"),
    [("crop", "crop_px"), ("rotation", "rotation_deg"), ("gain", "gain_db"), ("warmup", "warmup_steps"),
     ("coarsest", "coarsest_m")],
)  # fmt: skip
def test_the_short_names_of_a_flag_are_keys_too(tmp_path: Path, old: str, field: str) -> None:
    assert f"--{old}" in ALIASES[field]
    by_flag = parse(["unet", "--data", "x", f"--{old}", "32"])
    by_key = parse(["unet", "--data", "x", "--config", write(tmp_path, f"{old} = 32\nlearning-rate = 1e-3")])
    assert getattr(by_flag, field) == getattr(by_key, field) == 32


def test_an_unknown_key_is_refused_by_name_and_file(tmp_path: Path) -> None:
    config = write(tmp_path, "learning_rat = 0.1")
    with pytest.raises(ConfigurationError, match=r"my\.toml: unknown key 'learning_rat'; did you mean 'learning_rate'"):
        parse(["unet", "--data", "x", "--config", config])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('steps = "many"', "steps = 'many': Input should be a valid integer"),
        ("steps = true", "steps = True: expected a number"),
        ("data = 3", "data = 3: Input should be a valid tuple"),
        ('optimiser = "lion"', "optimiser = 'lion': Input should be 'adamw' or 'sgd'"),
        ('unit = "furlongs"', "unit = 'furlongs': expected one of"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_key_and_file(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"my\.toml: {complaint}"):
        parse(["unet", *([] if line.startswith("data") else ["--data", "x"]), "--config", write(tmp_path, line)])


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.toml: no such file"):
        parse(["unet", "--config", str(tmp_path / "none.toml")])
    with pytest.raises(ConfigurationError, match=r"my\.toml: not a readable TOML"):
        parse(["unet", "--config", write(tmp_path, "steps = ")])


@pytest.mark.parametrize("family", FAMILIES)
def test_both_recipes_of_a_family_are_valid(family: str) -> None:
    for config in ("reference", "default"):
        options = parse([family, "--data", "tiles", "--config", config])
        assert options.model.split("-")[0] == family
        assert set(options.loss.split("+")) <= LOSSES.keys()


def test_the_reference_recipe_of_hrnet_is_the_published_one() -> None:
    options = parse(["hrnet", "--data", "tiles", "--config", "reference"])
    assert (options.model, options.optimiser, options.learning_rate) == ("hrnet-w48", "sgd", 0.01)
    assert (options.schedule, options.poly_power, options.momentum, options.weight_decay) == ("poly", 0.9, 0.9, 5e-4)
    assert (options.epochs, options.crop_px, options.batch) == (484, 1024, 1)
    assert options.class_weights == (0.8373, 0.918)


def test_a_variant_on_the_command_line_wins_over_the_recipes() -> None:
    assert parse(["hrnet-w18", "--data", "tiles", "--config", "reference"]).model == "hrnet-w18"


def test_steps_on_the_command_line_replace_the_epochs_of_a_recipe() -> None:
    options = parse(["hrnet", "--data", "tiles", "--config", "reference", "--steps", "100"])
    assert (options.steps, options.epochs) == (100, 0)


def test_there_is_a_recipe_of_both_kinds_for_each_family() -> None:
    found = {path.relative_to(recipes_folder()).as_posix() for path in recipes_folder().glob("*/*.toml")}
    kinds = {f"{family}/{kind}.toml" for family in FAMILIES for kind in ("default", "reference")}
    assert found == kinds


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "x", "--steps", "0"], "steps = '0': Input should be greater than 0"),
        (["--data", "x", "--speckle", "2"], "speckle = '2': Input should be less than or equal to 1"),
        ([], "expected at least one --data DIR"),
        (["--data", "x", "--resume"], "--resume goes on with the run in --out"),
        (["--data", "x", "--precision", "fp16", "--device", "cpu"], "fp16 needs a GPU"),
        (["--data", "x", "--frozen-norm"], "--frozen-norm keeps the running statistics of --init"),
    ],
)
def test_an_impossible_value_is_refused(arguments: list[str], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        parse(["unet", *arguments])


def test_no_model_at_all_lists_the_families() -> None:
    with pytest.raises(UsageError, match="fcn, unet, deepunet, hrnet"):
        parse(["--data", "x"])
