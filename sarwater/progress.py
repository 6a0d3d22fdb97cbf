"""Long work speaks: a bar where a person watches, else a line within two seconds and then steadily. On stderr.

with Progress("simulating", "scenes") as progress:
    for done, ... in enumerate(...):
        progress(done, total)
"""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType
from typing import Any

FIRST_S = 1.5
"""Until the first line; work that is done by then says nothing off a terminal."""
EVERY_S = 10.0


class Progress:
    """How far a piece of work is. A context manager; calls are cheap, and may come from any thread."""

    def __init__(
        self, title: str, unit: str = "", *, quiet: bool = False, every_s: float = EVERY_S, begun: float = 0
    ) -> None:
        """`unit` is what is counted, in the plural; `quiet` says nothing at all; `begun` was done before."""
        self._title, self._unit, self._quiet, self._every_s = title, unit, quiet, every_s
        self._begun, self._done, self._total, self._note = begun, begun, 0.0, ""
        self._over = threading.Event()
        self._began_s = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._speaker: threading.Thread | None = None

    def __call__(self, done: float, total: float = 0, note: str = "") -> None:
        """`done` of `total` (0 where nobody knows); `note` is what is at work just now."""
        self._done, self._total, self._note = done, total, note
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None, note=note)

    def phase(self, name: str, done: float, steps: float) -> None:
        """`done` of `steps` of one phase among several, nested ones too: that with the most steps so far leads."""
        if steps > 1 and steps >= self._total:
            self(done, steps, name)
        else:
            self(self._done, self._total, name)

    def __enter__(self) -> Progress:
        if not self._quiet and sys.stderr.isatty():
            self._open_bar()
        elif not self._quiet:
            self._speaker = threading.Thread(target=self._speak, name="progress", daemon=True)
            self._speaker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._bar is not None:
            self._bar.stop()
        if self._speaker is not None:
            self._speaker.join()

    def line(self) -> str:
        """`simulating: 12 of 60 scenes, 20 %, about 48 s left`."""
        passed_s = time.monotonic() - self._began_s
        words = [f"{self._done:g}" + (f" of {self._total:g}" if self._total else ""), self._unit]
        parts = [" ".join(filter(None, words))] if self._done or self._total else []
        if self._total and self._done > self._begun:
            share = min(1.0, self._done / self._total)
            left_s = passed_s * max(0.0, self._total - self._done) / (self._done - self._begun)
            parts += [f"{share:.0%}", f"about {left_s:.0f} s left"]
        else:
            parts.append(f"{passed_s:.0f} s so far")
        return f"{self._title}: " + ", ".join([*parts, *filter(None, [self._note])])

    def _speak(self) -> None:
        wait_s = FIRST_S
        while not self._over.wait(wait_s):
            print(self.line(), file=sys.stderr, flush=True)
            wait_s = self._every_s

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=None, completed=int(self._begun), note="")
