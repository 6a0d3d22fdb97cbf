"""What is asked of a scene, and the identity that follows from it. Needs no GDAL: a supervisor uses it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sarwater import __version__
from sarwater.enlargement import MOST_COPIES
from sarwater.errors import UsageError

PRODUCTS = ("mask", "confidence", "polygons", "quicklook", "stac")
POWER_UNITS = tuple(
    quantity + scale for quantity in ("sigma0", "gamma0", "beta0", "intensity") for scale in ("_linear", "_db")
)
"""Squares of an amplitude, calibrated (the first three) or not."""
SCENE_UNITS = ("amplitude_dn", *POWER_UNITS)
"""What pixels can be in."""
MAX_SIEVE_PX = 2000
"""A sieve holds twice as many rows as the smallest region it keeps has pixels."""
_MAX_STEM_BYTES = 120


@dataclass(frozen=True)
class Window:
    """A rectangle in scene pixels."""

    x_px: int
    y_px: int
    width_px: int
    height_px: int

    def __str__(self) -> str:
        return f"{self.x_px},{self.y_px},{self.width_px},{self.height_px}"


@dataclass(frozen=True)
class SceneLimits:
    """What a scene may ask of the machine; beyond it, SceneUnsafe."""

    file_bytes: int = 4 << 30
    """Of one file."""
    pixels: int = 1_000_000_000
    """Width times height."""
    bands: int = 16
    block_bytes: int = 512 << 20
    """Decoded size of one strip, tile or chunk, which is the least that can be read."""
    expansion: int = 2000
    """Decoded over stored bytes; Deflate at its best reaches 1032. Not applied below 256 MiB decoded."""


@dataclass(frozen=True)
class SceneOptions:
    """What is made of a scene, and how. Everything here but `limits` changes the products, so it is in the job key."""

    products: tuple[str, ...] = PRODUCTS
    """Out of PRODUCTS; the mask is always made."""
    threshold: float | None = None
    """Probability from which a pixel is water; None takes the model's."""
    window: Window | None = None
    """Part of the scene to work on; None takes all of it."""
    polarisations: tuple[str, ...] = ()
    """What feeds the model's `sar` channels, by name (`vv`) or band number (`2`); empty takes the obvious ones."""
    unit: str | None = None
    """Unit of the scene's pixels, one of SCENE_UNITS, where the scene does not say it (or not rightly)."""
    nodata: float | None = None
    """Pixel value that means nothing was measured; None takes what the scene says."""
    enlarge: int | None = None
    """How many copies of each pixel the network sees along each axis; None goes by the pixel spacing, 1 never does."""
    sieve_px: int = 0
    """Minimum mapping unit: bodies of water, and islands, of fewer pixels are filled in; 0 leaves the mask as it is."""
    minimum_area_m2: float = 0.0
    """Smaller water bodies get no polygon; the mask keeps them."""
    simplify_m: float = 0.0
    """Tolerance of the polygons' simplification in units of the CRS; 0 keeps every pixel corner."""
    limits: SceneLimits = field(default_factory=SceneLimits)

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if unknown := [name for name in self.products if name not in PRODUCTS]:
            raise UsageError(f"product {unknown[0]!r} is unknown; expected some of: {','.join(PRODUCTS)}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"threshold {self.threshold}: expected a probability between 0 and 1")
        if self.unit is not None and self.unit not in SCENE_UNITS:
            raise UsageError(f"unit {self.unit!r} is unknown; expected one of: {', '.join(SCENE_UNITS)}")
        if self.enlarge is not None and not 1 <= self.enlarge <= MOST_COPIES:
            raise UsageError(f"enlarge {self.enlarge}: expected 1 (never) to {MOST_COPIES} copies along each axis")
        if not 0 <= self.sieve_px <= MAX_SIEVE_PX:
            raise UsageError(f"sieve of {self.sieve_px} pixels: expected 0 (none) to {MAX_SIEVE_PX}")
        if min(self.minimum_area_m2, self.simplify_m) < 0:
            raise UsageError("minimum area and simplification: expected 0 or more")

    def sha256(self) -> str:
        """The configuration's part of the job key."""
        document = asdict(self)
        del document["limits"]
        document["software"] = __version__
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def job_key(input_sha256: str, model_sha256: str, options: SceneOptions) -> str:
    """The identity of a job: one visible mask per key, whatever happens."""
    return hashlib.sha256(f"{input_sha256}\n{model_sha256}\n{options.sha256()}\n".encode()).hexdigest()


def product_stem(path: Path) -> str:
    """The start of every product's name: the scene's own, reduced to letters, digits, `_`, `-` and `.`."""
    name = unicodedata.normalize("NFC", path.stem)
    cleaned = re.sub(r"[^\w.-]+", "_", name).lstrip(".-")
    return cleaned.encode()[:_MAX_STEM_BYTES].decode(errors="ignore") or "scene"


def mask_name(stem: str) -> str:
    return f"{stem}_water.tif"
