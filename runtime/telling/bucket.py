"""A bucket as a channel: the products of a published scene are uploaded under their own names, the mask last.

The outbox tries again until that is done, so each is there at least once; what is uploaded twice is the same.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from runtime.archive.store import Store, open_store
from runtime.telling.channel import Channel

_store = lru_cache(maxsize=16)(open_store)


def upload(channel: Channel, event: str, document: dict[str, Any]) -> None:
    """Whatever the message links to. Raises StoreError, StoreRefused, DependencyMissing, and OSError for a product that
    is gone or cannot be read."""
    store: Store = _store(channel.to)
    paths = [Path(unquote(urlsplit(link["href"]).path)) for link in document["links"]]
    for path in reversed(paths):  # the message begins with the mask
        store.upload(path, path.name)
