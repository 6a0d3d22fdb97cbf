"""What a file declares, held against what a scene may ask of the machine."""

from __future__ import annotations

from sarwater.errors import SceneUnsafe
from sarwater.request import Limits

SMALL_BYTES = 256 << 20
"""Decoded size below which no expansion is too large."""


def check_declared(
    name: str,
    limits: Limits,
    *,
    pixels: int = 0,
    width_px: int = 0,
    block_bytes: int = 0,
    decoded_bytes: int = 0,
    stored_bytes: int = 0,
) -> None:
    """Raises SceneUnsafe, with the option that lifts the limit (`how_to_lift`)."""
    expansion = decoded_bytes // max(stored_bytes, 1) if decoded_bytes > SMALL_BYTES else 0
    for what, found, option in (
        ("pixels", pixels, "max_pixels"),
        ("columns", width_px, "max_width_px"),
        ("bytes in one strip, tile or chunk", block_bytes, "max_block_bytes"),
        ("decoded bytes per stored byte", expansion, "max_expansion"),
    ):
        limit = getattr(limits, option)
        if found > limit:
            raise SceneUnsafe(
                f"{name}: declares {found:,} {what}, more than the limit of {limit:,}; {how_to_lift(option, found)}"
            )


def how_to_lift(option: str, found: float) -> str:
    """For whoever meets the limit `option` on a command, in settings, or in Python, where it is called alike."""
    flag = "--" + option.replace("_", "-")
    return f"if that is right, raise it with {flag} {found} (in settings: `{option}`)"
