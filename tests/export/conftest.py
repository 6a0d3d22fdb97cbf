"""Small real networks, random but with the statistics of real activations, and files made from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from export.graph import Graph, read_graph
from export.to_onnx import export_checkpoint
from sarwater.manifest import Channel
from sarwater.metrics import LARGEST_IOU_LOSS
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, save_checkpoint

Float32 = npt.NDArray[np.float32]

SMALL = "unet-w16"
"""The quickest network to convert and build."""
TILE_PX = 128


torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks gain nothing from more, and the machine may be busy."""
    monkeypatch.setenv("SARWATER_THREADS", "1")


def speckle(channels: int, side_px: int, count: int = 1, seed: int = 0) -> Float32:
    """(count, C, side, side) float32 amplitude DN: bright land, dark water on the left, one very bright target."""
    random = np.random.default_rng(seed)
    level = np.where(np.arange(side_px) < side_px // 3, 12.0, 60.0)
    pixels = level * random.rayleigh(size=(count, channels, side_px, side_px))
    pixels[..., side_px // 2, side_px // 2] = 23391
    return pixels.astype(np.float32)


def random_segmenter(name: str, channels: tuple[Channel, ...] = (Channel("sar", "amplitude_dn"),)) -> Segmenter:
    torch.manual_seed(0)
    # One as it ships, so that the pooling and enlarging of its preprocessing go through everything, too.
    segmenter = Segmenter(architecture(name, channels, scales=name == "hrnet-w18-small"))
    segmenter.train()
    with torch.no_grad():
        segmenter(torch.from_numpy(speckle(len(channels), 256, count=2)))
    return segmenter.eval()


def be_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and small tiles; what they measure is not the point here."""
    monkeypatch.setattr("export.artefacts.PROOF_PX", 64)
    monkeypatch.setattr("export.artefacts.PROOF_SAMPLES", 2)
    monkeypatch.setattr("export.artefacts.PROBE_SAMPLES", 1)
    monkeypatch.setattr("export.calibration.SCENES", 1)
    monkeypatch.setattr("export.calibration.TILE_PX", 64)
    monkeypatch.setattr("export.precision.CALIBRATION_METHODS", ("max",))
    monkeypatch.setattr("export.precision.INT8_TARGET_LOSS", 1.0)
    for precision in LARGEST_IOU_LOSS:
        monkeypatch.setitem(LARGEST_IOU_LOSS, precision, 1.0)


@pytest.fixture(scope="session")
def make_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")

    def make(name: str) -> Path:
        path = folder / f"{name}.pt"
        if not path.exists():
            segmenter = random_segmenter(name)
            training = {"data": "random", "date": "2026-01-01"}
            save_checkpoint(path, Checkpoint(segmenter.arch, segmenter.net.state_dict(), 0.4, training))
        return path

    return make


@pytest.fixture(scope="session")
def make_onnx(
    make_checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """fp32 ONNX files at TILE_PX, each made once; do not write to them."""
    folder = tmp_path_factory.mktemp("onnx")

    def make(name: str) -> Path:
        path = folder / f"{name}.onnx"
        if not path.exists():
            export_checkpoint(make_checkpoint(name), path, TILE_PX, 32)
        return path

    return make


@pytest.fixture(scope="session")
def small_graph(make_onnx: Callable[[str], Path]) -> Graph:
    return read_graph(make_onnx(SMALL))
