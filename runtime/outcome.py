"""How a claimed scene ends: published, duplicate, given back, waiting for a retry, or in quarantine.

The order of the steps is the guarantee. A mask is visible and durable before the ledger says PUBLISHED; the ledger
says so before the input leaves `work`. Swapping any two loses or repeats a scene in a power cut, which
tests/torture/mutants.py proves.
"""

from __future__ import annotations

import logging
import os
import random
import time
from datetime import datetime, timezone
from pathlib import Path

from runtime.config import Config
from runtime.custody import Folders
from runtime.inbox import Signature, folder_signature, now
from runtime.intake import Intake, Job
from runtime.ledger import Ledger, Row, State
from runtime.publish import StagedProducts, discard, publish
from sarwater.atomic import fsync_folder

log = logging.getLogger("sarwater.watch")


class Outcome:
    """Ends attempts. Each method leaves the scene in one place and one state, or raises with nothing half done that
    `recover` would not repair. A job that is to be tried again has its `retry_at_s` set afterwards."""

    def __init__(self, config: Config, folders: Folders, ledger: Ledger, intake: Intake) -> None:
        self._config = config
        self._folders = folders
        self._ledger = ledger
        self._intake = intake

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
        if how == "adopted":
            # Whoever linked it may have died before the folder was synced.
            fsync_folder(self._config.outgoing)
        job.moments["visible"] = now()
        self._ledger.published(job.id, list(staged.names))
        self._folders.retire(job.id, job.name, self._config.after == "remove")
        took_s = now().monotonic_s - job.moments.get("complete", job.moments["claimed"]).monotonic_s
        log.info("%s: %s %s after %.2f s", job.name, how, staged.paths[-1], took_s)

    def duplicate(self, job: Job, holder: Row, input_sha256: str) -> None:
        """The same bytes were worked off, with the same model and settings: nothing to do."""
        self._ledger.duplicate(job.id, holder.id, input_sha256)
        self._folders.retire(job.id, job.name, self._config.after == "remove")
        log.info(
            "%s: the same bytes as %s (job %d), whose mask exists; no second one", job.name, holder.name, holder.id
        )

    def broken(self, job: Job, reason: str, message: str) -> None:
        """The input is at fault: quarantine, unless somebody still writes to it, then it settles again."""
        if not self._went_back(job):
            self.quarantine(job, reason, message)

    def transient(self, job: Job, reason: str, message: str, worker_died: bool = False) -> None:
        """It may work next time: wait for a retry, or after the last one go to quarantine."""
        row = self._ledger.failed(job.id, reason, message, worker_died)
        if row.failures >= self._config.max_attempts or row.worker_deaths >= self._config.max_worker_deaths:
            self.quarantine(job, reason, message)
            return
        # Full jitter on the upper half, so that scenes that failed together do not come back together.
        wait_s = min(self._config.retry_cap_s, self._config.retry_first_s * 2 ** (row.failures + row.worker_deaths - 1))
        wait_s *= random.uniform(0.5, 1)
        job.retry_at_s = time.monotonic() + wait_s
        log.warning("%s: %s (%s); next try in %.0f s", job.name, message, reason, wait_s)

    def postpone(self, job: Job) -> None:
        """The machine was at fault (full disk): the attempt does not count, the scene waits in work."""
        self._ledger.given_back(job.id)
        job.retry_at_s = time.monotonic()

    def quarantine(self, job: Job, reason: str, message: str) -> None:
        self._folders.quarantine_scene(
            job.id,
            job.name,
            {
                "job": job.id,
                "name": job.name,
                "reason": reason,
                "message": message,
                "attempts": job.attempts,
                "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            },
        )
        self._ledger.quarantined(job.id, reason, message)
        log.error(
            "%s: quarantined (%s): %s; kept in %s", job.name, reason, message, self._folders.quarantine_folder(job.id)
        )

    def give_back(self, job: Job) -> None:
        """The daemon stops: the attempt does not count, and the scene returns to the inbox where its name is free."""
        if job.started_s:
            self._ledger.given_back(job.id)
        self._intake.return_job(job, job.signature, State.SEEN)

    def _went_back(self, job: Job) -> bool:
        try:
            found = _signature(job.root)
        except FileNotFoundError:
            self._ledger.ignored(job.id, "vanished", "the input was taken away while it was worked on")
            log.error("%s: taken away while it was worked on; no mask", job.name)
            return True
        if found == job.signature:
            return False
        self._ledger.given_back(job.id)
        if self._intake.return_job(job, found, State.SETTLING):
            log.warning("%s: changed while it was worked on; back in the inbox to settle", job.name)
        else:
            # Another file has its name by now: try this one again from where it is.
            job.signature, job.retry_at_s = found, time.monotonic() + self._config.settle_s
            log.warning("%s: changed while it was worked on; it is tried again", job.name)
        return True


def _signature(root: Path) -> Signature:
    if root.is_dir():
        return folder_signature(root)
    status = os.lstat(root)
    return Signature(status.st_ino, status.st_size, status.st_mtime_ns)
