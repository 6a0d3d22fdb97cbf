from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sarwater.scratch import MARK, PREFIX, drop_abandoned, make_owned_folder, owner_of, scratch_folder
from tests.conftest import CHECKOUT

HOLDING = """
import sys, time
from pathlib import Path
from sarwater.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_a_living_one_has_stays(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDING, str(tmp_path)]
    held = []
    for _ in range(2):
        process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        held.append((process, Path(process.stdout.readline().strip())))
    (killed, left), (living, kept) = held
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    try:
        assert left.is_dir()
        with scratch_folder(tmp_path) as folder:
            assert not left.exists()
            assert kept.is_dir()
        assert not folder.exists()
    finally:
        living.kill()
        living.communicate()


def test_a_folder_that_is_handed_over_is_owned_throughout(tmp_path: Path) -> None:
    folder, maker = make_owned_folder(tmp_path, ".x.", ".tmp")
    taker = owner_of(folder)
    maker.close()
    assert drop_abandoned([folder]) == 0
    assert taker is not None
    taker.close()
    assert drop_abandoned([folder]) == 1
    assert not folder.exists()


@pytest.mark.parametrize("sole", [False, True])
def test_what_has_no_mark_is_removed_only_by_the_one_that_works_there_alone(tmp_path: Path, sole: bool) -> None:
    folder = tmp_path / ".cache.tmp"
    folder.mkdir()
    assert drop_abandoned([folder], sole) == sole
    assert folder.exists() is not sole


def test_a_mark_that_is_a_link_or_a_pipe_is_none(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / MARK).symlink_to(elsewhere)
    assert drop_abandoned([folder]) == 0
