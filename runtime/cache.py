"""Where things are kept that can be made again: compiled kernels, TensorRT-RTX's runtime cache."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from sarwater.atomic import replacing

CACHE_VARIABLE = "SARWATER_CACHE"

log = logging.getLogger("sarwater.cache")


def cache_folder() -> Path:
    """$SARWATER_CACHE; else `cache` in the state folder that systemd gives a service; else the user's cache folder."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    if state := os.environ.get("STATE_DIRECTORY"):
        return Path(state.split(":")[0]) / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sarwater"


def recall(name: str) -> bytes:
    """What was kept under `name`; empty where nothing was, or nothing can be read."""
    with contextlib.suppress(OSError):
        return (cache_folder() / name).read_bytes()
    return b""


def keep(name: str, content: bytes) -> None:
    """Written aside and renamed. Where it cannot be written the next start is slower, and a warning says so."""
    path = cache_folder() / name
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
    except OSError as error:
        log.warning(
            "%s: cannot be kept (%s); the next start is slower: set %s to a folder that can be written",
            path,
            error.strerror,
            CACHE_VARIABLE,
        )
