"""Labelled data: which label belongs to which image, what a label's values mean, and the truth that follows.

Data is given as one of

    DIR                     img/NAME.tif, mask/NAME_label.tif and, where wanted, gim/NAME_GIM.tif: the KOMPSAT-5 layout
    DIR with train.txt      the same files, listed: `image, label[, gim]` per line, relative to DIR; val.txt is held out
    LIST.txt                such a list by itself
    IMAGE:LABEL[:GIM]       one pair of large rasters

An image is any scene that can be read, a product folder too. An image, its label and its GIM belong together if their
names agree once the words `label`, `mask`, `truth`, `gt` and `GIM` are left out.

What the values of a label mean is settled once for all labels of one data set, for a tile without water does not tell:

    0, 255         land, water
    0, 1           land, water; 255 or -1 beside them is not known, and left out
    others         refused, until a coding says what they are: `land=1,water=2,ignore=0`

Declared nodata is left out. Where that leaves no land, or no water, it is refused until a coding says what the value
is, which then counts: many programs declare 0 whatever it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DataError, SceneError, UsageError
from sarwater.request import Limits
from sarwater.scenes.limits import check_declared
from sarwater.scenes.readers import find_reader
from sarwater.scenes.readers.base import Source, check_members
from sarwater.scenes.readers.geotiff import open_raster, open_tiff
from sarwater.scenes.tiff import is_tiff

UInt8 = npt.NDArray[np.uint8]
LABEL_SUFFIXES = (".tif", ".tiff", ".png")
HELD_OUT_LISTS = ("val.txt", "valid.txt", "test.txt")
LABEL_WORDS = ("label", "labels", "mask", "truth", "gt", "gim")
BLOCK_ROWS = 1024
_LOOK_PX = 256
"""Side of the overview that is looked at."""
_MAX_EXPANSION = 2000
"""At least: classes compress like nothing else; Deflate at its best reaches 1032."""


@dataclass(frozen=True)
class LabelledFiles:
    """An image and what belongs to it; `held_out` where a val.txt named it."""

    image: Path
    label: Path
    gim: Path | None = None
    held_out: bool = False

    @property
    def name(self) -> str:
        return stem(self.image)


@dataclass(frozen=True)
class Coding:
    """What the values of a label file mean."""

    land: tuple[float, ...] = (0,)
    water: tuple[float, ...] = (255,)
    ignore: tuple[float, ...] = ()
    stated: bool = field(default=False, compare=False)
    """Whether somebody said so: that wins over nodata that a file declares."""

    @classmethod
    def parse(cls, text: str) -> Coding:
        """`land=1,water=2,ignore=0`; a meaning may be given several times. Raises UsageError."""
        values: dict[str, list[float]] = {"land": [], "water": [], "ignore": []}
        for part in text.split(","):
            meaning, _, value = part.strip().partition("=")
            try:
                values[meaning.strip()].append(float(value))
            except (KeyError, ValueError):
                raise UsageError(
                    f"--labels {text}: {part!r} is not one of land=VALUE, water=VALUE, ignore=VALUE; "
                    "expected all values of the labels, as land=0,water=1,ignore=255"
                ) from None
        if not values["water"] or not values["land"]:
            raise UsageError(f"--labels {text}: expected at least one value of land and one of water")
        given = [value for meaning in values.values() for value in meaning]
        if len(set(given)) < len(given):
            raise UsageError(f"--labels {text}: a value has two meanings")
        return cls(tuple(values["land"]), tuple(values["water"]), tuple(values["ignore"]), stated=True)

    @classmethod
    def of(cls, values: set[float]) -> Coding | None:
        """The coding that these values, all that occur in a data set, leave no doubt about; else None."""
        if values <= {0, 255}:
            return cls()
        if values <= {0, 1, 255, -1}:
            return cls(water=(1,), ignore=(255, -1))
        return None

    @property
    def values(self) -> set[float]:
        return {*self.land, *self.water, *self.ignore}

    def truth(self, values: npt.NDArray[Any], nodata: float | None = None) -> UInt8:
        """Label values of any type -> uint8 of LAND, WATER, NODATA; what is not in the coding becomes NODATA."""
        truth = np.full(values.shape, NODATA, np.uint8)
        truth[np.isin(values, self.land)] = LAND
        truth[np.isin(values, self.water)] = WATER
        if nodata is not None and not (self.stated and nodata in (*self.land, *self.water)):
            truth[np.isnan(values) if np.isnan(nodata) else values == nodata] = NODATA
        return truth

    def __str__(self) -> str:
        meanings = {"land": self.land, "water": self.water, "ignore": self.ignore}
        return ",".join(f"{name}={value:g}" for name, values in meanings.items() for value in values)


class Label:
    """An opened label file of one band."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        """Raises DataError for a file that is missing, damaged or has several bands."""
        source = Source(path, path.name, _limits(limits))
        try:
            check_members(source, [path])
            self._dataset = open_tiff(source) if is_tiff(path) else open_raster(source, ["PNG"])
            check_declared(source.name, source.limits, pixels=self._dataset.RasterXSize * self._dataset.RasterYSize)
        except SceneError as error:
            raise DataError(f"{path}: not a readable label ({error}); expected a GeoTIFF or PNG of classes") from error
        self.path = path
        if self._dataset.RasterCount != 1:
            raise DataError(
                f"{path}: has {self._dataset.RasterCount} bands, expected one with a value for each class; a picture "
                "of a label is none: take the band that holds the classes out of it (gdal_translate -b "
                f"{self._last_that_varies()} IN OUT.tif)"
            )
        self.width_px: int = self._dataset.RasterXSize
        self.height_px: int = self._dataset.RasterYSize
        self.nodata: float | None = self._band.GetNoDataValue()

    def _last_that_varies(self) -> int:
        """Number of the band that may hold classes: of pictures in which water is blue, the last that is not flat."""
        numbers = range(self._dataset.RasterCount, 0, -1)
        size_px = (min(self._dataset.RasterXSize, _LOOK_PX), min(self._dataset.RasterYSize, _LOOK_PX))
        bands = ((number, self._dataset.GetRasterBand(number)) for number in numbers)
        looks = ((number, band.ReadAsArray(buf_xsize=size_px[0], buf_ysize=size_px[1])) for number, band in bands)
        try:
            return next((number for number, values in looks if values.min() < values.max()), 1)
        except RuntimeError:
            return 1  # damage is for the reading to say

    @property
    def _band(self) -> Any:
        return self._dataset.GetRasterBand(1)

    def read(self, x_px: int, y_px: int, width_px: int, height_px: int) -> npt.NDArray[Any]:
        """(H, W) values of a window, as stored. Raises DataError for a damaged file."""
        try:
            values: npt.NDArray[Any] = self._band.ReadAsArray(x_px, y_px, width_px, height_px)
        except RuntimeError as error:
            raise DataError(f"{self.path}: damaged ({error}); copy it again") from error
        return values

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(first row, rows of full width), top to bottom: a whole scene need not fit into memory."""
        for y in range(0, self.height_px, BLOCK_ROWS):
            yield y, self.read(0, y, self.width_px, min(BLOCK_ROWS, self.height_px - y))

    def values(self) -> set[float]:
        """All that occur, but for NaN."""
        found: set[float] = set()
        for _, block in self.blocks():
            # Counting is many times quicker than sorting, and labels are uint8 nearly always.
            unique = np.flatnonzero(np.bincount(block.ravel())) if block.dtype == np.uint8 else np.unique(block)
            found |= {value for value in unique.tolist() if value == value}
        return found

    def paints_black(self, value: float) -> bool | None:
        """Whether the colour table shows `value` as black; None where there is no table."""
        table = self._band.GetColorTable()
        if table is None or not 0 <= value < table.GetCount():
            return None
        return bool(tuple(table.GetColorEntry(int(value))[:3]) == (0, 0, 0))


def _limits(limits: Limits | None) -> Limits:
    limits = limits or Limits()
    return limits.model_copy(update={"max_expansion": max(limits.max_expansion, _MAX_EXPANSION)})


def settle_coding(labels: Iterable[Path], given: Coding | None = None, limits: Limits | None = None) -> Coding:
    """What the values of these labels, all of one data set, mean. Raises DataError with the values that nobody
    declared, and the option that does."""
    seen = {path: _Seen.of(Label(path, limits)) for path in labels}
    left = {path: label.values - ({label.nodata} - (given.values if given else set())) for path, label in seen.items()}
    occurring: set[float] = set().union(*left.values())
    coding = given or Coding.of(occurring)
    known = coding.values if coding else {0.0, 1.0, 255.0, -1.0}
    for path, values in left.items():
        if odd := sorted(values - known)[:5]:
            expected = f"{coding} as declared" if given else "0 and 255, or 0, 1 and 255"
            listed = ", ".join(f"{value:g}" for value in sorted(values)[:8])
            raise DataError(
                f"{path}: label values {listed}, of which {', '.join(f'{value:g}' for value in odd)} "
                f"{'is' if len(odd) == 1 else 'are'} not declared; expected {expected}; {_SAY}"
            )
    assert coding is not None
    if given is None:
        _refuse_what_is_half(seen, occurring)
    return coding


_SAY = "say what each value is with --labels land=VALUE,water=VALUE,ignore=VALUE"


@dataclass(frozen=True)
class _Seen:
    """What was found in one label."""

    values: set[float]
    nodata: float | None
    black: float | None
    """The value of water that the colour table shows as black, while 0 is a colour."""

    @classmethod
    def of(cls, label: Label) -> _Seen:
        values = label.values()
        black = [value for value in (1.0, 255.0) if value in values and label.paints_black(value)]
        return cls(values, label.nodata, black[0] if black and label.paints_black(0) is False else None)


def _refuse_what_is_half(seen: Mapping[Path, _Seen], occurring: set[float]) -> None:
    """Declared nodata without which all of the data set has no land, or no water; a palette whose background is not 0.
    Raises DataError."""
    for path, label in seen.items():
        if label.black is not None:
            raise DataError(
                f"{path}: its colour table shows {label.black:g} as black and 0 as a colour, so that which is water "
                f"cannot be told; {_SAY}"
            )
        for kind, meant in (("land", {0.0}), ("water", {1.0, 255.0})):
            if not occurring & meant and label.nodata in label.values & meant:
                raise DataError(
                    f"{path}: declares {label.nodata:g} as nodata, and no label has {kind} without it; {_SAY}, which "
                    "wins over what is declared"
                )


def find_files(data: str, with_gim: bool = False) -> list[LabelledFiles]:
    """The images of `data` with their labels. Raises DataError for a file or a partner that is not there."""
    found = list(_find_files(data, with_gim))
    if not found:
        raise DataError(
            f"{data}: no images; expected img/NAME.tif and mask/NAME_label.tif, or train.txt, or IMAGE:LABEL"
        )
    return found


def _find_files(data: str, with_gim: bool) -> Iterator[LabelledFiles]:
    path = Path(data)
    if ":" in data and not path.exists():
        parts = [Path(part) for part in data.split(":")]
        if len(parts) not in (2, 3):
            raise DataError(f"{data}: {len(parts)} files, expected IMAGE:LABEL or IMAGE:LABEL:GIM")
        yield _listed(parts, data, with_gim, held_out=False)
    elif path.suffix == ".txt":
        yield from _list_file(path, with_gim, held_out=False)
    elif (path / "train.txt").is_file():
        yield from _list_file(path / "train.txt", with_gim, held_out=False)
        for name in HELD_OUT_LISTS:
            if (path / name).is_file():
                yield from _list_file(path / name, with_gim, held_out=True)
    else:
        yield from _folder(path, with_gim)


def _folder(folder: Path, with_gim: bool) -> Iterator[LabelledFiles]:
    for needed in (folder, folder / "img", folder / "mask"):
        if not needed.is_dir():
            raise DataError(f"{needed}: no such folder; expected {folder} to hold img/ and mask/")
    labels, gims = (_files(folder / name, LABEL_SUFFIXES) for name in ("mask", "gim"))
    for image in images_in(folder / "img"):
        label = _partner(image, labels, folder / "mask" / f"{stem(image)}_label.tif", "no mask")
        gim = None
        if with_gim:
            gim = _partner(image, gims, folder / "gim" / f"{stem(image)}_GIM.tif", "no incidence angle")
        yield LabelledFiles(image, label, gim)


def images_in(folder: Path) -> list[Path]:
    """The scenes in a folder, sorted: files and product folders that a reader takes, and every .tif, which is to be
    one. Not the hidden ones: they are still being written, or an operating system's own (`._NAME.tif`)."""
    paths = sorted(folder.glob("[!.]*"))
    known = [path for path in paths if path.suffix.lower() in (".tif", ".tiff") or find_reader(path) is not None]
    return [path for path in known if not _is_header(path)]


def _is_header(path: Path) -> bool:
    """What another path is taken for, in whose company it lies: ENVI's .hdr for the pixels, .data for its .dim."""
    reader = find_reader(path) if path.suffix.lower() in (".hdr", ".data") else None
    return reader is not None and any((path.parent / name).exists() for name in reader.beside(path))


def _list_file(path: Path, with_gim: bool, *, held_out: bool) -> Iterator[LabelledFiles]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not a readable list of files ({error})") from error
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith("#"):
            # Names with spaces are possible where commas or tabs separate.
            parts = re.split(r"\s*,\s*|\t" if "," in line or "\t" in line else r"\s+", line.strip())
            yield _listed([path.parent / part for part in parts], f"{path}:{number}", with_gim, held_out=held_out)


def _listed(paths: list[Path], where: str, with_gim: bool, *, held_out: bool) -> LabelledFiles:
    if len(paths) not in (2, 3) or (with_gim and len(paths) != 3):
        raise DataError(
            f"{where}: {len(paths)} files, expected {'image, label and gim' if with_gim else 'image and label'}"
        )
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: no such file (named by {where})")
    return LabelledFiles(paths[0], paths[1], paths[2] if with_gim else None, held_out)


def _partner(image: Path, candidates: Sequence[Path], expected: Path, lack: str) -> Path:
    """The label or GIM of `image`, by name."""
    found = [path for path in candidates if stem(path).lower() == stem(image).lower()]
    if len(found) != 1:
        names = f" ({', '.join(path.name for path in found)})" if found else ""
        raise DataError(f"{image}: {f'{len(found)} labels{names}' if found else lack}; expected one, {expected}")
    return found[0]


def _files(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in suffixes)


def stem(path: Path) -> str:
    """The name without its suffix and without the words that only say what kind of file it is."""
    return "_".join(part for part in path.stem.split("_") if part.lower() not in LABEL_WORDS)
