from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.train.lakes import lake, write_raster
from train.models import Segmenter, architecture
from train.predict import probability
from train.regions import split_sources
from train.tiles import Tile, find_tiles


def tile_of(folder: Path, pixels: np.ndarray) -> Tile:
    image = write_raster(folder / "a.tif", pixels)
    mask = write_raster(folder / "b.tif", np.zeros(pixels.shape, np.uint8))
    return find_tiles(f"{image}:{mask}")[0]


class Brightness(Segmenter):
    """Answers each pixel by itself, so that windows must not show."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return raw[:, :1] / 1000


@pytest.mark.parametrize("size", [(100, 70), (200, 500)])
def test_windows_and_their_blending_leave_no_trace(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.predict.TILE_PX", 160)
    pixels = np.random.default_rng(0).integers(1, 1000, size).astype(np.uint16)
    water = probability(Brightness(architecture("unet-w16")), tile_of(tmp_path, pixels))
    assert np.allclose(water, pixels / 1000, atol=1e-6)


def test_only_the_rows_of_a_split_tile_are_looked_at(tmp_path: Path) -> None:
    pixels = np.repeat(np.arange(1, 101, dtype=np.uint16)[:, None], 60, axis=1)
    (split,) = split_sources([[tile_of(tmp_path, pixels)]], ["a@30"])
    water = probability(Brightness(architecture("unet-w16")), split.held_out[0])
    assert np.allclose(water[:, 0] * 1000, np.arange(71, 101))


@pytest.mark.parametrize("name", ["unet-w16", "deepunet", "hrnet"])
def test_a_small_tile_is_mirrored_up_to_the_stride(tmp_path: Path, name: str) -> None:
    water = probability(Segmenter(architecture(name)).eval(), tile_of(tmp_path, lake(40, 0)[0]))
    assert water.shape == (40, 40)


def test_a_window_of_nodata_is_not_inferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Brightness, "forward", lambda *_: pytest.fail("inferred nodata"))
    water = probability(Brightness(architecture("unet-w16")), tile_of(tmp_path, np.zeros((64, 64), np.uint16)))
    assert water.max() == 0
