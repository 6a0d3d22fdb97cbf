"""SAR water segmentation that runs beside the antenna: the front door.

import sarwater

result = sarwater.predict("scene.tif")          # .mask .confidence .polygons .georeference .record .plot() .write()
with sarwater.open_scene("scene.tif") as scene:
    pixels = scene.read()

Nothing is imported until a name is used. docs/python.md has examples.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sarwater import errors
    from sarwater.errors import SarwaterError
    from sarwater.prediction import OpenModel, Prediction, open_model, predict
    from sarwater.request import Request, Window
    from sarwater.scenes.georeference import Georeference
    from sarwater.scenes.readers import open_scene
    from sarwater.scenes.scene import Scene

__all__ = [
    "Georeference",
    "OpenModel",
    "Prediction",
    "Request",
    "SarwaterError",
    "Scene",
    "Window",
    "__version__",
    "errors",
    "open_model",
    "open_scene",
    "predict",
]

_HOMES = {
    "Georeference": "scenes.georeference",
    "OpenModel": "prediction",
    "Prediction": "prediction",
    "Request": "request",
    "SarwaterError": "errors",
    "Scene": "scenes.scene",
    "Window": "request",
    "errors": "",
    "open_model": "prediction",
    "open_scene": "scenes.readers",
    "predict": "prediction",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sarwater' has no attribute {name!r}")
    home = _HOMES[name]
    found = (
        getattr(importlib.import_module(f"sarwater.{home}"), name)
        if home
        else importlib.import_module(f"sarwater.{name}")
    )
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
