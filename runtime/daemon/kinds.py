"""What a name in the inbox is, told without opening a scene: one look at its status, its name and its first bytes."""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path

from runtime.daemon.companions import read_head
from runtime.daemon.fingerprint import Fingerprint, fingerprint_of, fingerprint_of_status
from runtime.daemon.loose import SCENE_SUFFIXES, parts_of, why_no_scene
from sarwater.errors import SceneError
from sarwater.scenes.readers import find_reader, reader_of
from sarwater.scenes.sidecars import image_of, is_mask, is_overview

_HEAD_BYTES = 512
_UPLOADING = re.compile(
    rf".*(?i:{'|'.join(map(re.escape, SCENE_SUFFIXES))})\.(?!sha\d)(?=[a-z]*[A-Z0-9])[A-Za-z0-9]{{6,8}}", re.DOTALL
)
"""A scene's name, a dot and random characters: what aws, mktemp and others call a file until it is whole."""


class Kind(Enum):
    SCENE = "scene"
    FOLDER = "folder"
    """A folder that a reader knows, complete or not."""
    PARTS = "parts"
    """A header, which stands for the pixels beside it."""
    IGNORED = "ignored"
    """Nothing that a daemon should open: a link, FIFO, device, folder of no kind, text, a name outside of `accept`."""


def examine(path: Path, accept: Sequence[str]) -> tuple[Kind, Fingerprint, str]:
    """What it is, and why it is ignored where it is. `accept` are the patterns that a file's name may match.

    Raises OSError, ValueError where it cannot be looked at.
    """
    name = path.name
    status = path.lstat()
    fingerprint = fingerprint_of_status(status)
    if stat.S_ISDIR(status.st_mode):
        if parts := parts_of(path):
            return Kind.IGNORED, fingerprint, parts.waits
        if find_reader(path) is not None:
            return Kind.FOLDER, fingerprint_of(path), ""
        return Kind.IGNORED, fingerprint, f"{_why_no_scene(path)}; every scan looks at it again"
    if not stat.S_ISREG(status.st_mode):
        why = "a link or a special file, expected a regular file or a folder"
    elif is_uploading(name):
        why = "named as an upload that is not whole yet; it is looked at again under its final name"
    elif not accepts(name, accept):
        why = f"its name is none that the setting `accept` takes: {', '.join(accept)}"
    elif part := why_no_scene(path):
        why = part
    elif parts := parts_of(path):
        if parts.head == name:
            return Kind.PARTS, fingerprint, ""
        why = parts.waits
    elif is_overview(name):
        why = "the overviews of an image, no scene"
    elif is_mask(name):
        why = "says what of an image was measured, and is not read: a GeoTIFF has to hold that itself"
    elif _is_text(path):
        why = "a text file, no scene"
        if image_of(name):
            why = "says where an image lies, and is not read: a GeoTIFF has to say so itself"
    else:
        return Kind.SCENE, fingerprint, ""
    return Kind.IGNORED, fingerprint, why


def is_uploading(name: str) -> bool:
    """Is it a name that uploaders give a scene until it is whole?"""
    return _UPLOADING.fullmatch(name) is not None


def accepts(name: str, accept: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in accept)


def _is_text(path: Path) -> bool:
    """Notes, listings, checksums: no alarm. A file that is called as scenes are, or may not be read, is none."""
    if path.suffix.lower() in SCENE_SUFFIXES:
        return False
    try:
        head = read_head(path, _HEAD_BYTES)
    except PermissionError:
        return False
    return not any(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in head) and find_reader(path) is None


def _why_no_scene(folder: Path) -> str:
    try:
        reader_of(folder)
    except SceneError as error:
        return str(error).removeprefix(f"{folder.name}: ")
    return "it changed meanwhile"
