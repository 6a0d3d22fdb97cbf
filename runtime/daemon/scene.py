"""A claimed scene: the one record of it from the claim to the last entry in the ledger, in both processes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.item import shown
from runtime.latency import LatencyRecord, Moment


@dataclass(frozen=True)
class ClaimedScene:
    """What changes while it waits is the dispatcher's to know; what came of it, the ledger's."""

    job: int
    name: str
    """What it was called in the inbox."""
    path: Path
    """The file or folder, where it is now."""
    priority: int
    fingerprint: Fingerprint
    """When it was claimed."""
    found_by: str
    """`event` or `scan`."""
    moments: dict[str, Moment] = field(default_factory=dict)
    sha256: str | None = None
    """What the checksum that came with it says."""
    sidecars: tuple[str, ...] = ()
    """Files that lay beside it in the inbox, and stay there, and would say where it lies."""
    attempt: int = 0
    """As the ledger counts them; 0 where this daemon has not begun one."""

    @property
    def order(self) -> tuple[int, int]:
        """Priority first, then the sequence of arrival; never a timestamp."""
        return (-self.priority, self.job)

    def record(self) -> LatencyRecord:
        """What is known of it so far."""
        record = LatencyRecord(
            job=str(self.job),
            input=shown(self.name),
            input_bytes=self.fingerprint.size_bytes,
            found=self.found_by,
            attempts=self.attempt,
        )
        record.add_moments(self.moments)
        return record

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for the worker."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> ClaimedScene:
        moments = {name: Moment(**moment) for name, moment in document["moments"].items()}
        fingerprint = Fingerprint(**document["fingerprint"])
        path = Path(document["path"])
        sidecars = tuple(document["sidecars"])
        return cls(**{**document, "sidecars": sidecars, "path": path, "fingerprint": fingerprint, "moments": moments})
