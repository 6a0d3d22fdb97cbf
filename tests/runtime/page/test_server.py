"""The status page over real sockets: what it shows, who may change something, and what harms nothing."""

from __future__ import annotations

import http.client
import json
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from runtime.daemon.status import StationView
from runtime.page import content as page_content
from runtime.page import markup
from runtime.page.content import Content
from runtime.page.server import PageServer, serve_page
from tests.torture.station import Station, until

TOKEN = "0123456789abcdef"
HOSTILE = "<img src=x onerror=alert(1)>\"'&\n\x1b[2J.tif"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Station:
    """One scene published with all that the page shows (job 1), one of a hostile name in quarantine (job 2)."""
    station = Station(tmp_path_factory.mktemp("page"), products="mask,quicklook,stac")
    station.drop("a.tif", 1)
    assert station.drain().returncode == 0
    with Ledger(station.state / FILE_NAME) as ledger:
        job = ledger.seen(HOSTILE, Status.SEEN, 0, Fingerprint(1, 2, 3), "scan")
        ledger.claimed(job)
        ledger.quarantined(job, "scene_unreadable", "</p><script>alert(2)</script>")
    kept = station.state / f"quarantine/{job:08d}"
    kept.mkdir(parents=True)
    (kept / HOSTILE).write_bytes(b"not a raster")
    (station.root / "token").write_text(TOKEN + "\n")
    return station


@pytest.fixture
def station(past: Station, tmp_path: Path) -> Station:
    return past.copied_to(tmp_path)


def page_of(station: Station, token: bool) -> PageServer:
    content = Content(station.state, station.outgoing, station.root / "token" if token else None)
    server = PageServer(0, content)
    server.start("page")
    return server


@pytest.fixture
def port(station: Station) -> Iterator[int]:
    with page_of(station, token=True) as server:
        yield server.server_address[1]
        server.shutdown()


def ask(
    port: int, path: str, method: str = "GET", body: bytes = b"", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body or None, given)
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def decide(port: int, what: str, token: str = TOKEN, job: int = 2, **headers: str) -> int:
    kind = {"Content_Type": "application/x-www-form-urlencoded", **headers}
    return ask(port, f"/scene/{job}/{what}", "POST", urlencode({"token": token}).encode(), **kind)[0]


class _Parts(HTMLParser):
    """Every element with its attributes, as a browser would see them."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_first_page_shows_state_footprints_pictures_quarantine_and_results(port: int) -> None:
    status, _, body = ask(port, "/")
    page = body.decode()
    assert status == 200
    assert 'The daemon is <span class="bad">down</span>' in page
    parts = _Parts(body).found
    assert sum(tag == "polygon" for tag, _ in parts) == 1
    assert ("img", {"src": "/scene/1/thumbnail", "alt": "", "loading": "lazy"}) in parts
    for said in ("Quarantine: 1", "scene_unreadable", "1 published", "a.tif"):
        assert said in page


def test_the_first_page_says_that_a_model_is_new_and_which_was_given_up(past: Station) -> None:
    model = {
        "name": "hrnet-w18-small",
        "precision": "fp16",
        "sha256": "ab" * 32,
        "device": "Orin",
        "activated_utc": "2026-11-30T12:00:00Z",
        "first_scenes_left": 2,
        "rolled_back": "<b>.engine at noon",
    }
    page = markup.overview({**StationView(past.state).status(), "model": model}, "", "")
    assert "<dt>new</dt><dd>activated 2026-11-30 12:00:00 UTC, 2 of its first scenes to come</dd>" in page
    assert "<dt>rolled back</dt><dd>&lt;b&gt;.engine at noon</dd>" in page


def test_the_page_of_a_scene_has_its_latency_as_a_waterfall_and_its_products(port: int) -> None:
    status, _, body = ask(port, "/scene/1")
    page = body.decode()
    assert status == 200
    assert "Where the time went" in page
    bars = [attributes for tag, attributes in _Parts(body).found if tag == "rect"]
    assert len(bars) > 4
    ends = [float(bar["x"] or 0) + float(bar["width"] or 0) for bar in bars]
    assert ends == sorted(ends)
    for name in ("a_water.tif", "a_quicklook.png", "a_water.json"):
        assert f'href="/scene/1/product/{name}"' in page


def test_a_product_is_served_whole_and_nothing_else_is(port: int, station: Station) -> None:
    status, headers, body = ask(port, "/scene/1/product/a_water.tif")
    assert (status, body) == (200, (station.outgoing / "a_water.tif").read_bytes())
    assert headers["Content-Disposition"].startswith("attachment")
    assert ask(port, "/scene/1/product/a_water.tif", "HEAD")[2] == b""
    (station.outgoing / "secret.txt").write_text("x")
    for name in ("secret.txt", "..%2f..%2fstate%2fledger.sqlite", "%2e%2e", "a_water.tif/x", "%00", ""):
        assert ask(port, f"/scene/1/product/{name}")[0] == 404
    (station.outgoing / "a_water.tif").unlink()
    (station.outgoing / "a_water.tif").symlink_to(station.state / FILE_NAME)
    assert ask(port, "/scene/1/product/a_water.tif")[0] == 404


def test_a_thumbnail_is_small_and_a_broken_picture_is_none(port: int, station: Station) -> None:
    status, headers, body = ask(port, "/scene/1/thumbnail")
    assert (status, headers["Content-Type"], body[:4]) == (200, "image/png", b"\x89PNG")
    (station.outgoing / "a_quicklook.png").write_bytes(b"\x89PNG nonsense")
    assert ask(port, "/scene/1/thumbnail")[0] == 404


def test_the_same_is_there_as_json(port: int) -> None:
    status, headers, body = ask(port, "/status.json")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["quarantine"]["count"] == 1


@pytest.mark.parametrize("path", ["/", "/scene/2", "/status.json"])
def test_hostile_names_stay_text(path: str, port: int) -> None:
    _, _, body = ask(port, path)
    assert b"\x1b" not in body
    if path != "/status.json":
        assert b"&lt;img src=x onerror=" in body
        assert not any("onerror" in attributes for _, attributes in _Parts(body).found)
        assert [a.get("src") for tag, a in _Parts(body).found if tag == "script"] == ["/page.js"]


@pytest.mark.parametrize("path", ["/", "/style.css", "/page.js", "/nowhere", "/scene/1/thumbnail"])
def test_every_answer_forbids_what_comes_from_elsewhere(path: str, port: int) -> None:
    _, headers, body = ask(port, path)
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; ")
    assert (headers["X-Content-Type-Options"], headers["X-Frame-Options"]) == ("nosniff", "DENY")
    assert "Set-Cookie" not in headers
    assert "Access-Control-Allow-Origin" not in headers
    assert not re.search(rb"(?:https?:)?//[a-z]", body) or path.endswith("thumbnail")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", "a@b:x"])
def test_another_host_is_refused_so_that_no_other_site_reads_it(host: str, port: int) -> None:
    assert ask(port, "/", Host=host)[0] == 403
    assert decide(port, "drop", Host=host) == 403


@pytest.mark.parametrize("host", ["localhost", "localhost:9999", "[::1]:80", "127.0.0.1"])
def test_a_tunnel_to_it_works(host: str, port: int) -> None:
    assert ask(port, "/", Host=host)[0] == 200


def test_a_scene_is_requeued_with_the_token_alone(port: int, station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_content, "_WRONG_S", 0.0)
    for wrong in ("", "x", TOKEN[:-1], "0" * 5000):
        assert decide(port, "requeue", wrong) == 403
    assert station.rows(Status.QUARANTINED) != []
    assert decide(port, "requeue") == 303
    assert (station.incoming / HOSTILE).read_bytes() == b"not a raster"
    assert station.rows(Status.QUARANTINED) == []
    assert decide(port, "requeue") == 409  # it waits by now
    assert decide(port, "drop", job=99) == 404


def test_a_scene_is_dropped_with_the_token(port: int, station: Station) -> None:
    assert decide(port, "drop", job=1) == 409
    assert decide(port, "drop") == 303
    assert not (station.state / "quarantine/00000002").exists()


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Content_Type": "text/plain"},
        {"Content_Type": "multipart/form-data; boundary=x"},
    ],
)
def test_a_form_of_another_site_changes_nothing(headers: dict[str, str], port: int, station: Station) -> None:
    assert decide(port, "drop", **headers) == 403
    assert station.rows(Status.QUARANTINED) != []


def test_nothing_changes_by_looking(port: int, station: Station) -> None:
    for method in ("GET", "HEAD"):
        assert ask(port, "/scene/2/drop", method)[0] == 404
    assert station.rows(Status.QUARANTINED) != []


def test_without_a_token_file_it_is_read_only(station: Station) -> None:
    with page_of(station, token=False) as server:
        port = server.server_address[1]
        assert b"<form" not in ask(port, "/scene/2")[2]
        assert decide(port, "drop") == 403
        server.shutdown()


def test_a_token_that_is_short_or_gone_opens_nothing(port: int, station: Station) -> None:
    (station.root / "token").write_text("short\n")
    assert decide(port, "drop", "short") == 403
    (station.root / "token").unlink()
    assert decide(port, "drop", "") == 403


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
        b"BREW / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        b"POST /scene/2/drop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /scene/2/drop HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET //evil.example/%0d%0aX:y HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /scene/999999999999999999999 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    ],
)
def test_strange_requests_are_refused_and_the_next_one_is_answered(said: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(said)
        client.shutdown(socket.SHUT_WR)
        answer = client.makefile("rb").read()
    assert b" 200 " not in answer.split(b"\r\n", 1)[0]
    assert ask(port, "/status.json")[0] == 200


def test_an_address_in_use_costs_the_page_alone(
    port: int, station: Station, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = Content(station.state, station.outgoing, None)
    assert serve_page(port, content) is None
    (tmp_path / "file").write_text("mine")
    assert serve_page(tmp_path / "file", content) is None
    assert (tmp_path / "file").read_text() == "mine"
    assert caplog.text.count("no status page there") == 2


def over_socket(path: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(60)
        client.connect(str(path))
        client.sendall(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return client.makefile("rb").read()


def test_the_daemon_serves_it_on_a_socket_for_its_group_which_goes_with_it(tmp_path: Path) -> None:
    path = tmp_path / "page.sock"
    with socket.socket(socket.AF_UNIX) as left:  # by a daemon that was killed
        left.bind(str(path))
    station = Station(tmp_path, page=str(path))
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        until(lambda: path.stat().st_mode & 0o777 == 0o660)
        until(lambda: b'"state": "idle"' in over_socket(path))
        before = threading.active_count()
        station.drop("a.tif", 1)
        until(lambda: b'"published": 1' in over_socket(path))
        assert daemon.terminate() == 0
    assert not path.exists()
    assert threading.active_count() == before


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: chromium)")
def test_in_a_real_browser_the_page_renews_itself_and_no_name_runs(port: int, station: Station, tmp_path: Path) -> None:
    command: list[Any] = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"),
        *("--window-size=360,900", "--virtual-time-budget=20000", "--dump-dom", f"http://127.0.0.1:{port}/"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as browser:
        shown, _ = browser.communicate(timeout=250)
    assert 'id="live"' in shown
    assert "&lt;script&gt;alert(2)" in shown
    assert re.findall(r"<script[^>]*>", shown) == ['<script src="/page.js" defer="">']
