"""Long work as another process does it: off a terminal, with stderr in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time

from sarwater.progress import Progress
from tests.conftest import CHECKOUT

WORK = """
import sys, time
from sarwater.progress import Progress
began_s = time.monotonic()
with Progress("simulating", "scenes", quiet={quiet}, every_s=0.3) as progress:
    progress(3, 12, "the third")
    time.sleep({seconds})
"""


def test_off_a_terminal_it_speaks_within_two_seconds_and_then_steadily() -> None:
    code = WORK.format(quiet=False, seconds=3)
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=CHECKOUT) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        assert process.poll() is None  # it speaks while it works
        process.communicate()
    assert all("simulating: 3 of 12 scenes, 25%, about " in line for line in lines)
    assert all("the third" in line for line in lines)


def test_the_first_line_is_due_before_two_seconds() -> None:
    from sarwater.progress import EVERY_S, FIRST_S

    assert FIRST_S < 2
    assert EVERY_S <= 30


def test_work_that_is_done_at_once_says_nothing() -> None:
    done = run(WORK.format(quiet=False, seconds=0))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_work_says_nothing_however_long_it_takes() -> None:
    done = run(WORK.format(quiet=True, seconds=2))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_error_ends_it_and_is_not_swallowed() -> None:
    done = run(WORK.format(quiet=False, seconds=0) + "    raise ValueError('broken')\n")
    assert done.returncode == 1
    assert "ValueError: broken" in done.stderr


def test_on_a_terminal_it_is_a_bar() -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", WORK.format(quiet=False, seconds=1)], stderr=theirs, cwd=CHECKOUT)
    os.close(theirs)
    shown, until_s = b"", time.monotonic() + 30
    while time.monotonic() < until_s:
        try:
            shown += os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
    assert process.wait() == 0
    os.close(ours)
    assert b"3/12" in shown


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CHECKOUT, timeout=60)


def test_the_phase_with_the_most_steps_leads() -> None:
    progress = Progress("building", quiet=True)
    progress.phase("tactics", 30, 120)
    progress.phase("reading", 1, 2)  # nested, and shorter
    assert progress.line().startswith("building: 30 of 120, 25%, about")
    assert progress.line().endswith("reading")
    progress.phase("tactics", 60, 120)
    assert "60 of 120, 50%" in progress.line()
