"""Where labelled data lies on disk, and which files belong together. Data is given as one of

    DIR                     img/NAME*.tif, mask/NAME*.tif and, where wanted, gim/NAME*.tif: the KOMPSAT-5 layout
    DIR with train.txt      the same files, listed: `image, mask[, gim]` per line, relative to DIR; val.txt is held out
    LIST.txt                such a list by itself
    IMAGE:MASK[:GIM]        one pair of large rasters

An image, its mask and its GIM belong together if their names agree once `label`, `mask` and `GIM` are left out, or else
if they agree up to the first underscore.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sarwater.errors import DataError

SUFFIXES = (".tif", ".tiff", ".vrt", ".h5")
HELD_OUT_LISTS = ("val.txt", "valid.txt", "test.txt")


@dataclass(frozen=True)
class LabelledFiles:
    """An image and what belongs to it; `held_out` where a val.txt named it."""

    image: Path
    mask: Path
    gim: Path | None = None
    held_out: bool = False


def find_files(data: str, with_gim: bool) -> Iterator[LabelledFiles]:
    """Raises DataError for a file or a partner that is not there."""
    path = Path(data)
    if ":" in data and not path.exists():
        parts = [Path(part) for part in data.split(":")]
        if len(parts) not in (2, 3):
            raise DataError(f"{data}: {len(parts)} files, expected IMAGE:MASK or IMAGE:MASK:GIM")
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
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; expected one with img/ and mask/")
    masks, gims = _rasters(folder / "mask"), _rasters(folder / "gim")
    images = _rasters(folder / "img")
    for image in images:
        mask = _partner(image, masks, images)
        if mask is None:
            raise DataError(f"{image}: no mask; expected {folder / 'mask' / first_part(image)}*.tif")
        gim = _partner(image, gims, images) if with_gim else None
        if with_gim and gim is None:
            raise DataError(f"{image}: no incidence angle; expected {folder / 'gim' / first_part(image)}*.tif")
        yield LabelledFiles(image, mask, gim)


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
            f"{where}: {len(paths)} files, expected {'image, mask and gim' if with_gim else 'image and mask'}"
        )
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path}: no such file (named by {where})")
    return LabelledFiles(paths[0], paths[1], paths[2] if with_gim else None, held_out)


def _partner(image: Path, candidates: list[Path], images: list[Path]) -> Path | None:
    """The mask or GIM of `image`, by name."""
    exact = [path for path in candidates if stem(path) == stem(image)]
    if exact:
        return exact[0]
    alike = [path for path in candidates if first_part(path) == first_part(image)]
    siblings = [path for path in images if first_part(path) == first_part(image)]
    return alike[0] if len(alike) == len(siblings) == 1 else None


def _rasters(folder: Path) -> list[Path]:
    """Not the hidden ones: they are still being written, or an operating system's own (`._NAME.tif`)."""
    return sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in SUFFIXES)


def stem(path: Path) -> str:
    return "_".join(part for part in path.stem.split("_") if part.lower() not in ("label", "mask", "gim"))


def first_part(path: Path) -> str:
    return path.stem.split("_")[0]
