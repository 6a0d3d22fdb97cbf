"""Drafts of public alerts: whole by the rules of CAP 1.2, and nobody's alert before a person has said so."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pydantic import ValidationError

from runtime.telling.cap import LEVELS, NAMESPACE, draft, read
from runtime.telling.channel import Channel
from runtime.telling.send import send
from tests.conftest import CHECKOUT
from tests.support.receivers import web_server

DOCUMENT: dict[str, Any] = {
    "id": "0f6b7c0e-0000-4000-8000-000000000001",
    "geometry": {"type": "Polygon", "coordinates": [[[127.0, 36.0], [127.1, 36.0], [127.1, 36.1], [127.0, 36.0]]]},
    "properties": {
        "pubtime": "2026-11-30T16:30:02.123Z",
        "datetime": "2026-11-30T16:00:00Z",
        "sarwater:scene": "한강 <&> \"x\".tif",
        "sarwater:water_km2": 12.345,
    },
    "links": [
        {"rel": "canonical", "href": "https://masks.example/a_water.tif", "type": "image/tiff", "length": 12},
    ],
}  # fmt: skip
ORDER = {
    "alert": "identifier sender sent status msgType source scope restriction addresses code note references incidents "
    "info",
    "info": "language category event responseType urgency severity certainty audience eventCode effective onset "
    "expires senderName headline description instruction web contact parameter resource area",
    "resource": "resourceDesc mimeType size uri derefUri digest",
    "area": "areaDesc polygon circle geocode altitude ceiling",
}
"""Of the elements within another, from the standard's data dictionary (section 3.2)."""
NEEDED = {
    "alert": "identifier sender sent status msgType scope",
    "info": "category event urgency severity certainty",
    "resource": "resourceDesc mimeType",
    "area": "areaDesc",
}
VALUES = {
    "status": "Actual Exercise System Test Draft",
    "msgType": "Alert Update Cancel Ack Error",
    "scope": "Public Restricted Private",
    "category": "Geo Met Safety Security Rescue Fire Health Env Transport Infra CBRNE Other",
    **{name: " ".join((*choices, "Unknown")) for name, choices in LEVELS.items()},
}
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d"
POINT = r"-?\d+(\.\d+)?,-?\d+(\.\d+)?"
COMMAND = [sys.executable, "-m", "sarwater", "alert"]
JUDGED = ["--sender", "ops@station.example", "--event", "Flood", "--urgency", "Expected", "--severity", "Moderate",
          "--certainty", "Observed"]  # fmt: skip


def check(element: ElementTree.Element) -> None:
    """By the rules of the standard, for this element and all within it."""
    namespace, _, name = element.tag.removeprefix("{").partition("}")
    assert namespace == NAMESPACE
    if name in ORDER:
        names = [child.tag.partition("}")[2] for child in element]
        order = ORDER[name].split()
        assert [order.index(child) for child in names] == sorted(order.index(child) for child in names)
        assert set(NEEDED[name].split()) <= set(names)
    else:
        assert element.text
    if name in VALUES:
        assert element.text in VALUES[name].split()
    if name in ("sent", "expires"):
        assert re.fullmatch(TIME, element.text or "")
    if name in ("identifier", "sender"):
        assert not re.search(r"[\s,<&]", element.text or "")
    if name == "polygon":
        points = (element.text or "").split()
        assert len(points) >= 4
        assert points[0] == points[-1]
        assert all(re.fullmatch(POINT, point) for point in points)
    for child in element:
        check(child)


def text(alert: bytes, name: str) -> str | None:
    return ElementTree.fromstring(alert).findtext(f".//{{{NAMESPACE}}}{name}")


def answering(words: list[str], answer: str) -> tuple[int, str]:
    """Run a command on a terminal where somebody types `answer`: (exit code, what it printed)."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=CHECKOUT
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    printed, _ = process.communicate(timeout=120)
    os.close(ours)
    return process.returncode, printed


@pytest.mark.parametrize("without", [(), ("geometry",), ("datetime", "sarwater:water_km2", "sarwater:scene")])
def test_a_draft_follows_the_standard_whatever_is_known(without: tuple[str, ...]) -> None:
    document = {name: value for name, value in DOCUMENT.items() if name not in without}
    document["properties"] = {name: value for name, value in DOCUMENT["properties"].items() if name not in without}
    made = draft(document, "ops@station.example")
    check(ElementTree.fromstring(made))
    assert text(made, "status") == "Draft"
    assert {text(made, name) for name in LEVELS} == {"Unknown"}


def test_a_channel_is_told_drafts() -> None:
    with web_server() as server:
        send(Channel(name="cap", to=server.url, events=("published",), format="cap"), "published", DOCUMENT)
        (post,) = server.posts
    assert post.headers["Content-Type"] == "application/cap+xml"
    assert read(post.body)["identifier"] == DOCUMENT["id"]


def test_drafts_are_of_masks_alone() -> None:
    with pytest.raises(ValidationError, match=re.escape('expected events = ["published"]')):
        Channel(name="cap", to="https://host/", format="cap")


def test_a_person_who_says_yes_makes_an_alert_of_it(tmp_path: Path) -> None:
    (tmp_path / "draft.xml").write_bytes(draft(DOCUMENT, "sarwater@localhost"))
    words = [str(tmp_path / "draft.xml"), "-o", str(tmp_path / "alert.xml"), *JUDGED]
    code, printed = answering(words, "no")
    assert code == 1
    assert "12.35 km2 of water" in printed
    assert not (tmp_path / "alert.xml").exists()

    code, printed = answering(words, "yes")
    assert code == 0, printed
    alert = (tmp_path / "alert.xml").read_bytes()
    check(ElementTree.fromstring(alert))
    found = {name: text(alert, name) for name in ("status", "event", "severity", "sender", "note")}
    assert found == {
        "status": "Actual", "event": "Flood", "severity": "Moderate", "sender": "ops@station.example", "note": None
    }  # fmt: skip
    code, printed = answering([str(tmp_path / "alert.xml"), "-o", str(tmp_path / "twice.xml"), *JUDGED], "yes")
    assert code == 2
    assert "Draft expected" in printed


def test_a_script_confirms_nothing(tmp_path: Path) -> None:
    (tmp_path / "draft.xml").write_bytes(draft(DOCUMENT, "sarwater@localhost"))
    words = [*COMMAND, str(tmp_path / "draft.xml"), "-o", str(tmp_path / "alert.xml"), *JUDGED]
    done = subprocess.run(words, input="yes\n", capture_output=True, text=True, cwd=CHECKOUT, timeout=120)
    assert done.returncode == 2
    assert not (tmp_path / "alert.xml").exists()


@pytest.mark.parametrize("hostile", [b"", b"<alert/>", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", b"\xff\xfe"])
def test_what_is_no_draft_is_refused(hostile: bytes) -> None:
    with pytest.raises(ValueError, match=r"found|no XML|expected"):
        read(hostile)
