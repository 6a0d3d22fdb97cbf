"""STAC as a source of scenes: a collection or catalogue, followed to its items, an item, or a list of items."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from runtime.archive.grouping import is_scene
from runtime.archive.store import absolute, split
from sarwater.errors import UsageError

log = logging.getLogger("sarwater.archive")

_FOLLOWED = ("item", "child", "items")
_AT_A_TIME, _BATCH = 16, 256
"""Documents that are read at a time, and wait to be parsed."""
_NO_SCENE = {"thumbnail", "overview", "metadata", "visual", "legend"}
"""Roles of assets that are something else."""


class _Asset(BaseModel):
    href: str | None = None
    roles: list[str] | None = None

    @property
    def may_be_scene(self) -> bool:
        return bool(self.href) and not _NO_SCENE & set(self.roles or ())


class _Link(BaseModel):
    href: str
    rel: str


class _Properties(BaseModel):
    when: datetime | None = Field(None, alias="datetime")
    start_datetime: datetime | None = None


class _Item(BaseModel):
    """What is asked of an item; all else in it is passed over."""

    type: Literal["Feature"]
    bbox: Annotated[list[float], Field(min_length=4, max_length=6)] | None = None
    properties: _Properties = _Properties()
    assets: dict[str, _Asset] = {}
    links: list[_Link] = []

    @property
    def scene(self) -> str | None:
        """The href of the asset that is the scene: with the role `data`, or named like a scene; best if both."""
        assets = [asset for asset in self.assets.values() if asset.may_be_scene]
        data = [asset for asset in assets if "data" in (asset.roles or ())]
        named = [asset for asset in data or assets if asset.href and is_scene(asset.href)]
        found = named or data or (assets if len(assets) == 1 else [])
        return found[0].href if found else None


class _Items(BaseModel):
    type: Literal["FeatureCollection"]
    features: list[_Item]


class _Catalogue(BaseModel):
    type: Literal["Catalog", "Collection"]
    links: list[_Link] = []


_document: TypeAdapter[Any] = TypeAdapter(Annotated[_Item | _Items | _Catalogue, Field(discriminator="type")])


@dataclass(frozen=True)
class Found:
    """A scene that an item names."""

    place: str
    """Absolute."""
    day: date | None
    bbox: Sequence[float] | None
    """West, south, east, north in degrees."""
    item: str | None
    """Where the item lies, as far as it is known."""


Read = Callable[[str], str]
"""The text of the document at an absolute location."""


def scenes_of(place: str, read: Read) -> Iterator[Found]:
    """What the items name that the document at `place` has, or links to, each document once. Raises UsageError for what
    is no STAC; tells how many items name no scene."""
    waiting, seen, without = deque([place]), {place}, 0
    with ThreadPoolExecutor(_AT_A_TIME, "stac") as pool:
        while waiting:
            places = [waiting.popleft() for _ in range(min(len(waiting), _BATCH))]
            for where, text in zip(places, pool.map(read, places), strict=True):
                document = _parsed(text, where)
                home, _ = split(where)
                for item in _items(document):
                    if scene := item.scene:
                        itself = where if item is document else _self_of(item)
                        yield Found(absolute(home, scene), _day(item.properties), _flat(item.bbox), itself)
                    without += not scene
                if isinstance(document, _Catalogue):
                    links = (absolute(home, link.href) for link in document.links if link.rel in _FOLLOWED)
                    fresh = [link for link in dict.fromkeys(links) if link not in seen]
                    seen.update(fresh)
                    waiting.extend(fresh)
    if without:
        said = "no asset of theirs has the role `data`, or is named like a scene (.tif, .h5, .SAFE and the like)"
        log.warning("%s: items left out: %d; %s", place, without, said)


def _parsed(text: str, place: str) -> Any:
    try:
        return _document.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:])  # after pydantic's name for the kind of document
        said = f"{where}: {first['msg']}" if where else "no STAC"
        raise UsageError(
            f"{place}: {said}; expected a STAC collection, catalogue, item or FeatureCollection of items"
        ) from None


def _items(document: Any) -> list[_Item]:
    if isinstance(document, _Items):
        return document.features
    return [document] if isinstance(document, _Item) else []


def _self_of(item: _Item) -> str | None:
    return next((link.href for link in item.links if link.rel == "self"), None)


def _day(properties: _Properties) -> date | None:
    when = properties.when or properties.start_datetime
    return when.date() if when else None


def _flat(bbox: list[float] | None) -> Sequence[float] | None:
    """Without heights."""
    if bbox is None or len(bbox) == 4:
        return bbox
    return bbox[0], bbox[1], bbox[-3], bbox[-2]
