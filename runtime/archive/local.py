"""A folder as a store: files are there whole or not at all, and a new name is taken by one of many (link(2))."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from runtime.archive.store import Entry, SceneChanged, Store, StoreError, StoreRefused
from sarwater.atomic import fsync_file, fsync_folder, make_folder, replacing

_REFUSED = (PermissionError, NotADirectoryError, IsADirectoryError)


class LocalStore(Store):
    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder = Path(folder).absolute()
        self.root = str(self._folder)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        top = self._folder / prefix
        if not prefix and not top.exists():
            raise StoreRefused(f"{top}: no such folder; expected one with scenes")
        if top == Path("/"):
            raise StoreRefused(f"{top}: the whole disk is no archive; expected a folder with scenes")
        if top.is_file():
            return
        self.requests["list"] += 1
        yield from self._below(top)

    def _below(self, folder: Path) -> Iterator[Entry]:
        with self._telling(folder):
            try:
                entries = sorted(os.scandir(folder), key=lambda entry: entry.name + "/" * entry.is_dir())
            except FileNotFoundError:
                return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._below(Path(entry.path))
            elif entry.is_file(follow_symlinks=False):
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat(follow_symlinks=False)
                    key = os.path.relpath(entry.path, self._folder)
                    yield Entry(key, status.st_size, _version(status), status.st_mtime)

    def read(self, key: str) -> bytes | None:
        self.requests["read"] += 1
        with self._telling(self._folder / key):
            try:
                return (self._folder / key).read_bytes()
            except FileNotFoundError:
                return None

    def download(self, key: str, path: Path, version: str | None = None) -> None:
        """A copy, for the file may be replaced while it is read."""
        self.requests["download"] += 1
        source = self._folder / key
        with self._telling(source):
            try:
                file = source.open("rb")
            except FileNotFoundError:
                raise SceneChanged(f"{source}: is gone since the plan was made; plan again") from None
            with file, path.open("wb") as target:
                shutil.copyfileobj(file, target, 4 << 20)
                found = _version(os.fstat(file.fileno()))
        if version is not None and found != version:
            raise SceneChanged(f"{source}: was changed since the plan was made; plan again")

    def upload(self, path: Path, key: str) -> None:
        self.requests["upload"] += 1
        target = self._folder / key
        with self._telling(target):
            make_folder(target.parent)
            with replacing(target) as temporary:
                shutil.copyfile(path, temporary)

    def create(self, key: str, body: bytes) -> bool:
        self.requests["create"] += 1
        target = self._folder / key
        temporary = target.with_name(f".{uuid.uuid4().hex}.tmp")
        with self._telling(target):
            make_folder(target.parent)
            try:
                temporary.write_bytes(body)
                fsync_file(temporary)
                os.link(temporary, target)
            except FileExistsError:
                return False
            finally:
                temporary.unlink(missing_ok=True)
            fsync_folder(target.parent)
            return True

    def write(self, key: str, body: bytes) -> None:
        self.requests["write"] += 1
        with self._telling(self._folder / key), replacing(self._folder / key) as temporary:
            temporary.write_bytes(body)

    def delete(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.requests["delete"] += 1
            path = self._folder / key
            with self._telling(path):
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # as soon as a folder is empty, as in a bucket
                for parent in path.parents:
                    if parent == self._folder:
                        break
                    parent.rmdir()

    @contextlib.contextmanager
    def _telling(self, path: Path) -> Iterator[None]:
        try:
            yield
        except _REFUSED as error:
            raise StoreRefused(f"{path}: {error.strerror}; expected a folder that this user may use") from error
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}; free space or repair the disk, then run again") from error


def _version(status: os.stat_result) -> str:
    return f"{status.st_size}-{status.st_mtime_ns}"
