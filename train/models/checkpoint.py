"""Checkpoints: what a network is, its weights and where they came from. Loaded without pickle's powers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sarwater.atomic import replacing
from sarwater.errors import CheckpointInvalid, OutputError, SarwaterError
from sarwater.families import FAMILIES, model_name
from train.models import Architecture, Segmenter, architecture
from train.models.state_dict import first_line, load_document, unwrapped, without_prefixes

FORMAT = "sarwater-checkpoint/1"
_TELLING = {
    "fcn": {"features", "conv6"},
    "unet": {"down", "up", "head"},
    "deepunet": {"first", "down", "up"},
    "hrnet": {"stage4", "last_layer"},
}
"""What the tensors of a family begin with."""


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
    level_db: float | None = None
    """Level to which uncalibrated scenes are brought (sarwater/scenes/level.py). None: they are not."""

    def segmenter(self) -> Segmenter:
        """The network in evaluation mode. Raises CheckpointInvalid where the tensors do not fit the architecture."""
        segmenter = Segmenter(self.architecture)
        try:
            segmenter.net.load_state_dict(self.state_dict)
        except (RuntimeError, TypeError, AttributeError) as error:
            what = str(error).splitlines()[1:2] or [first_line(error)]
            raise CheckpointInvalid(
                f"the tensors are not those of {self.architecture.name}: {what[0].strip()[:200]}"
            ) from error
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
        "level_db": checkpoint.level_db,
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
        document = load_document(path, "a readable checkpoint")
    except FileNotFoundError:
        raise CheckpointInvalid(f"{path}: no such checkpoint; train one: `sarwater fit FAMILY --data DIR`") from None
    checkpoint = checkpoint_in(document, path)
    if checkpoint is None and (tensors := unwrapped(document)) is not None:
        checkpoint = checkpoint_of_tensors(without_prefixes(tensors))
    if checkpoint is None:
        raise CheckpointInvalid(
            f"{path}: neither a checkpoint of sarwater ({FORMAT}) nor all tensors of a network of one SAR channel; "
            f"train on from it: `sarwater fit FAMILY --data DIR --init {path}`"
        )
    return checkpoint


def checkpoint_in(document: Any, path: Path) -> Checkpoint | None:
    """The checkpoint of ours that `document` is, or holds; None where there is none. Raises CheckpointInvalid."""
    ours = unwrapped(document, lambda item: item.get("format") == FORMAT)
    if ours is None:
        return None
    try:
        arch = Architecture.from_dict(ours["architecture"])
        architecture(arch.name, arch.channels)  # a family, a variant and channels that there are
        tensors = unwrapped(ours["state_dict"])
        threshold, coarsest_m, level_db = ours["threshold"], ours.get("coarsest_m"), ours.get("level_db")
        for name, sound in {
            "architecture": len(arch.normalisation) == len(arch.channels),
            "state_dict": tensors is not None,
            "threshold": isinstance(threshold, float) and 0 < threshold < 1,
            "training": isinstance(ours["training"], Mapping),
            "resume": isinstance(ours["resume"], dict | None),
            "coarsest_m": coarsest_m is None or 0 < float(coarsest_m) < math.inf,
            "level_db": level_db is None or -100 < float(level_db) < 100,
        }.items():
            if not sound:
                raise ValueError(name)
        return Checkpoint(
            arch,
            without_prefixes(tensors or {}),
            threshold,
            dict(ours["training"]),
            ours["resume"],
            coarsest_m,
            level_db,
        )
    except (KeyError, TypeError, ValueError, AttributeError, SarwaterError) as error:
        raise CheckpointInvalid(
            f"{path}: field {first_line(error)} is missing or wrong; train again with this version"
        ) from error


def checkpoint_of_tensors(tensors: Mapping[str, Tensor]) -> Checkpoint | None:
    """Of tensors alone, by name: the network of one channel of amplitudes that they hold all of, with these shapes,
    beside whatever else; None where there is no such network."""
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    for arch in _architectures(shapes):
        with torch.device("meta"):
            wanted = Segmenter(arch).net.state_dict()
        if all(shapes.get(name) == tensor.shape for name, tensor in wanted.items()):
            training = {"data": "unknown: weights of another program, taken for a network of amplitudes"}
            return Checkpoint(
                arch,
                {
                    name: tensors[name].float() if tensors[name].is_floating_point() else tensors[name]
                    for name in wanted
                },
                0.5,
                training,
            )
    return None


def _architectures(names: Mapping[str, Any]) -> Iterator[Architecture]:
    """Those that tensors of these names may be of, the richest first."""
    tops = {name.partition(".")[0] for name in names}
    for family in FAMILIES.values():
        if not _TELLING[family.name] <= tops:
            continue
        for variant in family.variants:
            for norm in (True,) if family.always_normalised else (True, False):
                for scales in (True, False):
                    yield architecture(model_name(family.name, variant), batch_norm=norm, scales=scales)
