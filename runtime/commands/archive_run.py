"""`sarwater archive run`: a run from its first scene to its summary, however often its scheduler comes and goes."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from runtime.archive.archive import Archive, Shard, Status
from runtime.archive.cluster import SchedulerSilent, dashboard, open_client
from runtime.archive.executors import SchedulerLost
from runtime.archive.job import SceneResult
from sarwater.errors import UsageError
from sarwater.progress import Progress
from sarwater.shown import shown

_SHOWN_FAILURES = 20
_RECONNECT_S, _PATIENCE_S = 10.0, 600.0


class RunSession:
    """One run of a plan, or of a part of it, with progress on the terminal; then `results` has what became of it."""

    def __init__(self, work: Archive, part: Shard, scheduler: str | None, resources: dict[str, float] | None) -> None:
        self._work, self._part, self._scheduler, self._resources = work, part, scheduler, resources
        self.results: list[SceneResult] = []
        self._seconds = 0.0

    def carry_out(self) -> None:
        """Raises what `Archive.run` and `open_client` raise; says how far it came then."""
        began_s = time.monotonic()
        whole = False
        try:
            self._connected()
            whole = True
        finally:
            self._seconds = time.monotonic() - began_s
            if not whole and self.results:
                outcomes = Counter(result.outcome for result in self.results)
                print(f"{told(outcomes)}; run it again to go on", file=sys.stderr)

    def _connected(self) -> None:
        began, lost_s = False, None
        while True:
            try:
                with open_client(self._scheduler) if self._scheduler else contextlib.nullcontext() as client:
                    if client is not None and (address := dashboard(client)):
                        print(f"dashboard {address}", file=sys.stderr)
                    began = True
                    for result in self._with_progress(client):
                        lost_s = None
                        self.results.append(result)
                return
            except (SchedulerLost, SchedulerSilent) as error:
                lost_s = lost_s or time.monotonic()
                tcp = str(self._scheduler).startswith("tcp")
                if not began or time.monotonic() - lost_s > _PATIENCE_S or not tcp:
                    raise
                print(f"sarwater archive: {error}; connecting again", file=sys.stderr)
                time.sleep(_RECONNECT_S)

    def _with_progress(self, client: Any) -> Iterator[SceneResult]:
        total, done = len(self._work.pending(self._part)), 0
        began_s = time.monotonic()
        with Progress("archive", "scenes") as progress:
            progress(0, total)
            for result in self._work.run(client, shard=self._part, resources=self._resources):
                done += 1
                progress(done, total, f"{done / max(time.monotonic() - began_s, 1e-3):.2f} scenes/s")
                yield result

    def summary(self, status: Status) -> dict[str, Any]:
        """Of the run and of its plan, as JSON values."""
        results = self.results
        requests: Counter[str] = Counter()
        for result in results:
            requests.update(result.requests)
        unsettled = [result for result in results if result.outcome in ("failed", "later")]
        return {
            "outcomes": dict(Counter(result.outcome for result in results)),
            "seconds": round(self._seconds, 3),
            "input_bytes": sum(result.input_bytes for result in results),
            "output_bytes": sum(result.output_bytes for result in results),
            "memory_bytes": max((result.memory_bytes for result in results), default=0),
            "requests": dict(requests),
            "unsettled": [result.to_dict() for result in unsettled],
            "plan": {**dataclasses.asdict(status), "pending": status.pending},
        }


def told(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(outcomes.items()))


def print_summary(summary: dict[str, Any]) -> None:
    outcomes, plan, seconds = summary["outcomes"], summary["plan"], summary["seconds"]
    count = sum(outcomes.values())
    happened = told(outcomes) or "nothing was left to do"
    rate = f" in {seconds:,.1f} s, {count / seconds:.2f} scenes/s" if count else ""
    if most_bytes := summary["memory_bytes"]:
        rate += f", {most_bytes / 1e9:.2f} GB in memory at most"
    print(f"{happened}{rate}")
    for result in summary["unsettled"][:_SHOWN_FAILURES]:
        print(shown(f"  {result['scene']}: {result['outcome']}: {result['reason']}: {result['message']}"))
    if more := len(summary["unsettled"]) - _SHOWN_FAILURES:
        print(f"  and {more:,} more; `sarwater archive status` names all that were set aside") if more > 0 else None
    print(f"plan: {plan['done']:,} of {plan['planned']:,} done, {plan['failed']:,} set aside, {plan['pending']:,} left")


def parsed_resources(text: str | None) -> dict[str, float] | None:
    if not text:
        return None
    try:
        return {name: float(number) for name, number in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UsageError(f"--resources {text}: expected NAME=NUMBER, as GPU=1") from None
