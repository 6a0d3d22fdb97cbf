"""What a reader answers for a path: is it yours, is it all there, which files belong to it, open it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from sarwater.errors import SceneEmpty, SceneMissing, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes.limits import how_to_lift
from sarwater.scenes.scene import Scene

MAX_MEMBERS = 1000


@dataclass(frozen=True)
class Source:
    """Where a scene lies and what it is called. The two differ in the daemon, which keeps a claimed scene under a
    harmless name: times and polarisations are told by `name`, and messages say it."""

    path: Path
    name: str
    limits: Limits


EMPTY = "an empty file; the transfer failed: send it again"


class Kind:
    """What a person wants to know of a kind of product; docs/products.md is made of it."""

    name: str
    """What a person would call it: `KOMPSAT-5 folder`."""
    looks_for: str
    """How it is told, for the message that says that a path is none of the known kinds."""
    reads: str = ""
    """What of it is read: levels, polarisations, calibration, time, angles."""
    unit: str = ""
    """What unit its pixels are in, and what becomes of them."""
    unused: str = ""
    """What it also holds, and is not used."""


class Reader(Kind, ABC):
    """One kind of product. Everything but `open` is cheap and needs no GDAL: a supervisor asks it at every look."""

    images: Sequence[str] = ()
    """Where the images of a product folder lie in it, as patterns: by themselves they lack what the folder tells."""

    @property
    def kinds(self) -> Sequence[Kind]:
        """Those that only their content tells apart; itself where there are none."""
        return (self,)

    @abstractmethod
    def matches(self, path: Path, name: str) -> bool:
        """Whether this reader is the one for `path`, called `name`. A folder that is still being copied matches as
        soon as its name or its first files tell what it will be."""

    def missing(self, path: Path) -> list[str]:
        """What the product still lacks, as patterns or file names; empty where it is complete."""
        return []

    def beside(self, path: Path) -> list[str]:
        """What lies beside `path`, there or still to come, and belongs to the same product: who moves `path` alone
        tears it apart."""
        return []

    def head(self, path: Path) -> Path:
        """`path`, or what lies beside it and stands for all of the product: a header for its pixels."""
        return path

    def members(self, path: Path) -> list[Path]:
        """The files that belong to the product, sorted: what its identity is made of. Hidden ones do not (`named`).
        Those of a path that stands for files beside it (a header for its pixels) lie in the folder that holds it.

        Raises SceneUnsafe for links and whatever else is no regular file, or too many of them.
        """
        return [path] if not path.is_dir() else files_of(path)

    @abstractmethod
    def open(self, source: Source) -> Scene:
        """With every file open that it will read: those of an archive are gone afterwards.

        Raises SceneTruncated, SceneUnreadable, SceneUnsafe, SceneIsProduct.
        """


def check_members(source: Source, members: list[Path]) -> None:
    """Every file is regular, not empty and not too large. Raises SceneMissing, SceneEmpty, SceneUnsafe."""
    for file in members:
        name = _called(source, file)
        try:
            status = file.stat()
        except OSError as error:
            raise SceneMissing(f"{name}: {error.strerror}; expected a readable SAR scene") from error
        if not file.is_file():
            raise SceneMissing(f"{name}: not a regular file; expected a SAR scene")
        if status.st_size == 0 and file == source.path:
            raise SceneEmpty(f"{name}: {EMPTY}")
        if status.st_size > source.limits.max_input_bytes:
            raise SceneUnsafe(
                f"{name}: {status.st_size:,} bytes, more than the limit of {source.limits.max_input_bytes:,}; "
                + how_to_lift("max_input_bytes", status.st_size)
            )


def _called(source: Source, file: Path) -> str:
    if file == source.path:
        return source.name
    return f"{source.name}/{file.relative_to(source.path)}" if file.is_relative_to(source.path) else file.name


def named(folder: Path, *patterns: str) -> list[Path]:
    """Files of `folder` whose name matches one of the patterns, whatever the case; sorted. [] where it is none.

    Never the hidden ones: they are still being written, or an operating system's own (`._NAME.tif`)."""
    try:
        names = [name for name in os.listdir(folder) if not _is_hidden(name)]
    except OSError:
        return []
    fit = (name for name in names if any(fnmatchcase(name.lower(), pattern.lower()) for pattern in patterns))
    return [folder / name for name in sorted(fit)]


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def files_of(folder: Path) -> list[Path]:
    files: list[Path] = []
    for parent, folders, names in os.walk(folder):
        hidden = any(map(_is_hidden, Path(parent).relative_to(folder).parts))
        files += [Path(parent, name) for name in names if not (hidden or _is_hidden(name))]
        for entry in (*folders, *names):
            path = Path(parent, entry)
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise SceneUnsafe(
                    f"{folder.name}/{path.relative_to(folder)}: a link or a special file; expected a folder of "
                    "regular files"
                )
        if len(files) > MAX_MEMBERS:
            raise SceneUnsafe(f"{folder.name}: holds more than {MAX_MEMBERS} files; expected one product")
    return sorted(files)
