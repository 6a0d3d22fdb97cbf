"""Prometheus metrics of the daemon: seconds and bytes, and no label that grows with the scenes.

Written as a text file for the node exporter's textfile collector, aside and then renamed; a loopback port on request.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
    write_to_textfile,
)

from runtime.daemon.item import shown
from runtime.daemon.ledger import Status
from runtime.daemon.metrics_port import MetricsPort
from runtime.latency import LatencyRecord
from sarwater import __version__

log = logging.getLogger("sarwater.watch")

STAGES = ("settle", "queue", "read", "h2d", "infer", "d2h", "post", "write", "publish")
PAUSES = ("space", "outgoing", "ledger")
OUTCOMES = ("published", "duplicate", "quarantined", "ignored")
_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900)


class Metrics:
    """Counters since the daemon started; gauges of now."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # half as many series, and nobody asks when
        self.registry = CollectorRegistry()
        counter, gauge = self._counter, self._gauge
        self._scenes = counter("scenes", "Scenes that ended, by outcome", "outcome")
        self._retries = counter("scene_retries", "Attempts that failed and are tried again, by reason", "reason")
        self._quarantined = counter("quarantined", "Scenes put in quarantine, by reason", "reason")
        self._input_bytes = counter("input_bytes", "Bytes of the published scenes' inputs")
        self._pixels = counter("pixels", "Pixels of the published scenes")
        self._tiles = counter("tiles", "Tiles inferred")
        self._overflows = counter("watch_overflows", "Times the kernel dropped inbox events, each followed by a scan")
        self._gpu_errors = counter("gpu_errors", "Errors of the GPU that ended a worker, by kind", "kind")
        self._rollbacks = counter("model_rollbacks", "Times a new model was given up for the one before it")
        self._stages = self._histogram("scene_stage_duration_seconds", "Time of one scene in one stage", "stage")
        self._latency = self._histogram("scene_latency_seconds", "From a complete input to a visible mask")
        self._queue = gauge("queue_scenes", "Scenes that wait or are worked on, and those in quarantine", "state")
        self._oldest = gauge("oldest_pending_age_seconds", "Age of the oldest scene that is not finished, 0 for none")
        self._disk_free = gauge("disk_free_bytes", "Free space of the file system that holds the folder", "path")
        self._published = gauge(
            "last_publish_timestamp_seconds", "When the last mask became visible, 0 before the first"
        )
        self._progress = gauge("last_progress_timestamp_seconds", "When the daemon last did, or looked for, work")
        self._paused = gauge("paused", "1 while nothing is claimed, by reason", "reason")
        self._told = counter(
            "told", "Attempts to tell others, by channel and whether that worked", "channel", "outcome"
        )
        self._outbox = gauge("outbox_messages", "Messages that others are still to be told, by channel", "channel")
        self._build = gauge("build_info", "Always 1", "version", "engine", "backend")
        self.paused("")
        for outcome in OUTCOMES:
            self._scenes.labels(outcome)
        for stage in STAGES:
            self._stages.labels(stage)

    def ended(self, record: LatencyRecord) -> None:
        """A scene reached its outcome."""
        self._scenes.labels(record.outcome).inc()
        for stage in STAGES:
            if (seconds := getattr(record, f"{stage}_s")) is not None:
                self._stages.labels(stage).observe(max(seconds, 0.0))
        if record.outcome == "published":
            self._published.set_to_current_time()
            self._input_bytes.inc(record.input_bytes or 0)
            self._pixels.inc((record.width_px or 0) * (record.height_px or 0))
            self._tiles.inc(record.tiles or 0)
            if record.total_s is not None:
                self._latency.observe(max(record.total_s, 0.0))

    def retried(self, reason: str) -> None:
        self._retries.labels(reason).inc()

    def quarantined(self, reason: str) -> None:
        self._quarantined.labels(reason).inc()

    def overflowed(self) -> None:
        self._overflows.inc()

    def gpu_error(self, kind: str) -> None:
        self._gpu_errors.labels(kind).inc()

    def rolled_back(self) -> None:
        self._rollbacks.inc()

    def opened(self, engine: str, backend: str) -> None:
        """The worker opened a model; the label set of the last one goes."""
        self._build.clear()
        self._build.labels(__version__, engine, backend).set(1)

    def queue(self, counts: Mapping[Status, int], oldest_utc: str | None) -> None:
        for status, count in counts.items():
            self._queue.labels(status.value).set(count)
        age_s = time.time() - datetime.fromisoformat(oldest_utc).timestamp() if oldest_utc else 0.0
        self._oldest.set(max(age_s, 0.0))  # the wall clock may have been set back

    def disk(self, *folders: Path) -> None:
        for folder in folders:
            with suppress(OSError):
                status = os.statvfs(folder)
                self._disk_free.labels(shown(str(folder))).set(status.f_bavail * status.f_frsize)

    def paused(self, reason: str) -> None:
        """One of PAUSES: no room, an outgoing folder that takes no files, a ledger that another process holds. Empty
        where it works."""
        for known in PAUSES:
            self._paused.labels(known).set(known == reason)

    def told(self, channel: str, outcome: str) -> None:
        """`delivered` or `failed`."""
        self._told.labels(channel, outcome).inc()

    def outbox(self, counts: Mapping[str, int]) -> None:
        self._outbox.clear()
        for channel, count in counts.items():
            self._outbox.labels(channel).set(count)

    def progressed(self) -> None:
        self._progress.set_to_current_time()

    def write(self, path: Path) -> None:
        """Best effort: a full disk loses a sample, never a scene."""
        try:
            write_to_textfile(str(path), self.registry)
        except OSError as error:
            log.warning("%s: metrics not written (%s)", path, error.strerror)

    def text(self) -> str:
        """In the text exposition format."""
        return generate_latest(self.registry).decode()

    def serve(self, port: int) -> None:
        """Answer scrapes on the loopback. Best effort: a port in use costs the port, never the station."""
        try:
            MetricsPort(port, self.text).start("metrics")
        except (OSError, RuntimeError) as error:  # RuntimeError: no more threads
            log.error("127.0.0.1:%d: no metrics there (%s); they are in the file all the same", port, error)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"sarwater_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"sarwater_{name}", text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"sarwater_{name}", text, labels, registry=self.registry, buckets=_BUCKETS_S)
