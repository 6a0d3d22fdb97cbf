"""Where runs lie: runs/<model>/<date>/, and runs/<model>/latest, a link to the newest of them that has a best.pt."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from pathlib import Path

from sarwater.models import RUNS

LATEST = "latest"


def new_run(model: str) -> Path:
    return RUNS / model / datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def link_latest(run: Path) -> None:
    """Let the link beside `run` name the newest run with a best.pt, in one step: whoever follows it finds the old one
    or the new one. Runs that lie elsewhere than under runs/<model>/ have no link."""
    folder = run.parent
    if folder.parent.absolute() != RUNS.absolute():
        return
    link = folder / LATEST
    finished = [path for path in folder.glob("*/best.pt") if path.parent.name != LATEST]
    newest = max(finished, key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        link.unlink(missing_ok=True)
        return
    temporary = folder / f".{LATEST}.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(newest.parent.name)
    temporary.replace(link)
