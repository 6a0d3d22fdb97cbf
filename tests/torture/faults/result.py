"""What a fault leaves behind, and the scenes that it is tried on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.station import Audit, Station


@dataclass
class Result:
    """`injected`: attempts; `hit`: those that demonstrably struck a running daemon."""

    injected: int = 0
    hit: int = 0
    audit: Audit = field(default_factory=Audit)
    note: str = ""

    def expect(self, holds: bool, what: str) -> None:
        """A condition besides the guarantee; where it does not hold, the fault counts as not survived."""
        if not holds:
            self.audit.lost.append(what)


def scenes(station: Station, count: int, start: int = 0) -> dict[str, bytes]:
    return {f"s{number:05d}.tif": station.scene(number) for number in range(start, start + count)}


def deliver(station: Station, contents: dict[str, bytes]) -> dict[str, bytes]:
    for name, content in contents.items():
        station.drop(name, content)
    return contents


def undisturbed(root: Path, contents: dict[str, bytes], **settings: object) -> dict[str, str]:
    """The masks that `contents` should give."""
    station = Station(root / "undisturbed", **settings)
    deliver(station, contents)
    station.drain(timeout_s=3600)
    return station.expected()
