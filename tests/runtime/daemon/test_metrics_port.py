"""The port for scrapes: whoever connects, and however, costs a bounded number of threads, and later scrapes work."""

from __future__ import annotations

import contextlib
import socket
import threading
import urllib.request
from collections.abc import Iterator

import pytest

from runtime.daemon.metrics import Metrics
from runtime.daemon.metrics_port import MetricsPort
from tests.torture.station import until


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(MetricsPort, "connection_s", 0.5)
    with MetricsPort(0, Metrics().text) as server:
        server.start("metrics")
        yield server.server_address[1]
        server.shutdown()


def scrape(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return str(answer.read(), "utf-8")


def scrapes_again(port: int) -> bool:
    with contextlib.suppress(OSError):
        return "sarwater_scenes_total" in scrape(port)
    return False


def test_a_scrape_gets_every_metric(port: int) -> None:
    text = scrape(port)
    assert 'sarwater_scenes_total{outcome="published"} 0.0' in text
    assert "sarwater_scene_latency_seconds_bucket" in text


@pytest.mark.parametrize("said", [b"", b"GET /metr", b"GET / HTTP/1.1\r\nX: ", b"\x00\xff" * 50_000])
def test_silent_and_half_requests_cost_few_threads_and_end(port: int, said: bytes) -> None:
    before = threading.active_count()
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            with contextlib.suppress(OSError):
                client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=1))
                client.sendall(said)
        assert threading.active_count() <= before + MetricsPort.connections
        until(lambda: scrapes_again(port), 20, poll_s=0.2)  # while all of them are still open
    until(lambda: threading.active_count() <= before, 20)


def test_a_client_that_trickles_is_ended(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=0.1) as client:

        def is_ended() -> bool:
            try:
                client.sendall(b"G")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except OSError:
                return True

        until(is_ended, 20)


def test_a_port_in_use_costs_the_port_alone(port: int, caplog: pytest.LogCaptureFixture) -> None:
    Metrics().serve(port)
    assert f"127.0.0.1:{port}: no metrics there" in caplog.text
