"""What is measured: networks as the product runs them and the thresholds beside them; and what each does on a scene,
kept on disk, so that a run that was ended goes on."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.accuracy_gain import write_at_gain
from benchmarks.accuracy_sets import CHECKOUT, Sample, source_digest
from benchmarks.bootstrap import Int64, count
from sarwater.atomic import replacing
from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import SceneError
from sarwater.models import Model
from sarwater.prediction import OpenModel
from train.scoring.baseline import BOX_PX, box_otsu

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
MEAN_PX = 5


class Method(Protocol):
    """Something that makes masks."""

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str:
        """Another one where masks may differ, while the code is the same."""

    def mask(self, sample: Sample, gain_db: float) -> UInt8 | None:
        """(H, W) uint8 of LAND, WATER, NODATA of the scene made brighter; None where it is refused."""


@dataclass(frozen=True)
class Network:
    """A model as `sarwater predict` runs it, on files."""

    name: str
    model: Model

    @cached_property
    def _opened(self) -> OpenModel:
        return OpenModel(self.model)

    @property
    def identity(self) -> str:
        return self._opened.sha256

    @property
    def description(self) -> dict[str, str]:
        manifest, file = self.model.manifest, self.model.path.name
        trained = {key: str(manifest.training.get(key, "")) for key in ("commit", "date")}
        return {"model": manifest.name, "precision": manifest.precision, "sha256": manifest.files[file], **trained}

    def mask(self, sample: Sample, gain_db: float) -> UInt8 | None:
        try:
            if not gain_db:
                return self._opened.predict(sample.path).mask
            with tempfile.TemporaryDirectory(prefix="accuracy-") as folder:
                path, said = write_at_gain(sample.path, gain_db, Path(folder))
                return self._opened.predict(path, **said).mask
        except SceneError:
            return None


@dataclass(frozen=True)
class Otsu:
    """As an analyst would set it, who does not know the truth. No gain changes it."""

    name: str = f"Otsu, {BOX_PX} px mean"
    identity: str = f"Otsu {BOX_PX}"

    def mask(self, sample: Sample, gain_db: float) -> UInt8:
        return box_otsu(sample.amplitude)


@dataclass(frozen=True)
class BestThreshold:
    """The one that knows the truth. No gain changes it."""

    name: str = f"best threshold, {MEAN_PX} px mean"
    identity: str = f"best threshold {MEAN_PX}"

    def mask(self, sample: Sample, gain_db: float) -> UInt8:
        return best_threshold(sample.amplitude, sample.truth)


def best_threshold(amplitude: Float32, truth: UInt8, mean_px: int = MEAN_PX) -> UInt8:
    """(H, W) uint8 of LAND and WATER: where means of `mean_px` x `mean_px` amplitudes are at most that threshold of all
    which has the highest IoU against `truth`. A scene without water stays without."""
    from scipy.ndimage import uniform_filter

    smooth, known = uniform_filter(amplitude, mean_px), truth != NODATA
    order = np.argsort(smooth[known], kind="stable")
    values, water = smooth[known][order], (truth[known] == WATER)[order]
    if not water.any():
        return np.full(truth.shape, LAND, np.uint8)
    found = np.cumsum(water)
    iou = found / (found[-1] + np.arange(1, len(values) + 1) - found)
    iou[:-1][values[1:] == values[:-1]] = 0  # a threshold takes all pixels of one value
    return np.where(smooth <= values[np.argmax(iou)], WATER, LAND).astype(np.uint8)


def counts_of(sample: Sample, method: Method, gain_db: float, cache: Path) -> Int64:
    """See `bootstrap.count`; by width only of the scene as it is."""
    parts = (sample.sha256, method.identity, f"{gain_db:g}", _code_digest())
    path = cache / "counts" / f"{hashlib.sha256(' '.join(parts).encode()).hexdigest()}.npy"
    if path.is_file():
        return np.load(path)
    counts = count(method.mask(sample, gain_db), sample.truth, None if gain_db else sample.widths)
    with replacing(path) as temporary:
        np.save(temporary, counts)
    return counts


@lru_cache
def _code_digest() -> str:
    """Of what reads, answers and counts."""
    packages = ("sarwater", "sarwater/scenes", "sarwater/scenes/readers", "runtime", "runtime/backends")
    more = ("runtime/backends/cpu", "runtime/backends/gpu", "train/data", "train/scoring")
    here = [Path(__file__).with_name(f"{name}.py") for name in ("accuracy_gain", "bootstrap", "water_width")]
    return source_digest(Path(__file__), *here, *(CHECKOUT / package for package in (*packages, *more)))
