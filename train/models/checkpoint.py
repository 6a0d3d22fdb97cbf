"""Checkpoints: what a network is, its weights and where they came from. Loaded without pickle's powers."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sarwater.atomic import replacing
from sarwater.errors import CheckpointInvalid, OutputError, SarwaterError
from sarwater.families import parse_model
from train.models import MAX_CHANNELS, Architecture, Segmenter

FORMAT = "sarwater-checkpoint/1"


@dataclass(frozen=True)
class Checkpoint:
    architecture: Architecture
    state_dict: dict[str, Tensor]
    """Tensors of `Segmenter.net`, float32, under the network's own (official) names."""
    threshold: float = 0.5
    training: dict[str, Any] = field(default_factory=dict)
    """Provenance: data, commit, date, options, metrics with the data set they were measured on."""
    resume: dict[str, Any] | None = None
    """Optimiser, averages and step of an unfinished run; only in `last.pt`."""
    coarsest_m: float | None = None
    """Pixel spacing of the coarsest scenes that it knows: coarser ones are upsampled to it. None: they are not."""

    def segmenter(self) -> Segmenter:
        """The network in evaluation mode. Raises CheckpointInvalid where the tensors do not fit the architecture."""
        segmenter = Segmenter(self.architecture)
        try:
            segmenter.net.load_state_dict(self.state_dict)
        except (RuntimeError, TypeError, AttributeError) as error:
            found = (str(error).splitlines() or [""])[:2][-1].strip()
            raise CheckpointInvalid(f"the tensors are not those of {self.architecture.name}: {found}") from error
        return segmenter.eval()


def halfway(before: Checkpoint, after: Checkpoint) -> Checkpoint:
    """`after` with the mean of both weights: nearly all of what was learned in between, and little of the old skill
    lost (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). It takes a normalisation that both share."""
    weights = {
        name: tensor.lerp(before.state_dict[name].to(tensor), 0.5) if tensor.is_floating_point() else tensor
        for name, tensor in after.state_dict.items()
    }
    return replace(after, state_dict=weights, resume=None)


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write aside, fsync, rename. Raises OutputError when the disk is full or the folder cannot be written."""
    document = {
        "format": FORMAT,
        "architecture": checkpoint.architecture.to_dict(),
        "state_dict": checkpoint.state_dict,
        "threshold": checkpoint.threshold,
        "coarsest_m": checkpoint.coarsest_m,
        "training": checkpoint.training,
        "resume": checkpoint.resume,
    }
    try:
        with replacing(path) as temporary:
            torch.save(document, temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as RuntimeError
        raise OutputError(
            f"{path}: cannot write the checkpoint ({error}); free some space or choose another --out"
        ) from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Raises CheckpointInvalid for a file that is missing, damaged, of another program or format, or carries code."""
    if path.suffix == ".onnx":
        raise CheckpointInvalid(
            f"{path}: an ONNX file, expected a checkpoint (.pt); to score it: `sarwater evaluate DIR --model {path}`"
        )
    try:
        document = load_tensors(path)
    except FileNotFoundError:
        raise CheckpointInvalid(f"{path}: no such checkpoint; train one: `sarwater fit FAMILY --data DIR`") from None
    except ValueError as error:
        raise CheckpointInvalid(f"{path}: not a readable checkpoint ({error}); copy it again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise CheckpointInvalid(
            f"{path}: expected a checkpoint of sarwater ({FORMAT}); weights of other programs go in with --init"
        )
    try:
        checkpoint = Checkpoint(
            Architecture.from_dict(document["architecture"]),
            document["state_dict"],
            document["threshold"],
            document["training"],
            document["resume"],
            document.get("coarsest_m"),
        )
        _check(checkpoint)
    except (KeyError, TypeError, ValueError, AttributeError, SarwaterError) as error:
        raise CheckpointInvalid(f"{path}: field {error} is missing or wrong; train again with this version") from error
    return checkpoint


def load_tensors(path: Path) -> Any:
    """What `torch.load` finds in a file that may hold tensors and plain values, but no code. Raises FileNotFoundError,
    and ValueError with one line on whatever else is wrong."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # zip, pickle and PyTorch each have their own for a damaged file
        raise ValueError((str(error).splitlines() or [type(error).__name__])[0]) from error


def _check(checkpoint: Checkpoint) -> None:
    """Raises ValueError, UsageError for what no checkpoint of ours can hold."""
    arch, weights = checkpoint.architecture, checkpoint.state_dict
    family, _ = parse_model(arch.name)
    if family.name != arch.family or not 1 <= len(arch.channels) == len(arch.normalisation) <= MAX_CHANNELS:
        raise ValueError("architecture")
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError("state_dict")
    if not isinstance(checkpoint.threshold, float) or not 0 < checkpoint.threshold < 1:
        raise ValueError("threshold")
    if not isinstance(checkpoint.training, dict) or not isinstance(checkpoint.resume, dict | None):
        raise ValueError("training, resume")
    if checkpoint.coarsest_m is not None and not 0 < float(checkpoint.coarsest_m) < math.inf:
        raise ValueError("coarsest_m")
