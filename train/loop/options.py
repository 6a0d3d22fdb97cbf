"""The options of a training run: one frozen record. Flags, TOML, help and validation follow from it.

A field `crop_px` is `--crop-px 256` as a flag, `crop_px = 256` in a TOML file and `FitOptions(crop_px=256)` in Python.
A flag wins over the file given by --config, that over the family's default recipe, and that over the defaults below.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from sarwater.errors import ConfigurationError, SettingInvalid, UsageError
from sarwater.families import FAMILIES, family_of
from sarwater.request import Reading, Request
from train.loop.recipes import family_recipe, read_toml


class FitOptions(Reading):
    """One training run. Raises SettingInvalid, a UsageError, for a value that cannot be."""

    model: str
    """fcn, unet, deepunet or hrnet, also with its variant: unet-w64, hrnet-w48."""
    data: tuple[str, ...] = ()
    """DIR[=WEIGHT]: a folder with img/ and mask/ (and gim/, or train.txt and val.txt), or IMAGE:LABEL[:GIM], or a list
    file. Images are scenes that the daemon takes, product folders too. Repeat to mix, in proportion to the weights."""
    simulated: tuple[str, ...] = ()
    """DIR[=WEIGHT]: simulated scenes to mix in, which --labels and what is said of reading scenes do not concern."""
    holdout: tuple[str, ...] = ()
    """NAME, NAME@P or P%: evaluate on this scene, its lowest P percent, or a region of P percent; never train on it."""
    channels: str = "sar"
    """What the bands are, `gim` last: sar, or vv,vh, or sar,gim."""
    labels: str | None = None
    """What label values mean, as land=0,water=1,ignore=255; without it 0 and 255, or 0, 1 and 255 or -1 for not
    known."""
    crop_px: int = Field(256, gt=0)
    """Side of a training crop. Scenes that are smaller are padded with pixels that nothing is learned from."""
    workers: int = Field(1, ge=0)
    """Reader processes per training process."""
    shoreline: float = Field(0.5, ge=0, le=1)
    """Share of crops drawn again while they lack water or land."""
    flips: bool = True
    """Quarter turns and mirror images."""
    rotation_deg: float = Field(0.0, ge=0)
    """Largest rotation to either side."""
    gain_db: float = Field(10.0, ge=0)
    """Largest error of calibration or level to either side; seven of ten are normal, with a fifth of it."""
    zoom: float = Field(2.5, ge=1)
    """Largest factor by which pixels are averaged to a coarser spacing."""
    speckle: float = Field(0.2, ge=0, le=1)
    """Probability of further speckle of 1 to 8 looks."""
    stretch: float = Field(0.4, ge=0, le=1)
    """Probability that decibels about the usual level are stretched, or written as DN, as in pictures of 8 bits."""
    collar: float = Field(0.08, ge=0, le=1)
    """Probability that one side of the crop is no data."""
    init: Path | None = None
    """Start from these weights: a checkpoint, .onnx or .safetensors of ours, an official HRNet .pth or a torchvision
    VGG .pth."""
    batch_norm: bool = True
    """Normalisation layers (the reference has them in HRNet only)."""
    scales: bool = True
    """Also show the network means of several pixels and the contrast with the surroundings: for single-look speckle,
    and for sensors whose calibration it does not know."""
    frozen_norm: bool = False
    """Normalise by the running statistics of --init and leave them: for few scenes, whose own would mislead."""
    halfway: bool = False
    """Score and keep the mean of the weights of --init and those learned: most of the new, little of the old lost."""
    steps: int = Field(2000, gt=0)
    """Updates of the weights."""
    epochs: int = Field(0, ge=0)
    """In place of --steps: how often to see the training area."""
    patience: int = Field(0, ge=0)
    """Stop after so many evaluations in a row without a better held-out score; 0: never."""
    batch: int = Field(8, gt=0)
    """Crops per step and process."""
    loss: str = "bce+dice"
    """A sum of bce, cross-entropy, dice, lovasz, focal, ohem."""
    class_weights: tuple[float, float] = (1.0, 1.0)
    """Weights of land and water in the loss."""
    optimiser: Literal["adamw", "sgd"] = "adamw"
    """Without weight decay, adamw is Adam."""
    learning_rate: float = Field(1e-3, gt=0)
    """Its peak."""
    schedule: Literal["cosine", "poly", "constant"] = "cosine"
    """How the rate falls after the warm-up."""
    poly_power: float = Field(0.9, gt=0)
    """Of --schedule poly."""
    warmup_steps: int = Field(100, ge=0)
    """Steps of linear rise to --learning-rate."""
    weight_decay: float = Field(1e-2, ge=0)
    """On weights, not on biases and normalisation."""
    momentum: float = Field(0.9, ge=0, le=1)
    """Of sgd."""
    clip: float = Field(1.0, ge=0)
    """Largest norm of the gradient; 0: any."""
    ema: float = Field(0.998, ge=0, le=1)
    """Decay of the average of the weights that is kept; 0: none."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of the arithmetic; auto: bf16 on a GPU or processor that has it, else fp32."""
    seed: int = Field(0, ge=0)
    """A run is a function of its options, data and seed."""
    out: Path | None = None
    """Folder of the run; none means runs/<model>/<date>, and runs/<model>/latest links to the newest there."""
    threshold: float = Field(0.5, gt=0, lt=1)
    """Probability from which a pixel is water: in evaluation, and as the model's own."""
    coarsest_m: float = Field(0.0, ge=0)
    """Pixel spacing of the coarsest scenes that the network is to know: coarser ones are upsampled to it, in training
    and at run time; 0: never."""
    levelled: bool = True
    """Bring uncalibrated scenes to one level, in training and at run time."""
    evaluate_every: int = Field(250, gt=0)
    """Steps between evaluations, each of which writes last.pt."""
    log_every: int = Field(10, gt=0)
    """Steps between rows of log.csv."""
    tensorboard: bool = True
    """Write the run log for TensorBoard too."""
    resume: bool = False
    """Go on with the run in --out."""

    @field_validator("data", "simulated", "holdout", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("class_weights")
    @classmethod
    def _above_0(cls, weights: tuple[float, float]) -> tuple[float, float]:
        if min(weights) <= 0:
            raise ValueError("expected two numbers above 0")
        return weights

    @model_validator(mode="after")
    def _go_together(self) -> FitOptions:
        needs = (
            (not self.data, "no data; expected at least one --data DIR"),
            (
                self.frozen_norm and not self.init,
                "--frozen-norm keeps the running statistics of --init FILE; say which",
            ),
            (
                self.halfway and not self.init,
                "--halfway keeps the mean of the weights of --init FILE and those learned; say which",
            ),
            (
                self.precision == "fp16" and self.device == "cpu",
                "--precision fp16 needs a GPU; a CPU computes in fp32 or bf16",
            ),
            (self.resume and not self.out, "--resume goes on with the run in --out DIR; say which"),
        )
        for lacking, message in needs:
            if lacking:
                raise ValueError(message)
        return self

    @property
    def level_db(self) -> float | None:
        """Level to which uncalibrated scenes are brought."""
        from sarwater.scenes.level_change import LEVEL_DB  # `--help` needs no numpy

        return LEVEL_DB if self.levelled else None

    @property
    def request(self) -> Request:
        """How the scenes are read."""
        return Request(**{name: getattr(self, name) for name in Reading.model_fields})


GROUPS = {
    "data": ("channels", "labels", "crop_px", "workers", "shoreline"),
    "reading scenes": ("unit", "scale", "offset", "calibration_constant_db", "nodata", "polarisations"),
    "augmentation": ("flips", "rotation_deg", "gain_db", "zoom", "speckle", "stretch", "collar"),
    "network": ("init", "batch_norm", "scales", "frozen_norm", "halfway"),
    "optimisation": (
        *("steps", "epochs", "patience", "batch", "loss", "optimiser", "learning_rate", "schedule", "poly_power"),
        *("warmup_steps", "weight_decay", "momentum", "clip", "ema"),
    ),
    "machine": ("device", "precision", "seed"),
    "output": ("threshold", "coarsest_m", "levelled", "evaluate_every", "log_every", "tensorboard", "resume"),
    "limits": tuple(name for name in Reading.model_fields if name.startswith("max_")),
}
"""Of `--help`; `data`, `simulated`, `holdout`, `class_weights` and `out` are declared by hand, for a flag of theirs is
no single value or has a short name."""
ALIASES = {
    "crop_px": ("--crop",),
    "rotation_deg": ("--rotation",),
    "gain_db": ("--gain",),
    "warmup_steps": ("--warmup",),
    "coarsest_m": ("--coarsest",),
    "polarisations": ("--polarisation",),
}


def help_of(name: str) -> str:
    """The docstring of a field, as `--help` shows it."""
    return " ".join((FitOptions.model_fields[name].description or "").split())


def field_named(key: str) -> str:
    """The field that a key of a TOML file means: `learning-rate` and `crop` are `learning_rate` and `crop_px`."""
    name = key.replace("-", "_")
    return next((field for field, flags in ALIASES.items() if f"--{key}" in flags), name)


def options_of(given: Mapping[str, Any], config: str = "default") -> FitOptions:
    """The options that a command line says, over those of `config`: a file, `default` or `reference`.

    Raises UsageError, and ConfigurationError for a file that says what cannot be.
    """
    path = None if config in ("default", "reference") else Path(config)
    written = {field_named(key): value for key, value in (read_toml(path) if path else {}).items()}
    model = given.get("model") or written.get("model")
    if model is None:
        raise UsageError(
            f"which model? expected one of: {', '.join(FAMILIES)}, as the first argument or `model` in --config"
        )
    recipe = read_toml(family_recipe(family_of(model).name, config if path is None else "default"))
    if "-" in model:
        recipe["model"] = model  # else the recipe knows which variant it is for
    chosen: dict[str, Any] = {}
    for layer in (recipe, written, given):
        if "steps" in layer:
            chosen.pop("epochs", None)  # of a layer below: the two say the same thing in different units
        chosen |= layer
    try:
        return FitOptions(**{**chosen, "model": recipe.get("model", model)})
    except SettingInvalid as error:
        if path is not None and error.key in written and error.key not in given:
            raise ConfigurationError(f"{path}: {error}") from error
        raise
