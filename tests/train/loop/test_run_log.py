from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest

from sarwater.metrics import Confusion
from train.loop.run_log import RunLog
from train.scoring.scores import Scores, TileScore

SCORES = Scores((TileScore("a", Confusion(6, 1, 1, 2)),))


def test_rows_after_the_checkpoint_are_dropped_on_resume_half_lines_too(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("step,learning_rate,loss,pooled_iou,mean_tile_iou\n10,0.1,2,,\n20,0.1,1,0.5,0.5\n30,0.1,1,,\n4")
    with RunLog(tmp_path, first_step=20, steps=40, tensorboard=False) as log:
        log.row(30, 0.1, 0.75, SCORES)
    assert path.read_text().splitlines()[1:] == ["10,0.1,2,,", "20,0.1,1,0.5,0.5", "30,0.1,0.75,0.750000,0.750000"]


def test_tensorboard_gets_the_same_figures(tmp_path: Path) -> None:
    with RunLog(tmp_path, first_step=0, steps=40, tensorboard=True) as log:
        log.row(10, 0.1, 0.75, SCORES)
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"held_out/pooled_iou" in events.read_bytes()


def test_without_a_terminal_each_evaluation_is_one_line_with_its_eta(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with RunLog(tmp_path, first_step=0, steps=40, tensorboard=False) as log:
        log.say(10, 0.75, SCORES)
    line = capsys.readouterr().err
    assert line.startswith("step 10/40  loss 0.7500  held-out pooled IoU 0.7500  mean-tile IoU 0.7500")
    assert "ETA" in line


def test_on_a_terminal_there_is_a_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with RunLog(tmp_path, first_step=0, steps=40, tensorboard=False) as log:
        log.at(20)
        log.row(40, 0.1, 0.75, None)
        time.sleep(0.3)  # the bar is drawn ten times a second
        log.say(40, 0.75, None)
    assert "40/40" in screen.getvalue()
    assert "loss 0.7500" in screen.getvalue()


def test_off_a_terminal_the_step_the_loss_and_the_time_left_are_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sarwater.progress.FIRST_S", 0.05)
    with RunLog(tmp_path, first_step=0, steps=40, tensorboard=False) as log:
        log.row(10, 0.1, 0.75, None)
        time.sleep(0.2)
    assert re.search(r"training: 10 of 40 steps, 25%, about \d+ s left, loss 0\.7500", capsys.readouterr().err)
