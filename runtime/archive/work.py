"""One scene of a plan, where the work is done: fetched into local scratch, made into products there by the daemon's own
worker process, uploaded under this attempt's name, and committed by one conditional write.

    items/KEY/ATTEMPT/...           products, invisible until an item names them
    items/KEY.json                  the STAC item: the commit. KEY is the mask's key: input, model and settings
    .sarwater/done/TOKEN            the scene of a plan is done, by this item

Whatever dies in between leaves an attempt that no item names, which `gc` removes. The worker process takes a segfault
alone; a scene that ends two of them is set aside.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import socket
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.archive.items import committed_item
from runtime.archive.memory import resident_bytes
from runtime.archive.plan import Plan, Scene, open_target
from runtime.archive.store import SceneChanged, Store, StoreError, StoreRefused, open_store
from runtime.backends.cpu.openvino import THREADS_VARIABLE
from runtime.daemon.config import Config
from runtime.daemon.dispatcher import as_error
from runtime.daemon.fingerprint import Fingerprint
from runtime.daemon.pipe import Message, PipeClosed
from runtime.daemon.scene import ClaimedScene
from runtime.daemon.worker_process import WORKER_COMMAND, WorkerProcess
from runtime.products import chosen
from runtime.products.publish import StagedProducts, discard, drop_leftovers, make_staging_folder
from sarwater import __version__
from sarwater.errors import DeviceUnavailable, HashMismatch, OutputError

DONE, FAILED, ITEMS, PROBES = ".sarwater/done", ".sarwater/failed", "items", ".sarwater/probe"
MAX_DEATHS = 2
"""Worker processes that may die on a scene before it is set aside, as in the daemon."""
LONGEST_ATTEMPT_S = 12 * 3600.0
"""An attempt that took longer is not committed: `gc` may have taken its products for those of a dead one."""
_MAX_FAILED_STARTS = 3
_LOOK_S = 0.5
"""Between two looks at how much memory a worker process has."""


@dataclass(frozen=True)
class Head:
    """What is the same for all scenes of a plan. Small: it travels with each of them."""

    target: str
    model: str
    model_sha256: str
    device: str
    request: dict[str, Any]
    software: str
    scratch: str | None = None
    """Folder for scenes in work; none means the system's for temporary files."""
    memory_bytes: int | None = None
    """Most that a worker process may have in memory; none means no limit."""
    lock_table: bool = False

    @classmethod
    def of(cls, plan: Plan, scratch: Path | None = None, memory_bytes: int | None = None) -> Head:
        products = [product.name for product in chosen(plan.asked.products)]
        request = plan.request | {"products": [*products, *({"stac"} - set(products))]}
        return cls(
            *(plan.target, plan.model, plan.model_sha256, plan.device, request, plan.software),
            str(scratch) if scratch else None,
            memory_bytes,
            plan.lock_table,
        )


@dataclass(frozen=True)
class Job:
    """One scene, with all that a worker needs to know."""

    head: Head
    token: str
    path: str
    files: tuple[tuple[str, str, str, str], ...]
    """(store, key, version, path below the scene's folder) of each."""
    url: str
    derived_from: str

    @classmethod
    def of(cls, plan: Plan, head: Head, scene: Scene) -> Job:
        above = len(scene.path) - len(scene.name)
        files = tuple((*plan.source_of(path), version, path[above:]) for path, _, version in scene.files)
        url = plan.url_of(scene.path)
        return cls(head, plan.token(scene), scene.name, files, url, scene.item or url)


@dataclass(frozen=True)
class SceneResult:
    """What became of a scene."""

    token: str
    scene: str
    """Where it lies."""
    outcome: str
    """`published`; `adopted` where the item was there already, or another driver was first; `failed`; `later` where the
    place was at fault."""
    reason: str = ""
    message: str = ""
    item: str | None = None
    """Where its STAC item lies."""
    blamed: bool = True
    """Of `later`: whether it may be the scene's fault, so that it is not tried for ever."""
    seconds: float = 0.0
    input_bytes: int = 0
    output_bytes: int = 0
    memory_bytes: int = 0
    """Most that its worker process was seen to have in memory, on this scene or one before."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """To the stores, by operation."""
    worker: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", None, {})}


class _Failed(Exception):
    """The worker's answer to a scene."""

    def __init__(self, message: Message) -> None:
        super().__init__(message["message"])
        self.kind, self.reason = message["kind"], message["reason"]


class _Died(Exception):
    """The worker process ended, or was ended because it did not go on."""


class SceneWorker:
    """A worker process and its scratch, for scenes of one plan, one at a time. A context manager."""

    def __init__(self, head: Head, command: Sequence[str] = WORKER_COMMAND) -> None:
        self._head, self._command = head, command
        base = Path(head.scratch or Path(tempfile.gettempdir(), f"sarwater-archive-{os.getuid()}"))
        try:
            base.mkdir(parents=True, exist_ok=True)
            drop_leftovers(base)
            self._folder, self._owner = make_staging_folder(base, "archive")
            self._config = self._configure()
        except OSError as error:
            raise OutputError(f"{base}: {error.strerror}; set TMPDIR, or --scratch, to a folder with room") from error
        self._stores: dict[str, Store] = {}
        self._target = self._stores[""] = open_target(head.target, head.lock_table)
        self._worker: WorkerProcess | None = None
        self._failed_starts = 0
        self._most_bytes = 0

    def process(self, job: Job) -> SceneResult:
        """Never raises for what a scene or a store does; raises the errors of a broken set-up."""
        began_s, before = time.monotonic(), self._requests()
        facts: dict[str, Any] = {}
        try:
            outcome, item = self._attempts(job, began_s, facts)
            facts |= {"outcome": outcome, "item": self._target.url(item)}
        except _Failed as error:
            later = error.kind != "permanent"
            facts |= {"outcome": "later" if later else "failed", "reason": error.reason, "message": str(error)}
            facts["blamed"] = error.kind != "output"
        except _Died as error:
            facts |= {
                "outcome": "failed",
                "reason": "worker_died",
                "message": f"{MAX_DEATHS} workers died on it: {error}",
            }
        except SceneChanged as error:
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
            memory_bytes=self._most_bytes,
            requests=dict(Counter(self._requests()) - Counter(before)),
            worker=f"{socket.gethostname()}:{os.getpid()}",
        )

    def _attempts(self, job: Job, began_s: float, facts: dict[str, Any]) -> tuple[str, str]:
        """(outcome, key of the item)."""
        attempt = uuid.uuid4().hex[:12]
        inside, outside = self._folder / "in" / attempt, self._folder / "out" / attempt
        try:
            try:
                facts["input_bytes"] = self._fetch(job, inside)
                outside.mkdir(parents=True)
            except OSError as error:
                raise OutputError(f"{self._folder}: {error.strerror}; free room in the scratch folder") from error
            key, staged = self._staged(job, inside, outside)
            outcome, item = "adopted", f"{ITEMS}/{key}.json"
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

    def _staged(self, job: Job, inside: Path, outside: Path) -> tuple[str, StagedProducts | None]:
        """(the mask's key, its products; None where they are committed already). Raises _Failed, _Died."""
        for left in range(MAX_DEATHS - 1, -1, -1):
            try:
                return self._tried(job, inside / job.path, outside)
            except _Died:
                self._end_worker()
                if not left:
                    raise
        raise AssertionError

    def _tried(self, job: Job, path: Path, outside: Path) -> tuple[str, StagedProducts | None]:
        worker = self._ready_worker()
        status = path.stat()
        found = Fingerprint(status.st_ino, sum(size.stat().st_size for size in _files(path)), status.st_mtime_ns)
        scene = ClaimedScene(0, job.path, path, 0, found, "scan")
        key, started_s = "", time.monotonic()
        try:
            worker.send(op="scene", scene=scene.to_dict(), out_dir=str(outside), committing={})
            while True:
                for message in self._heard(worker, self._config.stall_s, started_s + self._config.scene_s):
                    match message["event"]:
                        case "validated":
                            key = message["key"]
                            there = self._target.read(f"{ITEMS}/{key}.json") is not None
                            worker.send(op="skip" if there else "go")
                        case "skipped":
                            return key, None
                        case "staged":
                            return key, StagedProducts.from_dict(message["staged"])
                        case "failed":
                            if message.get("ends"):
                                self._end_worker()
                            raise _Failed(message)
        except PipeClosed:
            raise _Died(worker.ended()) from None
        except (StoreError, StoreRefused):
            self._end_worker()  # it waits for an answer
            raise

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
        if self._target.create(f"{ITEMS}/{key}.json", body):
            return True, size_bytes
        # Somebody was first; or it was this very request, whose answer was lost.
        return self._target.read(f"{ITEMS}/{key}.json") == body, size_bytes

    def _ready_worker(self) -> WorkerProcess:
        while self._worker is None or self._worker.ready is None:
            if self._worker is None:
                self._worker = WorkerProcess(self._config, None, self._command)
            try:
                for message in self._heard(self._worker, self._config.start_s, float("inf")):
                    if message["event"] == "refused":
                        self._end_worker()
                        raise as_error(message)
                    self._check(message["model_sha256"])
                    self._worker.ready = message
            except (PipeClosed, _Died) as error:
                self._end_worker()
                self._failed_starts += 1
                if self._failed_starts >= _MAX_FAILED_STARTS:
                    raise DeviceUnavailable(
                        f"the worker ended {_MAX_FAILED_STARTS} times before it was ready ({error}); see above"
                    ) from None
        self._failed_starts = 0
        return self._worker

    def _check(self, model_sha256: str) -> None:
        """That what is installed here makes the masks of the plan."""
        for what, found, planned in (
            ("sarwater", __version__, self._head.software),
            (self._head.model, model_sha256, self._head.model_sha256),
        ):
            if found != planned:
                self._end_worker()
                raise HashMismatch(
                    f"{socket.gethostname()}: {what} is {found[:12]} here, the plan was made with {planned[:12]}; "
                    "install the same on every worker"
                )

    def _heard(self, worker: WorkerProcess, stall_s: float, until_s: float) -> list[Message]:
        """What it says next. Raises PipeClosed; _Died where it says nothing for too long, or has too much memory."""
        while True:
            self._keep_memory(worker)
            wait_s = min(worker.progress_s + stall_s, until_s) - time.monotonic()
            if wait_s <= 0:
                raise _Died(
                    f"no progress for {stall_s:g} s"
                    if time.monotonic() < until_s
                    else f"not done after {self._config.scene_s:g} s"
                )
            if select.select([worker], [], [], min(wait_s, _LOOK_S))[0]:
                return worker.pending()

    def _keep_memory(self, worker: WorkerProcess) -> None:
        """Raises _Died where it has more than it may."""
        found_bytes, most_bytes = resident_bytes(worker.pid), self._head.memory_bytes
        self._most_bytes = max(self._most_bytes, found_bytes)
        if most_bytes and found_bytes > most_bytes:
            raise _Died(f"{found_bytes / 1e9:.2f} GB in memory, more than the {most_bytes / 1e9:.2f} GB it may have")

    def _end_worker(self) -> None:
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.kill()

    def _configure(self) -> Config:
        folders = {name: self._folder / name for name in ("in", "out", "state")}
        for folder in folders.values():
            folder.mkdir()
        return Config(
            incoming=folders["in"],
            outgoing=folders["out"],
            state=folders["state"],
            model=self._head.model,
            device=self._head.device,
            **self._head.request,
        )

    def _store(self, root: str) -> Store:
        if root not in self._stores:
            self._stores[root] = open_store(root)
        return self._stores[root]

    def _requests(self) -> dict[str, int]:
        return dict(sum((store.requests for store in self._stores.values()), Counter()))

    def close(self) -> None:
        self._end_worker()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._owner.close()

    def __enter__(self) -> SceneWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_here: dict[str, SceneWorker] = {}
_one_scene = threading.Lock()


def work(job: Job) -> SceneResult:
    """A Dask task: one scene per process at a time, by a worker process that stays for the next one."""
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


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()] if path.is_dir() else [path]
