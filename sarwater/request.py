"""What is asked of a scene: one record. Flags, TOML, JSON and validation follow from it.

A field `sieve_px` is `sieve_px = 25` in TOML, `SARWATER_SIEVE_PX=25` in the environment of the daemon, `--sieve-px 25`
as a flag and `Request(sieve_px=25)` in Python.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from sarwater.errors import expected
from sarwater.record import Record
from sarwater.scenes.units import SCENE_UNITS
from sarwater.upsampling import MAX_FACTOR

MAX_SIEVE_PX = 2000
"""A sieve holds twice as many rows as the smallest region that it keeps has pixels."""


@dataclass(frozen=True)
class Window:
    """A rectangle in scene pixels, from the upper left corner."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.x_px},{self.y_px},{self.width_px},{self.height_px}"


class Limits(Record):
    """What a scene may ask of the machine; beyond it, SceneUnsafe."""

    max_input_bytes: int = Field(4 << 30, gt=0)
    """Largest input file."""
    max_pixels: int = Field(1_000_000_000, gt=0)
    """Largest scene: width times height."""
    max_width_px: int = Field(200_000, gt=0)
    """Widest scene: memory grows with the width."""
    max_bands: int = Field(16, gt=0)
    """Most bands of one file."""
    max_block_bytes: int = Field(512 << 20, gt=0)
    """Largest decoded strip, tile or chunk, which is the least that can be read at once."""
    max_expansion: int = Field(200, gt=0)
    """Largest ratio of decoded to stored bytes, against decompression bombs: a scene of which all but 1 % is nodata
    has some 150. Blocks that are absent do not count. Not applied below 256 MiB."""
    max_open_s: float = Field(5.0, gt=0)
    """Most processor time until a scene is open, and again to decode 16 MiB of it; 1 s more for each 128 MiB of a
    larger strip, tile or chunk."""
    max_open_bytes: int = Field(768 << 20, gt=0)
    """Most memory that opening a scene may take, and decoding it, beside its pixels."""


def names_in(text: str) -> tuple[str, ...]:
    """`"vv,vh"` -> ("vv", "vh")."""
    return tuple(filter(None, re.split(r"[,\s]+", text)))


class Reading(Limits):
    """How a scene's pixels are read: the same where a model runs and where one is trained."""

    polarisations: tuple[str, ...] = Field((), examples=["vv,vh"])
    """What feeds the model's `sar` channels, by name (`vv`) or band number; none means the obvious ones."""
    unit: str | None = None
    """Unit of the pixels, such as `sigma0_db`; none means what the scene says."""
    scale: float | None = Field(None, gt=0, allow_inf_nan=False)
    """Stored values times this are in `unit`, as 0.01 for decibels times 100; none means what the scene says."""
    offset: float | None = Field(None, allow_inf_nan=False)
    """What is added to that, as -40 for decibels in steps from -40; none means what the scene says, or 0 where `scale`
    is stated."""
    calibration_constant_db: float | None = Field(None, allow_inf_nan=False)
    """Calibration constant K of a product in DN, sigma0 in dB = 20 log10 DN + K, as -83 for ALOS-2; none means what the
    scene says."""
    nodata: float | None = None
    """The one stored pixel value without a measurement; none means the scene's, else 0, zeros that reach in from an
    edge, constants that fill corners, and the border noise of old Sentinel-1 products."""

    @field_validator("polarisations", "products", mode="before", check_fields=False)
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """`"vv,vh"` is ("vv", "vh")."""
        return names_in(value) if isinstance(value, str) else value

    @field_validator("polarisations")
    @classmethod
    def _lower_case(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)

    @field_validator("unit")
    @classmethod
    def _known_unit(cls, unit: str | None) -> str | None:
        if unit is not None and unit not in SCENE_UNITS:
            raise ValueError(expected(unit, SCENE_UNITS))
        return unit


class Request(Reading):
    """What is made of a scene, and how."""

    products: tuple[str, ...] | None = Field(None, examples=["mask,polygons"])
    """What to make, the mask always; none means all of them."""
    threshold: float | None = Field(None, gt=0, lt=1)
    """Probability from which a pixel is water; none means the model's own."""
    window: Window | None = Field(None, examples=["0,0,4096,4096"])
    """Only this part of the scene, X,Y,WIDTH,HEIGHT in pixels; none means all of it."""
    level: Literal["given", "usual"] | None = None
    """`usual` multiplies the scene by one gain, so that its land is as bright as models know it; not for scenes of
    water alone. `given` takes its brightness as it is. None: usual where the scene is not calibrated and the model is
    made for that."""
    off_level: Literal["note", "refuse"] = "note"
    """What a scene gets that is brighter or darker than models know: a note, or a refusal."""
    upsampling_factor: int | None = Field(None, ge=1, le=MAX_FACTOR)
    """How often the network sees each pixel along each axis, 1 to 4; none goes by the pixel spacing."""
    sieve_px: int = Field(0, ge=0, le=MAX_SIEVE_PX)
    """Minimum mapping unit of the mask: bodies of water, and islands, of fewer pixels are filled in."""
    minimum_area_m2: float = Field(0.0, ge=0)
    """Smallest water body that gets a polygon; the mask keeps the others."""
    simplify_m: float = Field(0.0, ge=0)
    """Tolerance of the polygons' outlines in units of the CRS; 0 keeps every pixel corner."""

    @field_validator("window", mode="before")
    @classmethod
    def _window_of_text(cls, value: Any) -> Any:
        if not isinstance(value, str | list | tuple):
            return value
        try:
            x, y, width, height = (int(part) for part in (value.split(",") if isinstance(value, str) else value))
        except (TypeError, ValueError):
            raise ValueError("expected four whole numbers, X,Y,WIDTH,HEIGHT in pixels") from None
        return Window(x, y, width, height)

    def mask_settings(self) -> dict[str, Any]:
        """What changes the mask's pixels, as JSON values: the settings' part of its key."""
        return self.model_dump(mode="json", include=set(MASK_SETTINGS))


MASK_SETTINGS = (
    *("threshold", "window", "polarisations", "unit", "scale", "offset", "calibration_constant_db", "nodata"),
    *("level", "upsampling_factor", "sieve_px"),
)
REQUEST_FIELDS = tuple(Request.model_fields)
