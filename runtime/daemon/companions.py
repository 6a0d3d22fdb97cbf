"""What may lie beside a scene and speaks of it: a marker `NAME.done`, and a checksum `NAME.sha256`.

Both are read as hostile input is: regular files only, without waiting, a few bytes of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from sarwater.regular import open_regular
from sarwater.scenes.readers import find_reader

MARKER = ".done"
CHECKSUM = ".sha256"
COMPANIONS = (MARKER, CHECKSUM)
_MOST_BYTES = 64 << 10


@dataclass(frozen=True)
class Checksum:
    """What `NAME.sha256` says; `size_bytes` is None in the plain format of sha256sum."""

    sha256: str
    size_bytes: int | None = None

    @classmethod
    def parse(cls, text: str) -> Checksum | None:
        """Of `<sha256>  <name>` or `{"sha256": ..., "size": ...}`; None where it is neither (perhaps half written)."""
        size = None
        with contextlib.suppress(ValueError, AttributeError, RecursionError):
            document = json.loads(text)
            text, size = str(document.get("sha256")), document.get("size")
        digest = text.split()[0].lower().lstrip("\\") if text.split() else ""
        if not re.fullmatch(r"[0-9a-f]{64}", digest) or not (size is None or type(size) is int):
            return None
        return cls(digest, size)

    @classmethod
    def read(cls, path: Path) -> Checksum | None:
        """None where there is none, or none that makes sense yet."""
        if not is_companion(path):
            return None
        try:
            return cls.parse(read_head(path, _MOST_BYTES).decode(errors="replace"))
        except OSError:
            return None


def is_companion(path: Path) -> bool:
    """Can it be a marker or a checksum, and be moved like one: a small regular file that is no scene itself?"""
    try:
        status = path.lstat()
    except OSError:  # also for a name too long
        return False
    small = stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES
    return small and find_reader(path) is None


def read_head(path: Path, size_bytes: int) -> bytes:
    """The first bytes of a regular file, never waiting for a pipe that took its place. Raises OSError."""
    with open_regular(path, os.O_NOFOLLOW) as file:
        return file.read(size_bytes)


def scene_of(companion: str) -> str:
    """The name that a marker or a checksum speaks of."""
    return os.path.splitext(companion)[0]
