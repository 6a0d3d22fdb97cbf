"""How the weights move: optimiser, learning rate, and the average that is kept."""

from __future__ import annotations

import math

import torch
from torch import nn

from train.loop.options import FitOptions

LOWEST_SHARE = 0.01
"""Of the peak learning rate, at the end of the cosine."""


def make_optimiser(network: nn.Module, options: FitOptions) -> torch.optim.Optimizer:
    """Weight decay pulls on weights; on biases and normalisation it would only fight the data."""
    decayed = [p for p in network.parameters() if p.dim() > 1]
    free = [p for p in network.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": free, "weight_decay": 0.0}]
    if options.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum)
    return torch.optim.AdamW(groups, lr=options.learning_rate)


def learning_rate(step: int, steps: int, options: FitOptions) -> float:
    """Linear warm-up, then the schedule down to the last step."""
    if step < options.warmup_steps:
        return options.learning_rate * (step + 1) / options.warmup_steps
    progress = (step - options.warmup_steps) / max(1, steps - options.warmup_steps)
    if options.schedule == "cosine":
        return options.learning_rate * (LOWEST_SHARE + (1 - LOWEST_SHARE) * 0.5 * (1 + math.cos(math.pi * progress)))
    if options.schedule == "poly":
        return options.learning_rate * (1 - progress) ** options.poly_power
    return options.learning_rate


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int, decay: float) -> None:
    """Exponential moving average of weights and running statistics; it forgets faster in the first steps, when there
    is little worth keeping. A decay of 0 copies."""
    decay = min(decay, (step + 1) / (step + 10)) if decay else 0.0
    for slow, fast in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if slow.dtype.is_floating_point:
            slow.lerp_(fast, 1 - decay)
        else:
            slow.copy_(fast)
