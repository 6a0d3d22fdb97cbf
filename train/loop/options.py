"""The options of a training run: one frozen record, filled from a recipe file and the command line.

Every option is a field here, a flag (`--learning-rate 0.01`) and a key of a TOML file (`learning-rate = 0.01`). A flag
wins over the file given by --config, that over the family's default recipe, and that over the defaults below.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sarwater.errors import ConfigurationError, DependencyMissing, UsageError
from sarwater.families import FAMILIES, family_of

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def _option(default: Any, group: str, description: str, **arguments: Any) -> Any:
    """A field whose help text, choices and the like argparse is told of."""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
    if shown not in ("", None) and not isinstance(shown, bool):
        description += f" (default: {shown})"
    return field(default=default, metadata={"group": group, "help": description, **arguments})


@dataclass(frozen=True)
class FitOptions:
    """One training run. Raises UsageError for a value that cannot be."""

    model: str
    data: tuple[str, ...] = _option(
        (),
        "data",
        "folder with img/ and mask/ (and gim/, or train.txt and val.txt), or IMAGE:MASK[:GIM], or a list file; "
        "repeat to mix, in proportion to the weights",
        metavar="DIR[=WEIGHT]",
    )
    holdout: tuple[str, ...] = _option(
        (),
        "data",
        "evaluate on this tile, its lowest P percent, or a region of P percent; never train on it",
        metavar="NAME[@P]|P%",
    )
    channels: str = _option("sar", "data", "what the bands are, `gim` last: sar, or vv,vh, or sar,gim", metavar="LIST")
    labels: str = _option(
        "",
        "data",
        "what label values mean; default: 0 and 255, or 0, 1 and 255 or -1 for not known",
        metavar="land=V,water=V,ignore=V",
    )
    crop_px: int = _option(256, "data", "side of a training crop", metavar="PX")
    workers: int = _option(1, "data", "reader processes per training process")
    shoreline: float = _option(0.5, "data", "share of crops drawn again while they lack water or land", metavar="P")
    flips: bool = _option(True, "augmentation", "quarter turns and mirror images")
    rotation_deg: float = _option(15.0, "augmentation", "largest rotation to either side", metavar="DEG")
    gain_db: float = _option(3.0, "augmentation", "largest calibration error to either side", metavar="DB")
    zoom: float = _option(2.0, "augmentation", "largest factor by which pixels are averaged to a coarser spacing")
    speckle: float = _option(0.2, "augmentation", "probability of further speckle of 1 to 8 looks", metavar="P")
    init: Path | None = _option(  # noqa: RUF009 - it is field() with a name
        None,
        "network",
        "start from these weights: a checkpoint, .onnx or .safetensors of ours, an official HRNet .pth "
        "or a torchvision VGG .pth",
        metavar="FILE",
    )
    batch_norm: bool = _option(True, "network", "normalisation layers (the reference has them in HRNet only)")
    contrast: bool = _option(
        False, "network", "also show the network decibels above the local mean: many sensors and calibrations in one"
    )
    coarse: bool = _option(
        False,
        "network",
        "also answer at a quarter of the resolution, and learn which answer to believe where: for single-look speckle",
    )
    level_control: bool = _option(
        False,
        "network",
        "with --coarse: also estimate how far a window of several looks is off its usual level, and take that away",
    )
    frozen_norm: bool = _option(
        False,
        "network",
        "normalise by the running statistics of --init and leave them: for few tiles, whose own would mislead",
    )
    part: str = _option(
        "all",
        "network",
        "train the gate of --coarse alone, on answers of --init as it is: learned from scenes that it has not seen; or "
        "what estimates the level alone, from crops whose --gain it is told",
        choices=("all", "gate", "level"),
    )
    halfway: bool = _option(
        False,
        "network",
        "score and keep the mean of the weights of --init and those learned: most of the new, little of the old lost",
    )
    steps: int = _option(2000, "optimisation", "updates of the weights")
    epochs: int = _option(0, "optimisation", "in place of --steps: how often to see the training area")
    patience: int = _option(
        0, "optimisation", "stop after so many evaluations in a row without a better held-out score; 0: never"
    )
    batch: int = _option(8, "optimisation", "crops per step and process")
    loss: str = _option("bce+dice", "optimisation", "a sum of bce, cross-entropy, dice, lovasz, focal, ohem")
    class_weights: tuple[float, ...] = _option(
        (1.0, 1.0), "optimisation", "weights of land and water in the loss", nargs=2, metavar=("LAND", "WATER")
    )
    optimiser: str = _option("adamw", "optimisation", "without weight decay, adamw is Adam", choices=("adamw", "sgd"))
    learning_rate: float = _option(1e-3, "optimisation", "its peak", metavar="RATE")
    schedule: str = _option(
        "cosine", "optimisation", "how the rate falls after the warm-up", choices=("cosine", "poly", "constant")
    )
    poly_power: float = _option(0.9, "optimisation", "of --schedule poly", metavar="POWER")
    warmup_steps: int = _option(100, "optimisation", "steps of linear rise to --learning-rate", metavar="STEPS")
    weight_decay: float = _option(1e-2, "optimisation", "on weights, not on biases and normalisation", metavar="DECAY")
    momentum: float = _option(0.9, "optimisation", "of sgd")
    clip: float = _option(1.0, "optimisation", "largest norm of the gradient; 0: any", metavar="NORM")
    ema: float = _option(0.998, "optimisation", "decay of the average of the weights that is kept; 0: none")
    device: str = _option("auto", "machine", "auto takes the GPU where there is one", choices=("auto", "cpu", "cuda"))
    precision: str = _option(
        "auto",
        "machine",
        "of the arithmetic; auto: bf16 on a GPU or processor that has it, else fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
    )
    seed: int = _option(0, "machine", "a run is a function of its options, data and seed")
    out: Path | None = _option(  # noqa: RUF009
        None, "output", "default: runs/<model>/<date>", metavar="DIR"
    )
    threshold: float = _option(
        0.5, "output", "probability from which a pixel is water: in evaluation, and as the model's own", metavar="P"
    )
    coarsest_m: float = _option(
        0.0,
        "output",
        "pixel spacing of the coarsest scenes that the network is to know: coarser ones are enlarged to it, in "
        "training and at run time; 0: never",
        metavar="METRES",
    )
    evaluate_every: int = _option(250, "output", "how often to evaluate and to write last.pt", metavar="STEPS")
    log_every: int = _option(10, "output", "steps between rows of log.csv", metavar="STEPS")
    tensorboard: bool = _option(True, "output", "write the curve for TensorBoard too")
    resume: bool = _option(False, "output", "go on with the run in --out", action="store_true")

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "crop_px", "evaluate_every", "log_every", "learning_rate", "poly_power"):
            self._expect(name, getattr(self, name) > 0, "more than 0")
        counts = ("workers", "epochs", "patience", "warmup_steps", "seed")
        amounts = ("weight_decay", "clip", "rotation_deg", "gain_db", "coarsest_m")
        for name in (*counts, *amounts):
            self._expect(name, getattr(self, name) >= 0, "0 or more")
        for name in ("shoreline", "speckle", "momentum", "ema"):
            self._expect(name, 0 <= getattr(self, name) <= 1, "0 to 1")
        self._expect("threshold", 0 < self.threshold < 1, "between 0 and 1")
        self._expect("zoom", self.zoom >= 1, "1 or more")
        self._expect("class_weights", len(self.class_weights) == 2 and min(self.class_weights) > 0, "two above 0")
        self._expect("data", bool(self.data), "at least one folder")
        if self.frozen_norm and self.init is None:
            raise UsageError("--frozen-norm keeps the running statistics of --init FILE; say which")
        if self.halfway and self.init is None:
            raise UsageError("--halfway keeps the mean of the weights of --init FILE and those learned; say which")
        if self.part == "gate" and (self.init is None or not self.coarse):
            raise UsageError(
                "--part gate trains the gate between the two answers of --init FILE with --coarse; give both"
            )
        if self.part == "level" and (self.init is None or not self.level_control or self.gain_db == 0):
            raise UsageError(
                "--part level trains the estimate of the level for the answers of --init FILE with --level-control, on "
                "crops of which the level varies by --gain; give all three"
            )
        if self.precision == "fp16" and self.device == "cpu":
            raise UsageError("--precision fp16 needs a GPU; a CPU computes in fp32 or bf16")
        if self.resume and self.out is None:
            raise UsageError("--resume goes on with the run in --out DIR; say which")

    def _expect(self, name: str, holds: bool, expected: str) -> None:
        if not holds:
            raise UsageError(f"{_flag(name)} is {getattr(self, name)!r}, expected {expected}")


def parse(argv: Sequence[str] | None = None) -> FitOptions:
    """The options of a command line. Raises UsageError, and ConfigurationError for a file that says what cannot be."""
    given = vars(parser().parse_args(argv))
    config = given.pop("config", "default")
    written = {} if config in ("default", "reference") else _read(Path(config))
    model = given.get("model") or written.get("model")
    if model is None:
        raise UsageError(
            f"which model? expected one of: {', '.join(FAMILIES)}, as the first argument or `model` in --config"
        )
    recipe = _read(RECIPES / f"{family_of(model).name}{'' if config == 'reference' else '-default'}.toml")
    if "-" in model:
        recipe["model"] = model  # else the recipe knows which variant it is for
    chosen: dict[str, Any] = {}
    for layer in (recipe, written, given):
        if "steps" in layer:
            chosen.pop("epochs", None)  # of a layer below: the two say the same thing in different units
        chosen |= {name: tuple(value) if isinstance(value, list) else value for name, value in layer.items()}
    return FitOptions(**{**chosen, "model": recipe.get("model", model)})


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="sarwater-fit",
        description="Train a water segmentation network on labelled SAR tiles.",
        argument_default=argparse.SUPPRESS,
    )
    p.add_argument("model", nargs="?", help="fcn, unet, deepunet or hrnet, also with its variant: unet-w64, hrnet-w48")
    p.add_argument(
        "--config",
        metavar="FILE.toml",
        help="options from a file; `reference` is the recipe of kari_water_seg for the model, `default` is ours",
    )
    groups: dict[str, argparse._ArgumentGroup] = {}
    for item in dataclasses.fields(FitOptions)[1:]:
        arguments = dict(item.metadata)
        group = arguments.pop("group")
        if group not in groups:
            groups[group] = p.add_argument_group(group)
        if isinstance(item.default, bool):
            arguments.setdefault("action", argparse.BooleanOptionalAction)
        else:
            arguments["type"] = _element_type(item.name)
            if isinstance(item.default, tuple):
                arguments.setdefault("action", "store" if "nargs" in arguments else "append")
        groups[group].add_argument(_flag(item.name), dest=item.name, **arguments)
    return p


def _flag(name: str) -> str:
    """`crop_px` -> `--crop`: the flag leaves out the unit, which its placeholder shows."""
    return "--" + re.sub("_(px|deg|db|m|steps)$", "", name).replace("_", "-")


def _element_type(name: str) -> type:
    """What one value of the option is: `int` for `int`, `str` for `tuple[str, ...]`, `Path` for `Path | None`."""
    hint = typing.get_type_hints(FitOptions)[name]
    arguments = typing.get_args(hint)
    element: type = arguments[0] if arguments else hint
    return element


def _read(path: Path) -> dict[str, Any]:
    """The options in a TOML file. Raises ConfigurationError naming the file and the key."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        try:
            import tomli as tomllib  # type: ignore[import-not-found,no-redef,unused-ignore]
        except ModuleNotFoundError as error:
            raise DependencyMissing("recipes need tomli before Python 3.11: pip install tomli") from error
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file; expected a TOML file, `reference` or `default`") from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: not a readable TOML file ({error})") from error
    keys = {_flag(item.name).removeprefix("--"): item for item in dataclasses.fields(FitOptions)}
    if unknown := sorted(document.keys() - keys.keys()):
        raise ConfigurationError(f"{path}: unknown key {unknown[0]!r}; expected some of: {', '.join(keys)}")
    return {keys[key].name: _value(keys[key], value, f"{path}: {key}") for key, value in document.items()}


def _value(item: dataclasses.Field[Any], value: Any, where: str) -> Any:
    if isinstance(item.default, tuple):
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} is {value!r}, expected a list")
        return tuple(_scalar(item, element, where) for element in value)
    return _scalar(item, value, where)


def _scalar(item: dataclasses.Field[Any], value: Any, where: str) -> Any:
    expected = _element_type(item.name)
    if expected is float and type(value) is int:
        value = float(value)
    if expected is Path and isinstance(value, str):
        value = Path(value)
    # `isinstance` would take true for an int.
    if type(value) is not expected and not isinstance(value, Path):
        raise ConfigurationError(f"{where} is {value!r}, expected {expected.__name__}")
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        raise ConfigurationError(f"{where} is {value!r}, expected one of: {', '.join(choices)}")
    return value
