"""One scene of a plan, where the work is done: fetched into local scratch, made into products there, uploaded under
this attempt's name, and committed by one conditional write. Whatever dies in between leaves an attempt that no item
names, which `gc` removes."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from runtime.archive.items import committed_item
from runtime.archive.job import Head, Job, SceneResult
from runtime.archive.layout import DONE, ITEMS, item_place
from runtime.archive.plan import open_target
from runtime.archive.product_maker import MAX_DEATHS, MakerDied, MakingFailed, ProductMaker
from runtime.archive.store import SceneChanged, Store, StoreError, StoreRefused, open_store
from runtime.backends.cpu.openvino import THREADS_VARIABLE
from runtime.daemon.worker_process import WORKER_COMMAND
from runtime.products.publish import StagedProducts, discard, drop_leftovers, make_staging_folder
from sarwater.errors import OutputError, SceneError, SceneUnreadable

LONGEST_ATTEMPT_S = 12 * 3600.0
"""An attempt that took longer is not committed: `gc` may have taken its products for those of a dead one."""
_NO_PLACE = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EINVAL, errno.EILSEQ)
"""What a file system says of names that it cannot have, unlike one that is full or broken."""


class SceneWorker:
    """A process that makes products and its scratch, for scenes of one plan, one at a time. A context manager."""

    def __init__(self, head: Head, command: Sequence[str] = WORKER_COMMAND) -> None:
        base = Path(head.scratch or Path(tempfile.gettempdir(), f"sarwater-archive-{os.getuid()}"))
        try:
            base.mkdir(parents=True, exist_ok=True)
            drop_leftovers(base)
            self._folder, self._owner = make_staging_folder(base, "archive")
            self._maker = ProductMaker(head, self._folder, command)
        except OSError as error:
            raise OutputError(f"{base}: {error.strerror}; set TMPDIR, or --scratch, to a folder with room") from error
        self._stores: dict[str, Store] = {}
        self._target = self._stores[""] = open_target(head.target, head.lock_table)

    def process(self, job: Job) -> SceneResult:
        """Never raises for what a scene or a store does; raises the errors of a broken set-up."""
        began_s, before = time.monotonic(), self._requests()
        facts: dict[str, Any] = {}
        try:
            outcome, item = self._attempt(job, began_s, facts)
            facts |= {"outcome": outcome, "item": self._target.url(item)}
        except MakingFailed as error:
            later = error.kind != "permanent"
            facts |= {"outcome": "later" if later else "failed", "reason": error.reason, "message": str(error)}
            facts["blamed"] = error.kind != "output"
        except MakerDied as error:
            facts |= {"outcome": "failed", "reason": "worker_died"}
            facts["message"] = f"{MAX_DEATHS} workers died on it: {error}"
        except SceneError as error:
            facts |= {"outcome": "failed", "reason": error.reason, "message": str(error)}
        except (StoreError, StoreRefused, OutputError) as error:
            facts |= {"outcome": "later", "reason": error.reason, "message": str(error), "blamed": False}
        if "message" in facts:  # whoever reports it says the place anyway
            facts["message"] = facts["message"].removeprefix(f"{job.url}: ")
        return SceneResult(
            job.token,
            job.url,
            **facts,
            seconds=round(time.monotonic() - began_s, 3),
            memory_bytes=self._maker.most_bytes,
            requests=dict(Counter(self._requests()) - Counter(before)),
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )

    def _attempt(self, job: Job, began_s: float, facts: dict[str, Any]) -> tuple[str, str]:
        """(outcome, key of the item)."""
        attempt = uuid.uuid4().hex[:12]
        inside, outside = self._folder / "in" / attempt, self._folder / "out" / attempt
        try:
            try:
                facts["input_bytes"] = self._fetch(job, inside)
                outside.mkdir(parents=True)
            except OSError as error:
                if error.errno in _NO_PLACE:
                    said = f"{job.url}: no file system takes its names ({error.strerror}); rename it, and plan again"
                    raise SceneUnreadable(said) from error
                raise OutputError(f"{self._folder}: {error.strerror}; free room in the scratch folder") from error
            key, staged = self._maker.staged(inside / job.path, outside, self._is_there)
            outcome, item = "adopted", item_place(key)
            if staged is not None:
                published, facts["output_bytes"] = self._commit(job, key, attempt, staged, began_s)
                outcome = "published" if published else "adopted"
            record = {"scene": job.url, "item": item}
            self._target.write(f"{DONE}/{job.token}", json.dumps(record).encode())
            return outcome, item
        finally:
            shutil.rmtree(inside, ignore_errors=True)
            shutil.rmtree(outside, ignore_errors=True)

    def _fetch(self, job: Job, inside: Path) -> int:
        """Every byte of the scene, for its identity is made of them all."""
        size_bytes = 0
        for root, key, version, path in job.files:
            place = inside / path
            if not place.resolve().is_relative_to(inside.resolve()):
                raise SceneChanged(f"{job.url}: names a file outside of itself, {path!r}; rename it, and plan again")
            place.parent.mkdir(parents=True, exist_ok=True)
            self._store(root).download(key, place, version)
            size_bytes += place.stat().st_size
        return size_bytes

    def _is_there(self, key: str) -> bool:
        return self._target.read(item_place(key)) is not None

    def _commit(self, job: Job, key: str, attempt: str, staged: StagedProducts, began_s: float) -> tuple[bool, int]:
        """(whether this attempt became the scene's, bytes uploaded)."""
        folder, size_bytes = Path(staged.folder), 0
        item_name = next(name for name in staged.names if name.endswith("_water.json"))
        for name in staged.names:
            if name != item_name:
                self._target.upload(folder / name, f"{ITEMS}/{key}/{attempt}/{name}")
                size_bytes += (folder / name).stat().st_size
        item = committed_item(json.loads((folder / item_name).read_bytes()), key, attempt, job.derived_from)
        body = json.dumps(item, ensure_ascii=False, indent=1).encode()
        discard(staged)
        if time.monotonic() - began_s > LONGEST_ATTEMPT_S:
            raise StoreError(f"{job.url}: this attempt took over {LONGEST_ATTEMPT_S / 3600:g} h; run again")
        size_bytes += len(body)
        if self._target.create(item_place(key), body):
            return True, size_bytes
        # Somebody was first; or it was this very request, whose answer was lost.
        return self._target.read(item_place(key)) == body, size_bytes

    def _store(self, root: str) -> Store:
        if root not in self._stores:
            self._stores[root] = open_store(root)
        return self._stores[root]

    def _requests(self) -> dict[str, int]:
        return dict(sum((store.requests for store in self._stores.values()), Counter()))

    def close(self) -> None:
        self._maker.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._owner.close()

    def __enter__(self) -> SceneWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_here: dict[str, SceneWorker] = {}
_one_scene = threading.Lock()


def work(job: Job) -> SceneResult:
    """A Dask task: one scene per process at a time, by a worker that stays for the next one."""
    with _one_scene:
        told = json.dumps(asdict(job.head), sort_keys=True)
        if told not in _here:
            for other in list(_here):
                _here.pop(other).close()
            _use_threads_of_dask()
            _here[told] = SceneWorker(job.head)
        return _here[told].process(job)


def _use_threads_of_dask() -> None:
    """As many as the Dask worker was given; its nanny says 1 to all libraries, for it means several tasks at a time."""
    from distributed import get_worker

    with contextlib.suppress(ValueError):  # in no Dask worker
        os.environ.setdefault(THREADS_VARIABLE, str(get_worker().state.nthreads))
