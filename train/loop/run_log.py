"""The course of a run: log.csv, TensorBoard, and what is said of it on the terminal.

log.csv holds nothing that depends on the clock, so that a run, resumed or not, writes the same file.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path
from typing import Any

from sarwater.atomic import replacing
from sarwater.dependencies import require
from sarwater.progress import Progress
from train.scoring.scores import Scores

COLUMNS = ("step", "learning_rate", "loss", "pooled_iou", "mean_tile_iou")


class RunLog:
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
        self._progress = Progress("training", "steps", begun=first_step)
        self._note = ""
        self._started_s = time.monotonic()

    def at(self, step: int, doing: str = "") -> None:
        """After each step, and before what takes longer than one."""
        self._progress(step, self.steps, doing or self._note)

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
        self._note = f"loss {loss:.4f}"
        self.at(step)

    def say(self, step: int, loss: float, scores: Scores | None) -> None:
        """One line per evaluation."""
        elapsed_s = time.monotonic() - self._started_s
        speed = (step - self.first_step) / max(elapsed_s, 1e-9)
        parts = [f"step {step}/{self.steps}", f"loss {loss:.4f}"]
        if scores:
            parts += [f"held-out pooled IoU {scores.pooled_iou:.4f}", f"mean-tile IoU {scores.mean_tile_iou:.4f}"]
        parts += [f"{speed:.2f} steps/s", f"ETA {_duration((self.steps - step) / max(speed, 1e-9))}"]
        print("  ".join(parts), file=sys.stderr, flush=True)

    def __enter__(self) -> RunLog:
        self._progress.__enter__()
        self.at(self.first_step)
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.__exit__(None, None, None)
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
    board = require("torch.utils.tensorboard", "--tensorboard", "pip install tensorboard, or --no-tensorboard")
    return board.SummaryWriter(str(folder), purge_step=first_step + 1)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
