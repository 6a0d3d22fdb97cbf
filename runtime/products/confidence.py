"""The probability of water in percent, 255 where there is none; overviews are averages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from runtime.backends.base import FinishedRows
from runtime.products.cog import COG, Cog
from sarwater.classes import NODATA
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput


class Confidence(Cog):
    name = "confidence"
    suffix = "_confidence.tif"
    help = "probability of water in percent, 255 no data; cloud-optimised GeoTIFF"
    asset_name = "confidence"
    asset: ClassVar[Mapping[str, Any]] = {
        "type": COG,
        "title": "Probability of water, percent",
        "roles": ["data", "confidence"],
        "raster:bands": [{"data_type": "uint8", "nodata": NODATA, "unit": "%"}],
    }

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request, None, "AVERAGE")

    def write(self, finished: FinishedRows) -> None:
        self._write(finished.row, finished.confidence)
