from __future__ import annotations

import pytest
import torch
from torch import nn

from train.loop.optimise import learning_rate, make_optimiser, update_average
from train.loop.options import FitOptions


def options(**changes: object) -> FitOptions:
    return FitOptions(model="unet", data=("x",), **changes)  # type: ignore[arg-type]


def test_the_rate_rises_in_the_warm_up() -> None:
    rates = [learning_rate(step, 100, options(warmup_steps=4, learning_rate=1.0)) for step in range(4)]
    assert rates == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize(
    ("schedule", "half_way", "at_the_end"), [("cosine", 0.505, 0.01), ("poly", 0.5**0.9, 0.0), ("constant", 1.0, 1.0)]
)
def test_the_rate_falls_as_its_schedule_says(schedule: str, half_way: float, at_the_end: float) -> None:
    chosen = options(schedule=schedule, warmup_steps=0, learning_rate=1.0)
    assert learning_rate(50, 100, chosen) == pytest.approx(half_way)
    assert learning_rate(100, 100, chosen) == pytest.approx(at_the_end)


def test_biases_and_normalisation_do_not_decay() -> None:
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
    decayed, free = make_optimiser(network, options(weight_decay=0.1)).param_groups
    assert (len(decayed["params"]), decayed["weight_decay"]) == (1, 0.1)
    assert (len(free["params"]), free["weight_decay"]) == (3, 0.0)


def test_sgd_has_its_momentum() -> None:
    optimiser = make_optimiser(nn.Linear(1, 1), options(optimiser="sgd", momentum=0.8))
    assert isinstance(optimiser, torch.optim.SGD)
    assert optimiser.param_groups[0]["momentum"] == 0.8


def test_the_average_without_decay_is_a_copy_and_with_it_lags_behind() -> None:
    slow, copy, fast = nn.BatchNorm2d(1), nn.BatchNorm2d(1), nn.BatchNorm2d(1)
    nn.init.constant_(fast.weight, 3.0)
    fast.num_batches_tracked += 5
    update_average(copy, fast, step=0, decay=0.0)
    update_average(slow, fast, step=10_000, decay=0.9)
    assert copy.weight.item() == 3.0
    assert slow.weight.item() == pytest.approx(1.2)
    assert slow.num_batches_tracked.item() == 5
