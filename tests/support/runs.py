"""Short runs of a small network on small lakes, and what two of them have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from train.loop.options import FitOptions
from train.models.checkpoint import load_checkpoint


def options_for(lakes: Path, out: Path, **changes: Any) -> FitOptions:
    options = FitOptions(
        model="unet-w16",
        data=(str(lakes),),
        holdout=("WTR2",),
        crop_px=32,
        batch=2,
        steps=8,
        warmup_steps=2,
        evaluate_every=3,
        log_every=2,
        workers=0,
        learning_rate=3e-3,
        ema=0.5,
        precision="fp32",  # so that sums come out alike on every processor
        tensorboard=False,
        out=out,
    )
    changed: FitOptions = options.but(**changes)
    return changed


def same_tensors(a: Path, b: Path) -> bool:
    first, second = (load_checkpoint(path).state_dict for path in (a, b))
    return all(torch.equal(first[name], second[name]) for name in first)
