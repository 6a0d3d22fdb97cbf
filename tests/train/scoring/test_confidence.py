"""Confidence is made to be frequency, by a line that goes into the last convolution."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DataError
from tests.support.lakes import write_lakes
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.scoring.confidence import Answers, fitted, main, moved, with_curve

FAMILIES = ("fcn-vgg16", "unet-w16", "deepunet", "hrnet-w18-small")


def overconfident(scale: float, offset: float, count: int = 200_000) -> Answers:
    """What a network says whose logits are `scale` times as large as they should be, and `offset` too high."""
    rng = np.random.default_rng(0)
    true_logit = rng.normal(-1, 2, (1, count))
    water = rng.random((1, count)) < 1 / (1 + np.exp(-true_logit))
    said = 1 / (1 + np.exp(-(scale * true_logit + offset)))
    answers = Answers.empty("sea")
    answers.add(said.astype(np.float32), np.where(water, WATER, LAND).astype(np.uint8))
    return answers


@pytest.mark.parametrize(("scale", "offset"), [(3.0, 0.5), (0.5, -1.0), (1.0, 0.0)])
def test_the_curve_takes_back_what_was_overdone(scale: float, offset: float) -> None:
    answers = overconfident(scale, offset)
    curve = fitted([answers])
    assert curve == pytest.approx((1 / scale, -offset / scale), abs=0.05)
    assert answers.error(curve) < 0.01


def test_sets_weigh_alike_whatever_their_size() -> None:
    small, large = overconfident(2.0, 0.0, 20_000), overconfident(2.0, 2.0, 200_000)
    assert fitted([small, large]) == pytest.approx(fitted([large, small]))
    assert fitted([small, large])[1] == pytest.approx(fitted([small, overconfident(2.0, 2.0, 20_000)])[1], abs=0.03)


@pytest.mark.parametrize(
    ("curve", "expected"), [((1.0, 0.0), 0.5), ((0.6, 0.88), 0.71), ((3.0, -4.0), 0.02)], ids=["same", "more", "less"]
)
def test_the_threshold_moves_with_the_curve(curve: tuple[float, float], expected: float) -> None:
    assert moved(0.5, curve) == expected


def test_pixels_without_truth_do_not_count() -> None:
    answers = Answers.empty("a")
    answers.add(np.full((2, 2), 0.9, np.float32), np.array([[WATER, LAND], [NODATA, NODATA]], np.uint8))
    assert (answers.water.sum(), answers.land.sum()) == (1, 1)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_every_family_become_the_line(family: str) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(architecture(family)).eval()
    raw = torch.rand(1, 1, 256, 256) * 200
    with torch.no_grad():
        before = segmenter.logits(raw)
        segmenter.net.load_state_dict(with_curve(segmenter.net.state_dict(), (2.0, -0.5)))
        torch.testing.assert_close(segmenter.logits(raw), 2 * before - 0.5, atol=1e-4, rtol=1e-3)


def test_a_checkpoint_says_what_was_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(architecture("unet-w16", scales=True))
    torch.nn.init.normal_(segmenter.net.head.weight)
    lakes = str(write_lakes(tmp_path / "lakes", 1))
    path, out = tmp_path / "last.pt", tmp_path / "best.pt"
    right = with_curve(segmenter.net.state_dict(), (-1.0, 0.0))
    for state in (segmenter.net.state_dict(), right):  # one of the two is right more often than wrong
        save_checkpoint(path, Checkpoint(segmenter.arch, state, level_db=-14.0))
        with contextlib.suppress(DataError):
            main([str(path), "--data", lakes, "-o", str(out)])
    about = load_checkpoint(out).training["confidence"]
    assert about["scale"] > 0
    assert about["sets"]["lakes"]["after"] < about["sets"]["lakes"]["before"]
    assert "lakes: calibration error" in capsys.readouterr().out
    assert main([str(out), "--data", lakes, "--threshold", "0.4", "-o", str(out)]) == 0
    assert load_checkpoint(out).threshold == 0.4
