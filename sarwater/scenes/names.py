"""What names and tags of products tell: the time of acquisition and the polarisation."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone

_DATE = r"(?<!\d)(?P<year>\d{4})(?P<d>[-/.:]?)(?P<month>\d{2})(?P=d)(?P<day>\d{2})"
_SNAP_DATE = r"(?<!\d)(?P<snap_day>\d{1,2})-(?P<name>[A-Za-z]{3})-(?P<snap_year>\d{4})"
_DAY_OF_YEAR = r"(?<!\d)(?P<of_year>\d{4})(?:[-/.:](?P<day_of_year>\d{3})(?=[T :])|(?P<joined_day>\d{3})(?=T))"
_CLOCK = (
    r"(?:[T_ :-]?(?P<hour>\d{2})(?P<t>[-:.]?)(?P<minute>\d{2})(?P=t)(?P<second>\d{2})"
    r"|(?:T| (?=\d\d:))(?P<short_hour>\d{2}):?(?P<short_minute>\d{2})(?![\d:]))"
)
_REST = r"(?:[.,]\d+)?(?!\d)\s?(?P<zone>[+-](?:0\d|1[0-4]):?(?:00|15|30|45)(?!\d)|(?:KST|JST)\b)?"
_TIME = re.compile(f"(?:{_DATE}|{_SNAP_DATE}|{_DAY_OF_YEAR}){_CLOCK}{_REST}", re.IGNORECASE)
"""20240716T093112, 2024-07-16-09-31-12, 20240716_093112, 2024-07-16T18:31:12.5+09:00, 16-JUL-2024 09:31:12.5,
2024-198T09:31:12 (day of the year), 2024-07-16T09:31Z."""
_DAY_ALONE = re.compile(r"(?<!\d)(?P<year>\d{4})(?P<d>[-/._]?)(?P<month>\d{2})(?P=d)(?P<day>\d{2})(?!\d)")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_FIRST = datetime(1978, 6, 27, tzinfo=timezone.utc)
"""Launch of Seasat, the first civil SAR in orbit."""

_NOT_SENSING = re.compile(
    r"tifftag_datetime|proc|creat|generat|updat|modif|publish|produc(?!t_?(?:scene|start|first|sens|acq))|deliver|downlink|archiv|order|orbit|state_?vector|"
    r"reference|calibrat|valid|version|end|stop|last|history|lineage|provenance|software",
    re.IGNORECASE,
)
"""Tags whose times are not when the scene was sensed, or when that ended."""
_START = re.compile(r"start|begin|first_?line|sensing", re.IGNORECASE)
_SENSING = re.compile(r"acqui|collect|observ|sens|scene|image_?(date|time)|datetime|idatim", re.IGNORECASE)

_LONGEST_JSON = 4 << 20
_QUALIFIED = (("image", "scale_factor"), ("amplitude_mapping", "function"))
"""Names in JSON that mean something below this parent only."""
_SENT = re.compile(r"^(?:transmit|transmitted|tx|sent)(?:polari[sz]ation)?$|^transmitterpolari[sz]ation$")
_RECEIVED = re.compile(r"^(?:receive|received|rcv|rx)(?:polari[sz]ation)?$|^receiverpolari[sz]ation$")
_POLARISATION = re.compile(r"(?<![A-Za-z])([HV])[:/]?([HV])(?![A-Za-z])", re.IGNORECASE)
_SENTINEL1_SINGLE = re.compile(r"(?<![A-Za-z0-9])[012]SS([HV])(?![A-Za-z])")


def time_in(text: str) -> str | None:
    """The first UTC time in a text, as ISO 8601, in whole seconds. Dates that no calendar has, and those before there
    was a SAR in orbit or after today, are passed over."""
    return next(_times_in(text), None)


def day_in(text: str) -> date | None:
    """The UTC day of the first time in a text; else the first date without a clock, as in `S1_20240716_VV` or
    `2024/07/16/`."""
    if when := time_in(text):
        return date.fromisoformat(when[:10])
    for found in _DAY_ALONE.finditer(text):
        with contextlib.suppress(ValueError):
            day = date(int(found["year"]), int(found["month"]), int(found["day"]))
            if _FIRST.date() <= day <= datetime.now(timezone.utc).date() + timedelta(days=1):
                return day
    return None


def sensing_start(name: str, tags: Mapping[str, str]) -> str | None:
    """When the scene was sensed, as ISO 8601: what a tag states as the start, else what the product's name says, else
    what another tag says of the acquisition, else a time in a text of no known meaning."""
    told = [(key, value) for key, value in statements(tags) if not _NOT_SENSING.search(key)]
    starts = [value for key, value in told if _START.search(key)]
    sensed = [value for key, value in told if _SENSING.search(key)]
    for text in (*starts, name, *sensed, *(value for _, value in told)):
        if found := time_in(text):
            return found
    return None


def polarisation_in(text: str) -> str | None:
    """`hh`, `hv`, `vh` or `vv` where the text names one and no other."""
    found = {"".join(pair).lower() for pair in _POLARISATION.findall(text.replace("_", " "))}
    if not found:
        found = {2 * one.lower() for one in _SENTINEL1_SINGLE.findall(text.replace("_", " "))}
    return found.pop() if len(found) == 1 else None


def polarisation_stated(tags: Mapping[str, str]) -> str | None:
    """What the tags about polarisation say: `POLARIZATION`, `sar:polarizations`, or what was sent and received."""
    sent, received = "", ""
    for key, value in statements(tags):
        word = plain(key)
        if _SENT.fullmatch(word):
            sent = value.strip()[:1]
        elif _RECEIVED.fullmatch(word):
            received = value.strip()[:1]
        elif "polar" in word and (found := polarisation_in(value)):
            return found
    return polarisation_in(sent + received)


def statements(tags: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Tags, and what is said in those that hold JSON, as (name, value). Names are without namespace (`iceye:`); a list
    of texts is one value; lists of anything else say nothing of the whole."""
    for key, value in tags.items():
        if value[:1] == "{" and len(value) <= _LONGEST_JSON:
            try:
                yield from _leaves(json.loads(value.replace("&quot;", '"')))  # ICEYE escapes it twice
            except (ValueError, RecursionError):
                continue
        else:
            yield key, value


def plain(key: str) -> str:
    """`Calibration_Factor` -> `calibrationfactor`."""
    return re.sub(r"[^a-z0-9]", "", key.lower())


def _leaves(item: object, parent: str = "") -> Iterator[tuple[str, str]]:
    if not isinstance(item, dict):
        return
    for key, value in item.items():
        name = str(key).rsplit(":", 1)[-1]
        if isinstance(value, dict):
            yield from _leaves(value, name)
        elif isinstance(value, list):
            if value and all(isinstance(part, str) for part in value):
                yield name, ", ".join(value)
        else:
            yield (f"{parent}.{name}" if (parent, name) in _QUALIFIED else name), str(value)


def _times_in(text: str) -> Iterator[str]:
    start = 0
    while found := _TIME.search(text, start):
        when = _utc(found)
        if when is not None:
            yield when.isoformat().replace("+00:00", "Z")
        start = found.end() if when is not None else found.start() + 1


def _utc(found: re.Match[str]) -> datetime | None:
    part = found.groupdict()
    hour, minute, second = (part["hour"], part["minute"], part["second"])
    if hour is None:
        hour, minute, second = part["short_hour"], part["short_minute"], "0"
    try:
        zone = _zone(part["zone"], part["t"] if part["hour"] else ":")
        day = _day(part)
        when = datetime(day.year, day.month, day.day, int(hour), int(minute), int(second), tzinfo=zone)
        when = when.astimezone(timezone.utc)
    except (ValueError, OverflowError):
        return None
    return when if _FIRST <= when <= datetime.now(timezone.utc) + timedelta(days=1) else None


def _day(part: Mapping[str, str | None]) -> date:
    """Raises ValueError for one that no calendar has."""
    if year := part["of_year"]:
        number = int(part["day_of_year"] or part["joined_day"] or 0)
        day = date(int(year), 1, 1) + timedelta(days=number - 1)
        if number < 1 or day.year != int(year):
            raise ValueError(f"day {number} of {year}")
        return day
    name = (part["name"] or "").lower()
    month = part["month"] or (_MONTHS.index(name) + 1 if name in _MONTHS else 0)
    return date(int(part["year"] or part["snap_year"] or 0), int(month), int(part["day"] or part["snap_day"] or 0))


def _zone(text: str | None, separator: str) -> timezone:
    """UTC where none is stated; what follows a dash in a name without colons is no zone."""
    if not text or (text[0] == "-" and separator != ":"):
        return timezone.utc
    if text[0].isalpha():
        return timezone(timedelta(hours=9))  # of Korea and Japan, which their products spell so
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)
