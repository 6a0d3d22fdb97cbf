"""The second look that a network is held to: the same place, another window, another gain."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from sarwater.metrics import NODATA, WATER
from train.views import VIEW_SHARE, disagreement, second_view


@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([8, 32, 128]), st.floats(0, 6))
def test_a_view_is_a_part_of_its_crops_but_for_the_gain(seed: int, cells: int, stride_px: int, gain_db: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    side_px = cells * stride_px
    pixels = torch.rand(2, 2, side_px, side_px, generator=generator) * 500 + 1
    kept = pixels.clone()
    view = second_view(pixels, stride_px, gain_db, 1, generator)
    height, width = view.pixels.shape[-2:]
    assert height == width
    assert height % stride_px == 0
    assert height <= max(stride_px, side_px * VIEW_SHARE)
    assert torch.equal(pixels, kept)  # the first look is not touched
    ratio_db = 20 * torch.log10(view.pixels[:, 0] / view.of(pixels)[:, 0])
    assert ratio_db.abs().max() <= gain_db + 1e-3
    assert (ratio_db.amax((1, 2)) - ratio_db.amin((1, 2))).max() < 1e-3  # one gain for each crop
    assert torch.equal(view.pixels[:, 1], view.of(pixels)[:, 1])  # an angle knows no gain


def test_a_view_is_a_function_of_its_generator() -> None:
    pixels = torch.rand(2, 1, 256, 256)
    first, second, other = (second_view(pixels, 32, 3.0, 1, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert (first.top, first.left) == (second.top, second.left)
    assert torch.equal(first.pixels, second.pixels)
    assert (first.top, first.left) != (other.top, other.left)


def test_equal_answers_do_not_disagree_and_borders_and_nodata_do_not_count() -> None:
    truth = torch.full((1, 128, 128), WATER, dtype=torch.uint8)
    answer = torch.zeros(1, 1, 128, 128)
    assert disagreement(answer, answer, truth) == 0
    other = answer.clone()
    other[..., :30, :] = 9.0
    other[..., 100:, 100:] = -9.0
    assert disagreement(answer, other, truth) == 0
    other[..., 64:80, 64:80] = 100.0  # 256 of 64 x 64 px, by half
    assert torch.isclose(disagreement(answer, other, truth), torch.tensor(0.25 / 16))
    truth[:, 64:80, 64:80] = NODATA
    assert disagreement(answer, other, truth) == 0
    assert disagreement(answer, other, torch.full_like(truth, NODATA)) == 0
