"""The worker: the one process that decodes and infers. A segfault, a poisoned file or a broken GPU takes it alone.

    supervisor                         worker
    open (model, device, options) ──▶  opens the backend, runs a golden tile
                                  ◀──  ready | refused
    scene (a ClaimedScene)        ──▶  hashes and validates
                                  ◀──  validated (mask key)   supervisor looks for duplicates
    go | skip                     ──▶  infers, stages the products
                                  ◀──  progress ...
                                  ◀──  staged | failed
    stop                          ──▶  ends after the current batch, leaves nothing behind

It dies with the supervisor, and whatever it does not understand kills it: the supervisor starts a new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.daemon.companions import CHECKSUM, Checksum
from runtime.daemon.item import shown
from runtime.daemon.pipe import Message, Pipe, PipeClosed
from runtime.daemon.scene import ClaimedScene
from sarwater.errors import (
    DeviceLost,
    HashMismatch,
    ModelError,
    OutputError,
    SarwaterError,
    SceneError,
    UsageError,
)

if TYPE_CHECKING:
    from runtime.backends.base import Backend
    from runtime.products.publish import StagedProducts
    from sarwater.request import Request

_PROGRESS_S = 0.2
_PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


class _Skipped(Exception):
    """The supervisor knows this mask key already."""


class _Stopped(Exception):
    """The daemon is stopping."""


class _NotRead(Exception):
    """The bytes of the input could not be had: somebody has a lease on it, a sector is bad."""


class _ChecksumMismatch(Exception):
    """The bytes are not those of the checksum that came with them, perhaps not all there yet."""


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m runtime.daemon.worker DESCRIPTOR SUPERVISOR`: serve on an inherited socket until it closes."""
    descriptor, supervisor = (int(text) for text in (sys.argv[1:] if argv is None else argv))
    _die_with(supervisor)
    os.dup2(2, 1)  # what a library prints must not look like output of ours
    pipe = Pipe(socket.socket(fileno=descriptor))
    try:
        _serve(pipe)
    except (PipeClosed, _Stopped):
        return 0
    return 0


def _serve(pipe: Pipe) -> None:
    try:
        backend, request = _open(pipe.receive())
    except SarwaterError as error:
        pipe.send(event="refused", reason=error.reason, message=str(error), exit_code=error.exit_code)
        return
    with backend:
        pipe.send(
            event="ready",
            backend=backend.name,
            device=backend.device,
            model=backend.manifest.name,
            precision=backend.manifest.precision,
            model_sha256=backend.model_sha256,
        )
        staged: StagedProducts | None = None
        while True:
            message = pipe.receive()
            if staged is not None and staged.owner is not None:
                staged.owner.close()  # the supervisor has taken it over: it has gone on
            if message["op"] == "stop":
                return
            scene = ClaimedScene.from_dict(message["scene"])
            staged = _Attempt(pipe, backend, request, scene, Path(message["out_dir"]), message["committing"]).run()


def _open(message: Message) -> tuple[Backend, Request]:
    from runtime.backends import open_backend
    from runtime.backends.compared import ComparedBackend
    from runtime.proof import check_golden_tile
    from sarwater.models import find_model
    from sarwater.request import Request
    from sarwater.scenes import archive, trial
    from sarwater.scenes.raster import gdal

    gdal.VersionInfo()  # a library that cannot be loaded is the machine's fault, not that of the first scene
    archive.unpack_below(Path(message["scratch"]))
    trial.warm()
    model = find_model(message["model"])
    request = Request(**message["request"])
    backend = open_backend(model, message["device"])
    try:
        if message["sha256"] not in ("", backend.model_sha256):
            raise HashMismatch(
                f"{model.path}: sha256 is {backend.model_sha256[:12]}…, but {message['sha256'][:12]}… was proven; "
                "prove it again: `sarwater activate`"
            )
        check_golden_tile(backend)
        if reference := message["reference"]:
            beside = open_backend(find_model(Path(reference)), "cpu", backend.manifest.tile_px)
            backend = ComparedBackend(backend, beside, message["compared"])
    except BaseException:
        backend.close()
        raise
    return backend, request


class _Attempt:
    """The worker's work on one scene."""

    def __init__(
        self,
        pipe: Pipe,
        backend: Backend,
        request: Request,
        scene: ClaimedScene,
        out_dir: Path,
        committing: dict[str, str],
    ) -> None:
        self._pipe = pipe
        self._backend = backend
        self._request = request
        self._scene = scene
        self._name = shown(scene.name)
        """For readers, products and messages: the bytes of the name itself are the ledger's."""
        self._out_dir = out_dir
        self._committing = committing
        """Name and key of the mask that becomes visible meanwhile."""
        self._told_s = 0.0

    def run(self) -> StagedProducts | None:
        """Answer with `staged`, `skipped` or `failed`; anything unknown is told and then raised."""
        from runtime.backends.compared import ComparedBackend

        try:
            staged = self._process()
        except _Skipped:
            self._pipe.send(event="skipped")
        except (SceneError, UsageError) as error:  # a window outside of this scene is no fault of the next one's
            self._fail("permanent", error.reason, error)
        except OutputError as error:
            self._fail("output", error.reason, error)
        except _NotRead as error:
            self._fail("transient", "io", error)
        except _ChecksumMismatch as error:
            self._fail("transient", "checksum_mismatch", error)
        except MemoryError as error:
            self._fail("transient", "out_of_memory", error)
        except ModelError as error:  # it answered with something that cannot be
            self._fail("model", error.reason, error, ends=True)
            raise SystemExit(1) from error
        except (_Stopped, PipeClosed):
            raise
        except Exception as error:
            # A CUDA error poisons the context, and a bug may have left anything behind: never go on after these.
            traceback.print_exc()
            self._fail("transient", _reason(error), error, ends=True)
            raise SystemExit(1) from error
        else:
            share = self._backend.changed_share if isinstance(self._backend, ComparedBackend) else None
            self._pipe.send(event="staged", staged=staged.to_dict(), changed_share=share)
            return staged
        return None

    def _process(self) -> StagedProducts:
        from runtime.latency import StageClock
        from runtime.pipeline import process_scene
        from runtime.products.publish import mask_key_of
        from sarwater.identity import mask_key, mask_name, stem_of
        from sarwater.scenes.life import signs_of_life

        record = self._scene.record()
        try:
            files = self._members()
            record.input_bytes = sum(file.stat().st_size for file in files)
            digest = self._hash(files)
        except OSError as error:
            raise _NotRead(f"cannot be read ({error.strerror or error})") from error
        key = mask_key(digest, self._backend.model_sha256, self._request)
        stem = stem_of(self._scene.name)
        visible = self._out_dir / mask_name(stem)
        holder = self._committing.get(visible.name) or (mask_key_of(visible) if os.path.lexists(visible) else key)
        if holder != key:
            stem = f"{stem}-{key[:8]}"  # the same name with other bytes: both masks stay
        attempt = self

        class Clock(StageClock):
            def mark(self, moment: str) -> None:
                super().mark(moment)
                if moment == "validated":
                    attempt._ask(key, digest, mask_name(stem))

        with signs_of_life(lambda: self._progress(0, 0)):
            return process_scene(
                self._scene.path,
                self._backend,
                self._out_dir,
                self._request,
                clock=Clock(),
                progress=self._progress,
                input_sha256=digest,
                name=self._name,
                stem=stem,
                record=record,
                sidecars=[shown(name) for name in self._scene.sidecars],
            )

    def _ask(self, key: str, input_sha256: str, mask: str) -> None:
        """May it go on? The scene is sound and its key known."""
        self._pipe.send(event="validated", key=key, sha256=input_sha256, mask=mask)
        answer = self._pipe.receive()
        if answer["op"] == "skip":
            raise _Skipped
        if answer["op"] == "stop":
            raise _Stopped

    def _members(self) -> list[Path]:
        from sarwater.scenes.readers import members
        from sarwater.scenes.readers.base import Source, check_members

        files = members(self._scene.path, self._name)
        check_members(Source(self._scene.path, self._name, self._request), files)  # before every byte of them is hashed
        return files

    def _hash(self, files: list[Path]) -> str:
        from sarwater.identity import input_sha256

        def sha256_of(root: Path, members: list[Path], name: str, said: str | None) -> str:
            digest = input_sha256(root, members, lambda: self._progress(0, 0), name)
            if said not in (None, digest):
                raise _ChecksumMismatch(
                    f"sha256 of {name} is {digest[:12]}…, but its checksum says {str(said)[:12]}…; send it again"
                )
            return digest

        for file in files if len(files) > 1 else ():  # the checksums that came with loose files
            if checksum := Checksum.read(file.with_name(file.name + CHECKSUM)):
                sha256_of(file, [file], file.name, checksum.sha256)
        return sha256_of(self._scene.path, files, self._name, self._scene.sha256)

    def _progress(self, done: int, total: int) -> None:
        """Tell that there is progress, at most five times a second, and listen for `stop`."""
        now_s = time.monotonic()
        if now_s - self._told_s < _PROGRESS_S and (done < total or not total):
            return
        self._told_s = now_s
        if select.select([self._pipe], [], [], 0)[0] and self._pipe.receive()["op"] == "stop":
            raise _Stopped
        self._pipe.send(event="progress", tiles=done, of=total)

    def _fail(self, kind: str, reason: str, error: BaseException, ends: bool = False) -> None:
        """`ends`: this worker takes no further scene."""
        text = str(error) or type(error).__name__
        text = text.removeprefix(f"{self._name}: ")  # whoever reports it says the name anyway
        text = text.replace(str(self._scene.path.absolute()), self._name)  # GDAL's own words
        gpu = type(error.__cause__ or error).__name__ if isinstance(error, DeviceLost) else ""
        self._pipe.send(event="failed", kind=kind, reason=reason, message=text, errno=_errno(error), gpu=gpu, ends=ends)


def _die_with(supervisor: int) -> None:
    """Be killed when the supervisor goes, and first when memory is short; leave the terminal's Ctrl-C to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != supervisor:
        raise SystemExit(1)  # it went before we could say so
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def _reason(error: Exception) -> str:
    if isinstance(error, SarwaterError):
        return error.reason
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return "out_of_memory"  # or out of processes: the machine is short of something
    return "io" if isinstance(error, OSError) else "bug"


def _errno(error: BaseException | None) -> int | None:
    while error is not None:
        if isinstance(error, OSError) and error.errno:
            return error.errno
        error = error.__cause__
    return None


if __name__ == "__main__":
    sys.exit(main())
