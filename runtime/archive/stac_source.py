"""STAC as a source of scenes: a collection or catalogue, followed to its items, an item, or a list of items."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from runtime.archive.store import Store, absolute, open_store, split
from sarwater.errors import UsageError


class _Asset(BaseModel):
    href: str | None = None
    roles: list[str] | None = None


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
        """The href of the asset that is the scene: the one with the role `data`, else the only one."""
        assets = [asset for asset in self.assets.values() if asset.href]
        data = [asset for asset in assets if "data" in (asset.roles or ())] or (assets if len(assets) == 1 else [])
        return data[0].href if data else None


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


def scenes_of(store: Store, key: str, read: Callable[[Store, str], str]) -> Iterator[Found]:
    """What the items name that the document at `key` has, or links to, each document once. `read` gives the text of
    one. Raises UsageError for what is no STAC."""
    waiting, seen = [store.url(key)], {store.url(key)}
    while waiting:
        place = waiting.pop()
        home, name = split(place)
        document = _parsed(read(store if home == store.root else open_store(home), name), place)
        for item in _items(document):
            if item.scene:
                itself = place if item is document else _self_of(item)
                yield Found(absolute(home, item.scene), _day(item.properties), _flat(item.bbox), itself)
        if isinstance(document, _Catalogue):
            links = (absolute(home, link.href) for link in document.links if link.rel in ("item", "child", "items"))
            fresh = [link for link in dict.fromkeys(links) if link not in seen]
            seen.update(fresh)
            waiting += reversed(fresh)


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
