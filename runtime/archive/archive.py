"""An archive of scenes made into masks, each exactly once, however often and wherever its plan is run.

    plan = Plan.read(Path("run.json"))
    for result in Archive(plan).run(client):         # a dask.distributed Client; none: this process, one by one
        print(result.scene, result.outcome)

The store that the products go to is the truth. What is done, and what was set aside, is listed there.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.archive.executors import Executor, Here, OnDask
from runtime.archive.items import write_collection
from runtime.archive.job import Head, Job, SceneResult
from runtime.archive.layout import DONE, FAILED, PROBES, item_keys, json_at
from runtime.archive.patience import PATIENCE_S, Patience
from runtime.archive.plan import Plan, Scene
from runtime.archive.store import Store, StoreError
from sarwater.errors import UsageError

log = logging.getLogger("sarwater.archive")

_TURN_S = 5.0
_TOLD_EVERY_S = 30.0
_LOOK_EVERY_S = 30.0
"""Between two looks at what other drivers and shards of the plan have done; longer where a look takes long."""
_LOOK_SHARE = 0.02
"""Of the time, at most, that goes into them."""


@dataclass(frozen=True)
class Shard:
    """Part `number` of `of`, counted from 1: every `of`-th scene of the plan."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/40`. Raises UsageError."""
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise UsageError(f"--shard {text}: expected NUMBER/OF, such as 3/40, the number from 1")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


ALL = Shard(1, 1)


@dataclass(frozen=True)
class Status:
    """How far a plan is."""

    planned: int
    done: int
    failed: int
    reasons: dict[str, int]
    """How many failed for which reason."""

    @property
    def pending(self) -> int:
        return self.planned - self.done - self.failed


class Archive:
    """A plan and the store where it is carried out. Raises StoreError and StoreRefused of `runtime.archive.store`."""

    def __init__(
        self,
        plan: Plan,
        scratch: Path | None = None,
        patience_s: float = PATIENCE_S,
        memory_bytes: int | None = None,
    ) -> None:
        """`scratch` is a folder on every worker for the scenes in work; none means the system's for temporary files.
        `patience_s` is how long a run waits while the store fails every scene. `memory_bytes` is what a worker process
        may have in memory: one with more is ended, and its scene set aside when that happens twice."""
        self.plan = plan
        self._head = Head.of(plan, scratch, memory_bytes)
        self._patience_s = patience_s
        self._told_s = float("-inf")

    @cached_property
    def store(self) -> Store:
        return self.plan.open_target()

    @cached_property
    def tokens(self) -> dict[str, Scene]:
        """The plan's scenes by what their records in the store are called."""
        return self.plan.tokens()

    def run(
        self, client: Any = None, *, shard: Shard = ALL, resources: dict[str, float] | None = None
    ) -> Iterator[SceneResult]:
        """Work off what is neither done nor set aside, with a result for each scene.

        client     a `dask.distributed.Client`; none means this process, one scene after the other
        resources  of each task, as `{"GPU": 1}`, for Dask workers that have them

        Raises StoreRefused for a store that cannot commit exactly once, SchedulerLost, and what a worker's set-up
        raises: HashMismatch, DependencyMissing, DeviceUnavailable.
        """
        self.plan.check_model()
        self.store.check_conditional_writes(PROBES)
        pending = self.pending(shard)
        if pending:
            executor = Here(self._head) if client is None else OnDask(client, resources)
            try:
                yield from self._work_off(pending, executor)
            finally:
                executor.close()

    def pending(self, shard: Shard = ALL) -> list[str]:
        """Tokens of the scenes that are neither done nor set aside, in the plan's order."""
        settled = set(self._listed(DONE)) | set(self._listed(FAILED))
        mine = list(self.tokens)[shard.number - 1 :: shard.of]
        return [token for token in mine if token not in settled]

    def _work_off(self, pending: Sequence[str], executor: Executor) -> Iterator[SceneResult]:
        waiting = deque(pending)
        waiting.rotate(-random.randrange(len(waiting)))  # of two drivers on one plan, each begins elsewhere
        patience = Patience(self._patience_s)
        again: list[tuple[float, str]] = []
        at_work = 0
        look_s = time.monotonic() + _LOOK_EVERY_S
        while waiting or again or at_work:
            while again and again[0][0] <= time.monotonic():
                waiting.append(heapq.heappop(again)[1])
            if waiting and time.monotonic() >= look_s:
                others, look_s = self._done_by_others()
                for token in filter(others.__contains__, waiting):
                    yield SceneResult(token, self.plan.url_of(self.tokens[token].path), "adopted")
                waiting = deque(token for token in waiting if token not in others)
            room = 1 - at_work if patience.in_trouble else executor.room()
            for _ in range(min(len(waiting), room)):
                executor.submit(self._job(waiting.popleft()))
                at_work += 1
            if not at_work:
                until_s = again[0][0] if again else 0.0
                time.sleep(max(0.0, min(_TURN_S, until_s - time.monotonic())))
                continue
            for result in executor.results(_TURN_S):
                at_work -= 1
                if patience.is_over(result):
                    yield self._settled(result, patience.tries(result.token))
                else:
                    self._tell(result)
                    heapq.heappush(again, (time.monotonic() + patience.wait_s(result.token), result.token))

    def _done_by_others(self) -> tuple[set[str], float]:
        """(what is done by now, monotonic time of the next look)."""
        began_s = time.monotonic()
        done: set[str] = set()
        with contextlib.suppress(StoreError):  # the next look may
            done = set(self._listed(DONE))
        took_s = time.monotonic() - began_s
        return done, time.monotonic() + max(_LOOK_EVERY_S, took_s / _LOOK_SHARE)

    def _settled(self, result: SceneResult, tries: int) -> SceneResult:
        """The result that stands; the store is told of a scene that is set aside."""
        if result.outcome == "later" and result.blamed:
            result = replace(result, outcome="failed", message=f"{result.message} (tried {tries} times)")
        if result.outcome == "failed":
            record = {
                "scene": result.scene,
                "reason": result.reason,
                "message": result.message,
                "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            }
            try:
                self.store.write(f"{FAILED}/{result.token}", json.dumps(record).encode())
            except StoreError:  # the next run takes it again, and tells
                return replace(result, outcome="later")
        return result

    def _tell(self, result: SceneResult) -> None:
        """Why scenes wait, now and then: a store that is down for an hour is no reason for a thousand lines."""
        if time.monotonic() >= self._told_s + _TOLD_EVERY_S:
            self._told_s = time.monotonic()
            log.warning("%s: %s: %s; it is tried again", result.scene, result.reason, result.message)

    def _job(self, token: str) -> Job:
        return Job.of(self.plan, self._head, self.tokens[token])

    def status(self) -> Status:
        done = self.tokens.keys() & set(self._listed(DONE))
        failed = self.failures()
        reasons = Counter(record["reason"] for record in failed.values())
        return Status(len(self.tokens), len(done), len(failed), dict(reasons))

    def failures(self) -> dict[str, dict[str, str]]:
        """Token -> `scene`, `reason`, `message`, `at`, of the scenes that were set aside and not done since."""
        done = set(self._listed(DONE))
        found = {}
        for token in self._listed(FAILED):
            if token in self.tokens and token not in done:
                record = json_at(self.store, f"{FAILED}/{token}")
                place = self.plan.url_of(self.tokens[token].path)
                found[token] = {"scene": place, "reason": "unknown", "message": "its record is damaged", **record}
        return found

    def retry(self, reasons: Sequence[str] = ()) -> list[str]:
        """Let the next run take what was set aside, for these reasons or for any; returns the scenes. Raises UsageError
        for a reason that nothing was set aside for."""
        failures = self.failures()
        there = {record["reason"] for record in failures.values()}
        if unknown := sorted(set(reasons) - there):
            raise UsageError(
                f"--reason {unknown[0]}: no scene was set aside for it; expected "
                + (f"one of: {', '.join(sorted(there))}" if there else "none, for nothing is set aside")
            )
        chosen = {token: record for token, record in failures.items() if not reasons or record["reason"] in reasons}
        self.store.delete(f"{FAILED}/{token}" for token in chosen)
        return sorted(record["scene"] for record in chosen.values())

    def write_collection(self) -> int:
        """Write the STAC collection of all items in the store, of other plans, too; returns how many there are."""
        return write_collection(self.store, item_keys(self.store))

    def _listed(self, folder: str) -> Iterator[str]:
        return (entry.key.rpartition("/")[2] for entry in self.store.list(folder))
