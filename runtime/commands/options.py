"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from runtime.backends import DEVICES
from runtime.products import PRODUCTS
from sarwater.command import Decorator, OneOf, option
from sarwater.models import model_names
from sarwater.request import Limits
from sarwater.scenes.units import SCENE_UNITS

MODEL_AND_PIXELS = "model and pixels"
SCENE_GROUPS: Mapping[str, Sequence[str]] = {
    MODEL_AND_PIXELS: (
        "threshold",
        "polarisations",
        "unit",
        "scale",
        "offset",
        "calibration_constant_db",
        "nodata",
        "level",
        "off_level",
        "upsampling_factor",
    ),
    "limits of a scene": tuple(Limits.model_fields),
}
"""What every command asks about the scenes that it opens."""
PRODUCT_GROUPS: Mapping[str, Sequence[str]] = {
    "products": ("products", "window", "sieve_px", "minimum_area_m2", "simplify_m"),
}
ALIASES: Mapping[str, Sequence[str]] = {
    "polarisations": ("--polarisation",),
    "upsampling_factor": ("--enlarge",),
    "sieve_px": ("--sieve",),
    "minimum_area_m2": ("--minimum-area",),
    "simplify_m": ("--simplify",),
}
CHOICES: Mapping[str, Sequence[str]] = {
    "model": model_names(),
    "device": DEVICES,
    "unit": tuple(SCENE_UNITS),
    "products": tuple(product.name for product in PRODUCTS),
}


def device_option(group: str = MODEL_AND_PIXELS) -> Decorator:
    return option(
        "--device",
        "--backend",
        group=group,
        default="auto",
        type=OneOf(DEVICES),
        metavar="DEVICE",
        help=f"Where inference runs: {', '.join(DEVICES)}; auto decides by the model file, torch (PyTorch, on the GPU "
        "or the CPU that is there) only when named, and nothing falls back from GPU to CPU. [default: auto]",
    )
