"""The tags that every product carries: what it was made of, by what, and so whether it is ours."""

from __future__ import annotations

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
