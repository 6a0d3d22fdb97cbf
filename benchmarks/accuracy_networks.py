"""A network as the accuracy benchmark uses it: masks of scenes in memory, kept on disk."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from benchmarks.accuracy_sets import Sample, UInt8, source_digest
from sarwater.classes import LAND, WATER
from sarwater.errors import CheckpointInvalid
from sarwater.manifest import sha256_of
from sarwater.models import open_model
from sarwater.upsampling import upsampling_factor
from train.data.labelled import LabelledScene
from train.finetuning.start import open_start
from train.models import Segmenter
from train.models.checkpoint import load_checkpoint
from train.scoring.predict import probability

CHECKOUT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Network:
    path: Path
    sha256: str
    segmenter: Segmenter
    threshold: float
    coarsest_m: float | None
    training: dict[str, Any]
    cache: Path

    def mask(self, sample: Sample) -> UInt8:
        """(H, W) uint8 of LAND and WATER, as the runtime would enlarge, tile and blend it."""
        shared = [CHECKOUT / "sarwater" / name for name in ("blending.py", "upsampling.py", "tiling.py")]
        models = sorted((CHECKOUT / "train" / "models").glob("*.py"))
        code = source_digest(CHECKOUT / "train" / "scoring" / "predict.py", *shared, *models)
        factor = upsampling_factor(sample.pixel_m, self.coarsest_m)
        parts = (self.sha256, code, str(self.threshold), str(factor), str(sample.truth.shape))
        key = hashlib.sha256(" ".join(parts).encode() + sample.amplitude.tobytes()).hexdigest()
        path = self.cache / "masks" / f"{key}.npy"
        if path.is_file():
            bits = np.unpackbits(np.load(path), count=sample.truth.size)
            return bits.reshape(sample.truth.shape)
        water = probability(self.segmenter, cast(LabelledScene, sample), factor) >= self.threshold
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.packbits(water))
        return np.where(water, WATER, LAND).astype(np.uint8)

    def held_out(self, tile: str) -> bool:
        """Whether its training left this tile, or these rows of the ETCI scene, aside."""
        named = {item.split(" rows ")[0] for item in self.training.get("held_out", ())}
        return tile in named or (tile == "ETCI rows" and "vv" in named)

    @property
    def description(self) -> dict[str, Any]:
        options = self.training.get("options", {})
        budget = [options.get(name, 0) for name in ("batch", "crop_px", "crop_px")]
        return {
            "network": self.segmenter.arch.name,
            "file": self.path.name,
            "sha256": self.sha256,
            "parameters": sum(p.numel() for p in self.segmenter.parameters()),
            "commit": self.training.get("commit", ""),
            "date": self.training.get("date", ""),
            "steps": self.training.get("step", 0),
            "pixels_seen": int(np.prod([self.training.get("step", 0), options.get("processes", 1), *budget])),
            "data": [{k: v for k, v in item.items() if k != "tiles"} for item in self.training.get("data", ())],
            "held_out": list(self.training.get("held_out", ())),
        }


def load_network(path: Path, cache: Path) -> Network:
    """An fp32 .onnx or a checkpoint of one SAR channel. Raises CheckpointInvalid, ModelNotFound, HashMismatch."""
    if path.suffix == ".onnx":
        model = open_model(path)
        sha256 = model.manifest.verify(path)
        segmenter, threshold = open_start(path).segmenter, model.manifest.threshold
        coarsest_m = model.manifest.coarsest_m
        training = dict(model.manifest.training)
    else:
        checkpoint = load_checkpoint(path)
        sha256, segmenter = sha256_of(path), checkpoint.segmenter()
        threshold, coarsest_m, training = checkpoint.threshold, checkpoint.coarsest_m, checkpoint.training
    if len(segmenter.arch.channels) != 1:
        names = ", ".join(channel.name for channel in segmenter.arch.channels)
        raise CheckpointInvalid(f"{path}: takes {names}; the benchmark's scenes have one SAR channel")
    segmenter = segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Network(path, sha256, segmenter, threshold, coarsest_m, training, cache)
