from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sarwater.classes import NODATA, WATER
from sarwater.errors import DataError
from tests.support.lakes import lake, write_lakes, write_raster
from train.data.augment import LAND_DB, NONE, Augmentation, _decibels_as_dn, augment
from train.data.crops import Crops, Share, Source, loader
from train.data.labelled import LabelledScene, channels_named, find_labelled
from train.data.split import split_sources


@pytest.fixture
def scenes(tmp_path: Path) -> tuple[LabelledScene, ...]:
    return tuple(find_labelled(str(write_lakes(tmp_path)), channels_named("sar", "gim")))


def crops_of(*sources: Source, seed: int = 0, augmentation: Augmentation = NONE, shoreline: float = 0.5) -> Crops:
    return Crops(sources, 32, seed, augmentation, shoreline)


def test_a_crop_depends_on_seed_and_index_alone(scenes: tuple[LabelledScene, ...]) -> None:
    augmentation = Augmentation(speckle=1.0)
    first = crops_of(Source(scenes), augmentation=augmentation)
    again = crops_of(Source(scenes), augmentation=augmentation)
    first[3]
    assert torch.equal(first[7][0], again[7][0])
    assert not torch.equal(first[7][0], first[8][0])
    assert not torch.equal(first[7][0], crops_of(Source(scenes), seed=1, augmentation=augmentation)[7][0])


def test_worker_processes_give_the_same_batches_as_none(scenes: tuple[LabelledScene, ...]) -> None:
    crops = crops_of(Source(scenes))
    share = Share(0, 4, batch=2)
    alone, helped = (list(loader(crops, share, workers)) for workers in (0, 2))
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(alone, helped, strict=True))


def test_a_crop_is_pixels_and_truth_of_one_size(scenes: tuple[LabelledScene, ...]) -> None:
    pixels, truth = crops_of(Source(scenes), augmentation=Augmentation())[0]
    assert (pixels.shape, pixels.dtype) == ((2, 32, 32), torch.float32)
    assert (truth.shape, truth.dtype) == ((32, 32), torch.uint8)


def test_sources_are_drawn_in_proportion_to_their_weights(tmp_path: Path) -> None:
    sources = []
    for value, weight in ((10, 3.0), (200, 1.0)):
        image = write_raster(tmp_path / f"{value}.tif", np.full((64, 64), value, np.uint8))
        mask = write_raster(tmp_path / f"{value}-mask.tif", lake(64, 0)[1])
        sources.append(Source(tuple(find_labelled(f"{image}:{mask}")), weight))
    crops = crops_of(*sources, shoreline=0.0)
    share = np.mean([float(crops[i][0].max()) == 10 for i in range(300)])
    assert 0.65 < share < 0.85


def test_a_crop_never_crosses_into_the_held_out_rows(tmp_path: Path) -> None:
    rows = np.repeat(np.arange(1, 97, dtype=np.uint8)[:, None], 96, axis=1)  # each pixel names its row
    image = write_raster(tmp_path / "a.tif", rows)
    mask = write_raster(tmp_path / "b.tif", lake(96, 0)[1])
    split = split_sources([find_labelled(f"{image}:{mask}")], ["a@40"])[0]
    crops = crops_of(Source(split.training), augmentation=replace(NONE, flips=True, zoom=3))
    assert max(float(crops[i][0].max()) for i in range(60)) <= split.training[0].rows[1] < 96


def test_shoreline_crops_hold_water_and_land(scenes: tuple[LabelledScene, ...]) -> None:
    crops = crops_of(Source(scenes), shoreline=1.0)
    water = [float((crops[i][1] == WATER).float().mean()) for i in range(20)]
    assert np.mean([0 < share < 1 for share in water]) > 0.9


@pytest.mark.parametrize("shape", [(20, 96), (96, 20), (20, 20), (1, 1)])
def test_what_a_scene_lacks_of_the_crop_is_padded_with_pixels_without_truth(
    tmp_path: Path, shape: tuple[int, int]
) -> None:
    image = write_raster(tmp_path / "a.tif", np.full(shape, 90, np.uint8))
    mask = write_raster(tmp_path / "a_label.tif", np.full(shape, 255, np.uint8))
    crops = crops_of(Source(tuple(find_labelled(f"{image}:{mask}"))), shoreline=1.0)
    height, width = (min(side, 32) for side in shape)
    for index in range(10):
        pixels, truth = crops[index]
        assert (pixels.shape, truth.shape) == ((1, 32, 32), (32, 32))
        assert torch.equal(truth == WATER, pixels[0] == 90)
        assert torch.equal(truth == NODATA, pixels[0] == 0)
        assert int((truth == WATER).sum()) == height * width
    again = crops_of(Source(tuple(find_labelled(f"{image}:{mask}"))), shoreline=1.0)
    assert torch.equal(again[7][1], crops[7][1])
    places = {tuple((crops[index][1] == WATER).nonzero()[0].tolist()) for index in range(10)}
    assert len(places) > 1, "not always at the same place of the crop"


def test_scenes_of_several_sizes_are_one_source(tmp_path: Path) -> None:
    for name, side_px in (("small", 20), ("large", 64)):
        amplitude, label = lake(side_px, 0)
        write_raster(tmp_path / "img" / f"{name}.tif", amplitude)
        write_raster(tmp_path / "mask" / f"{name}_label.tif", label)
    crops = crops_of(Source(tuple(find_labelled(str(tmp_path)))), augmentation=Augmentation(), shoreline=0.0)
    padded = [bool((crops[index][1] == NODATA).float().mean() > 0.5) for index in range(80)]
    assert 0 < sum(padded) < 40


def test_nothing_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match="all of them are held out"):
        crops_of(Source(()))


@given(steps=st.integers(1, 20), first=st.integers(0, 20), batch=st.integers(1, 5), processes=st.integers(1, 4))
def test_processes_share_the_crops_without_overlap_and_a_resumed_run_goes_on(
    steps: int, first: int, batch: int, processes: int
) -> None:
    first = min(first, steps)
    shares = [list(Share(0, steps, batch, process, processes)) for process in range(processes)]
    everything = sorted(index for share in shares for indices in share for index in indices)
    assert everything == list(range(steps * batch * processes))
    assert list(Share(first, steps, batch, 0, processes)) == shares[0][first:]


def test_tiles_of_coarser_pixels_than_the_network_is_to_know_are_enlarged(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(1, 60000, (40, 40)).astype(np.uint16)
    image = write_raster(tmp_path / "a.tif", pixels, west_north=(500_000, 5_000_000), pixel_m=60)
    mask = write_raster(tmp_path / "b.tif", (pixels > 30000).astype(np.uint8) * 255)
    source = Source(tuple(find_labelled(f"{image}:{mask}")))
    crop, truth = Crops([source], 64, 0, NONE, 0.0, coarsest_m=30.0)[0]
    assert np.array_equal(crop[0], np.kron(crop[0, ::2, ::2], np.ones((2, 2))))
    assert np.array_equal(truth, crop[0].numpy() > 30000)
    _, truth = Crops([source], 96, 0, NONE, 0.0, coarsest_m=30.0)[0]
    assert int((truth != NODATA).sum()) == 80 * 80


class TestAugmentation:
    scene, truth = (plane.astype(np.float32) for plane in lake(64, 0))
    label = (truth > 0).astype(np.uint8)

    def augmented(self, augmentation: Augmentation, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        pixels = np.stack([self.scene, np.full_like(self.scene, 100)])
        return augment(pixels, self.label, 64, augmentation, np.random.default_rng(seed))

    def test_none_changes_nothing(self) -> None:
        pixels, truth = self.augmented(NONE)
        assert np.array_equal(pixels[0], self.scene)
        assert np.array_equal(truth, self.label)

    def test_flips_and_turns_move_pixels_and_truth_together(self) -> None:
        only_flips = replace(NONE, flips=True)
        for seed in range(8):
            pixels, truth = self.augmented(only_flips, seed)
            assert pixels[0][truth == 1].mean() == pytest.approx(self.scene[self.label == 1].mean(), rel=1e-4)

    def test_what_a_rotation_brings_in_from_outside_has_no_truth(self) -> None:
        turned = [self.augmented(replace(NONE, rotation_deg=45), s) for s in range(8)]
        outside = [(pixels[0] == 0, truth == NODATA) for pixels, truth in turned]
        assert any(empty.any() for empty, _ in outside)
        assert all(np.array_equal(empty, blank) for empty, blank in outside)

    def test_gain_is_one_factor_within_its_bounds_and_leaves_the_angle(self) -> None:
        pixels, _ = self.augmented(replace(NONE, gain_db=3))
        ratio = pixels[0] / self.scene
        assert np.ptp(ratio) < 1e-5
        assert 0.7 < ratio.mean() < 1.42
        assert (pixels[1] == 100).all()

    def test_speckle_keeps_the_mean_intensity(self) -> None:
        speckled = replace(NONE, speckle=1)
        power = [np.mean(self.augmented(speckled, seed)[0][0] ** 2) for seed in range(20)]
        assert np.mean(power) == pytest.approx(np.mean(self.scene**2), rel=0.02)

    def test_a_stretch_keeps_the_level_of_land_and_the_order_of_what_lies_below(self) -> None:
        land = 10 ** (LAND_DB / 20)
        scene = np.array([[land, land / 2, land / 5, 0.0]], np.float32).repeat(4, axis=0)[None]
        contrasts_db = set()
        for seed in range(40):
            pixels, _ = augment(
                scene, np.zeros((4, 4), np.uint8), 4, replace(NONE, stretch=1), np.random.default_rng(seed)
            )
            assert pixels[0, 0, 0] == pytest.approx(land, rel=0.01)
            assert pixels[0, 0, 0] > pixels[0, 0, 1] > pixels[0, 0, 2] > pixels[0, 0, 3] == 0
            contrasts_db.add(round(float(LAND_DB - 20 * np.log10(pixels[0, 0, 2])), 3))
        true_db = 20 * np.log10(5)
        assert len(contrasts_db) == 40
        assert min(contrasts_db) < 0.6 * true_db
        assert max(contrasts_db) > 1.2 * true_db

    def test_a_picture_of_decibels_has_at_most_255_levels(self) -> None:
        amplitude = np.linspace(0, 3000, 50_000, dtype=np.float32)
        picture = _decibels_as_dn(amplitude, -20, 10)
        assert np.unique(picture).size <= 256
        assert (np.diff(picture[1:]) >= 0).all()
        assert picture[0] == 0

    def test_a_collar_is_no_data_and_teaches_nothing(self) -> None:
        pixels, truth = self.augmented(replace(NONE, collar=1))
        beyond = pixels[0] == 0
        assert 0.02 < beyond.mean() < 0.45
        assert (truth[beyond] == NODATA).all()
        assert (truth[~beyond] == self.label[~beyond]).all()
        assert (pixels[1] == 100).all()

    def test_a_coarser_spacing_keeps_the_mean_intensity_and_the_size(self) -> None:
        pixels, truth = augment(self.scene[None], self.label, 24, NONE, np.random.default_rng(0))
        assert pixels.shape == (1, 24, 24)
        assert truth.shape == (24, 24)
        assert np.mean(pixels**2) == pytest.approx(np.mean(self.scene**2), rel=0.03)
