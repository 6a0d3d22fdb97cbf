"""Fixtures of those who run a model: a tiny one, open on the processor, and a folder for what it makes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.backends import Backend, open_backend
from sarwater.models import Model
from tests.support.models import box_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return box_model(tmp_path_factory.mktemp("model") / "box.onnx")


@pytest.fixture(scope="session")
def backend(model: Model) -> Iterator[Backend]:
    with open_backend(model) as opened:
        yield opened


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
