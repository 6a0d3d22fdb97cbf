"""What accuracy is measured on: labelled scenes, and the same scenes at another gain or pixel spacing."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, NODATA, WATER
from train.data.labelled import find_labelled
from train.data.split import split_sources
from train.simulator.radar import SENSORS
from train.simulator.simulate import EPSG, simulate_scene

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
ETCI_HELD_OUT = "vv@15"
"""The rows of the Sentinel-1 scene that no network trains on."""
COARSEST_M = 30.0
"""Pixel spacing of that scene, which has lost its georeference: 250 km of swath in 8,830 pixels."""
TEST_SEED = 77_001
"""Used for nothing else, so that no network was trained on these scenes."""
DRY_SEED = 77_002
SIMULATOR = ("simulate.py", "scenery.py", "terrain.py", "waters.py", "structures.py", "radar.py", "shapes.py")


@dataclass(frozen=True)
class Sample:
    """One labelled scene in memory; reads like a LabelledScene, so that train.scoring.predict takes it."""

    name: str
    amplitude: Float32
    """(H, W) DN, nodata 0."""
    truth: UInt8
    """(H, W) LAND, WATER, NODATA."""
    kind: str = ""
    """Scene type of a simulated scene."""
    pixel_m: float | None = None

    @property
    def rows(self) -> tuple[int, int]:
        return (0, self.rows_px)

    @property
    def rows_px(self) -> int:
        return self.amplitude.shape[0]

    @property
    def width_px(self) -> int:
        return self.amplitude.shape[1]

    def read(self, x: int, y: int, width: int, height: int) -> tuple[Float32, UInt8]:
        window = (slice(y, y + height), slice(x, x + width))
        return self.amplitude[window][None], self.truth[window]

    def middle(self, side_px: int | None) -> Sample:
        """The middle part of a scene that is larger than `side_px`."""
        top, left = (max(0, (side - (side_px or side)) // 2) for side in self.truth.shape)
        part = (slice(top, top + (side_px or self.rows_px)), slice(left, left + (side_px or self.width_px)))
        return replace(self, amplitude=self.amplitude[part], truth=self.truth[part])

    def at_gain(self, gain_db: float) -> Sample:
        """As a product whose calibration differs by `gain_db`."""
        return replace(self, amplitude=self.amplitude * np.float32(10 ** (gain_db / 20)))

    def coarser(self, factor: int) -> Sample:
        """At `factor` times the pixel spacing: power is averaged over the valid pixels, and what is mostly water is
        water. Rows and columns that do not fill a pixel are cut off."""
        height, width = (side // factor * factor for side in self.truth.shape)
        blocks = (height // factor, factor, width // factor, factor)
        amplitude, truth = self.amplitude[:height, :width].reshape(blocks), self.truth[:height, :width].reshape(blocks)
        valid = np.maximum((amplitude > 0).sum(axis=(1, 3)), 1)
        power = (amplitude.astype(np.float64) ** 2).sum(axis=(1, 3)) / valid
        water, known = ((truth == WATER).sum(axis=(1, 3)), (truth != NODATA).sum(axis=(1, 3)))
        label = np.where(2 * water >= np.maximum(known, 1), WATER, LAND)
        label = np.where(2 * known < factor * factor, NODATA, label)
        pixel_m = self.pixel_m * factor if self.pixel_m else None
        return replace(self, amplitude=np.sqrt(power).astype(np.float32), truth=label.astype(np.uint8), pixel_m=pixel_m)


def kompsat(folder: Path) -> list[Sample]:
    """The tiles of the K5 data set, whole. Raises DataError."""
    tiles = find_labelled(str(folder))
    return [Sample(tile.name, tile.amplitude(), tile.truth(), pixel_m=tile.pixel_m) for tile in tiles]


def sentinel(folder: Path) -> list[Sample]:
    """The rows of the ETCI scene that were held out of training. Raises DataError."""
    scene = find_labelled(f"{folder / 'vv.tif'}:{folder / 'flood_label.tif'}")
    (split,) = split_sources([scene], [ETCI_HELD_OUT])
    return [Sample("ETCI rows", tile.amplitude(), tile.truth(), pixel_m=COARSEST_M) for tile in split.held_out]


def label_limits(samples: Sequence[Sample]) -> dict[str, float]:
    """Pooled IoU of the labels with themselves, drawn a pixel wider, narrower and further east: how far outlines that
    a person drew let any method come."""
    drawn = {
        "a pixel wider": _grown,
        "a pixel narrower": lambda water: ~_grown(~water),
        "a pixel further east": lambda water: np.pad(water, ((0, 0), (1, 0)))[:, :-1],
    }
    limits = {}
    for name, change in drawn.items():
        both = either = 0
        for sample in samples:
            water, known = sample.truth == WATER, sample.truth != NODATA
            changed = change(water)
            both += np.count_nonzero(water & changed & known)
            either += np.count_nonzero((water | changed) & known)
        limits[name] = both / max(1, either)
    return limits


def _grown(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """With the four neighbours of every pixel."""
    padded = np.pad(inside, 1)
    sides = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.logical_or.reduce([inside, *sides])


def simulated(side_px: int, per_type: int, cache: Path, *, dry: bool = False) -> dict[str, list[Sample]]:
    """By mode, `per_type` scenes of every type; or, if `dry`, so many without any water."""
    from train.simulator.scenery import SCENE_TYPES

    kinds = ["dry"] if dry else list(SCENE_TYPES)
    seed = DRY_SEED if dry else TEST_SEED
    return {mode: list(_simulated(kinds * per_type, mode, side_px, seed, cache)) for mode in EPSG}


def _simulated(kinds: Sequence[str], mode: str, side_px: int, seed: int, cache: Path) -> Iterator[Sample]:
    simulator = simulator_digest()
    for index, kind in enumerate(kinds):
        key = hashlib.sha256(f"{simulator} {seed} {mode} {index} {kind} {side_px}".encode()).hexdigest()
        path = cache / "scenes" / f"{key}.npz"
        if path.is_file():
            with np.load(path) as stored:
                amplitude, water = stored["amplitude"], stored["water"]
        else:
            scene = simulate_scene((side_px, side_px), mode, np.random.default_rng((seed, index)), kind)
            amplitude, water = scene.amplitude, scene.water
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez_compressed(path, amplitude=amplitude, water=water)
        truth = np.where(amplitude == 0, NODATA, np.where(water == 1, WATER, LAND)).astype(np.uint8)
        yield Sample(f"{mode} {kind} {index}", amplitude.astype(np.float32), truth, kind, SENSORS[mode].pixel_m)


def simulator_digest() -> str:
    """Changes when the simulated scenes may."""
    return source_digest(*(Path(__file__).parents[1] / "train" / "simulator" / name for name in SIMULATOR))


def source_digest(*paths: Path) -> str:
    """Changes when the code that made a cached result does."""
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()
