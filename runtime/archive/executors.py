"""Who works the scenes off: this machine, one after the other, or a Dask cluster. The run loop asks no more of them."""

from __future__ import annotations

import logging
import queue
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from runtime.archive.job import Head, Job, SceneResult
from runtime.archive.work import SceneWorker, work
from sarwater.errors import SarwaterError

log = logging.getLogger("sarwater.archive")

_TOLD_EVERY_S = 60.0


class SchedulerLost(SarwaterError):
    """The Dask scheduler is gone, with all that it knew; the store knows what is done."""

    reason = "scheduler_lost"


class Executor(ABC):
    """Takes jobs while it has room, and says what became of them, in any order."""

    @abstractmethod
    def room(self) -> int:
        """How many more jobs it takes now."""

    @abstractmethod
    def submit(self, job: Job) -> None: ...

    @abstractmethod
    def results(self, wait_s: float) -> list[SceneResult]:
        """Those that ended; waits for the first of them. Raises SchedulerLost."""

    @abstractmethod
    def close(self) -> None:
        """Nothing of what it was given matters any more."""


class Here(Executor):
    """This process, which needs no Dask."""

    def __init__(self, head: Head) -> None:
        self._worker = SceneWorker(head)
        self._job: Job | None = None

    def room(self) -> int:
        return int(self._job is None)

    def submit(self, job: Job) -> None:
        self._job = job

    def results(self, wait_s: float) -> list[SceneResult]:
        job, self._job = self._job, None
        return [self._worker.process(job)] if job is not None else []

    def close(self) -> None:
        self._worker.close()


class OnDask(Executor):
    """A Dask cluster by its client. Few jobs more than there are workers wait at the scheduler, so that it stays small
    and another one loses little."""

    def __init__(self, client: Any, resources: dict[str, float] | None = None) -> None:
        self._client = client
        self._resources = resources or None
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._jobs: dict[str, tuple[Job, Any]] = {}
        self._count = 0
        self._told_s = float("-inf")

    def room(self) -> int:
        return max(1, round(1.5 * self._workers())) - len(self._jobs)

    def _workers(self) -> int:
        try:
            return len(self._client.nthreads())
        except OSError as error:
            raise SchedulerLost(
                f"{self._address()}: the Dask scheduler is gone; run again, what is done stays done"
            ) from error

    def _address(self) -> str:
        return str(getattr(self._client.scheduler, "address", None) or "dask")

    def submit(self, job: Job) -> None:
        self._count += 1
        key = f"sarwater-{job.token}-{self._count}-{id(self):x}"
        future = self._client.submit(work, job, key=key, pure=False, resources=self._resources)
        self._jobs[key] = (job, future)
        future.add_done_callback(self._ended.put)

    def results(self, wait_s: float) -> list[SceneResult]:
        found: list[SceneResult] = []
        with suppress(queue.Empty):
            found.append(self._result(self._ended.get(timeout=wait_s)))
            while True:
                found.append(self._result(self._ended.get_nowait()))
        if not found and not self._workers() and time.monotonic() > self._told_s + _TOLD_EVERY_S:
            self._told_s = time.monotonic()
            place = self._address()
            log.warning("%s: has no workers; start some: `dask worker %s --nthreads 1 --memory-limit 0`", place, place)
        return found

    def _result(self, future: Any) -> SceneResult:
        from distributed import KilledWorker

        job, _ = self._jobs.pop(future.key)
        if future.status in ("cancelled", "lost"):
            raise SchedulerLost(
                f"{self._address()}: the Dask scheduler lost its tasks; run again, what is done stays done"
            )
        error = future.exception()
        if isinstance(error, KilledWorker):
            said = f"Dask workers died on it, the last one at {error.last_worker.address}"
            return SceneResult(job.token, job.url, "later", "worker_died", said)
        if error is not None:
            raise error
        result: SceneResult = future.result()
        return result

    def close(self) -> None:
        with suppress(Exception):  # of a scheduler that is gone
            self._client.cancel([future for _, future in self._jobs.values()])
