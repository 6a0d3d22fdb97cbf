"""Train a network: labelled tiles -> checkpoint.

    python -m train.fit hrnet --data DIR [--data DIR2 --data IMAGE.tif:MASK.tif] [--holdout NAME]

Writes runs/<model>/<date>/{best.pt,last.pt,log.csv,options.json}.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarwater.command import run_command
from sarwater.errors import DependencyMissing, UsageError
from sarwater.models import RUNS

if TYPE_CHECKING:
    from train.data import Source, Tile
    from train.models import Segmenter


@dataclass(frozen=True)
class FitOptions:
    """One training run. The command line only fills this in."""

    model: str
    data: tuple[str, ...]
    """Data folders or IMAGE:MASK pairs, each optionally followed by `=WEIGHT`."""
    out: Path
    holdout: tuple[str, ...] = ()
    init: Path | None = None
    """A checkpoint to start from."""
    steps: int = 2000
    batch: int = 8
    crop_px: int = 256
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 100
    ema: float = 0.998
    """Decay of the exponential moving average of the weights; the average is what is evaluated and kept."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    evaluate_every: int = 250
    workers: int = 1
    seed: int = 0
    augmentation: dict[str, float] = field(default_factory=dict)
    resume: bool = False


def fit(options: FitOptions) -> Path:
    """Train and return the path of `best.pt`.

    Raises DataError, UsageError and CheckpointInvalid before the first step, OutputError when it cannot write.
    """
    import torch

    from train.augment import Augmentation
    from train.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from train.data import Crops
    from train.evaluate import score
    from train.losses import bce_dice
    from train.models import Segmenter, architecture

    torch.manual_seed(options.seed)
    sources, held_out = _sources(options)
    segmenter = Segmenter(architecture(options.model)).to(memory_format=torch.channels_last)
    if options.init:
        segmenter.net.load_state_dict(load_checkpoint(options.init).state_dict)
    average = Segmenter(segmenter.arch).eval().requires_grad_(False)
    average.load_state_dict(segmenter.state_dict())
    optimiser = torch.optim.AdamW(segmenter.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay)

    first_step = 0
    best_iou = -1.0
    if options.resume:
        last = load_checkpoint(options.out / "last.pt")
        assert last.resume is not None
        segmenter.net.load_state_dict(last.resume["net"])
        average.net.load_state_dict(last.state_dict)
        optimiser.load_state_dict(last.resume["optimiser"])
        first_step, best_iou = last.resume["step"], last.resume["best_iou"]

    # A crop depends on its index alone, so a resumed run sees what an uninterrupted one would have seen.
    crops = Crops(
        sources, options.crop_px, options.steps * options.batch, options.seed, Augmentation(**options.augmentation)
    )
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(crops, range(first_step * options.batch, len(crops))),
        batch_size=options.batch,
        num_workers=options.workers,
        persistent_workers=options.workers > 0,
    )
    provenance = _provenance(options, sources, held_out)
    best = options.out / "best.pt"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "options.json").write_text(json.dumps(provenance, indent=2) + "\n")
    with _log(options.out / "log.csv", resume=options.resume) as log:
        running_loss = math.nan
        started = time.monotonic()
        for step, (pixels, truth) in enumerate(loader, start=first_step):
            segmenter.train()
            for group in optimiser.param_groups:
                group["lr"] = _learning_rate(step, options)
            loss = bce_dice(segmenter.logits(pixels.contiguous(memory_format=torch.channels_last)), truth)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(segmenter.parameters(), options.clip)
            optimiser.step()
            _update_average(average, segmenter, min(options.ema, (step + 1) / (step + 10)))
            running_loss = loss.item() if math.isnan(running_loss) else 0.98 * running_loss + 0.02 * loss.item()

            done = step + 1
            if done % options.evaluate_every and done != options.steps:
                continue
            scores = score(average, held_out) if held_out else None
            iou = scores.pooled_iou if scores else math.nan
            seconds = time.monotonic() - started
            log.row(done, running_loss, iou, scores.mean_tile_iou if scores else math.nan, seconds)
            metrics = {"held_out": scores.to_dict()} if scores else {}
            checkpoint = Checkpoint(
                segmenter.arch, average.net.state_dict(), training={**provenance, "step": done, "metrics": metrics}
            )
            if scores is None or iou > best_iou:
                best_iou = iou
                save_checkpoint(best, checkpoint)
            resume = {
                "net": segmenter.net.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": done,
                "best_iou": best_iou,
            }
            save_checkpoint(options.out / "last.pt", replace(checkpoint, resume=resume))
    return best


def _sources(options: FitOptions) -> tuple[list[Source], list[Tile]]:
    from train.data import Source, find_tiles, split_tiles

    sources, held_out, unknown = [], [], list(options.holdout)
    for item in options.data:
        data, _, weight = item.partition("=")
        tiles = find_tiles(data)
        here = [name for name in options.holdout if name.split("@")[0] in {tile.name for tile in tiles}]
        unknown = [name for name in unknown if name not in here]
        training, held = split_tiles(tiles, here)
        held_out += held
        if training:
            sources.append(Source(tuple(training), float(weight or 1)))
    if unknown:
        raise UsageError(f"--holdout {unknown[0]}: no data folder has a tile of that name")
    return sources, held_out


def _learning_rate(step: int, options: FitOptions) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    progress = (step - options.warmup_steps) / max(1, options.steps - options.warmup_steps)
    return options.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress)))


def _update_average(average: Segmenter, segmenter: Segmenter, decay: float) -> None:
    import torch

    with torch.no_grad():
        for slow, fast in zip(average.net.state_dict().values(), segmenter.net.state_dict().values(), strict=True):
            if slow.dtype.is_floating_point:
                slow.lerp_(fast, 1 - decay)
            else:
                slow.copy_(fast)


def _provenance(options: FitOptions, sources: list[Source], held_out: list[Tile]) -> dict[str, Any]:
    return {
        "model": options.model,
        "data": [
            {"tiles": [tile.name for tile in source.tiles[:20]], "count": len(source.tiles), "weight": source.weight}
            for source in sources
        ],
        "held_out": [f"{tile.name} rows {tile.rows[0]}..{tile.rows[1]}" for tile in held_out],
        "commit": _commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": {key: value for key, value in asdict(options).items() if key not in ("out", "init", "data")},
    }


def _commit() -> str:
    """The commit of this checkout, or "" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


class _log:
    """The curve as CSV, and one line per evaluation on the terminal."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        self._file = path.open("a" if resume else "w", newline="")
        self._writer = csv.writer(self._file)
        if not resume:
            self._writer.writerow(["step", "loss", "pooled_iou", "mean_tile_iou", "seconds"])

    def row(self, step: int, loss: float, pooled: float, mean: float, seconds: float) -> None:
        self._writer.writerow([step, f"{loss:.5f}", f"{pooled:.5f}", f"{mean:.5f}", f"{seconds:.1f}"])
        self._file.flush()
        scores = f"held-out pooled IoU {pooled:.4f}  mean-tile IoU {mean:.4f}"
        print(f"step {step}  loss {loss:.4f}  {scores}  {seconds:.0f} s", flush=True)

    def __enter__(self) -> _log:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def parser() -> argparse.ArgumentParser:
    defaults = FitOptions("", (), Path())
    p = argparse.ArgumentParser(
        prog="sarwater-fit", description="Train a water segmentation network on labelled SAR tiles."
    )
    p.add_argument("model", help="hrnet, or with its variant: hrnet-w18-small, hrnet-w18, hrnet-w32, hrnet-w48")
    p.add_argument(
        "--data",
        action="append",
        required=True,
        metavar="DIR[=WEIGHT]",
        help="img/ and mask/ folder, or IMAGE.tif:MASK.tif; repeat to mix",
    )
    p.add_argument(
        "--holdout",
        action="append",
        default=[],
        metavar="NAME[@P]",
        help="evaluate on this tile (or its lowest P percent), never train on it",
    )
    p.add_argument("--out", type=Path, help="default: runs/<model>/<date>")
    p.add_argument("--init", type=Path, help="start from this checkpoint")
    p.add_argument("--steps", type=int, default=defaults.steps)
    p.add_argument("--batch", type=int, default=defaults.batch)
    p.add_argument("--crop", type=int, default=defaults.crop_px, metavar="PX")
    p.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    p.add_argument("--evaluate-every", type=int, default=defaults.evaluate_every, metavar="STEPS")
    p.add_argument("--workers", type=int, default=defaults.workers)
    p.add_argument("--seed", type=int, default=defaults.seed)
    p.add_argument("--resume", action="store_true", help="go on with the run in --out")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        from train.models import architecture
    except ImportError as error:
        raise DependencyMissing(f"training needs {error.name}: pip install 'sarwater[train]'") from error
    name = architecture(arguments.model).name
    date = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    options = FitOptions(
        model=name,
        data=tuple(arguments.data),
        out=arguments.out or RUNS / name / date,
        holdout=tuple(arguments.holdout),
        init=arguments.init,
        steps=arguments.steps,
        batch=arguments.batch,
        crop_px=arguments.crop,
        learning_rate=arguments.learning_rate,
        evaluate_every=arguments.evaluate_every,
        workers=arguments.workers,
        seed=arguments.seed,
        resume=arguments.resume,
    )
    print(f"best checkpoint: {fit(options)}")
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
