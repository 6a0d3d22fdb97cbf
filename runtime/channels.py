"""Which layer of a product feeds which channel of a model."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.formats.layer import UNKNOWN_UNIT, Layer
from runtime.formats.product import Product
from sarwater.errors import ChannelMissing, UnitMismatch
from sarwater.manifest import Channel

_CO_POLARISATIONS = ("hh", "vv")


def choose_layers(
    product: Product,
    scene: str,
    channels: Sequence[Channel],
    polarisations: Sequence[str] = (),
    nodata: float | None = None,
) -> tuple[Layer, ...]:
    """One layer per channel, in the channel's unit. `polarisations` names what feeds the `sar` channels, in order.

    Raises ChannelMissing, UnitMismatch; `scene` is the name to say it with.
    """
    wanted = iter(polarisations)
    free = list(product.layers)
    chosen: list[Layer] = []
    for channel in channels:
        if channel.name == "gim":
            layer = _incidence_layer(product, scene)
        else:
            layer = _find(product, scene, next(wanted, None) if channel.name == "sar" else channel.name, free)
            free.remove(layer)
        in_unit = layer.in_unit(channel.unit, nodata)
        if in_unit is None:
            raise UnitMismatch(_mismatch(scene, layer, channel.unit))
        chosen.append(in_unit)
    return tuple(chosen)


def _incidence_layer(product: Product, scene: str) -> Layer:
    if product.incidence is None:
        raise ChannelMissing(
            f"{scene}: has no incidence-angle mask (GIM), which the model wants as a channel; "
            "give the whole product (its folder or HDF5 file), or use a model without it"
        )
    return product.incidence.layer


def _find(product: Product, scene: str, name: str | None, free: Sequence[Layer]) -> Layer:
    """The layer called `name`, or for None the obvious one: the only one, else the co-polarised one."""
    offered = ", ".join(layer.label for layer in product.layers)
    if name is None:
        if len(free) == 1:
            return free[0]
        co_polarised = [layer for layer in free if layer.polarisation in _CO_POLARISATIONS]
        known = [layer for layer in free if layer.polarisation is not None]
        if co_polarised or known:
            return (co_polarised or known)[0]
        raise ChannelMissing(
            f"{scene}: has {len(product.layers)} bands ({offered}), expected one for each channel of the model or "
            "bands that name their polarisation; choose with --polarisation NUMBER"
        )
    for number, layer in enumerate(product.layers, 1):
        if layer in free and (name.lower() == layer.polarisation or name == str(number)):
            return layer
    raise ChannelMissing(
        f"{scene}: has no channel {name!r}; it has {offered}: choose with --polarisation, or another model"
    )


def _mismatch(scene: str, layer: Layer, unit: str) -> str:
    if layer.unit == UNKNOWN_UNIT:
        return f"{scene}: its float pixels do not say their unit, the model expects {unit}; state it with --unit"
    if layer.unit == "amplitude_dn" and unit.startswith("sigma0"):
        return (
            f"{scene}: holds uncalibrated amplitude ({layer.label}), the model expects {unit}, and the product has no "
            "calibration that can be applied; give the whole product (folder or HDF5 file), or calibrate it first"
        )
    return (
        f"{scene}: its pixels are {layer.unit} ({layer.label}), the model expects {unit}; "
        "use a model made for this unit, or convert the scene"
    )
