"""The four network families: the only place that lists them. A variant's layers are in `train.models.<family>`."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass

from sarwater.errors import ModelUnknown

SURROUNDINGS_PX = 32
"""The planes that the networks see beside the pixels hold means over squares of up to this size."""


@dataclass(frozen=True)
class Family:
    """One kind of network."""

    name: str
    variants: tuple[str, ...]
    """Names after the dash; `""` for a family that has one network only."""
    default: str
    """The variant that the family's name alone means when it is trained."""
    network: str
    """`module:class` of the network; the class takes (variant, input planes, normalise)."""
    stride_px: int
    """Height and width of what the network takes are multiples of this."""
    always_normalised: bool = False
    """Whether the network does not exist without batch normalisation."""
    ships: str | None = None
    """The variant that ships, under `engines/`; None where no model of this family does."""

    @property
    def tile_step_px(self) -> int:
        """A graph takes tiles that are multiples of this: so does the network, and what tells it of surroundings."""
        return math.lcm(self.stride_px, SURROUNDINGS_PX)


FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family("fcn", ("vgg16", "vgg19", "vgg16-w8"), "vgg16", "train.models.fcn:FCN", 32, ships="vgg16-w8"),
        Family("unet", ("w64", "w32", "w16"), "w16", "train.models.unet:UNet", 16, ships="w16"),
        Family("deepunet", ("", "w8"), "", "train.models.deepunet:DeepUNet", 128, ships="w8"),
        Family(
            "hrnet",
            ("w48", "w32", "w18", "w18-small"),
            "w18-small",
            "train.models.hrnet:HRNet",
            32,
            always_normalised=True,
            ships="w18-small",
        ),
    )
}


def family_of(name: str) -> Family:
    """The family of `hrnet` or `hrnet-w48`. Raises ModelUnknown with the names that there are."""
    family = FAMILIES.get(name.split("-")[0])
    if family is None:
        names = [model_name(family.name, variant) for family in FAMILIES.values() for variant in family.variants]
        close = difflib.get_close_matches(name.lower(), [*FAMILIES, *names], 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ModelUnknown(
            f"{name}: unknown model; {hint}expected a file or folder, as ./{name}, or one of: {', '.join(FAMILIES)}"
        )
    return family


def model_name(family: str, variant: str) -> str:
    """`hrnet-w18`; a family of one network is named without a dash."""
    return f"{family}-{variant}" if variant else family


def parse_model(name: str) -> tuple[Family, str]:
    """(family, variant) of `hrnet` (its default variant) or `hrnet-w48`. Raises ModelUnknown with the choices."""
    family = family_of(name)
    variant = name.partition("-")[2] or family.default
    if variant not in family.variants:
        choices = ", ".join(model_name(family.name, choice) for choice in family.variants)
        raise ModelUnknown(f"{name}: {family.name} has no variant {variant!r}; expected one of: {choices}")
    return family, variant
