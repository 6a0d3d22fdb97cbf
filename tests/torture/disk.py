"""A model of a disk that keeps only what POSIX promises: what was fsynced, where it was fsynced.

Fed with the system calls of a real run (strace), it answers: what would be there after a power cut right now?

- File content survives up to the file's last fsync; what came later may be there or not.
- An entry of a folder (a name) survives once that folder was fsynced; what came later may be there or not, in any
  combination, except that a rename never takes the old name away by itself before it made the new one.
- An fsync of the old folder alone does take the old name away: nothing promises that the new one is there.

Sources: POSIX.1-2017 fsync(); Pillai et al., "All File Systems Are Not Created Equal" (OSDI 2014).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(eq=False)
class File:
    content: bytearray = field(default_factory=bytearray)
    durable: bytes = b""


@dataclass(eq=False)
class Folder:
    entries: dict[str, File | Folder] = field(default_factory=dict)
    durable: dict[str, File | Folder] = field(default_factory=dict)


@dataclass(eq=False)
class Change:
    """One call that changed names. `gone` are (folder, name) pairs, `made` (folder, name, what)."""

    made: list[tuple[Folder, str, File | Folder]] = field(default_factory=list)
    gone: list[tuple[Folder, str]] = field(default_factory=list)
    into: list[Folder] = field(init=False)
    """The folders of `made`, which stay known after these were synced."""

    def __post_init__(self) -> None:
        self.into = [folder for folder, _, _ in self.made]


@dataclass(frozen=True)
class Survivor:
    """`inode` tells names of one file; `content` is None for a folder."""

    inode: int
    content: bytes | None


class Disk:
    """Everything under one folder of the real file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.top = _read(root)
        self._pending: list[Change] = []

    def find(self, path: str) -> File | Folder | None:
        """What is at an absolute path under the root now, or None."""
        node: File | Folder | None = self.top
        for part in Path(path).relative_to(self.root).parts:
            node = node.entries.get(part) if isinstance(node, Folder) else None
        return node

    def contains(self, path: str) -> bool:
        return Path(path).is_relative_to(self.root)

    def make(self, path: str, node: File | Folder) -> None:
        folder, name = self._place(path)
        folder.entries[name] = node
        self._pending.append(Change(made=[(folder, name, node)]))

    def remove(self, path: str) -> None:
        folder, name = self._place(path)
        del folder.entries[name]
        self._pending.append(Change(gone=[(folder, name)]))

    def rename(self, old: str, new: str) -> None:
        source, old_name = self._place(old)
        target, new_name = self._place(new)
        node = source.entries.pop(old_name)
        target.entries[new_name] = node
        self._pending.append(Change(made=[(target, new_name, node)], gone=[(source, old_name)]))

    def sync(self, path: str) -> None:
        """fsync of a file or a folder."""
        node = self.find(path)
        if isinstance(node, File):
            node.durable = bytes(node.content)
        elif node is not None:
            for change in self._pending:
                _persist(change, only=node)
            self._pending = [change for change in self._pending if change.made or change.gone]

    def after_power_cut(self, rng: random.Random | None) -> dict[str, Survivor]:
        """What survives, by relative path: only what was synced or, with `rng`, a random part of the rest as well."""
        names: dict[int, dict[str, File | Folder]] = {}

        def survivors(folder: Folder) -> dict[str, File | Folder]:
            return names.setdefault(id(folder), dict(folder.durable))

        for change in self._pending if rng else ():
            # A journal keeps the order between making a folder and putting something into it.
            reachable = all(self._reaches(folder, survivors) for folder in change.into)
            if rng and rng.random() < 0.5 and reachable:
                for folder, name, node in change.made:
                    survivors(folder)[name] = node
                for folder, name in change.gone:
                    survivors(folder).pop(name, None)
        state: dict[str, Survivor] = {}

        def walk(folder: Folder, path: str) -> None:
            for name, node in survivors(folder).items():
                if isinstance(node, Folder):
                    state[path + name] = Survivor(id(node), None)
                    walk(node, f"{path}{name}/")
                elif not name.endswith("-shm"):  # SQLite rebuilds it
                    content = bytes(node.content) if rng and rng.random() < 0.5 else node.durable
                    state[path + name] = state.get(path + name) or Survivor(id(node), content)

        walk(self.top, "")
        return state

    def _reaches(self, wanted: Folder, survivors: Callable[[Folder], dict[str, File | Folder]]) -> bool:
        todo = [self.top]
        while todo:
            folder = todo.pop()
            if folder is wanted:
                return True
            todo += [node for node in survivors(folder).values() if isinstance(node, Folder)]
        return False

    def _place(self, path: str) -> tuple[Folder, str]:
        folder = self.find(str(Path(path).parent))
        assert isinstance(folder, Folder), path
        return folder, Path(path).name


def _persist(change: Change, only: Folder) -> None:
    """Make durable what a change did to one folder."""
    for folder, name, node in change.made:
        if folder is only:
            folder.durable[name] = node
    for folder, name in change.gone:
        if folder is only:
            folder.durable.pop(name, None)
    change.made = [item for item in change.made if item[0] is not only]
    change.gone = [item for item in change.gone if item[0] is not only]


def _read(path: Path) -> Folder:
    """What is on the real disk, all of it durable."""
    folder = Folder()
    for item in path.iterdir():
        node: File | Folder
        if item.is_dir():
            node = _read(item)
        else:
            content = item.read_bytes()
            node = File(bytearray(content), content)
        folder.entries[item.name] = folder.durable[item.name] = node
    return folder
