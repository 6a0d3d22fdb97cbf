"""A few windows of each of the first scenes are compared with another backend; the rows stay as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.backends import Backend, open_backend
from runtime.backends.compared import WINDOWS, ComparedBackend
from runtime.backends.fake import FAKE_MANIFEST, FakeBackend
from sarwater.errors import ProofFailed
from sarwater.tiling import TilePlan
from tests.support.models import box_model


class Counting(FakeBackend):
    """How many tiles it was asked for."""

    asked = 0

    def infer(self, tiles: np.ndarray) -> np.ndarray:
        self.asked += len(tiles)
        return super().infer(tiles)


def rows_of(backend: Backend, pixels: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    plan: TilePlan = backend.plan(*pixels.shape[1:])
    run = backend.begin(plan, nodata=0)
    strips = [slice(span.start, span.start + plan.tile_px) for span in plan.rows]
    done = [run.push(pixels[:, strip], None if valid is None else valid[strip]) for strip in strips]
    return np.concatenate([rows.mask for rows in done]), np.concatenate([rows.confidence for rows in done])


def scene(height_px: int, width_px: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 90, (1, height_px, width_px)).astype(np.uint16)


@pytest.mark.parametrize("size", [(60, 70), (128, 128), (300, 700), (900, 200)])
def test_the_rows_are_those_of_the_backend_alone_and_the_windows_few(size: tuple[int, int]) -> None:
    pixels, reference = scene(*size), Counting()
    compared = ComparedBackend(FakeBackend(), reference, 1)
    for found, expected in zip(rows_of(compared, pixels), rows_of(FakeBackend(), pixels), strict=True):
        assert (found == expected).all()
    assert 1 <= reference.asked <= WINDOWS
    assert (compared.changed_share, compared.left) == (0, 0)


def test_only_so_many_scenes_are_compared_as_are_asked_for() -> None:
    reference = Counting()
    compared = ComparedBackend(FakeBackend(), reference, 2)
    asked = []
    for seed in range(4):
        rows_of(compared, scene(300, 300, seed))
        asked.append(reference.asked)
    assert asked[0] < asked[1] == asked[2] == asked[3]
    assert compared.changed_share is None


def test_a_scene_of_nodata_alone_says_nothing_of_the_model() -> None:
    compared = ComparedBackend(FakeBackend(), FakeBackend(), 1)
    rows_of(compared, np.zeros((1, 200, 200), np.uint16))
    rows_of(compared, scene(200, 200), np.zeros((200, 200), bool))
    assert (compared.changed_share, compared.left) == (None, 1)


@pytest.mark.parametrize("at", [slice(0, 150), slice(450, 600)])
def test_answers_that_differ_in_one_part_of_a_scene_are_noticed(tmp_path: Path, at: slice) -> None:
    """Water here, land there: 40 to 60 lies between the two models' limits."""
    low, high = (box_model(tmp_path / f"{dark}.onnx", tile_px=64, dark=dark) for dark in (40, 60))
    pixels = np.full((1, 600, 100), 90, np.uint16)
    pixels[:, at] = 50
    with ComparedBackend(open_backend(high, "cpu"), open_backend(low, "cpu"), 1) as compared:
        with pytest.raises(ProofFailed, match=r"[\d.]+% of the pixels of 4 windows differ"):
            rows_of(compared, pixels)
        assert compared.left == 1


def test_it_says_to_be_the_backend_that_answers() -> None:
    compared = ComparedBackend(FakeBackend(), FakeBackend(FAKE_MANIFEST, "1" * 64), 1)
    assert (compared.name, compared.device, compared.model_sha256) == ("fake", "none", "0" * 64)
