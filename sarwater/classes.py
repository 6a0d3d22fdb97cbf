"""What the values of a water mask mean. Labels, masks, metrics and products take them from here."""

from __future__ import annotations

from collections.abc import Mapping

LAND = 0
WATER = 1
SHADOW = 2
"""Radar shadow or layover: measured, but not classified."""
NODATA = 255
"""Nothing was measured."""

CLASSES: Mapping[int, str] = {
    LAND: "land",
    WATER: "water",
    SHADOW: "radar shadow or layover, not classified",
    NODATA: "no data",
}
COLOURS: Mapping[int, tuple[int, int, int, int]] = {
    LAND: (203, 196, 180, 255),
    WATER: (38, 107, 179, 255),
    SHADOW: (90, 84, 92, 255),
    NODATA: (0, 0, 0, 0),
}
"""Class -> red, green, blue, alpha."""
