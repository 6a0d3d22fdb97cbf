"""The daemon with the worker of `faulty_worker`; on request without events, or with another wall clock."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from runtime.commands import watch
from runtime.daemon import inotify, supervisor
from tests.torture.faulty_worker import shift_clock


class Supervisor(supervisor.Supervisor):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        command = (sys.executable, "-m", "tests.torture.faulty_worker")
        super().__init__(*arguments, worker_command=command, **keywords)


class NoHints(inotify.Hints):
    def __init__(self, folder: Path) -> None:
        raise OSError(38, "inotify is not there", str(folder))


if __name__ == "__main__":
    shift_clock()
    supervisor.Supervisor = Supervisor  # type: ignore[misc]
    if "TORTURE_NO_EVENTS" in os.environ:
        supervisor.Hints = NoHints  # type: ignore[misc]
    sys.exit(watch.cli())
