"""What accuracy is measured on: which labelled sets there are, what each may be used for, and their scenes.

What chooses a network, its threshold and where its training stops are the sets of `development` alone: nothing is
learned from them. Sets that `teach` flatter a network that has learned from them, so the two are never pooled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.water_width import width_classes
from runtime.pipeline import scene_sha256
from sarwater.classes import NODATA, WATER
from sarwater.errors import UsageError
from sarwater.manifest import sha256_of
from sarwater.scenes.labels import Label
from train.data.labelled import LabelledScene, find_labelled
from train.simulator.simulate import Simulation, write_whole

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
CHECKOUT = Path(__file__).parents[1]
DEVELOPMENT, SIMULATED, TEACH, UNLISTED = "development", "simulated", "teach", "not listed"
USES = (DEVELOPMENT, SIMULATED, TEACH, UNLISTED)
TEST_SEED = 77_001
"""Of simulated scenes, and used for nothing else, so that no network was trained on them."""


@dataclass(frozen=True)
class DataSet:
    """A set of labelled scenes, in a folder of its name with img/ and mask/."""

    name: str
    use: str
    about: str
    """Sensor and contents, in one line."""
    owner: str = ""
    tiles: tuple[str, ...] = ()
    """How the names of its tiles begin, which is what a model's manifest keeps of its training data."""


_ETCI = (
    "ETCI 2021 flood detection competition (NASA IMPACT, IEEE GRSS); modified Copernicus Sentinel data. Not passed on."
)
_S1F11 = "Sen1Floods11 (Cloud to Street); modified Copernicus Sentinel data. Not passed on."
_SSDD = "SSDD (upstream Apache-2.0), labels by this project. Not passed on."
_HRSID = "HRSID (repository GPL-3.0), labels by this project. Not passed on."
_STAC = "STAC Overflow sample (DrivenData), no terms stated. Not passed on."
_SIMULATOR = "Scenes of this project's own simulator (`sarwater simulate`), with exact labels."
KNOWN = (
    DataSet("hrsid_coast", DEVELOPMENT, "Sentinel-1 and TerraSAR-X, 0.5-3 m, 8 bit: ports and coasts", _HRSID),
    DataSet("hrsid_sea", DEVELOPMENT, "the same sensors: sea and ships alone", _HRSID),
    DataSet("airport", DEVELOPMENT, "Gaofen-3, about 1 m, 8 bit: airports, no water", "SAR-AIRcraft. Not passed on."),
    DataSet("stac_vv", DEVELOPMENT, "Sentinel-1 VV, 10 m, dB: floods, labelled by hand", _STAC),
    DataSet("stac_vh", DEVELOPMENT, "Sentinel-1 VH, 10 m, dB: floods, labelled by hand", _STAC),
    DataSet("ombria_clean", DEVELOPMENT, "Sentinel-1, 10 m, 8 bit: floods of emergency maps", "OMBRIA. Not passed on."),
    DataSet("simulated_k5", SIMULATED, "X band, single look, 1.1 m: every type of scene", _SIMULATOR, ("SIM",)),
    DataSet("simulated_s1", SIMULATED, "C band, several looks, 10 m: every type of scene", _SIMULATOR, ("SIM",)),
    DataSet(
        "k5",
        TEACH,
        "KOMPSAT-5, X band HH, 1.1 m, single look: Norway",
        "KOMPSAT-5 tiles published with kari_water_seg; copyright KARI. Not passed on.",
        ("WTR",),
    ),
    DataSet("ssdd_coast", TEACH, "TerraSAR-X, RADARSAT-2, Sentinel-1, 1-15 m, 8 bit: coasts", _SSDD, ("ssdd",)),
    DataSet("ssdd_sea", TEACH, "the same sensors: sea and ships alone", _SSDD, ("ssdd",)),
    DataSet("etci_northal_vv", TEACH, "Sentinel-1 VV, about 30 m, 8 bit: North Alabama", _ETCI, ("northal",)),
    DataSet("etci_northal_vh", TEACH, "Sentinel-1 VH, about 30 m, 8 bit: North Alabama", _ETCI, ("northal",)),
    DataSet("etci", TEACH, "the same in Bangladesh, one large scene, poor labels", _ETCI, ("vv", "vh")),
    DataSet("s1f11_vv", TEACH, "Sentinel-1 VV, 10 m, dB: floods", _S1F11, ("India", "Mekong", "Somalia")),
    DataSet("s1f11_vh", TEACH, "Sentinel-1 VH, 10 m, dB: floods", _S1F11, ("India", "Mekong", "Somalia")),
    DataSet(
        "volkov_la",
        TEACH,
        "Sentinel-1 VH, 10 m, 8 bit: Los Angeles",
        "V. Volkov's pairs of Sentinel-1 and Sentinel-2, labels by this project; modified Copernicus Sentinel data.",
        ("s1vh",),
    ),
)


@dataclass(frozen=True)
class Sample:
    """One labelled scene, whose planes are made when they are looked at."""

    scene: LabelledScene

    @property
    def path(self) -> Path:
        return self.scene.image

    @cached_property
    def sha256(self) -> str:
        """Of the scene and its label."""
        return scene_sha256(self.path) + sha256_of(self.scene.label)

    @cached_property
    def amplitude(self) -> Float32:
        """(H, W) DN, nodata 0."""
        return self.scene.amplitude()

    @cached_property
    def truth(self) -> UInt8:
        """(H, W) LAND, WATER, NODATA: not known. Water that the reader takes for nodata stays water, to be missed."""
        label = Label(self.scene.label)
        values = label.read(0, 0, label.width_px, label.height_px)
        water = self.scene.coding.truth(values, label.nodata) == WATER
        return np.where(water, WATER, self.scene.truth()).astype(np.uint8)

    @cached_property
    def widths(self) -> UInt8:
        """(H, W): see `width_classes`."""
        return width_classes(self.truth == WATER, (self.truth != WATER) & (self.truth != NODATA))


class Scenes:
    """The scenes of one set. Iterating gives fresh samples, so that memory does not grow with the set."""

    def __init__(self, data_set: DataSet, folder: Path, at_most: int | None = None) -> None:
        """Raises DataError, SceneError for files that are there and cannot be used."""
        self.data_set = data_set
        self._scenes = find_labelled(str(folder), quiet=True)[:at_most]
        types = _scene_types() if data_set.use == SIMULATED else ("",)
        self.kinds = [types[index % len(types)] for index in range(len(self._scenes))]
        """Scene types, where they are simulated."""

    def __iter__(self) -> Iterator[Sample]:
        return (Sample(scene) for scene in self._scenes)

    def __len__(self) -> int:
        return len(self._scenes)

    def __getitem__(self, index: int) -> Sample:
        return Sample(self._scenes[index])

    @property
    def pixels(self) -> int:
        return sum(scene.area_px for scene in self._scenes)


def open_sets(data: Path, asked: Sequence[str], cache: Path, *, quick: bool) -> dict[str, Scenes]:
    """The simulated sets and the folders of `data`, those `asked` for or all, in the order of KNOWN. Simulated scenes
    are made in `cache`, once.

    Raises UsageError for a set that is not there, DataError and SceneError for files that cannot be used.
    """
    folders = {
        path.name: path for path in sorted(data.iterdir()) if (path / "img").is_dir() and (path / "mask").is_dir()
    }
    known = [each for each in KNOWN if each.use == SIMULATED or each.name in folders]
    listed = {each.name for each in known}
    sets = [*known, *(DataSet(name, UNLISTED, "not known here") for name in folders if name not in listed)]
    names = [each.name for each in sets]
    if odd := set(asked) - set(names):
        raise UsageError(f"--sets {', '.join(sorted(odd))}: not in {data}; expected some of: {', '.join(names)}")
    return {
        each.name: Scenes(each, folders.get(each.name) or _simulated(each.name, cache, quick), 2 if quick else None)
        for each in sets
        if each.name in asked or not asked
    }


def _simulated(name: str, cache: Path, quick: bool) -> Path:
    mode = name.removeprefix("simulated_")
    side_px, count = (128, 2) if quick else (384, 3 * len(_scene_types()))
    folder = cache / "scenes" / f"{source_digest(CHECKOUT / 'train' / 'simulator')[:16]}-{mode}-{side_px}"
    write_whole(folder, Simulation(count=count, size=str(side_px), seed=TEST_SEED, mode=mode))
    return folder


def _scene_types() -> tuple[str, ...]:
    from train.simulator.scenery import SCENE_TYPES

    return tuple(SCENE_TYPES)


def source_digest(*paths: Path) -> str:
    """Of Python files, and of those right in folders: changes when the code that made a kept result does."""
    files = [file for path in paths for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
