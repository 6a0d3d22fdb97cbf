"""How a claimed scene ends: published, duplicate, given back, waiting for a retry, or in quarantine.

The order of the steps is the guarantee. A mask is visible and durable before the ledger says PUBLISHED; the ledger
says so before the input leaves `work`. Swapping any two loses or repeats a scene in a power cut, which
tests/torture/mutants.py proves.
"""

from __future__ import annotations

import logging
import random
import time
from dataclasses import dataclass, replace
from datetime import datetime, timezone

from runtime.daemon.context import Context
from runtime.daemon.fingerprint import fingerprint_of
from runtime.daemon.inbox import now
from runtime.daemon.item import ItemError, looking_at, shown
from runtime.daemon.ledger import Row, Status
from runtime.daemon.scene import ClaimedScene
from runtime.latency import LatencyRecord
from runtime.products.publish import StagedProducts, discard, publish

log = logging.getLogger("sarwater.watch")


@dataclass(frozen=True)
class Retry:
    """A scene that is to be tried again, and the monotonic time from which on."""

    scene: ClaimedScene
    at_s: float


class Commit:
    """Ends attempts. Each method leaves the scene in one place and one status, or raises with nothing half done that
    `recover` would not repair. It returns the retry, where there is to be one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._folders = context.folders
        self._ledger = context.ledger
        self._metrics = context.metrics
        self.quarantine: dict[str, str] = {}
        """Name and reason of each scene that went there since the start."""

    def commit(self, scene: ClaimedScene, staged: StagedProducts) -> Retry | None:
        """Make the products visible, unless the input changed meanwhile: then they are discarded and it settles again.

        Raises OutputError where the outgoing folder does not take them; the staged products are gone then.
        """
        changed, retry = self._went_back(scene)
        if changed:
            discard(staged)
            return retry
        try:
            how = publish(staged)
        except BaseException:
            discard(staged)
            raise
        visible = now()
        self._ledger.published(scene.job, list(staged.names))
        self._context.returns.pop(scene.job, None)
        self._folders.retire(scene.job, scene.name, self._context.remove_done)
        record = LatencyRecord.from_dict(staged.record)
        record.add_moments({"visible": visible})
        self._account(record, "published")
        log.info("%s: %s %s after %.3g s", scene.name, how, staged.paths[-1], record.total_s or 0.0)
        return None

    def duplicate(self, scene: ClaimedScene, holder: Row, input_sha256: str) -> None:
        """The same bytes were worked off, with the same model and settings: nothing to do."""
        self._ledger.duplicate(scene.job, holder.id, input_sha256)
        self._context.returns.pop(scene.job, None)
        self._folders.retire(scene.job, scene.name, self._context.remove_done)
        self._account(scene.record(), "duplicate")
        log.info("%s: same bytes as %s (job %d), whose mask exists; no second one", scene.name, holder.name, holder.id)

    def broken(self, scene: ClaimedScene, reason: str, message: str) -> Retry | None:
        """The input is at fault: quarantine, unless somebody still writes to it, then it settles again. One that is
        over the limit does not: it could only grow."""
        too_large = scene.path.is_file() and scene.fingerprint.size_bytes > self._context.config.max_input_bytes
        changed, retry = (False, None) if too_large else self._went_back(scene)
        if not changed:
            self._quarantine(scene, reason, message)
        return retry

    def transient(self, scene: ClaimedScene, reason: str, message: str, worker_died: bool = False) -> Retry | None:
        """It may work next time: wait for a retry, or after the last one go to quarantine."""
        config = self._context.config
        row = self._ledger.failed(scene.job, reason, message, worker_died)
        if row.failures >= config.max_attempts or row.worker_deaths >= config.max_worker_deaths:
            self._quarantine(scene, reason, message)
            return None
        wait_s = min(config.retry_cap_s, config.retry_first_s * 2 ** (row.failures + row.worker_deaths - 1))
        wait_s *= random.uniform(0.5, 1)  # scenes that failed together shall not come back together
        self._metrics.retried(reason)
        log.warning("%s: %s (%s); next try in %.0f s", scene.name, message, reason, wait_s)
        return Retry(scene, time.monotonic() + wait_s)

    def postpone(self, scene: ClaimedScene) -> Retry:
        """The machine was at fault (full disk): the attempt does not count, the scene waits in work."""
        self._ledger.given_back(scene.job)
        return Retry(replace(scene, attempt=0), time.monotonic())

    def give_back(self, scene: ClaimedScene) -> None:
        """The daemon stops: the attempt does not count, and the scene returns to the inbox where its name is free."""
        if scene.attempt:
            self._ledger.given_back(scene.job)
        if self._folders.give_back(scene.job, scene.name):
            found = scene.fingerprint.moved_to(self._folders.incoming / scene.name)
            self._ledger.resighted(scene.job, Status.SEEN, found)

    def _quarantine(self, scene: ClaimedScene, reason: str, message: str) -> None:
        document = {
            "job": scene.job,
            "name": shown(scene.name),
            "reason": reason,
            "message": shown(message),
            "attempts": scene.attempt,
            "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }
        self._folders.quarantine_scene(scene.job, scene.name, document)
        self._ledger.quarantined(scene.job, reason, message)
        self._context.returns.pop(scene.job, None)
        record = scene.record()
        record.error = f"{reason}: {message}"
        self._account(record, "quarantined")
        self._metrics.quarantined(reason)
        self.quarantine[scene.name] = reason
        where = self._folders.quarantine_folder(scene.job)
        log.error("%s: quarantined (%s): %s; kept in %s", scene.name, reason, message, where)

    def _went_back(self, scene: ClaimedScene) -> tuple[bool, Retry | None]:
        """Did the input change under our hands? Then it is in the inbox again, or waits for another try."""
        try:
            with looking_at(scene.name):
                found = fingerprint_of(scene.path)
        except ItemError as error:
            return True, self.transient(scene, "scene_changed", f"it cannot be looked at any more ({error})")
        except FileNotFoundError:
            self._ledger.ignored(scene.job, "vanished", "the input was taken away while it was worked on")
            log.error("%s: taken away while it was worked on; no mask", scene.name)
            return True, None
        if found == scene.fingerprint:
            return False, None
        if scene.attempt:
            self._ledger.given_back(scene.job)
        if self._folders.give_back(scene.job, scene.name):
            self._ledger.resighted(scene.job, Status.SETTLING, found)
            self._context.returns[scene.job] += 1
            log.warning("%s: changed while it was worked on; back in the inbox to settle", scene.name)
            return True, None
        # Another file has its name by now: try this one again from where it is.
        log.warning("%s: changed while it was worked on; it is tried again", scene.name)
        again = replace(scene, fingerprint=found, attempt=0)
        return True, Retry(again, time.monotonic() + self._context.config.settle_s)

    def _account(self, record: LatencyRecord, outcome: str) -> None:
        record.outcome = outcome
        self._metrics.ended(record)
        self._context.latency_log.append(record)
