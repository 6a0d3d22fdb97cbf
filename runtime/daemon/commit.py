"""How a claimed scene ends: published, duplicate, given back, waiting for a retry, or in quarantine.

The order of the steps is the guarantee. A mask is visible and durable before the ledger says PUBLISHED; the ledger
says so before the input leaves `work`. Swapping any two loses or repeats a scene in a power cut, which
tests/torture/mutants.py proves.
"""

from __future__ import annotations

import logging
import random
import time
from datetime import datetime, timezone

from runtime.daemon.claim import Job
from runtime.daemon.context import Context
from runtime.daemon.fingerprint import signature_of
from runtime.daemon.inbox import now
from runtime.daemon.ledger import Row, State
from runtime.latency import LatencyRecord
from runtime.products.publish import StagedProducts, discard, publish

log = logging.getLogger("sarwater.watch")


class Outcome:
    """Ends attempts. Each method leaves the scene in one place and one state, or raises with nothing half done that
    `recover` would not repair. A job that is to be tried again has its `retry_at_s` set afterwards."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folders = context.folders
        self._ledger = context.ledger
        self._metrics = context.metrics

    def commit(self, job: Job, staged: StagedProducts) -> None:
        """Make the products visible, unless the input changed meanwhile: then they are discarded and it settles again.

        Raises OutputError where the outgoing folder does not take them; the staged products are gone then.
        """
        if self._went_back(job):
            discard(staged)
            return
        try:
            how = publish(staged)
        except BaseException:
            discard(staged)
            raise
        visible = now()
        self._ledger.published(job.id, list(staged.names))
        self._folders.retire(job.id, job.name, self._context.remove_done)
        record = LatencyRecord.from_dict(staged.record)
        record.add_moments({"visible": visible})
        self._account(record, "published")
        log.info("%s: %s %s after %.3g s", job.name, how, staged.paths[-1], record.total_s or 0.0)

    def duplicate(self, job: Job, holder: Row, input_sha256: str) -> None:
        """The same bytes were worked off, with the same model and settings: nothing to do."""
        self._ledger.duplicate(job.id, holder.id, input_sha256)
        self._folders.retire(job.id, job.name, self._context.remove_done)
        self._account(job.record(), "duplicate")
        log.info("%s: same bytes as %s (job %d), whose mask exists; no second one", job.name, holder.name, holder.id)

    def broken(self, job: Job, reason: str, message: str) -> None:
        """The input is at fault: quarantine, unless somebody still writes to it, then it settles again."""
        if not self._went_back(job):
            self._quarantine(job, reason, message)

    def transient(self, job: Job, reason: str, message: str, worker_died: bool = False) -> None:
        """It may work next time: wait for a retry, or after the last one go to quarantine."""
        config = self._context.config
        row = self._ledger.failed(job.id, reason, message, worker_died)
        if row.failures >= config.max_attempts or row.worker_deaths >= config.max_worker_deaths:
            self._quarantine(job, reason, message)
            return
        wait_s = min(config.retry_cap_s, config.retry_first_s * 2 ** (row.failures + row.worker_deaths - 1))
        wait_s *= random.uniform(0.5, 1)  # scenes that failed together shall not come back together
        job.retry_at_s = time.monotonic() + wait_s
        self._metrics.retried(reason)
        log.warning("%s: %s (%s); next try in %.0f s", job.name, message, reason, wait_s)

    def postpone(self, job: Job) -> None:
        """The machine was at fault (full disk): the attempt does not count, the scene waits in work."""
        self._ledger.given_back(job.id)
        job.retry_at_s = time.monotonic()

    def give_back(self, job: Job) -> None:
        """The daemon stops: the attempt does not count, and the scene returns to the inbox where its name is free."""
        if job.started_s:
            self._ledger.given_back(job.id)
        if self._folders.give_back(job.id, job.name):
            self._ledger.resighted(job.id, State.SEEN, job.signature)

    def _quarantine(self, job: Job, reason: str, message: str) -> None:
        document = {
            "job": job.id,
            "name": job.name,
            "reason": reason,
            "message": message,
            "attempts": job.attempts,
            "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._folders.quarantine_scene(job.id, job.name, document)
        self._ledger.quarantined(job.id, reason, message)
        record = job.record()
        record.error = f"{reason}: {message}"
        self._account(record, "quarantined")
        self._metrics.quarantined(reason)
        where = self._folders.quarantine_folder(job.id)
        log.error("%s: quarantined (%s): %s; kept in %s", job.name, reason, message, where)

    def _went_back(self, job: Job) -> bool:
        """Did the input change under our hands? Then it is in the inbox again, or waits for another try."""
        try:
            found = signature_of(job.root)
        except FileNotFoundError:
            self._ledger.ignored(job.id, "vanished", "the input was taken away while it was worked on")
            log.error("%s: taken away while it was worked on; no mask", job.name)
            return True
        if found == job.signature:
            return False
        if job.started_s:
            self._ledger.given_back(job.id)
        if self._folders.give_back(job.id, job.name):
            self._ledger.resighted(job.id, State.SETTLING, found)
            log.warning("%s: changed while it was worked on; back in the inbox to settle", job.name)
        else:
            # Another file has its name by now: try this one again from where it is.
            job.signature, job.retry_at_s = found, time.monotonic() + self._context.config.settle_s
            log.warning("%s: changed while it was worked on; it is tried again", job.name)
        return True

    def _account(self, record: LatencyRecord, outcome: str) -> None:
        record.outcome = outcome
        self._metrics.ended(record)
        self._context.latency_log.append(record)
