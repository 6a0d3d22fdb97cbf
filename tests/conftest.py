"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# For this process and all that it starts: the networks here are tiny, and tests run beside each other.
for _variable in ("OMP_NUM_THREADS", "SARWATER_THREADS"):
    os.environ.setdefault(_variable, "1")

CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The development data (k5/ and etci/), which may not be passed on and so is not in the repository."""
    folder = Path(os.environ.get("SARWATER_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "k5").is_dir():
        pytest.skip(f"no development data in {folder}; set SARWATER_DATA to a folder with k5/ and etci/")
    return folder
