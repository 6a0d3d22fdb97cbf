"""The course of a run: log.csv, TensorBoard, and a progress bar or lines on the terminal.

log.csv holds nothing that depends on the clock, so that a run, resumed or not, writes the same file.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

from sarwater.atomic import replacing
from sarwater.errors import DependencyMissing
from train.scoring.scores import Scores

COLUMNS = ("step", "learning_rate", "loss", "pooled_iou", "mean_tile_iou")


class Curve:
    """A context manager. Raises DependencyMissing where TensorBoard is wanted and not installed."""

    def __init__(self, folder: Path, first_step: int, steps: int, *, tensorboard: bool) -> None:
        self.first_step, self.steps = first_step, steps
        path = folder / "log.csv"
        if first_step:
            _cut_after(path, first_step)
        else:
            path.write_text(",".join(COLUMNS) + "\n")
        self._board = _tensorboard(folder / "tensorboard", first_step) if tensorboard else None
        self._file = path.open("a", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._bar, self._task = _progress_bar(first_step, steps) if sys.stderr.isatty() else (None, None)
        self._started_s = time.monotonic()

    def row(self, step: int, rate: float, loss: float, scores: Scores | None) -> None:
        ious = (f"{scores.pooled_iou:.6f}", f"{scores.mean_tile_iou:.6f}") if scores else ("", "")
        self._writer.writerow([step, f"{rate:.8g}", f"{loss:.8g}", *ious])
        self._file.flush()
        if self._board:
            speed = (step - self.first_step) / max(time.monotonic() - self._started_s, 1e-9)
            values = {"loss": loss, "learning_rate": rate, "steps_per_second": speed}
            if scores:
                values |= {"held_out/pooled_iou": scores.pooled_iou, "held_out/mean_tile_iou": scores.mean_tile_iou}
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
        if self._bar:
            self._bar.update(self._task, completed=step, description=f"loss {loss:.4f}")

    def say(self, step: int, loss: float, scores: Scores | None) -> None:
        """One line per evaluation."""
        elapsed_s = time.monotonic() - self._started_s
        speed = (step - self.first_step) / max(elapsed_s, 1e-9)
        parts = [f"step {step}/{self.steps}", f"loss {loss:.4f}"]
        if scores:
            parts += [f"held-out pooled IoU {scores.pooled_iou:.4f}", f"mean-tile IoU {scores.mean_tile_iou:.4f}"]
        parts += [f"{speed:.2f} steps/s", f"ETA {_duration((self.steps - step) / max(speed, 1e-9))}"]
        line = "  ".join(parts)
        self._bar.console.print(line) if self._bar else print(line, file=sys.stderr, flush=True)

    def __enter__(self) -> Curve:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()
        if self._board:
            self._board.close()
        self._file.close()


def _cut_after(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint that the run resumes from; its last line may be half written."""
    rows = path.read_text().splitlines()
    kept = [row for row in rows[1:] if row.count(",") == len(COLUMNS) - 1 and int(row.split(",")[0]) <= step]
    with replacing(path) as temporary:
        temporary.write_text("\n".join([rows[0], *kept]) + "\n")


def _tensorboard(folder: Path, first_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise DependencyMissing("the curve needs tensorboard: pip install tensorboard, or --no-tensorboard") from error
    return SummaryWriter(str(folder), purge_step=first_step + 1)


def _progress_bar(first_step: int, steps: int) -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    return bar, bar.add_task("", total=steps, completed=first_step)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
