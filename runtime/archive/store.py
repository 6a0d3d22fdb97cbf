"""Where scenes come from and products go: a folder, or a prefix of a bucket. One small interface for both.

open_store("s3://bucket/2019/")        any S3-compatible endpoint: AWS_ENDPOINT_URL and the usual chain of credentials
open_store("/data/archive")            a folder; `file:///data/archive` is the same

Keys are relative to the root, with `/` between their parts.
"""

from __future__ import annotations

import posixpath
import uuid
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from sarwater.errors import ConfigurationError, SarwaterError, SceneError, UsageError

S3 = "s3://"
_LOCAL = "file://"


class StoreError(SarwaterError):
    """The store does not answer as it should: another try, later, may."""

    reason = "store"


class StoreRefused(ConfigurationError):
    """No such bucket, no permission, no conditional writes: another try changes nothing."""

    reason = "store_refused"


class SceneChanged(SceneError):
    """What lies there is not what was planned."""

    reason = "scene_changed"


class Entry(NamedTuple):
    """An object in a listing."""

    key: str
    size_bytes: int
    version: str
    """Changes when the bytes do: an ETag, or a modification time."""
    modified_s: float
    """Seconds since 1970, by the store's clock."""


class Store(ABC):
    """A root and the objects below it. Every call raises StoreError where another try may help, and StoreRefused where
    it cannot."""

    root: str
    """As `open_store` takes it, without a slash at its end."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """Requests by operation, retries counted."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[Entry]:
        """What lies below, in the order of keys. Hidden parts (`.name`) are listed only where `prefix` names one."""

    @abstractmethod
    def read(self, key: str) -> bytes | None:
        """A small object; None where there is none."""

    @abstractmethod
    def download(self, key: str, path: Path, version: str | None = None) -> None:
        """The object at `key`, into the file `path`. Raises SceneChanged where it is missing or of another version."""

    @abstractmethod
    def upload(self, path: Path, key: str) -> None:
        """The file, as the object `key`, which is there whole or not at all. It replaces what was there."""

    @abstractmethod
    def create(self, key: str, body: bytes) -> bool:
        """Write an object that is not there yet: of many at one time, one is told True."""

    @abstractmethod
    def write(self, key: str, body: bytes) -> None:
        """Write a small object, whatever was there."""

    @abstractmethod
    def delete(self, keys: Iterable[str]) -> None:
        """Those that are missing are no error."""

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        """End uploads in parts below `prefix` that began before; returns how many."""
        return 0

    def url(self, key: str) -> str:
        return f"{self.root.rstrip('/')}/{key}"

    def check_conditional_writes(self, folder: str) -> None:
        """Whether `create` keeps its promise here. Raises StoreRefused."""
        key = f"{folder}/{uuid.uuid4().hex}"
        try:
            kept = self.create(key, b"first") and not self.create(key, b"second") and self.read(key) == b"first"
        finally:
            self.delete([key])
        if not kept:
            raise StoreRefused(
                f"{self.root}: this store lets a conditional write (PutObject with If-None-Match: *) replace what is "
                "there, so no scene could be committed exactly once; expected a store that honours it, such as Amazon "
                "S3 or MinIO, or a folder, or a plan with --lock-table"
            )


def open_store(url: str) -> Store:
    """Raises UsageError for a URL of another kind; DependencyMissing where boto3 is not installed."""
    if url.startswith(S3):
        from runtime.archive.s3 import S3Store

        return S3Store(url)
    if "://" in url and not url.startswith(_LOCAL):
        raise UsageError(f"{url}: neither a folder nor a bucket; expected a path or s3://BUCKET/PREFIX")
    from runtime.archive.local import LocalStore

    return LocalStore(absolute("", url) if url.startswith(_LOCAL) else url)


class Stores:
    """Those that absolute locations lie in, each opened once."""

    def __init__(self) -> None:
        self._opened: dict[str, Store] = {}

    def of(self, location: str) -> tuple[Store, str]:
        """(store, key). Raises what `open_store` raises."""
        root, key = root_and_key(location)
        if root not in self._opened:
            self._opened[root] = open_store(root)
        return self._opened[root], key


def root_and_key(location: str) -> tuple[str, str]:
    """The bucket or disk of an absolute location, and the key in it."""
    if location.startswith(S3):
        bucket, _, key = location.removeprefix(S3).partition("/")
        return S3 + bucket, key
    if "://" in location:
        return split(location)
    return "/", location.removeprefix("/")


def is_absolute(location: str) -> bool:
    return "://" in location or location.startswith("/")


def absolute(home: str, location: str) -> str:
    """What `location` means in a document that lies in the folder `home`, which is absolute."""
    place = unquote(location.removeprefix(_LOCAL)) if location.startswith(_LOCAL) else location
    if is_absolute(place):
        return place if "://" in place else posixpath.normpath(place)
    scheme, mark, path = home.rpartition("://")
    joined = f"{path.rstrip('/')}/{place}"
    dotted = not mark or {".", ".."} & set(place.split("/"))
    return scheme + mark + (posixpath.normpath(joined) if dotted else joined)  # `//` is no `/` in a bucket


def split(location: str) -> tuple[str, str]:
    """The folder's URL, and the name in it, of an absolute location."""
    folder, _, name = location.rpartition("/")
    return folder or "/", name
