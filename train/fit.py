"""Train a network: labelled tiles -> checkpoint.

    python -m train.fit unet --data DIR --holdout NAME
    python -m train.fit hrnet --data DIR --config reference --init hrnetv2_w48_imagenet_pretrained.pth
    torchrun --nproc-per-node 4 -m train.fit hrnet-w48 --data DIR

Writes to runs/<model>/<date>/: best.pt (by held-out pooled IoU), last.pt (for --resume), log.csv, options.json and
tensorboard/.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DependencyMissing, OutputError, UsageError
from train.loop.options import FitOptions, parse

if TYPE_CHECKING:
    from train.loop.plan import Plan
    from train.loop.trainer import State
    from train.scoring.scores import Scores


def fit(options: FitOptions) -> Path:
    """Train and return the path of `best.pt`.

    Raises, before the first step, DataError, UsageError, CheckpointInvalid, DependencyMissing, DeviceUnavailable, and
    OutputError where the checkpoints would not fit on the disk; later OutputError, and UsageError if training diverges.
    """
    import torch

    from train.loop.machine import team
    from train.loop.plan import make_plan
    from train.loop.trainer import State

    with team(options.device) as crew:
        plan = make_plan(options, crew)
        torch.backends.cudnn.benchmark = True  # all crops have one size, so the search for kernels pays
        state = State(plan)
        if crew.leads:
            _begin(plan, state)
        _train(plan, state)
        crew.wait()
        if crew.leads:
            print(f"best checkpoint: {plan.out / 'best.pt'}", flush=True)
    return plan.out / "best.pt"


def _train(plan: Plan, state: State) -> None:
    from train.data.crops import Share, loader
    from train.loop.run_log import Curve

    options, team = plan.options, plan.team
    share = Share(state.step, plan.steps, options.batch, team.rank, team.size)
    batches = loader(plan.crops, share, options.workers, pinned=plan.device.type == "cuda")
    recording = (
        Curve(plan.out, state.step, plan.steps, tensorboard=options.tensorboard) if team.leads else nullcontext()
    )
    with recording as curve:
        for pixels, truth in batches:
            if state.exhausted:
                break
            rate = state.rate
            state.update(pixels, truth)
            evaluating = state.step % options.evaluate_every == 0 or state.step == plan.steps
            if not evaluating and state.step % options.log_every:
                continue
            loss = state.take_mean_loss()
            if not math.isfinite(loss):
                raise UsageError(
                    f"step {state.step}: the loss is {loss}, training diverged; lower --learning-rate, or set --clip 1 "
                    f"or --precision bf16. {plan.out} keeps the last good checkpoint"
                )
            scores = _held_out_scores(plan, state) if evaluating and plan.held_out else None
            best = evaluating and state.judge(scores)
            if curve is not None:  # only the process that leads has one
                curve.row(state.step, rate, loss, scores)
                if evaluating:
                    curve.say(state.step, loss, scores)
                    state.save(scores, best=best)


def _held_out_scores(plan: Plan, state: State) -> Scores:
    """Of the weights that are kept; the tiles are shared out among the processes."""
    import torch

    from sarwater.metrics import Confusion, confusion
    from train.scoring.predict import water_mask
    from train.scoring.scores import Scores, TileScore

    plan.team.share_buffers(state.average)
    segmenter = state.scored
    counts = torch.zeros(len(plan.held_out), 4, dtype=torch.int64)
    for index in range(plan.team.rank, len(plan.held_out), plan.team.size):
        tile = plan.held_out[index]
        tile_counts = confusion(
            water_mask(segmenter, tile, plan.options.threshold, plan.options.coarsest_m), tile.truth()
        )
        counts[index] = torch.tensor(
            [tile_counts.true_water, tile_counts.false_water, tile_counts.missed_water, tile_counts.true_land]
        )
    everybody = plan.team.sum(counts.to(plan.device)).tolist()
    named = zip(plan.held_out, everybody, strict=True)
    return Scores(tuple(TileScore(tile.name, Confusion(*row)) for tile, row in named))


def _begin(plan: Plan, state: State) -> None:
    """Say what is about to happen, check that its results can be written, and leave options.json."""
    from train.loop.plan import check_room

    tensors = state.segmenter.net.state_dict().values()
    checkpoint_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    check_room(plan.out, checkpoint_bytes, halfway=plan.options.halfway)
    try:
        with replacing(plan.out / "options.json") as temporary:
            temporary.write_text(json.dumps(plan.provenance, indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"{plan.out}: cannot write there ({error}); choose another --out") from error
    tiles = sum(len(source.tiles) for source in plan.crops.sources)
    lines = [
        f"{plan.arch.name}, {sum(p.numel() for p in state.segmenter.parameters()) / 1e6:.1f} M parameters, on "
        f"{plan.device}, {str(plan.precision).removeprefix('torch.')}, {plan.team.size} process(es)",
        f"{tiles} tile(s) to train on, {len(plan.held_out)} held out, {len(plan.dropped)} left out on the border; "
        f"steps {state.step} to {plan.steps}; writing {plan.out}",
    ]
    if state.init_report is not None:
        lines.append(f"{plan.options.init}: {state.init_report}")
    print("\n".join(lines), file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    options = parse(argv)
    try:
        import torch  # noqa: F401 - the one dependency without which nothing here works
    except ImportError as error:
        raise DependencyMissing("training needs torch: pip install 'sarwater[train]'") from error
    fit(options)
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
