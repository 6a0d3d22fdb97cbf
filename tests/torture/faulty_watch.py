"""The daemon with the worker of `faulty_worker`."""

from __future__ import annotations

import sys
from typing import Any

from runtime import supervisor, watch


class Supervisor(supervisor.Supervisor):
    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        command = (sys.executable, "-m", "tests.torture.faulty_worker")
        super().__init__(*arguments, worker_command=command, **keywords)


if __name__ == "__main__":
    supervisor.Supervisor = Supervisor  # type: ignore[misc]
    sys.exit(watch.cli())
