from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sarwater.classes import LAND, WATER
from sarwater.tiling import TilePlan
from tests.support.lakes import lake, write_raster
from train.data.labelled import LabelledScene, find_labelled
from train.data.split import split_sources
from train.models import Segmenter, architecture
from train.scoring.predict import probability, water_mask


def tile_of(folder: Path, pixels: np.ndarray) -> LabelledScene:
    image = write_raster(folder / "a.tif", pixels)
    mask = write_raster(folder / "b.tif", np.zeros(pixels.shape, np.uint8))
    return find_labelled(f"{image}:{mask}")[0]


class Brightness(Segmenter):
    """Answers each pixel by itself, so that windows must not show."""

    def forward(self, raw: torch.Tensor) -> torch.Tensor:
        return raw[:, :1] / 1000


@pytest.mark.parametrize("size", [(100, 70), (200, 500)])
def test_windows_and_their_blending_leave_no_trace(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.scoring.predict.TILE_PX", 160)
    pixels = np.random.default_rng(0).integers(1, 1000, size).astype(np.uint16)
    water = probability(Brightness(architecture("unet-w16")), tile_of(tmp_path, pixels))
    assert np.allclose(water, pixels / 1000, atol=1e-6)


@pytest.mark.parametrize("copies", [2, 3])
def test_an_enlarged_tile_is_answered_in_its_own_pixels(
    tmp_path: Path, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.scoring.predict.TILE_PX", 160)
    pixels = np.random.default_rng(0).integers(1, 1000, (90, 140)).astype(np.uint16)
    sizes = []

    class Looks(Brightness):
        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            sizes.append(raw.shape[-1])
            return super().forward(raw)

    water = probability(Looks(architecture("unet-w16")), tile_of(tmp_path, pixels), copies)
    assert np.allclose(water, pixels / 1000, atol=1e-6)
    assert len(sizes) == len(TilePlan(90 * copies, 140 * copies, 160, 48).rows) * len(
        TilePlan(90 * copies, 140 * copies, 160, 48).columns
    )


def test_a_mask_is_enlarged_where_the_network_knows_finer_pixels_alone(tmp_path: Path) -> None:
    pixels = np.full((96, 96), 300, np.uint16)
    image = write_raster(tmp_path / "a.tif", pixels, west_north=(500_000, 5_000_000), pixel_m=60)
    tile = find_labelled(f"{image}:{write_raster(tmp_path / 'b.tif', np.zeros((96, 96), np.uint8))}")[0]

    class Width(Segmenter):
        """Says how wide a window is."""

        def forward(self, raw: torch.Tensor) -> torch.Tensor:
            return torch.full_like(raw[:, :1], raw.shape[-1] / 1000)

    network = Width(architecture("unet-w16"))
    for coarsest_m, width_px in ((None, 144), (60.0, 144), (30.0, 192)):
        threshold = width_px / 1000
        assert (water_mask(network, tile, threshold, coarsest_m) == WATER).all()
        assert (water_mask(network, tile, threshold + 0.001, coarsest_m) == LAND).all()


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
