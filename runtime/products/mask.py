"""The water mask: uint8 classes with a colour table; overviews by nearest neighbour, so that they hold classes too."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from runtime.backends.base import FinishedRows
from runtime.products.cog import COG, Cog
from sarwater.classes import CLASSES, COLOURS, NODATA
from sarwater.identity import MASK_SUFFIX
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput


class WaterMask(Cog):
    name = "mask"
    suffix = MASK_SUFFIX
    help = "0 land, 1 water, 2 radar shadow or layover, 255 no data; cloud-optimised GeoTIFF"
    asset_name = "water"
    asset: ClassVar[Mapping[str, Any]] = {
        "type": COG,
        "title": "Water mask",
        "roles": ["data", "water-mask"],
        "raster:bands": [{"data_type": "uint8", "nodata": NODATA}],
        "classification:classes": [
            {
                "value": value,
                "name": text.split(",")[0].replace(" ", "-"),
                "title": text,
                "color_hint": "".join(f"{part:02X}" for part in COLOURS[value][:3]),
                "nodata": value == NODATA,
            }
            for value, text in CLASSES.items()
        ],
    }

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request, COLOURS, "NEAREST")

    def write(self, finished: FinishedRows) -> None:
        self._write(finished.row, finished.mask)
