"""Progress of a build, on standard error: a bar with the time left in a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 10.0


class BuildProgress:
    """Call it with (phase, steps done, steps). Phases nest; the bar follows the one with the most steps, which is
    the timing of kernels, where a build on a Jetson spends its minutes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[phase]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._terminal = self._bar.console.is_terminal
        self._task: TaskID | None = None
        self._longest = 0
        self._next_line_s = time.monotonic() + LINE_EVERY_S

    def __enter__(self) -> BuildProgress:
        if self._terminal:
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, phase="")
        else:
            print(f"{self._title} ...", file=sys.stderr, flush=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal:
            self._bar.stop()

    def __call__(self, phase: str, done: int, steps: int) -> None:
        if steps >= self._longest and steps > 1:
            self._longest = steps
            if self._task is not None:
                self._bar.update(self._task, total=steps, completed=done)
        if self._task is not None:
            self._bar.update(self._task, phase=phase)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINE_EVERY_S
            print(f"{self._title}: {phase}, {done} of {steps}", file=sys.stderr, flush=True)
