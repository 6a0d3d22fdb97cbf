from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from sarwater.classes import NODATA
from sarwater.errors import UsageError
from train.loop.losses import LOSSES, Loss


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 1, 16, 16, generator=generator) * 3
    truth = (torch.rand(2, 16, 16, generator=generator) < 0.3).to(torch.uint8)
    return logits.requires_grad_(), truth


def perfect(truth: torch.Tensor) -> torch.Tensor:
    return (truth.float()[:, None] * 2 - 1) * 30


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_next_to_nothing(name: str) -> None:
    _, truth = batch()
    assert Loss(name)(perfect(truth), truth) < 0.01


@pytest.mark.parametrize("name", LOSSES)
def test_a_wrong_answer_costs_more_than_a_right_one(name: str) -> None:
    _, truth = batch()
    assert Loss(name)(-perfect(truth), truth) > Loss(name)(perfect(truth), truth) + 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_pixels_without_truth_count_for_nothing(name: str) -> None:
    logits, truth = batch()
    blank = truth.clone()
    blank[:, :8] = NODATA
    half = Loss(name)(logits[:, :, 8:], truth[:, 8:])
    assert Loss(name)(logits, blank).item() == pytest.approx(half.item(), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_any_truth_gives_a_finite_loss_and_no_gradient(name: str) -> None:
    logits, truth = batch()
    loss = Loss(name)(logits, torch.full_like(truth, NODATA))
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", LOSSES)
def test_following_the_gradient_lowers_the_loss(name: str) -> None:
    logits, truth = batch()
    before = Loss(name)(logits, truth)
    (gradient,) = torch.autograd.grad(before, logits)
    assert Loss(name)(logits - 1e-2 * gradient / gradient.norm(), truth) < before


def test_bce_without_weights_is_pytorchs() -> None:
    logits, truth = batch()
    expected = F.binary_cross_entropy_with_logits(logits[:, 0], truth.float())
    assert torch.allclose(Loss("bce")(logits, truth), expected)


def test_cross_entropy_is_pytorchs_over_two_classes_with_class_weights() -> None:
    logits, truth = batch()
    scores = torch.cat([torch.zeros_like(logits), logits], dim=1)
    expected = F.cross_entropy(scores, truth.long(), weight=torch.tensor([0.8373, 0.918]))
    assert torch.allclose(Loss("cross-entropy", (0.8373, 0.918))(logits, truth), expected)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_the_lovasz_hinge_of_certain_answers_is_twice_the_jaccard_loss(pairs: list[tuple[bool, bool]]) -> None:
    # At logits of +-1 every error is 0 or 2, where the Lovász extension equals the set function it extends.
    predicted = torch.tensor([p for p, _ in pairs])
    truth = torch.tensor([t for _, t in pairs])
    union = (predicted | truth).sum().item()
    jaccard_loss = 1 - (predicted & truth).sum().item() / union if union else 0.0
    loss = Loss("lovasz")((predicted.float() * 2 - 1)[None, None, None], truth.to(torch.uint8)[None, None])
    assert loss.item() == pytest.approx(2 * jaccard_loss, abs=1e-5)


def test_ohem_looks_at_the_hard_pixels_alone() -> None:
    truth = torch.zeros(1, 10, 10, dtype=torch.uint8)
    logits = torch.full((1, 1, 10, 10), -20.0)
    logits[0, 0, 0] = 2.0  # ten of a hundred pixels are wrong: more than are kept at least
    assert Loss("ohem")(logits, truth).item() == pytest.approx(math.log(1 + math.exp(2.0)), rel=1e-5)


def test_focal_forgives_easy_pixels_more_than_bce() -> None:
    _, truth = batch()
    easy = perfect(truth) / 15
    assert Loss("focal")(easy, truth) < 0.1 * Loss("bce")(easy, truth)


def test_names_add_up() -> None:
    logits, truth = batch()
    total = Loss("bce")(logits, truth) + Loss("dice")(logits, truth)
    assert torch.allclose(Loss("bce+dice")(logits, truth), total)


def test_an_unknown_name_lists_the_choices() -> None:
    with pytest.raises(UsageError, match="bce, cross-entropy, dice, lovasz, focal, ohem"):
        Loss("bce+mse")
