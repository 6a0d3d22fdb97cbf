from __future__ import annotations

import importlib.util
import os
import shlex
import sys
from pathlib import Path

import pytest

from sarwater.errors import DependencyMissing
from sarwater.installing import for_this_environment
from sarwater.scenes.raster import INSTALL

TRAIN = "pip install 'sarwater[train]'"
PYTHON = shlex.quote(sys.executable)


@pytest.fixture(autouse=True)
def another_environment_is_activated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pip").write_text("#!/bin/sh\n")
    (tmp_path / "pip").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))


def test_an_activated_environment_is_reached_by_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "pip").rename(tmp_path / "bin" / "pip")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert for_this_environment(TRAIN) == TRAIN


def test_one_that_is_not_activated_is_reached_by_its_path() -> None:
    assert for_this_environment(f"or `{TRAIN}`") == f"or `{PYTHON} -m {TRAIN}`"


def test_one_of_another_user_wants_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert for_this_environment(TRAIN) == f"sudo {PYTHON} -m {TRAIN}"
    include = f"CPPFLAGS=-I$({PYTHON} -c 'import numpy; print(numpy.get_include())')"
    assert f"sudo env {include} {PYTHON} -m pip install --no-build-isolation" in for_this_environment(INSTALL)


def test_one_without_pip_is_reached_by_uv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert for_this_environment(TRAIN) == f"uv pip install --python {PYTHON} 'sarwater[train]'"


def test_every_error_of_a_missing_library_says_it_once() -> None:
    error = DependencyMissing(f"no torch: `{TRAIN}`")
    assert str(error) == str(DependencyMissing(*error.args)) == f"no torch: `{PYTHON} -m {TRAIN}`"
