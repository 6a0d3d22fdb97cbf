"""The model that an adaptation begins with: which file it is, and whether it can be trained further."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sarwater.errors import CheckpointInvalid, UsageError
from sarwater.models import checkpoint_path, find_model, looks_like_path
from train.models import Architecture, Segmenter, normalisations
from train.models.checkpoint import checkpoint_of_tensors
from train.models.initialise import initialise, read_weights


@dataclass(frozen=True)
class Start:
    """The model to begin with, and the network that it is of."""

    path: Path
    arch: Architecture
    segmenter: Segmenter
    threshold: float
    coarsest_m: float | None
    level_db: float | None


def start_path(model: str) -> Path:
    """The file that --from means: the model of a family that ships, an .onnx file, a checkpoint, or a run's folder."""
    if not looks_like_path(model) or model.endswith(".onnx"):
        return find_model(model).path
    return checkpoint_path(Path(model))


def open_start(path: Path) -> Start:
    """Raises CheckpointInvalid for a file that is not a whole model of this version, UsageError for channels that
    cannot be rehearsed."""
    weights = read_weights(path)
    arch = weights.architecture
    told = arch is not None
    if arch is None and (checkpoint := checkpoint_of_tensors(weights.tensors)) is not None:
        arch = checkpoint.architecture
    if arch is None:
        raise CheckpointInvalid(
            f"{path}: does not say which network it holds; expected a checkpoint or an fp32 .onnx of ours, or all "
            f"tensors of one of our networks. Other weights go in with `sarwater fit MODEL --data DIR --init {path}`"
        )
    names = [channel.name for channel in arch.channels]
    if len([name for name in names if name != "gim"]) > 1:
        raise UsageError(
            f"{path}: takes {', '.join(names)}; only models of one SAR channel can be adapted here, for the simulated "
            f"scenes to rehearse have no other. Train on: `sarwater fit {arch.name} --init {path} "
            f"--channels {','.join(names)}`"
        )
    if arch.normalisation != normalisations(arch.channels):
        raise CheckpointInvalid(
            f"{path}: prepares its pixels otherwise than this version does; adapt a model of this version"
        )
    segmenter = Segmenter(arch)
    report = initialise(segmenter, path)
    if report.fresh or report.adapted or (told and report.skipped):
        raise CheckpointInvalid(f"{path}: not all of {arch.name}: {report}; expected an fp32 model, not a derived one")
    return Start(path, arch, segmenter.eval(), weights.threshold, weights.coarsest_m, weights.level_db)
