"""Confidence that means something: of the pixels said to be 80 % water, 80 % are.

    python -m train.scoring.confidence runs/hrnet/recipe/last.pt --data hrsid_coast --data stac_vv ... -o best.pt

A line is fitted from the logit of a network to that of the truth, on scenes it has not learned from, each set with the
same weight (Platt 1999; Guo et al. 2017, "On calibration of modern neural networks"). It goes into the last
convolution, so that the graph is as large and as fast as before.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA, WATER
from sarwater.command import command, invoke, option, run
from sarwater.dependencies import require
from sarwater.errors import CheckpointInvalid, DataError

PROGRAM = "python -m train.scoring.confidence"
Float64 = npt.NDArray[np.float64]

BINS = 480
MOST_LOGIT = 12.0
STEPS = 50
"""Newton's steps; five are enough where there is any uncertainty to fit."""
SHARES = 10
"""Bins of confidence over which the calibration error is averaged."""


@dataclass(frozen=True)
class Answers:
    """What a network said of one set, and what was true: a histogram over logits."""

    name: str
    land: Float64
    """(BINS,) pixels."""
    water: Float64

    @classmethod
    def empty(cls, name: str) -> Answers:
        return cls(name, np.zeros(BINS), np.zeros(BINS))

    def add(self, probability: npt.NDArray[np.float32], truth: npt.NDArray[np.uint8]) -> None:
        """Both (H, W)."""
        known = truth != NODATA
        p = probability[known].astype(np.float64).clip(1e-7, 1 - 1e-7)
        place = ((np.log(p / (1 - p)) + MOST_LOGIT) * BINS / (2 * MOST_LOGIT)).astype(int).clip(0, BINS - 1)
        water = truth[known] == WATER
        self.water[:] += np.bincount(place[water], minlength=BINS)
        self.land[:] += np.bincount(place[~water], minlength=BINS)

    def error(self, curve: tuple[float, float] = (1.0, 0.0)) -> float:
        """Expected calibration error after `curve`: mean distance of confidence and frequency (Naeini et al. 2015)."""
        probability = _sigmoid(curve[0] * LOGITS + curve[1])
        place = (probability * SHARES).astype(int).clip(0, SHARES - 1)
        count = self.land + self.water
        said, true, total = (
            np.bincount(place, weights, SHARES) for weights in (probability * count, self.water, count)
        )
        return float(np.abs(said - true).sum() / max(total.sum(), 1))


LOGITS: Float64 = np.linspace(-MOST_LOGIT, MOST_LOGIT, BINS, endpoint=False) + MOST_LOGIT / BINS


def fitted(answers: Sequence[Answers]) -> tuple[float, float]:
    """(scale, offset) of the logit that makes the truth most likely, every set with the same weight."""
    shares = [1 / max(1.0, float((each.land + each.water).sum())) for each in answers]
    water = sum(each.water * share for each, share in zip(answers, shares, strict=True))
    count = water + sum(each.land * share for each, share in zip(answers, shares, strict=True))
    design = np.stack([LOGITS, np.ones(BINS)])
    curve = np.array([1.0, 0.0])
    for _ in range(STEPS):
        probability = _sigmoid(curve @ design)
        gradient = design @ (count * probability - water)
        hessian = (design * (count * probability * (1 - probability))) @ design.T + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        curve = curve - step * min(1.0, 1 / max(1e-9, float(np.abs(step).max())))
    return float(curve[0]), float(curve[1])


def calibrate(
    checkpoint_path: Path, data: Sequence[str], output: Path, threshold: float | None = None
) -> tuple[float, float]:
    """Fit on `data`, put the curve into the network, write it to `output` and say what changed. `threshold` is that
    of the result; None: the one that leaves masks as they were.

    Raises CheckpointInvalid, DataError, SceneError, OutputError.
    """
    from train.models.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(checkpoint_path)
    answers = [_asked(checkpoint, item) for item in data]
    scale, offset = curve = fitted(answers)
    if not scale > 0:
        raise DataError(
            f"{', '.join(data)}: no curve fits: what the network is sure of is not so; expected other scenes"
        )
    errors = {each.name: {"before": each.error(), "after": each.error(curve)} for each in answers}
    for name, error in errors.items():
        print(f"{name}: calibration error {error['before']:.1%} before, {error['after']:.1%} after")
    print(f"logit x {scale:.3f} {offset:+.3f}")
    training = {**checkpoint.training, "confidence": {"scale": scale, "offset": offset, "sets": errors}}
    state = with_curve(checkpoint.state_dict, curve)
    as_it_was = moved(checkpoint.threshold, curve)
    threshold = threshold or as_it_was
    print(f"water from {threshold:g}; masks stay as they were at {as_it_was:g}")
    changed = replace(checkpoint, state_dict=state, threshold=threshold, training=training, resume=None)
    save_checkpoint(output, changed)
    return curve


def moved(threshold: float, curve: tuple[float, float]) -> float:
    """The probability that `curve` makes of `threshold`, in whole percent."""
    logit = math.log(threshold / (1 - threshold))
    return round(1 / (1 + math.exp(-(curve[0] * logit + curve[1]))), 2)


def with_curve(state: dict[str, Any], curve: tuple[float, float]) -> dict[str, Any]:
    """The tensors of a network whose logits are `curve` of what they were; nothing follows its last convolution that is
    not linear. Raises CheckpointInvalid for one that has no offset of its own."""
    last = [name for name, tensor in state.items() if tensor.dim() == 4][-1]
    bias = last.removesuffix("weight") + "bias"
    if bias not in state:
        raise CheckpointInvalid(f"{last}: the last convolution has no bias; the curve has nowhere to go")
    scale, offset = curve
    return {**state, last: state[last] * scale, bias: state[bias] * scale + offset}


def _asked(checkpoint: Any, data: str) -> Answers:
    from sarwater.progress import Progress
    from sarwater.upsampling import upsampling_factor
    from train.data.labelled import find_labelled
    from train.scoring.predict import probability

    segmenter = checkpoint.segmenter()
    answers = Answers.empty(Path(data).name)
    scenes = find_labelled(data, checkpoint.architecture.channels)
    with Progress(f"asking about {data}", "scenes") as progress:
        for number, scene in enumerate(scenes):
            progress(number, len(scenes), scene.name)
            seen = scene.levelled(checkpoint.level_db)
            factor = upsampling_factor(scene.pixel_m, checkpoint.coarsest_m)
            answers.add(probability(segmenter, seen, factor), scene.truth())
    return answers


def _sigmoid(logit: npt.NDArray[Any]) -> Float64:
    result: Float64 = 1 / (1 + np.exp(-logit))
    return result


@command(
    "confidence",
    "Let a checkpoint's probabilities be frequencies: fit a curve on labelled scenes that it has not learned from.",
    examples="""
    python -m train.scoring.confidence runs/hrnet/recipe/last.pt --data hrsid_coast --data stac_vv -o best.pt
    """,
)
@click.argument("checkpoint", type=click.Path(path_type=Path), metavar="CHECKPOINT")
@option("--data", multiple=True, required=True, metavar="DIR", group="data", help="A set; repeat for several.")
@option("-o", "--output", type=Path, required=True, metavar="FILE.pt", group="output", help="Where to write it.")
@option("--threshold", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="P", group="output",
        help="Confidence from which a pixel is water; without it, masks stay as they were.")  # fmt: skip
def confidence_command(checkpoint: Path, data: Sequence[str], output: Path, threshold: float | None) -> int:
    require("torch", "calibrating confidence", "pip install 'sarwater[train]'")
    calibrate(checkpoint, data, output, threshold)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(confidence_command, argv, PROGRAM)


def cli() -> int:
    return run(confidence_command, program=PROGRAM)


if __name__ == "__main__":
    sys.exit(cli())
