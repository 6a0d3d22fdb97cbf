"""A quick subset of `make torture`: each of the faults, a few times."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.torture import mutants, powercut, recording
from tests.torture.faults import FAULTS, Fault
from tests.torture.run import missing, run
from tests.torture.station import CHECKOUT


@pytest.mark.timeout(900)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.number}-{fault.inject.__name__}")
def test_nothing_is_lost_duplicated_or_corrupted_by(fault: Fault) -> None:
    if lacking := missing(fault):
        pytest.skip(lacking)
    row = run(fault, fault.quick, seed=1)
    assert (row["lost"], row["duplicated"], row["corrupted"]) == (0, 0, 0), row["note"]
    assert row["hit"]


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
@pytest.mark.parametrize(
    ("function", "step", "scenario"),
    [
        ("secure", "fsync_folder(self.incoming)", recording.plain),
        ("_set_aside", "fsync_folder(self.done)", recording.set_aside),
    ],
)
def test_the_power_cut_model_notices_a_missing_fsync(
    function: str, step: str, scenario: recording.Scenario, tmp_path: Path
) -> None:
    mutant = next(one for one in mutants.mutants() if step in one.name and _function_of(one) == function)
    recorded = [("", scenario(tmp_path / "sound", None))]
    expected = powercut.expected_masks(tmp_path / "expected")
    assert mutants.caught_without("", recorded, expected) == ""
    assert mutants.caught_without(mutant.where, recorded, expected)


@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace")
def test_the_power_cut_model_notices_steps_that_are_swapped(tmp_path: Path) -> None:
    mutant = next(one for one in mutants.mutants() if "before how = publish(staged)" in one.name)
    assert mutants.caught_by(mutant, tmp_path, powercut.expected_masks(tmp_path / "expected"))


def _function_of(mutant: mutants.Mutant) -> str:
    """Where its missing line stands: its name is `FILE:LINE without STEP`."""
    line = re.search(r":(\d+) without", mutant.name)
    above = (CHECKOUT / mutant.file).read_text().splitlines()[: int(line[1])] if line else []
    return next((found[1] for text in reversed(above) if (found := re.match(r" *def (\w+)", text))), "")


def test_every_mutant_differs_from_the_code() -> None:
    for mutant in mutants.mutants():
        assert mutant.source != (CHECKOUT / mutant.file).read_text(), mutant.name
