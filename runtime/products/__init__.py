"""The registry of products: a new one is one file here and one line in PRODUCTS."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.products.base import Product
from runtime.products.confidence import Confidence
from runtime.products.mask import WaterMask
from runtime.products.polygons import WaterPolygons
from runtime.products.qgis_style import ConfidenceStyle, MaskStyle
from runtime.products.quicklook import Quicklook
from runtime.products.stac import StacItem
from sarwater.errors import SettingInvalid, expected

PRODUCTS: tuple[type[Product], ...] = (
    WaterMask,
    Confidence,
    WaterPolygons,
    Quicklook,
    MaskStyle,
    ConfidenceStyle,
    StacItem,
)

__all__ = ["PRODUCTS", "Product", "chosen"]


def chosen(names: Sequence[str] | None) -> tuple[type[Product], ...]:
    """The products of these names, the mask among them in any case; all for None. Raises SettingInvalid."""
    known = {product.name: product for product in PRODUCTS}
    for name in names or ():
        if name not in known:
            raise SettingInvalid(f"product {name!r} is unknown; {expected(name, known)}", "products")
    return tuple(product for product in PRODUCTS if names is None or product is WaterMask or product.name in names)
