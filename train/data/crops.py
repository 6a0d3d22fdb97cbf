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
    """Scenes that share a weight: the probability that a crop comes from this source is weight / sum of weights."""

    scenes: tuple[LabelledScene, ...]
    weight: float = 1.0

    @property
    def area_px(self) -> int:
        return sum(scene.area_px for scene in self.scenes)


class Crops(Dataset[tuple[Tensor, Tensor]]):
    """Augmented crops: pixels (C, crop_px, crop_px) float32, truth (crop_px, crop_px) uint8.

    Inside a source, scenes are drawn in proportion to their area, windows uniformly; a window with almost no valid
    pixel is drawn again, and so, for a share `shoreline` of the crops, is one without water or without land: a
    shoreline teaches more. Scenes of coarser pixels than `coarsest_m` are upsampled to it, as at run time; 0: none.
    What a scene lacks of a crop, anywhere around it, is padded with pixels that have no truth.

    Raises DataError where there is nothing to train on.
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
        self.sources = [source for source in sources if source.scenes]
        if not self.sources:
            raise DataError("no scenes to train on: all of them are held out")
        self.crop_px = crop_px
        self.seed = seed
        self.augmentation = augmentation
        self.shoreline = shoreline
        self.coarsest_m = coarsest_m
        weights = np.array([source.weight for source in self.sources])
        self._source_share = weights / weights.sum()
        self._scene_share = [np.array([scene.area_px / s.area_px for scene in s.scenes]) for s in self.sources]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        which = int(rng.choice(len(self.sources), p=self._source_share))
        wants_shoreline = rng.random() < self.shoreline
        for _ in range(TRIES):
            scene = self.sources[which].scenes[rng.choice(len(self._scene_share[which]), p=self._scene_share[which])]
            side_px, pixels, truth = self._window(scene, rng)
            valid, water = np.mean(truth != NODATA), np.mean(truth == WATER)
            if valid > LEAST_VALID and (not wants_shoreline or LEAST_WATER < water < valid - LEAST_WATER):
                break
        pixels, truth = padded(pixels, truth, side_px, rng)
        pixels, truth = augment(pixels, truth, self.crop_px, self.augmentation, rng, scene.sar_channels)
        return torch.from_numpy(pixels), torch.from_numpy(truth)

    def _window(self, scene: LabelledScene, rng: np.random.Generator) -> tuple[int, Float32, UInt8]:
        """(side of the window, its pixels (C, h, w), its truth (h, w)): h and w are less than the side where the scene
        is smaller than the crop."""
        first, last = scene.rows
        factor = upsampling_factor(scene.pixel_m, self.coarsest_m)
        largest = max(self.crop_px, factor * min(scene.width_px, scene.rows_px))
        side = min(window_side_px(self.crop_px, self.augmentation, rng), largest)
        source = -(-side // factor)
        width, height = min(source, scene.width_px), min(source, scene.rows_px)
        x = int(rng.integers(scene.width_px - width + 1))
        y = int(rng.integers(first, last - height + 1))
        pixels, truth = scene.read(x, y, width, height)
        return side, upsampled(pixels, factor)[:, :side, :side], upsampled(truth, factor)[:side, :side]


def padded(pixels: Float32, truth: UInt8, side_px: int, rng: np.random.Generator) -> tuple[Float32, UInt8]:
    """(C, h, w) and (h, w) -> (C, side, side) and (side, side), with nodata around them: 0, and NODATA."""
    lack = [side_px - length for length in truth.shape]
    if not any(lack):
        return pixels, truth
    before = [int(rng.integers(length + 1)) for length in lack]
    around = [(part, length - part) for part, length in zip(before, lack, strict=True)]
    return np.pad(pixels, [(0, 0), *around]), np.pad(truth, around, constant_values=NODATA)


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
    return DataLoader(crops, batch_sampler=share, num_workers=workers, pin_memory=pinned)
