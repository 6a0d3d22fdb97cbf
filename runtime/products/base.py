"""What every product has in common. One file here per product; runtime/products/__init__.py is their registry.

A new product says its name, suffix, help and asset, and how rows become a file; commands, the daemon, the STAC item and
the Python front door take it from the registry.

A product's life: it is made with the scene that is open, `write` takes finished rows from north to south, `see` the
pixels that they come of, `finish` completes the file, and `close` (always called) lets go of it.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from runtime.backends.base import FinishedRows
from runtime.latency import LatencyRecord
from sarwater.errors import OutputError
from sarwater.manifest import ModelManifest
from sarwater.request import Request
from sarwater.scenes.model_input import Bool, ModelInput, Pixels
from sarwater.tags import MASK_KEY_TAG, setting_tag


@dataclass(frozen=True)
class Making:
    """How the products of one scene were made, known once the last row is written."""

    tags: Mapping[str, str]
    """What every product says of its making, as far as its format has room for it."""
    manifest: ModelManifest
    record: LatencyRecord
    products: tuple[Product, ...]
    """All that are made, finished but for those that sum up."""


class Product(ABC):
    """One file made of a scene's finished rows. One thread writes. Raises OutputError where the disk is at fault."""

    name: ClassVar[str]
    """What a request calls it."""
    suffix: ClassVar[str]
    """What its file name has after the scene's stem."""
    help: ClassVar[str]
    """What it is, in a few words, for tables and `--help`."""
    asset_name: ClassVar[str] = ""
    """Of the STAC asset; none for what is no asset."""
    asset: ClassVar[Mapping[str, Any]] = {}
    """What the STAC item says of it: type, title, roles, and more."""
    sums_up: ClassVar[bool] = False
    """Whether it is finished after the others, for it describes them."""
    settings: ClassVar[tuple[str, ...]] = ()
    """Fields of the request that change this product and not the mask."""
    sees: ClassVar[bool] = False
    """Whether `see` does anything."""
    seen: Any = None
    """What `see` gathered. Another product of this kind and scene may be given it instead of seeing the scene again."""

    def __init__(self, path: Path, scene: ModelInput, request: Request) -> None:
        self.path = path
        self.scene = scene
        self.request = request

    @classmethod
    def file_name(cls, stem: str) -> str:
        return stem + cls.suffix

    @classmethod
    def is_current(cls, path: Path, key: str, request: Request) -> bool:
        """Whether the file at `path` is this product of the mask with this key, made with the request's settings."""
        tags = cls.tags_in(path)
        return tags.get(MASK_KEY_TAG) == key and cls.setting_tags(request).items() <= tags.items()

    @classmethod
    def setting_tags(cls, request: Request) -> dict[str, str]:
        """What the file says of `settings`."""
        return {setting_tag(name): str(getattr(request, name)) for name in cls.settings}

    @classmethod
    @abstractmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        """What the file at `path` says of its making; nothing where it is missing or no product of this kind."""

    def see(self, row: int, rows: Pixels, valid: Bool | None) -> None:  # noqa: B027, most products need no pixels
        """Pixels (C, n, W) of the scene from `row` on, from the reading thread; for products that show them."""

    @abstractmethod
    def write(self, finished: FinishedRows) -> None: ...

    @abstractmethod
    def finish(self, making: Making) -> None:
        """Complete the file."""

    @abstractmethod
    def close(self) -> None: ...

    @contextlib.contextmanager
    def _opening(self) -> Iterator[None]:
        """Around what opens the file: nobody else can close one whose product was never finished, and GDAL would
        write to it when the folder is gone (Ctrl-C)."""
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _attempt(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except (RuntimeError, OSError) as error:
            raise OutputError(
                f"{self.path.name}: cannot be written in {self.path.parent.parent} ({last_words(error)}); "
                "free disk space or fix permissions, then run again"
            ) from error


def last_words(error: BaseException) -> str:
    """The end of a library's message, which is where it says why."""
    text = " ".join(str(error).split()) or "no reason given"
    return text if len(text) <= 120 else f"...{text[-120:]}"
