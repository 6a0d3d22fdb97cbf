"""Which band of a scene feeds which channel of a model."""

from __future__ import annotations

from collections.abc import Sequence

from sarwater.errors import ChannelMissing, UnitMismatch
from sarwater.manifest import Channel
from sarwater.scenes.band import Band
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import UNKNOWN_UNIT

_CO_POLARISATIONS = ("hh", "vv")


def choose_bands(
    scene: Scene, channels: Sequence[Channel], polarisations: Sequence[str] = (), nodata: float | None = None
) -> tuple[Band, ...]:
    """One band per channel, in the channel's unit. `polarisations` names what feeds the channels of backscatter, in
    order, by polarisation or band number; without, channels of one polarisation take the band of that name.

    Raises ChannelMissing, UnitMismatch.
    """
    wanted = iter(polarisations)
    free = list(scene.bands)
    chosen: list[Band] = []
    for channel in channels:
        if channel.name == "gim":
            band = _incidence_band(scene)
        else:
            band = find_band(scene, next(wanted, None if channel.name == "sar" else channel.name), free)
            free.remove(band)
        in_unit = band.in_unit(channel.unit, nodata)
        if in_unit is None:
            raise UnitMismatch(_mismatch(scene.name, band, channel.unit))
        chosen.append(in_unit)
    return tuple(chosen)


def _incidence_band(scene: Scene) -> Band:
    if scene.incidence is None:
        raise ChannelMissing(
            f"{scene.name}: has no incidence-angle mask (GIM), which the model wants as a channel; "
            "give the whole product (its folder or HDF5 file), or use a model without it"
        )
    return scene.incidence.band


def find_band(scene: Scene, name: str | None, free: Sequence[Band]) -> Band:
    """The band called `name` (polarisation or number), or for None the obvious one: the only one, else the co-polarised
    one. Raises ChannelMissing."""
    offered = ", ".join(band.label for band in scene.bands)
    if name is None:
        if len(free) == 1:
            return free[0]
        co_polarised = [band for band in free if band.polarisation in _CO_POLARISATIONS]
        known = [band for band in free if band.polarisation is not None]
        if co_polarised or known:
            return (co_polarised or known)[0]
        raise ChannelMissing(
            f"{scene.name}: has {len(scene.bands)} bands ({offered}), expected one for each channel of the model or "
            "bands that name their polarisation; choose with --polarisations, as --polarisations 1"
        )
    for number, band in enumerate(scene.bands, 1):
        if band in free and (name.lower() == band.polarisation or name == str(number)):
            return band
    raise ChannelMissing(
        f"{scene.name}: has no channel {name!r}; it has {offered}: choose with --polarisations, as --polarisations "
        f"{scene.bands[0].polarisation or 1}, or another model"
    )


def _mismatch(scene: str, band: Band, unit: str) -> str:
    if band.unit == UNKNOWN_UNIT:
        return (
            f"{scene}: its float pixels do not say their unit, the model expects {unit}; state it with --unit, as "
            f"--unit {unit}"
        )
    if band.unit == "amplitude_dn" and unit.startswith("sigma0"):
        return (
            f"{scene}: holds uncalibrated amplitude ({band.label}), the model expects {unit}, and the product has no "
            "calibration that can be applied; give the whole product (folder or HDF5 file), or calibrate it first"
        )
    return (
        f"{scene}: its pixels are {band.unit} ({band.label}), the model expects {unit}; "
        "use a model made for this unit, or convert the scene"
    )
