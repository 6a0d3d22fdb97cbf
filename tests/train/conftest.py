"""Fixtures of the training tests."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.support.lakes import write_lakes
from tests.support.runs import options_for
from train.fit import fit

# The nets here are tiny: a second thread costs more in waiting than it gains, the more so beside other work.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def lakes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lakes(tmp_path_factory.mktemp("lakes"), 3)


@pytest.fixture(scope="session")
def whole_run(lakes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody interrupted."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    fit(options_for(lakes, out))
    return out
