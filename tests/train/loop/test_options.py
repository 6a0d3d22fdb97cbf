from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from sarwater.errors import ConfigurationError, UsageError
from sarwater.families import FAMILIES
from train.loop.losses import LOSSES
from train.loop.options import RECIPES, FitOptions, parse, parser


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
    lines = []
    for action in parser()._actions:
        if action.dest in ("help", "config"):
            continue
        value = getattr(default, action.dest)
        key = next((flag[2:] for flag in action.option_strings if flag.startswith("--")), action.dest)
        text = {bool: str(value).lower(), tuple: str(list(value)) if isinstance(value, tuple) else ""}.get(type(value))
        text = text or (f"{value!r}" if not isinstance(value, str) else f'"{value}"')
        if value is not None:
            lines.append(f"{key} = {text}")
    written = {line.split(" = ")[0] for line in lines} | {"water-label", "ignore-label", "init", "out"}
    assert len(written) == len(dataclasses.fields(FitOptions))
    assert parse(["--config", write(tmp_path, "\n".join(lines))]) == default


def test_an_unknown_key_is_refused_by_name_and_file(tmp_path: Path) -> None:
    config = write(tmp_path, "learning_rate = 0.1")
    with pytest.raises(ConfigurationError, match=r"my\.toml: unknown key 'learning_rate'.*learning-rate"):
        parse(["unet", "--config", config])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('steps = "many"', "steps is 'many', expected int"),
        ("steps = true", "steps is True, expected int"),
        ("data = 3", "data is 3, expected a list"),
        ('optimiser = "lion"', "optimiser is 'lion', expected one of: adamw, sgd"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_by_key_and_file(tmp_path: Path, line: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"my\.toml: {complaint}"):
        parse(["unet", "--config", write(tmp_path, line)])


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


def test_recipes_are_shipped_with_the_package() -> None:
    assert {path.stem for path in RECIPES.glob("*.toml")} == {
        name for family in FAMILIES for name in (family, f"{family}-default")
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--data", "x", "--steps", "0"], "--steps is 0, expected more than 0"),
        (["--data", "x", "--speckle", "2"], "--speckle is 2.0, expected 0 to 1"),
        ([], "--data is .*at least one folder"),
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
