"""How QGIS shows the products: named classes and only those that occur, land transparent, confidence as a ramp.

A QML file with the name of a raster is its default style in QGIS, and so is what a GeoPackage's table `layer_styles`
says of a layer. Source: QGIS 3.22, QgsMapLayer::styleURI, QgsPalettedRasterRenderer, QgsOgrProvider::saveStyle.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar
from xml.etree import ElementTree

import numpy as np

from runtime.backends.base import FinishedRows
from runtime.products.base import Making, Product
from sarwater.classes import CLASSES, COLOURS, LAND, NODATA, WATER
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import ogr

DOCTYPE = "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
VERSION = "3.22"
"""Of QGIS, whose way of writing styles later ones read as well."""
RAMP: Mapping[int, tuple[int, int, int, int]] = {
    0: (*COLOURS[LAND][:3], 0),
    50: (247, 222, 140, 255),
    100: COLOURS[WATER],
}
"""Probability of water in percent -> red, green, blue, alpha; what lies between is mixed. Doubt is yellow."""
ALIASES = {
    "area_m2": "Area (m²)",
    "perimeter_m": "Perimeter (m)",
    "mean_confidence": "Mean confidence (%)",
    "pixels": "Area (pixels)",
    "cut": "Part of a larger body",
    "scene": "Scene",
    "acquired": "Acquired (UTC)",
}


class Style(Product):
    """The QML of another product of this scene."""

    asset: ClassVar[Mapping[str, Any]] = {"type": "application/xml", "title": "Style for QGIS", "roles": ["style"]}

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        try:
            properties = ElementTree.fromstring(path.read_text(encoding="utf-8")).iter("property")
        except (OSError, ValueError, ElementTree.ParseError):
            return {}
        return {entry.get("key", ""): entry.get("value", "") for entry in properties}

    def finish(self, making: Making) -> None:
        root = ElementTree.Element("qgis", version=VERSION, styleCategories="AllStyleCategories")
        kept = ElementTree.SubElement(root, "customproperties")
        for name, text in making.tags.items():
            ElementTree.SubElement(kept, "property", key=name, value=text)
        self._style(root)
        text = DOCTYPE + ElementTree.tostring(root, encoding="unicode")
        self._attempt(lambda: self.path.write_text(text, encoding="utf-8"))

    def _style(self, root: ElementTree.Element) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is held open."""


class MaskStyle(Style):
    name = "style"
    suffix = "_water.qml"
    help = "how QGIS shows the mask: classes by name, land transparent; QML"
    asset_name = "water-style"

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        super().__init__(path, scene, request)
        self._occurs = np.zeros(256, bool)

    def write(self, finished: FinishedRows) -> None:
        for value in CLASSES:
            self._occurs[value] = self._occurs[value] or (finished.mask == value).any()

    def _style(self, root: ElementTree.Element) -> None:
        renderer = _raster_renderer(root, type="paletted")
        palette = ElementTree.SubElement(renderer, "colorPalette")
        for value, label in CLASSES.items():
            if value != NODATA and self._occurs[value]:
                colour, alpha = _hex(COLOURS[value]), 0 if value == LAND else 255
                ElementTree.SubElement(
                    palette, "paletteEntry", value=str(value), color=colour, alpha=str(alpha), label=label
                )


class ConfidenceStyle(Style):
    name = "confidence-style"
    suffix = "_confidence.qml"
    help = "how QGIS shows the confidence: a ramp from transparent by yellow to blue; QML"
    asset_name = "confidence-style"

    def write(self, finished: FinishedRows) -> None:
        """The ramp is the same for all."""

    def _style(self, root: ElementTree.Element) -> None:
        renderer = _raster_renderer(root, type="singlebandpseudocolor", classificationMin="0", classificationMax="100")
        shader = ElementTree.SubElement(
            ElementTree.SubElement(renderer, "rastershader"),
            "colorrampshader",
            colorRampType="INTERPOLATED", classificationMode="1", clip="1", minimumValue="0", maximumValue="100",
        )  # fmt: skip
        for value, colour in RAMP.items():
            ElementTree.SubElement(
                shader, "item", value=str(value), color=_hex(colour), alpha=str(colour[3]), label=f"{value} %"
            )


def water_layer_style() -> str:
    """QML of the layer `water`: blue, with readable names of its fields."""
    root = ElementTree.Element("qgis", version=VERSION, styleCategories="AllStyleCategories")
    renderer = ElementTree.SubElement(root, "renderer-v2", type="singleSymbol", symbollevels="0", enableorderby="0")
    symbol = ElementTree.SubElement(
        ElementTree.SubElement(renderer, "symbols"), "symbol", name="0", type="fill", alpha="1"
    )
    layer = ElementTree.SubElement(symbol, "layer", {"class": "SimpleFill", "enabled": "1", "pass": "0"})
    fill = ",".join(map(str, (*COLOURS[WATER][:3], 110)))
    line = ",".join(map(str, COLOURS[WATER]))
    for key, value in {"color": fill, "style": "solid", "outline_color": line, "outline_width": "0.4"}.items():
        ElementTree.SubElement(layer, "prop", k=key, v=value)
    aliases = ElementTree.SubElement(root, "aliases")
    for index, (name, alias) in enumerate(ALIASES.items()):
        ElementTree.SubElement(aliases, "alias", field=name, index=str(index), name=alias)
    return DOCTYPE + ElementTree.tostring(root, encoding="unicode")


def add_layer_style(dataset: Any, table: str, qml: str, *, time: str) -> None:
    """Make `qml` the default style of a GeoPackage's `table`, as QGIS itself would save it.

    `time` is when it was made, ISO 8601. Raises RuntimeError of GDAL's.
    """
    layer = dataset.CreateLayer("layer_styles", None, ogr.wkbNone, ["FID=id"])
    texts = {
        "f_table_catalog": "", "f_table_schema": "", "f_table_name": table, "f_geometry_column": "geom",
        "styleName": table, "styleQML": qml, "styleSLD": "", "description": "", "owner": "", "ui": "",
    }  # fmt: skip
    for name in texts:
        layer.CreateField(ogr.FieldDefn(name, ogr.OFTString))
    default = ogr.FieldDefn("useAsDefault", ogr.OFTInteger)
    default.SetSubType(ogr.OFSTBoolean)
    layer.CreateField(default)
    layer.CreateField(ogr.FieldDefn("update_time", ogr.OFTDateTime))
    feature = ogr.Feature(layer.GetLayerDefn())
    for name, text in texts.items():
        feature.SetField(name, text)
    feature.SetField("useAsDefault", 1)
    feature.SetField("update_time", time)
    layer.CreateFeature(feature)


def _raster_renderer(root: ElementTree.Element, **attributes: str) -> ElementTree.Element:
    pipe = ElementTree.SubElement(root, "pipe")
    return ElementTree.SubElement(
        pipe, "rasterrenderer", {"band": "1", "opacity": "1", "alphaBand": "-1", "nodataColor": "", **attributes}
    )


def _hex(colour: Iterable[int]) -> str:
    red, green, blue = list(colour)[:3]
    return f"#{red:02x}{green:02x}{blue:02x}"
