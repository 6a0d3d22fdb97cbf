"""Where a scene's file is, and the renames and fsyncs that move it: inbox -> work -> done or quarantine.

    INCOMING/<name>/                     gathered from loose files
    STATE/work/<job>/input.<ext>         claimed
    STATE/done/<name>                    its mask is visible
    STATE/quarantine/<job>/<name>        with reason.json
    STATE/unpacked/<worker>/             what a worker unpacks while it opens an archive
    STATE/ledger.sqlite, lock

Every move is one rename on one file system, after which the folder that gained the file is fsynced, then the folder
that lost it: a power cut may leave an entry in both or the old one, never none.
"""

from __future__ import annotations

import contextlib
import errno
import filecmp
import itertools
import json
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.daemon.companions import CHECKSUM, MARKER, Checksum, is_companion
from runtime.daemon.gathering import same_file
from runtime.daemon.item import ItemError, about
from sarwater.atomic import fsync_folder, make_folder, name_once, replacing
from sarwater.errors import ConfigurationError

log = logging.getLogger("sarwater.watch")

REASON = "reason.json"
_PROBE = ".sarwater-probe-"
_BESIDE = {MARKER: "marker", CHECKSUM: "manifest"}
"""What may lie beside a scene in the inbox, and its name beside the claimed one (of every version of `work`)."""


@dataclass(frozen=True)
class Folders:
    """The folders of one daemon."""

    incoming: Path
    outgoing: Path
    state: Path
    read_only_inbox: bool = False

    @property
    def work(self) -> Path:
        return self.state / "work"

    @property
    def done(self) -> Path:
        return self.state / "done"

    @property
    def quarantine(self) -> Path:
        return self.state / "quarantine"

    def prepare(self) -> None:
        """Make what is missing and try every move that will be needed.

        Raises ConfigurationError where a restart cannot help; OSError for a full disk, which may pass.
        """
        if not self.incoming.is_dir():
            raise ConfigurationError(f"incoming {self.incoming}: no such folder; make it, or name another one")
        for folder in (self.outgoing, self.state, self.work, self.done, self.quarantine):
            try:
                make_folder(folder)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    raise
                raise ConfigurationError(f"{folder}: cannot be made ({error.strerror})") from error
        self._probe_read()
        if not self.read_only_inbox:
            self._probe_moves()

    def _probe_read(self) -> None:
        try:
            os.listdir(self.incoming)
        except OSError as error:
            raise ConfigurationError(f"incoming {self.incoming}: cannot be read ({error.strerror})") from error

    def _probe_moves(self) -> None:
        """Only a real rename tells: one file system may be mounted twice, and a rename between the mounts fails."""
        name = f"{_PROBE}{os.getpid()}"
        probe, there = self.incoming / name, self.work / name
        try:
            probe.touch()
            os.rename(probe, there)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise
            if error.errno == errno.EXDEV:
                raise ConfigurationError(
                    f"incoming {self.incoming} and state {self.state} are on different file systems or mounts; "
                    "a scene is claimed by a rename, so put both under one"
                ) from error
            raise ConfigurationError(
                f"incoming {self.incoming}: scenes cannot be moved out of it ({error.strerror}); "
                "grant write permission, or set read_only_inbox = true"
            ) from error
        finally:
            for path in (probe, there):
                with contextlib.suppress(OSError):
                    path.unlink()

    def drop_unpacked(self) -> None:
        """Remove what workers that were killed had unpacked; only for the one process that owns the folders, before it
        has a worker."""
        shutil.rmtree(unpacked_folder(self.state), ignore_errors=True)

    def drop_probes(self) -> None:
        """Remove the probes that a power cut left; only for the one process that owns the folders."""
        for folder in (self.work, *(() if self.read_only_inbox else (self.incoming,))):
            for path in folder.glob(f"{_PROBE}*"):
                with contextlib.suppress(OSError):  # no probe of ours, though it is called like one
                    path.unlink()

    def folder(self, job: int) -> Path:
        return self.work / f"{job:08d}"

    def quarantine_folder(self, job: int) -> Path:
        return self.quarantine / f"{job:08d}"

    def held(self, job: int, name: str) -> Path | None:
        """The claimed scene, wherever it is worked on; None where it is not there."""
        path = self.incoming / name if self.read_only_inbox else self.folder(job) / input_name(name)
        return path if os.path.lexists(path) else None

    def sha256_beside(self, job: int, name: str) -> str | None:
        """What the checksum that came with a claimed scene says; None where there was none."""
        path = self.incoming / (name + CHECKSUM) if self.read_only_inbox else self.folder(job) / _BESIDE[CHECKSUM]
        checksum = Checksum.read(path)
        return checksum.sha256 if checksum else None

    def take(self, job: int, name: str) -> None:
        """Move the scene out of the inbox.

        Raises FileNotFoundError where it is gone and ItemError where it may not be moved; then nothing has changed,
        while whatever fails after this one rename leaves a scene that only `recover` can deal with.
        """
        if self.read_only_inbox:
            return
        folder = self.folder(job)
        folder.mkdir(exist_ok=True)
        try:
            with about(name):
                os.rename(self.incoming / name, folder / input_name(name))
        except (FileNotFoundError, ItemError):
            with contextlib.suppress(OSError):  # an earlier claim may have left something in it
                folder.rmdir()
            raise

    def secure(self, job: int, name: str) -> Path:
        """Make what `take` did last, and give the scene's place."""
        if self.read_only_inbox:
            self.forget_quarantine(job, name)
            return self.incoming / name
        folder = self.folder(job)
        self._move_beside(name, folder, back=False)
        fsync_folder(folder)
        fsync_folder(self.work)
        fsync_folder(self.incoming)
        self.forget_quarantine(job, name)
        return folder / input_name(name)

    def give_back(self, job: int, name: str) -> bool:
        """Put a claimed scene back into the inbox; False where its name is taken there by now, or it may not go."""
        if self.read_only_inbox:
            return True
        held, there = self.folder(job) / input_name(name), self.incoming / name
        self._move_beside(name, self.folder(job), back=True)
        try:
            with about(name):
                if held.is_dir():
                    os.rename(held, there)  # refuses to replace anything but an empty folder
                else:
                    name_once(held, there)
        except ItemError:
            return False
        fsync_folder(self.incoming)
        held.unlink(missing_ok=True)
        self.drop(self.folder(job))
        return True

    def retire(self, job: int, name: str, remove: bool) -> None:
        """The mask is visible and the ledger knows: the input leaves `work`."""
        if not self.folder(job).is_dir():
            return  # a read-only inbox
        held = self.folder(job) / input_name(name)
        if held.exists():
            try:
                with about(name):
                    self._remove(held) if remove else self._keep(held, job, name)
            except ItemError as error:
                self._set_aside(job, name, str(error))
                return
        self.drop(self.folder(job))

    def _remove(self, held: Path) -> None:
        shutil.rmtree(held) if held.is_dir() else held.unlink()

    def _keep(self, held: Path, job: int, name: str) -> None:
        if same_file(held, self.done / name):
            held.unlink()  # a power cut left the move half done
        else:
            os.rename(held, self.done_path(job, name))
            fsync_folder(self.done)

    def _set_aside(self, job: int, name: str, why: str) -> None:
        """What may be neither removed nor moved goes with the folder that it lies in, which is ours."""
        there = self.done_path(job, f"{job:08d}")
        log.warning("%s: published, but it cannot be moved or removed (%s); kept in %s", name, why, there)
        # Without an fsync of `work`: `recover` retires once more what is still there.
        os.rename(self.folder(job), there)
        fsync_folder(self.done)

    def done_path(self, job: int, name: str) -> Path:
        """`done/NAME`, with the job number in it where that name was kept before."""
        path = self.done / name
        numbers = itertools.chain((str(job),), (f"{job}-{again}" for again in itertools.count(1)))
        while os.path.lexists(path):  # the numbers of a ledger that was lost may be in use
            path = self.done / numbered(name, next(numbers))
        return path

    def quarantine_scene(self, job: int, name: str, reason: dict[str, Any]) -> None:
        """Move the scene's folder to quarantine, with `reason` beside the input."""
        folder = self.folder(job)
        folder.mkdir(exist_ok=True)
        with replacing(folder / REASON) as temporary:
            temporary.write_text(json.dumps(reason, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        there = self.quarantine_folder(job)
        os.rename(folder, there)
        fsync_folder(self.quarantine)
        fsync_folder(self.work)
        if not os.path.lexists(there / name):  # it may be called as what lies there already
            with contextlib.suppress(FileNotFoundError):  # in a read-only inbox the scene stays where it is
                os.rename(there / input_name(name), there / name)

    def quarantined(self, job: int, name: str) -> Path | None:
        """The scene in quarantine, or None."""
        folder = self.quarantine_folder(job)
        return next((path for path in (folder / name, folder / input_name(name)) if os.path.lexists(path)), None)

    def forget_quarantine(self, job: int, name: str) -> None:
        """Remove what the last round of a scene that was sent round again, and is claimed by now, left in quarantine.

        Only here, where nobody else can be putting the same job into quarantine. A scene with other bytes, which took
        the name meanwhile, is not what was sent round: the one in quarantine is kept then, under another number.
        """
        folder = self.quarantine_folder(job)
        if not folder.is_dir():
            return
        left, held = self.quarantined(job, name), self.held(job, name)
        if left is None or (held is not None and same_bytes(left, held)):
            shutil.rmtree(folder)
        else:
            aside = next(p for n in itertools.count(1) if not (p := folder.with_name(f"{folder.name}-{n}")).exists())
            log.warning("%s: not the scene that is claimed under its number now; kept as %s", left, aside)
            os.rename(folder, aside)
        fsync_folder(self.quarantine)

    def done_copy(self, job: int, name: str) -> Path | None:
        """The scene under done, or None; a name that was used again carries its job number."""
        paths = (self.done / numbered(name, str(job)), self.done / name)
        return next((path for path in paths if os.path.lexists(path)), None)

    def release(self, source: Path, name: str) -> None:
        """Put a finished scene back into the inbox for another round.

        Raises FileExistsError where the name is taken, FileNotFoundError where the scene is gone.
        """
        there = self.incoming / name
        if os.path.lexists(there):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(there))
        os.rename(source, there)
        fsync_folder(self.incoming)
        with contextlib.suppress(FileNotFoundError):  # a daemon that claimed it has removed its quarantine folder
            fsync_folder(source.parent)

    def _move_beside(self, name: str, folder: Path, back: bool) -> None:
        """Marker and checksum go where the scene goes, so that none is left for the next scene of that name."""
        for suffix, held_name in _BESIDE.items():
            source, target = self.incoming / (name + suffix), folder / held_name
            if back:
                source, target = target, source
            if is_companion(source):
                with contextlib.suppress(FileNotFoundError):  # its owner took it away just now
                    try:
                        with about(name):
                            os.rename(source, target)
                    except ItemError as error:
                        log.warning("%s: cannot be moved (%s); it stays in the inbox", source, error)

    def drop(self, folder: Path) -> None:
        """Remove a folder under work that holds no scene any more; one that does stays, with an OSError."""
        for path in folder.iterdir():
            if not path.name.startswith("input"):
                path.unlink()
        folder.rmdir()  # not synced: `recover` knows what to do with one that comes back


def unpacked_folder(state: Path) -> Path:
    return state / "unpacked"


def reason_in(folder: Path) -> tuple[str, str, str]:
    """Reason, message and the scene's name, as it is shown, of a folder in quarantine."""
    try:
        document = json.loads((folder / REASON).read_text(encoding="utf-8"))
        return str(document["reason"]), str(document["message"]), str(document.get("name", ""))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "unknown", f"its {REASON} cannot be read", ""


def same_bytes(one: Path, other: Path) -> bool:
    """Are both files, with the same content?"""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def numbered(name: str, number: str) -> str:
    """`scene.7.tif`, short enough for every file system."""
    stem, suffix = os.path.splitext(os.fsencode(name))
    return os.fsdecode(stem[:200] + f".{number}".encode() + suffix[:20])


def input_name(name: str) -> str:
    """`input` with the scene's own suffix where that is harmless: drivers look at it, and at nothing else."""
    suffix = os.path.splitext(name)[1]
    return "input" + (suffix.lower() if re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix) else "")
