"""Which satellite took a scene, and how, as far as its format and its name say: for the catalogue entry.

Sources: Sentinel-1 Product Specification (S1-RS-MDA-52-7441), section 3.4.1; KOMPSAT-5 product names as in
docs/products.md; the mission pages of ESA, KARI, ASI, DLR, CSA, JAXA and NASA for the radars.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Sensor:
    """None where it is not known."""

    platform: str
    constellation: str
    frequency_band: str
    centre_frequency_ghz: float
    mode: str | None = None
    """As its product names have it: `IW`, `ES`."""
    product_type: str | None = None
    orbit_state: str | None = None
    """`ascending` or `descending`."""
    absolute_orbit: int | None = None
    relative_orbit: int | None = None


@dataclass(frozen=True)
class _Mission:
    told_by: str
    """Expression that the scene's name or its format begins with; `unit` is the satellite's own letter."""
    constellation: str
    platform: str
    band: str
    ghz: float
    name: str = ""
    """Expression for the name of its products: groups `mode`, `type`, `orbit`, `pass`."""


_MISSIONS = (
    _Mission(
        r"S1(?P<unit>[A-D])_|Sentinel-1", "sentinel-1", "sentinel-1{unit}", "C", 5.405,
        r"S1[A-D]_(?P<mode>S[1-6]|IW|EW|WV)_(?P<type>[A-Z]{3})\w_\w{4}_\d{8}T\d{6}_\d{8}T\d{6}_(?P<orbit>\d{6})_",
    ),
    _Mission(
        r"K5_|KMPS5_|KOMPSAT-5", "kompsat", "kompsat-5", "X", 9.66,
        r"K5_\d{14}_\d{6}_(?P<orbit>\d+)_(?P<pass>[AD])_(?P<mode>[A-Z]{2})\w*_[HV]{2}_(?P<type>[A-Z]{3})",
    ),
    _Mission(r"CSG|COSMO-SkyMed 2", "cosmo-skymed", "cosmo-skymed-second-generation", "X", 9.6),
    _Mission(r"CSKS?(?P<unit>[1-4])|COSMO-SkyMed", "cosmo-skymed", "cosmo-skymed{unit}", "X", 9.6),
    _Mission(r"TSX1|TerraSAR-X", "terrasar-x", "terrasar-x", "X", 9.65),
    _Mission(r"TDX1|TanDEM-X", "terrasar-x", "tandem-x", "X", 9.65),
    _Mission(r"PAZ1|PAZ", "paz", "paz", "X", 9.65),
    _Mission(r"RS2_|RADARSAT-2", "radarsat", "radarsat-2", "C", 5.405),
    _Mission(r"RCM(?P<unit>[1-3])?", "rcm", "rcm-{unit}", "C", 5.405),
    _Mission(r"ICEYE", "iceye", "iceye", "X", 9.65),
    _Mission(r"CAPELLA|Capella", "capella", "capella", "X", 9.65),
    _Mission(r"ALOS2|ALOS-2", "alos", "alos-2", "L", 1.2575),
    _Mission(r"NISAR", "nisar", "nisar", "L", 1.257),
)  # fmt: skip
_RELATIVE = {"a": 73, "b": 27}
"""Of Sentinel-1: relative orbit = (absolute orbit - this) modulo 175 + 1."""


def sensor_of(name: str, format: str) -> Sensor | None:
    """Of a scene called `name`, which its reader calls a `format`; None where neither names a satellite."""
    for text in (name, format):
        for mission in _MISSIONS:
            if told := re.match(mission.told_by, text):
                return _sensor(mission, (told.groupdict().get("unit") or "").lower(), name)
    return None


def _sensor(mission: _Mission, unit: str, name: str) -> Sensor:
    found = re.match(mission.name, name) if mission.name else None
    said = found.groupdict() if found else {}
    orbit = int(said["orbit"]) if said.get("orbit") else None
    relative = (orbit - _RELATIVE[unit]) % 175 + 1 if orbit and unit in _RELATIVE else None
    return Sensor(
        mission.platform.format(unit=unit).rstrip("-"),
        mission.constellation,
        mission.band,
        mission.ghz,
        said.get("mode"),
        said.get("type"),
        {"A": "ascending", "D": "descending"}.get(said.get("pass", "")),
        orbit,
        relative if mission.constellation == "sentinel-1" else None,
    )
