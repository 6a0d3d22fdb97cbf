"""The tags that every product carries: what it was made of, by what, and so whether it is ours."""

from __future__ import annotations

from pathlib import Path

from sarwater.regular import open_regular

TAG_PREFIX = "SARWATER_"
"""Of every tag of ours, in this version and in those before."""
MASK_KEY_TAG = "SARWATER_MASK_KEY"
INPUT_TAG = "SARWATER_INPUT_SHA256"
MODEL_TAG = "SARWATER_MODEL"
MODEL_SHA256_TAG = "SARWATER_MODEL_SHA256"
THRESHOLD_TAG = "SARWATER_THRESHOLD"
VERSION_TAG = "SARWATER_VERSION"
GEOREFERENCE_TAG = "SARWATER_GEOREFERENCE"
"""Only where there is none."""


def setting_tag(name: str) -> str:
    """The tag of a field of the request that is not at its default."""
    return f"SARWATER_{name.upper()}"


PRODUCT_REFUSED = "a product of sarwater, never its input; give the SAR scene that it was made of"
_LOOKED_INTO_BYTES = 64 << 20


def is_product(path: Path) -> bool:
    """Whether a file that is no raster of a scene names a mask's key, as our pictures, polygons and STAC items do."""
    try:
        with open_regular(path) as file:
            content = file.read(_LOOKED_INTO_BYTES)
    except OSError:
        return False
    return MASK_KEY_TAG.encode() in content or MASK_KEY_TAG.lower().replace("_", ":", 1).encode() in content
