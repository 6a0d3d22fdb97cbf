"""Commits for a store without conditional writes: whoever wrote the first claim to a name may write it.

    .sarwater/claims/NAME/ATTEMPT     a claim; the store's clock says which is the first

Weaker than a conditional write. It holds where a listing shows at once what was written, the store's clock does not go
back, and no claim takes longer than SETTLE_S to become visible. Each commit waits so long.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from runtime.archive.store import Entry, Store, StoreError, StoreRefused

SETTLE_S = 5.0
"""Between a claim and the look for others."""
LEASE_S = 900.0
"""Age, by the store's clock, from which a claim is that of a dead attempt."""
_LONGEST_HOLD_S = 60.0
"""An attempt that was asleep for longer gives up: the write itself may take minutes more, and ends within the lease."""
_CLAIMS = ".sarwater/claims"


class WithLocks(Store):
    """Another store, whose `create` goes by claims."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.root, self.requests = store.root, store.requests

    def create(self, key: str, body: bytes) -> bool:
        folder = f"{_CLAIMS}/{key.replace('/', '_')}"
        mine = f"{folder}/{uuid.uuid4().hex}"
        began_s = time.monotonic()
        self._store.write(mine, b"")
        try:
            time.sleep(SETTLE_S)
            first = self._first_of(folder, mine)
            if first != mine:
                raise StoreError(f"{self.url(key)}: another attempt is about to write it; this scene waits")
            if self._store.read(key) is not None:
                return False
            if time.monotonic() - began_s > _LONGEST_HOLD_S:
                raise StoreError(f"{self.url(key)}: the store took over {_LONGEST_HOLD_S:g} s; this scene waits")
            self._store.write(key, body)
            return True
        finally:
            self._store.delete([mine])

    def _first_of(self, folder: str, mine: str) -> str | None:
        """The oldest claim that is not dead."""
        claims = list(self._store.list(folder))
        ours_s = next((claim.modified_s for claim in claims if claim.key == mine), None)
        if ours_s is None:
            raise StoreRefused(
                f"{self.root}: a listing does not show what was just written, so that no locks can be had here; "
                "expected another store"
            )
        return min((claim.modified_s, claim.key) for claim in claims if claim.modified_s > ours_s - LEASE_S)[1]

    def list(self, prefix: str = "") -> Iterator[Entry]:
        return self._store.list(prefix)

    def read(self, key: str) -> bytes | None:
        return self._store.read(key)

    def download(self, key: str, path: Path, version: str | None = None) -> None:
        self._store.download(key, path, version)

    def upload(self, path: Path, key: str) -> None:
        self._store.upload(path, key)

    def write(self, key: str, body: bytes) -> None:
        self._store.write(key, body)

    def delete(self, keys: Iterable[str]) -> None:
        self._store.delete(keys)

    def abort_uploads(self, prefix: str, before_s: float) -> int:
        return self._store.abort_uploads(prefix, before_s)
