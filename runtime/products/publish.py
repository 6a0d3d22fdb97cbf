"""From staged products to visible ones: sidecars first, the mask last, each step durable before the next.

The mask is the commit point. A mask that is visible is complete and carries its key; sidecars without a mask
are what a crash left of an unfinished commit, and the next attempt replaces them.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from sarwater.atomic import fsync_folder, name_once
from sarwater.errors import OutputError, SceneError
from sarwater.scenes import tiff
from sarwater.scenes.xml import parse_xml
from sarwater.scratch import drop_abandoned, make_owned_folder, owner_of
from sarwater.tags import MASK_KEY_TAG

STAGING_GLOB = ".*.tmp"
"""Folders of staged products in an output folder; any that no running process owns is a leftover."""


@dataclass(frozen=True)
class StagedProducts:
    """Complete, fsynced products of one scene, in a hidden folder beside their final place. JSON-able."""

    folder: str
    """The staging folder; its parent is where the products go."""
    names: tuple[str, ...]
    """File names, the same before and after; the mask is the last."""
    mask_key: str
    record: dict[str, Any]
    """The latency record so far, see runtime.latency.LatencyRecord.to_dict()."""
    owner: BinaryIO | None = field(default=None, compare=False, repr=False)
    """Kept open by the process that may publish them; None on the way from one process to another."""

    @property
    def out_dir(self) -> Path:
        return Path(self.folder).parent

    @property
    def paths(self) -> tuple[Path, ...]:
        """Where the products will be visible."""
        return tuple(self.out_dir / name for name in self.names)

    def to_dict(self) -> dict[str, Any]:
        return {"folder": self.folder, "names": self.names, "mask_key": self.mask_key, "record": self.record}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> StagedProducts:
        return cls(document["folder"], tuple(document["names"]), document["mask_key"], document["record"])

    def taken_over(self) -> StagedProducts:
        """Of a process that is told of them by the one that made them, and still has them."""
        return replace(self, owner=owner_of(Path(self.folder)))


def publish(staged: StagedProducts, *, overwrite: bool = False) -> str:
    """Make `staged` visible and remove its folder; returns `published`, or `adopted` where the mask was there already.

    A mask of the same key is adopted, and side products are put beside it. One of another key raises OutputError,
    unless `overwrite`. So does every error of the file system; the staging folder is then left as it was, for another
    attempt or `discard`.
    """
    *sidecars, mask = staged.names
    source, out_dir = Path(staged.folder), staged.out_dir
    try:
        adopted = not overwrite and is_published(out_dir / mask, staged.mask_key)
        for name in sidecars:
            os.replace(source / name, out_dir / name)
        fsync_folder(out_dir)
        if overwrite:
            os.replace(source / mask, out_dir / mask)
        elif not adopted:
            name_once(source / mask, out_dir / mask)
        fsync_folder(out_dir)
    except FileExistsError:
        if not is_published(out_dir / mask, staged.mask_key):
            raise OutputError(f"{out_dir / mask}: disappeared while it was looked at; run again") from None
        adopted = True
    except OSError as error:
        raise OutputError(
            f"{out_dir}: products cannot be made visible ({error.strerror}); free space or fix permissions"
        ) from error
    discard(staged)
    return "adopted" if adopted else "published"


def discard(staged: StagedProducts) -> None:
    """Remove the staging folder and what is left in it."""
    shutil.rmtree(staged.folder, ignore_errors=True)
    if staged.owner is not None:
        staged.owner.close()


def make_staging_folder(out_dir: Path, stem: str) -> tuple[Path, BinaryIO]:
    """A hidden folder in `out_dir`, and what keeps it from `drop_leftovers` while it is open. Raises OSError."""
    return make_owned_folder(out_dir, f".{stem}.", ".tmp")


def drop_leftovers(out_dir: Path, sole: bool = False) -> int:
    """Remove what dead processes left in `out_dir`, and return how many; what living ones stage stays.

    `sole` is for the one daemon that works there: of others' folders that have no mark of ours nobody knows anything.
    """
    return drop_abandoned(out_dir.glob(STAGING_GLOB), sole)


def mask_key_of(mask: Path) -> str | None:
    """The key in a mask's tags; None where the file is missing or is no mask of ours. Needs no GDAL."""
    return tags_of(mask).get(MASK_KEY_TAG)


def tags_of(mask: Path) -> dict[str, str]:
    """A product's tags, as pipeline wrote them; none where the file is missing or no product. Needs no GDAL."""
    try:
        text = tiff.read_text_tag(mask, tiff.GDAL_METADATA)
        items = parse_xml(text.encode(), mask.name).iter("Item") if text else ()
        return {item.get("name", ""): item.text or "" for item in items}
    except (OSError, SceneError):
        return {}


def is_published(mask: Path, mask_key: str) -> bool:
    """Whether `mask` is there already as the mask of this key, for good: whoever linked it may have died before the
    folder was synced. Raises OutputError where it is another mask."""
    if not mask.exists():
        return False
    if mask_key_of(mask) != mask_key:
        raise OutputError(
            f"{mask}: exists and is the mask of another scene, model or setting; "
            "choose another output folder, or pass --overwrite (in Python: overwrite=True)"
        )
    fsync_folder(mask.parent)
    return True
