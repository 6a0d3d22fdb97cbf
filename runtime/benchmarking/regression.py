"""Is it slower than it was? Two reports of the benchmark, with the uncertainty of both."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sarwater.errors import UsageError

FORMAT = "sarwater-benchmark/1"


@dataclass(frozen=True)
class Change:
    """One figure, then and now; `change` is relative, above 0 where it got slower."""

    what: str
    before_s: float
    now_s: float
    change: float
    change_low: float
    change_high: float
    verdict: str
    """`slower`, `faster` or `same`."""


def read_report(path: Path) -> dict[str, Any]:
    """A report written by --json. Raises UsageError for a file that is missing or something else."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path}: not readable as an earlier report ({error}); expected a file made by --json"
        ) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        found = document.get("format") if isinstance(document, dict) else type(document).__name__
        raise UsageError(f"{path}: not a report of this benchmark ({found}); expected {FORMAT}, made by --json")
    try:
        list(_figures(document)), document["machine"]["libraries"], document["settings"]
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: a damaged report (at {error}); expected a whole file made by --json") from error
    return document


def check_same_machine(now: dict[str, Any], earlier: dict[str, Any]) -> None:
    """Raise UsageError where the machines differ: that comparison would say nothing of the software."""
    for part in ("board", "cpu", "cpus", "gpu"):
        if now["machine"][part] != earlier["machine"][part]:
            raise UsageError(
                f"--compare: measured on {part} {earlier['machine'][part]!r}, this is {now['machine'][part]!r}; "
                "only reports of one machine can be compared"
            )


def differences(now: dict[str, Any], earlier: dict[str, Any]) -> list[str]:
    """What else changed between two reports and may explain a change of speed."""
    before = {**earlier["machine"], **earlier["machine"]["libraries"], **earlier["settings"]}
    after = {**now["machine"], **now["machine"]["libraries"], **now["settings"]}
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in sorted(before.keys() | after.keys())
        if name not in ("libraries", "load_1min") and before.get(name) != after.get(name)
    ]


def compare(now: dict[str, Any], earlier: dict[str, Any], tolerance: float) -> list[Change]:
    """Every figure that both reports have. A change is one where even the near end of its interval is beyond
    `tolerance`, which stands for what differs from process to process and no interval of one process knows."""
    before = dict(_figures(earlier))
    return [_change(what, before[what], figure, tolerance) for what, figure in _figures(now) if what in before]


def _change(what: str, before: dict[str, Any], now: dict[str, Any], tolerance: float) -> Change:
    ratio = now["mean_s"] / before["mean_s"]
    # The relative error of a ratio of independent means: the root of the sum of squares.
    spread = ratio * math.hypot(_relative_half_width(before), _relative_half_width(now))
    low, high = ratio - 1 - spread, ratio - 1 + spread
    verdict = "slower" if low > tolerance else "faster" if high < -tolerance else "same"
    return Change(what, before["mean_s"], now["mean_s"], ratio - 1, low, high, verdict)


def _relative_half_width(latency: dict[str, Any]) -> float:
    """Infinite after a single sample, which proves nothing."""
    if latency["mean_high_s"] is None:
        return math.inf
    half: float = latency["mean_high_s"] - latency["mean_s"]
    return half / float(latency["mean_s"])


def _figures(report: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, latency) of everything that has an interval."""
    for model in report["models"]:
        title = title_of(model)
        for entry in model["network"]:
            yield f"{title}, batch {entry['batch']}", entry["latency"]
        if scene := model["scene"]:
            yield f"{title}, scene {scene['width_px']} x {scene['height_px']}", scene["latency"]


def title_of(model: dict[str, Any]) -> str:
    return f"{model['name']} {model['precision']} {model['tile_px']} px ({model['backend']})"
