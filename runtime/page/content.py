"""What the status page shows: read anew from ledger, health file, latency log and products, and changed by nobody here
but through the two decisions that `sarwater queue` has, too."""

from __future__ import annotations

import hmac
import io
import json
import os
import stat
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, BinaryIO

from runtime.daemon.decisions import REQUEUED, drop, folders_of, requeue
from runtime.daemon.item import shown
from runtime.daemon.ledger import FILE_NAME, Ledger, Row, Status
from runtime.daemon.status import StationView, seconds, size
from runtime.latency import LatencyRecord
from runtime.page import markup
from runtime.page.footprints import footprints_svg
from runtime.products.quicklook import Quicklook
from runtime.products.stac import StacItem, read_item

_FRESH_S = 1.0
_SCENES = 200
_PICTURES = 12
_THUMBNAIL_PX = 320
_KEPT = 64
_LEAST_TOKEN = 16
_WRONG_S = 1.0
DECISIONS = {"requeue": requeue, "drop": drop}


class NotThere(Exception):
    """Nothing of that address."""


class Forbidden(Exception):
    """Why."""


class Content:
    """Safe to use from several threads."""

    def __init__(self, state: Path, outgoing: Path, token_file: Path | None) -> None:
        self._state = state
        self._outgoing = outgoing
        self._token_file = token_file
        self._lock = threading.Lock()
        self._wrong = threading.Lock()
        self._view: StationView | None = None
        self._status: dict[str, Any] = {}
        self._status_s = -_FRESH_S
        self._thumbnails: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._geometries: OrderedDict[tuple[str, int], Any] = OrderedDict()

    def status(self) -> dict[str, Any]:
        """At most a second old. Raises what StationView raises."""
        with self._lock:
            if time.monotonic() >= self._status_s + _FRESH_S:
                self._view = self._view or StationView(self._state)
                self._status, self._status_s = self._view.status(), time.monotonic()
            return self._status

    def overview(self) -> str:
        found = self.status()
        since = (datetime.now(timezone.utc) - timedelta(days=1)).isoformat(timespec="milliseconds")
        with self._ledger() as ledger:
            rows = [row for row in ledger.latest(_SCENES, Status.PUBLISHED) if (row.finished_utc or "") >= since]
        places = footprints_svg([(row.id, shown(row.name), self._geometry(row)) for row in rows])
        pictured = [row for row in rows if self._named(row, Quicklook.suffix)][:_PICTURES]
        pictures = "".join(
            f'<a href="/scene/{row.id}"><img src="/scene/{row.id}/thumbnail" alt="" loading="lazy">'
            f"{markup.text(shown(row.name))}</a>"
            for row in pictured
        )
        pictures = f'<h2>Pictures</h2><div class="pictures">{pictures}</div>' if pictures else ""
        return markup.document(f"{found['state']} - sarwater", markup.overview(found, places, pictures))

    def scene(self, job: int) -> str:
        row = self._row(job)
        name = shown(row.name)
        parts = [
            f"<h1>{markup.text(name)}</h1>",
            markup.facts(
                {
                    "job": row.id,
                    "status": row.status.value,
                    "reason": row.reason,
                    "message": shown(row.message or ""),
                    "size": size(row.size_bytes),
                    "attempts": row.attempts,
                    "seen": markup.moment(row.seen_utc),
                    "ended": markup.moment(row.finished_utc),
                    **self._record_facts(row),
                }
            ),
            self._waterfall(row),
            f'<h2>Picture</h2><p><img src="/scene/{job}/thumbnail" alt="Quicklook of {markup.text(name)}"></p>'
            if self._named(row, Quicklook.suffix)
            else "",
            markup.table("Products", ("file", "size"), self._product_rows(row)),
        ]
        decisions = [] if self._token_file is None else _possible(row)
        forms = markup.decision_forms(job, decisions)
        return markup.document(f"{name} - sarwater", "\n".join(filter(None, parts)), forms)

    def product(self, job: int, name: str) -> BinaryIO:
        """Open, for reading. Raises NotThere for what is no product of that scene."""
        if name not in self._products(self._row(job)):
            raise NotThere(name)
        return self._open(name)

    def thumbnail(self, job: int) -> bytes:
        """A small PNG of the quicklook."""
        name = self._named(self._row(job), Quicklook.suffix)
        if name is None:
            raise NotThere("thumbnail")
        with self._open(name) as file, self._lock:
            key = (name, os.fstat(file.fileno()).st_mtime_ns)
            if key not in self._thumbnails:
                self._thumbnails[key] = _small(file)
                while len(self._thumbnails) > _KEPT:
                    self._thumbnails.popitem(last=False)
            return self._thumbnails[key]

    def decide(self, job: int, what: str, token: str) -> None:
        """Raises Forbidden without the right token, UsageError or SarwaterError where the scene is not up to it."""
        if self._token_file is None:
            raise Forbidden("this page is read-only; page_token_file names the file whose content opens it")
        try:
            right = self._token_file.read_bytes().strip()
        except OSError as error:
            raise Forbidden(f"the token file cannot be read ({error.strerror})") from None
        if len(right) < _LEAST_TOKEN:
            raise Forbidden(f"the token file holds fewer than {_LEAST_TOKEN} characters, which counts as none")
        if not hmac.compare_digest(right, token.encode(errors="replace").strip()):
            with self._wrong:  # one guess after the other
                time.sleep(_WRONG_S)
            raise Forbidden("that is not the token")
        with Ledger(self._state / FILE_NAME) as ledger:
            row = ledger.row(job)
            if row is None:
                raise NotThere(str(job))
            DECISIONS[what](ledger, folders_of(ledger, self._state), row)
        with self._lock:
            self._status_s = -_FRESH_S

    def _ledger(self) -> Ledger:
        return Ledger(self._state / FILE_NAME, read_only=True)

    def _row(self, job: int) -> Row:
        with self._ledger() as ledger:
            row = ledger.row(job)
        if row is None:
            raise NotThere(str(job))
        return row

    def _products(self, row: Row) -> list[str]:
        if row.status is not Status.PUBLISHED:
            return []
        names = json.loads(row.products or "[]")
        return [name for name in names if isinstance(name, str) and name and "/" not in name and name[0] != "."]

    def _named(self, row: Row, suffix: str) -> str | None:
        return next((name for name in self._products(row) if name.endswith(suffix)), None)

    def _open(self, name: str) -> BinaryIO:
        try:
            descriptor = os.open(self._outgoing / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise NotThere(name) from error
        file = open(descriptor, "rb")  # noqa: SIM115, the caller's to close
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            file.close()
            raise NotThere(name)
        return file

    def _product_rows(self, row: Row) -> list[tuple[str, str]]:
        from urllib.parse import quote

        found = []
        for name in self._products(row):
            try:
                with self._open(name) as file:
                    length = size(os.fstat(file.fileno()).st_size)
            except NotThere:
                found.append((markup.text(name), "not there any more"))
                continue
            link = f"/scene/{row.id}/product/{quote(name, safe='')}"
            found.append((f'<a href="{markup.text(link)}">{markup.text(name)}</a>', length))
        return found

    def _record(self, row: Row) -> dict[str, Any] | None:
        self.status()
        with self._lock:
            assert self._view is not None
            return self._view.latency.latest(row.id)

    def _record_facts(self, row: Row) -> Mapping[str, object]:
        record = self._record(row) or {}
        total_s, km2 = record.get("total_s"), record.get("water_km2")
        return {
            "took": seconds(total_s) if isinstance(total_s, float | int) else None,
            "water": f"{km2:,.3f} km²" if isinstance(km2, float | int) else None,
            "pixels": f"{record['width_px']} x {record['height_px']}" if record.get("width_px") else None,
            "backend": record.get("backend"),
            "notes": "; ".join(map(str, record.get("notes") or [])),
        }

    def _waterfall(self, row: Row) -> str:
        record = self._record(row)
        try:
            return markup.waterfall(LatencyRecord.from_dict(record).stages_s) if record else ""
        except (TypeError, AttributeError):  # of another version
            return ""

    def _geometry(self, row: Row) -> Any:
        name = self._named(row, StacItem.suffix)
        if name is None:
            return None
        path = self._outgoing / name
        try:
            key = (name, path.stat().st_mtime_ns)
        except OSError:
            return None
        with self._lock:
            if key not in self._geometries:
                self._geometries[key] = read_item(path).get("geometry")
                while len(self._geometries) > 2 * _SCENES:
                    self._geometries.popitem(last=False)
            return self._geometries[key]


def _possible(row: Row) -> list[str]:
    return [
        *(["requeue"] if row.status in REQUEUED else []),
        *(["drop"] if row.status is Status.QUARANTINED else []),
    ]


def _small(file: BinaryIO) -> bytes:
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as picture:
            small = picture.convert("RGB")
        small.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
        held = io.BytesIO()
        small.save(held, "PNG")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NotThere("thumbnail") from error
    return held.getvalue()
