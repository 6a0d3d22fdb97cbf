"""A draft of a public alert, by the Common Alerting Protocol: what a scene shows, for a person to judge and complete.

Its status is Draft, which receivers must not act upon, and it claims neither severity nor urgency nor certainty.
`sarwater alert` makes an alert of it once a person has said so.
Source: CAP 1.2 (https://docs.oasis-open.org/emergency/cap/v1.2/CAP-v1.2-os.html).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any
from xml.etree import ElementTree

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
CONTENT_TYPE = "application/cap+xml"
LEVELS = {
    "urgency": ("Immediate", "Expected", "Future", "Past"),
    "severity": ("Extreme", "Severe", "Moderate", "Minor"),
    "certainty": ("Observed", "Likely", "Possible", "Unlikely"),
}
"""What only a person can say; a draft says Unknown."""
_DRAFT = "Draft"


def draft(document: Mapping[str, Any], sender: str) -> bytes:
    """The CAP message of a notification of a mask that was published."""
    properties = document["properties"]
    scene, area_km2 = properties.get("sarwater:scene") or "a scene", properties.get("sarwater:water_km2")
    amount = "Water" if area_km2 is None else f"{area_km2:.2f} km2 of water"
    alert = ElementTree.Element("alert", xmlns=NAMESPACE)
    _add(alert, identifier=document["id"], sender=sender, sent=_cap_time(properties["pubtime"]), status=_DRAFT)
    _add(alert, msgType="Alert", scope="Public", note="Made by a machine, for a person to judge.")
    info = ElementTree.SubElement(alert, "info")
    _add(info, language="en", category="Geo", event="Open water seen by radar")
    _add(info, **dict.fromkeys(LEVELS, "Unknown"))
    when = f"acquired {properties['datetime']}" if properties.get("datetime") else "time unknown"
    known = "Smooth ground, radar shadow and permanent lakes are water to it, too."
    _add(info, headline=f"{amount} in {scene}", description=f"{amount} in {scene}, {when}. {known}")
    for link in document["links"]:
        resource = ElementTree.SubElement(info, "resource")
        _add(resource, resourceDesc=link["rel"], mimeType=link["type"], size=str(link["length"]), uri=link["href"])
    if polygons := list(_polygons(document.get("geometry"))):
        area = ElementTree.SubElement(info, "area")
        _add(area, areaDesc=f"Footprint of {scene}")
        for ring in polygons:
            _add(area, polygon=" ".join(f"{latitude:.5f},{longitude:.5f}" for longitude, latitude, *_ in ring))
    return _written(alert)


def read(text: bytes) -> dict[str, str]:
    """What a draft says, by element. Raises ValueError for anything else."""
    alert = _alert(text)
    found = {element.tag.partition("}")[2]: element.text or "" for element in alert.iter() if element.text}
    if found.get("status") != _DRAFT:
        raise ValueError(f"status {found.get('status')} found, {_DRAFT} expected")
    return found


def confirmed(text: bytes, sender: str, event: str, levels: Mapping[str, str], valid_h: float) -> bytes:
    """The draft as an actual alert, sent now, which expires. Raises ValueError for what is no draft."""
    read(text)
    ElementTree.register_namespace("", NAMESPACE)
    alert, now = _alert(text), datetime.now(timezone.utc)
    info = _find(alert, "info")
    _find(alert, "sender").text, _find(alert, "sent").text = sender, _cap_time(now.isoformat())
    _find(alert, "status").text = "Actual"
    alert.remove(_find(alert, "note"))
    _find(info, "event").text = event
    for name, level in levels.items():
        _find(info, name).text = level
    expires = ElementTree.Element(f"{{{NAMESPACE}}}expires")
    expires.text = _cap_time((now + timedelta(hours=valid_h)).isoformat())
    info.insert(list(info).index(_find(info, "certainty")) + 1, expires)
    return _written(alert)


def _written(alert: ElementTree.Element) -> bytes:
    text: bytes = ElementTree.tostring(alert, encoding="utf-8", xml_declaration=True)
    return text


def _alert(text: bytes) -> ElementTree.Element:
    if b"<!DOCTYPE" in text:
        raise ValueError("a document type found, none expected")
    try:
        alert = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML ({error})") from error
    if alert.tag != f"{{{NAMESPACE}}}alert":
        raise ValueError(f"{alert.tag} found, an alert of CAP 1.2 expected")
    return alert


def _find(parent: ElementTree.Element, name: str) -> ElementTree.Element:
    found = parent.find(f"{{{NAMESPACE}}}{name}")
    if found is None:
        raise ValueError(f"it has no {name}")
    return found


def _add(parent: ElementTree.Element, **texts: str) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = text


def _cap_time(utc: str) -> str:
    """With an offset and without a fraction, as CAP wants it; UTC is -00:00 there."""
    moment = datetime.fromisoformat(utc.replace("Z", "+00:00")).astimezone(timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S-00:00")


def _polygons(geometry: Mapping[str, Any] | None) -> Iterator[Any]:
    """Outer rings of a GeoJSON polygon or several."""
    if geometry and geometry["type"] == "Polygon":
        yield geometry["coordinates"][0]
    elif geometry and geometry["type"] == "MultiPolygon":
        yield from (polygon[0] for polygon in geometry["coordinates"])
