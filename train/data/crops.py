"""Random crops for training. A crop is a pure function of (seed, index): workers, restarts and the order of reading
change nothing, and processes that take different indices never see the same crop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sarwater.classes import NODATA, WATER
from sarwater.errors import DataError
from sarwater.upsampling import upsampled, upsampling_factor
from train.data.augment import Augmentation, augment, window_side_px
from train.data.labelled import LabelledScene

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
TRIES = 8
LEAST_VALID = 0.2
LEAST_WATER = 0.02


@dataclass(frozen=True)
class Source:
    """Tiles that share a weight: the probability that a crop comes from this source is weight / sum of weights."""

    tiles: tuple[LabelledScene, ...]
    weight: float = 1.0

    @property
    def area_px(self) -> int:
        return sum(tile.area_px for tile in self.tiles)


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Augmented crops: pixels (C, crop_px, crop_px) float32, truth (crop_px, crop_px) uint8.

    Inside a source, tiles are drawn in proportion to their area, windows uniformly; a window with almost no valid pixel
    is drawn again, and so, for a share `shoreline` of the crops, is one without water or without land: a shoreline
    teaches more. Tiles of coarser pixels than `coarsest_m` are enlarged to it, as at run time; 0: none.

    Raises DataError where there is nothing to train on, or a tile is smaller than the crop.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        crop_px: int,
        seed: int,
        augmentation: Augmentation,
        shoreline: float = 0.5,
        coarsest_m: float = 0.0,
    ) -> None:
        self.sources = [source for source in sources if source.tiles]
        if not self.sources:
            raise DataError("no tiles to train on: all of them are held out")
        for tile in (tile for source in self.sources for tile in source.tiles):
            factor = upsampling_factor(tile.pixel_m, coarsest_m)
            if factor * min(tile.width_px, tile.rows_px) < crop_px:
                enlarged = f", enlarged {factor} times," if factor > 1 else ""
                raise DataError(
                    f"{tile.image}: {tile.width_px} x {tile.rows_px} px{enlarged} is smaller than the crop "
                    f"({crop_px} px); choose a smaller --crop, or hold out less"
                )
        self.crop_px = crop_px
        self.seed = seed
        self.augmentation = augmentation
        self.shoreline = shoreline
        self.coarsest_m = coarsest_m
        weights = np.array([source.weight for source in self.sources])
        self._source_share = weights / weights.sum()
        self._tile_share = [np.array([tile.area_px / s.area_px for tile in s.tiles]) for s in self.sources]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        which = int(rng.choice(len(self.sources), p=self._source_share))
        wants_shoreline = rng.random() < self.shoreline
        for _ in range(TRIES):
            tile = self.sources[which].tiles[rng.choice(len(self._tile_share[which]), p=self._tile_share[which])]
            pixels, truth = self._window(tile, rng)
            valid, water = np.mean(truth != NODATA), np.mean(truth == WATER)
            if valid > LEAST_VALID and (not wants_shoreline or LEAST_WATER < water < valid - LEAST_WATER):
                break
        pixels, truth = augment(pixels, truth, self.crop_px, self.augmentation, rng, tile.sar_channels)
        return torch.from_numpy(pixels), torch.from_numpy(truth)

    def _window(self, tile: LabelledScene, rng: np.random.Generator) -> tuple[Float32, UInt8]:
        first, last = tile.rows
        factor = upsampling_factor(tile.pixel_m, self.coarsest_m)
        side = min(window_side_px(self.crop_px, self.augmentation, rng), factor * min(tile.width_px, tile.rows_px))
        source = -(-side // factor)
        x = int(rng.integers(tile.width_px - source + 1))
        y = int(rng.integers(first, last - source + 1))
        pixels, truth = tile.read(x, y, source, source)
        return upsampled(pixels, factor)[:, :side, :side], upsampled(truth, factor)[:side, :side]


@dataclass(frozen=True)
class Share:
    """The indices of one process among `processes`, batch by batch, from `first_step` on: step s of all of them
    together takes the next `batch * processes` crops."""

    first_step: int
    steps: int
    batch: int
    process: int = 0
    processes: int = 1

    def __iter__(self) -> Iterator[list[int]]:
        for step in range(self.first_step, self.steps):
            start = (step * self.processes + self.process) * self.batch
            yield list(range(start, start + self.batch))

    def __len__(self) -> int:
        return self.steps - self.first_step


def loader(crops: Crops, share: Share, workers: int, *, pinned: bool = False) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches (N, C, crop_px, crop_px) float32 and (N, crop_px, crop_px) uint8, read ahead by `workers` processes."""
    return DataLoader(crops, batch_sampler=share, num_workers=workers, pin_memory=pinned)  # type: ignore[arg-type]
