"""Report files that commands write."""

from __future__ import annotations

import os
from pathlib import Path

from sarwater.atomic import replacing
from sarwater.errors import OutputError


def check_writable(path: Path) -> None:
    """Now, not after minutes of work. Raises OutputError."""
    if path.is_dir():
        raise OutputError(f"{path}: a folder; expected a file to write")
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    if not folder.is_dir():
        raise OutputError(f"{path}: {folder} is a file; expected a folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: {folder} may not be written to by this user; choose another folder")


def write_report(path: Path, text: str) -> None:
    """All of it or nothing. Raises OutputError."""
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free disk space or choose another folder") from error
