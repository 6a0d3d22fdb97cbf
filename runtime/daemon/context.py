"""What the parts of the daemon share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from runtime.daemon.config import Config
from runtime.daemon.folders import Folders
from runtime.daemon.latency_log import LatencyLog
from runtime.daemon.ledger import Ledger
from runtime.daemon.lock import Lock
from runtime.daemon.metrics import Metrics
from runtime.daemon.room import Room


@dataclass
class Context:
    """One daemon's settings, and what serves them. A reload replaces `config`; the rest stays."""

    config: Config
    folders: Folders
    ledger: Ledger
    room: Room
    metrics: Metrics
    lock: Lock
    worker_command: Sequence[str]
    returns: Counter[int] = field(default_factory=Counter)
    """How many times in a row a scene went back to the inbox because it changed while it was worked on, by job."""

    @property
    def latency_log(self) -> LatencyLog:
        config = self.config
        return LatencyLog(config.latency_path, config.latency_log_bytes, config.latency_log_keep)

    @property
    def remove_done(self) -> bool:
        return self.config.after == "remove"
