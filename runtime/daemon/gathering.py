"""What lies loose in the inbox and is one product (loose.py) becomes a folder there, which is claimed as any other."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from runtime.daemon.companions import COMPANIONS, is_companion
from runtime.daemon.item import ItemError, about
from sarwater.atomic import fsync_folder

log = logging.getLogger("sarwater.watch")

_GATHERING = ".sarwater-gathering-"


def gather(incoming: Path, job: int, name: str, files: Sequence[str]) -> Path:
    """Make the loose `files` of one product, and the marker and checksum of each, the folder `name` in the inbox,
    which is then claimed as any other. Seen from outside it appears whole.

    All or nothing: raises FileNotFoundError where one is gone, ItemError where one may not be moved or `name` is
    taken; those that were moved before are back then. A crash leaves a hidden folder for `return_gathered`.
    """
    hidden, there = incoming / f"{_GATHERING}{job:08d}", incoming / name
    companions = [file + suffix for file in files for suffix in COMPANIONS]
    moved = [*files, *(file for file in companions if is_companion(incoming / file))]
    with about(name):
        if name not in files and os.path.lexists(there):
            raise FileExistsError(errno.EEXIST, f"{name} is there already", str(there))
        hidden.mkdir()
        try:
            for file in moved:
                os.rename(incoming / file, hidden / file)
            fsync_folder(hidden)
            os.rename(hidden, there)
        except OSError:
            _scatter(incoming, hidden)
            raise
    return there  # the claim that follows syncs the inbox


def scatter(incoming: Path, name: str) -> None:
    """Undo `gather`: the files lie loose again."""
    _scatter(incoming, incoming / name)


def return_gathered(incoming: Path) -> None:
    """Put back what a `gather` that was cut short moved; only for the one process that owns the folders."""
    for hidden in incoming.glob(f"{_GATHERING}*"):
        if not hidden.is_symlink() and hidden.is_dir():
            try:
                with about(hidden.name):
                    _scatter(incoming, hidden)
            except ItemError as error:
                log.error("%s: cannot be put back (%s); left as it is, for the next start or for you", hidden, error)


def _scatter(incoming: Path, folder: Path) -> None:
    for path in sorted(folder.iterdir()):
        there = incoming / path.name
        if not os.path.lexists(there):
            os.rename(path, there)
        elif same_file(path, there):
            path.unlink()  # a power cut left it under both names
    fsync_folder(incoming)
    if any(folder.iterdir()):  # other files have the names by now: these stay together, in sight
        aside = next(p for n in itertools.count(1) if not os.path.lexists(p := incoming / f"recovered-{n}"))
        log.warning("%s: files of these names are in the inbox again; kept as %s", folder, aside)
        os.rename(folder, aside)
    else:
        folder.rmdir()


def same_file(one: Path, other: Path) -> bool:
    """Two names of one file, as a power cut in a move leaves them?"""
    return other.exists() and one.samefile(other)
