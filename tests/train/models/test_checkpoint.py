from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch

from sarwater.errors import CheckpointInvalid
from train.models import Segmenter, architecture
from train.models.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from train.models.initialise import read_weights

ARCHITECTURE = architecture("hrnet-w18-small")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "whole.pt"
    few = dict(list(Segmenter(ARCHITECTURE).net.state_dict().items())[:5])
    save_checkpoint(path, Checkpoint(ARCHITECTURE, few, training={"date": "2026-11-30"}))
    return path


def refused(path: Path) -> str:
    with pytest.raises(CheckpointInvalid) as caught:
        load_checkpoint(path)
    with pytest.raises(CheckpointInvalid):
        read_weights(path)
    text = str(caught.value)
    assert text.isprintable()
    assert path.name in text
    return text


@pytest.mark.parametrize("percent", [0, 1, 30, 60, 99])
def test_a_checkpoint_that_is_cut_short_is_one_line(whole: Path, tmp_path: Path, percent: int) -> None:
    content = whole.read_bytes()
    (tmp_path / "x.pt").write_bytes(content[: len(content) * percent // 100])
    refused(tmp_path / "x.pt")


def test_a_pickle_with_code_runs_nothing(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> object:
            return os.mkdir, (str(tmp_path / "ran"),)

    for name, save in (("zip.pt", torch.save), ("bare.pt", lambda code, path: path.write_bytes(pickle.dumps(code)))):
        save({"format": FORMAT, "state_dict": Code()}, tmp_path / name)
        refused(tmp_path / name)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": 7},
        {"architecture": {**ARCHITECTURE.to_dict(), "family": "segnet"}},
        {"architecture": {**ARCHITECTURE.to_dict(), "variant": "w9"}},
        {"architecture": {**ARCHITECTURE.to_dict(), "channels": []}},
        {"architecture": {**ARCHITECTURE.to_dict(), "channels": [{"name": "sar", "unit": "volt"}]}},
        {"state_dict": [1, 2]},
        {"state_dict": {"a": "b"}},
        {"threshold": "0.5"},
        {"threshold": float("nan")},
        {"threshold": 3.0},
        {"coarsest_m": "x"},
        {"coarsest_m": -1.0},
        {"training": None},
        {"resume": 3},
    ],
    ids=str,
)
def test_a_field_of_another_kind_is_named(whole: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    document = torch.load(whole, weights_only=True)
    torch.save({**document, **changes}, tmp_path / "x.pt")
    with pytest.raises(CheckpointInvalid, match=r"x\.pt: "):
        load_checkpoint(tmp_path / "x.pt")


def test_tensors_of_another_network_are_refused(whole: Path) -> None:
    with pytest.raises(CheckpointInvalid, match="the tensors are not those of hrnet-w18-small"):
        load_checkpoint(whole).segmenter()
