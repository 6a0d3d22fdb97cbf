"""The file system calls of a real daemon, recorded by strace and played into a model disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tests.torture.disk import Disk, File, Folder

TRACED = (
    "openat,write,pwrite64,writev,lseek,ftruncate,rename,renameat,renameat2,link,linkat,unlink,unlinkat,"
    "rmdir,mkdir,mkdirat,fsync,fdatasync"
)
_LINE = re.compile(r"(?P<time>\d+\.\d+) (?P<name>\w+)\((?P<arguments>.*)\) = (?P<result>-?\d+)(?P<rest>.*)", re.DOTALL)
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_DESCRIPTOR = re.compile(r"(\d+|AT_FDCWD)(?:<([^>]*)>)?")


def command(log: Path) -> list[str]:
    """Prefix that records a command and all its children, one file per thread: `log.<thread>`."""
    return [
        "strace",
        "-ff",
        "--seccomp-bpf",
        "-ttt",
        "-y",
        "-xx",
        "-s",
        "1000000",
        "-qq",
        "-e",
        f"trace={TRACED}",
        "-o",
        str(log),
        "--",
    ]


@dataclass(frozen=True)
class Call:
    """One call that succeeded; paths are absolute."""

    name: str
    path: str
    thread: int = 0
    descriptor: int = -1
    target: str = ""
    data: bytes = b""
    offset: int = 0
    result: int = 0
    flags: str = ""
    where: str = ""
    """`runtime/daemon/folders.py:213`, of a `sync` that the code itself asks for."""


def calls(log: Path, working_folder: Path) -> list[Call]:
    """All successful calls of a recording, in order."""
    lines = []
    for part in log.parent.glob(log.name + ".[0-9]*"):
        thread = int(part.suffix[1:])
        for line in part.read_text().splitlines():
            if (match := _LINE.match(line)) and not match["result"].startswith("-"):
                lines.append((float(match["time"]), thread, match))
    lines.sort(key=lambda item: item[0])
    recorded = [replace(call, thread=thread) for _, thread, match in lines for call in _parse(match, working_folder)]
    return list(_placed(recorded, working_folder))


def _placed(recorded: list[Call], working_folder: Path) -> Iterator[Call]:
    """With the place in the code that `marks/sitecustomize.py` wrote before each sync."""
    marked: dict[int, str] = {}
    for call in recorded:
        if call.name == "write" and call.path == os.devnull and call.data:
            marked[call.thread] = os.path.relpath(os.fsdecode(call.data), working_folder)
        elif call.name == "sync":
            yield replace(call, where=marked.pop(call.thread, ""))
        else:
            yield call


def _parse(match: re.Match[str], working_folder: Path) -> Iterator[Call]:
    name, arguments, result = match["name"], match["arguments"], int(match["result"])
    texts = [_bytes(text) for text in _TEXT.findall(arguments)]
    numbers = [item.strip() for item in _TEXT.sub("", arguments).split(",")]
    first = _DESCRIPTOR.match(arguments)
    on = _path(first[2]) if first and first[2] else ""
    if name in ("rename", "renameat", "renameat2", "link", "linkat"):
        old, new = (_absolute(text, working_folder) for text in texts[:2])
        yield Call("link" if name.startswith("link") else "rename", old, target=new)
    elif name in ("unlink", "rmdir", "mkdir"):
        yield Call("unlink" if name == "rmdir" else name, _absolute(texts[0], working_folder))
    elif name in ("unlinkat", "mkdirat", "openat"):
        base = Path(on) if on else working_folder
        opened = _path(re.findall(r"<([^>]*)>", match["rest"])[0]) if name == "openat" and "<" in match["rest"] else ""
        path = opened or _absolute(texts[0], base)
        yield Call(name.removesuffix("at"), path, descriptor=result, flags=numbers[2] if name == "openat" else "")
    elif name in ("fsync", "fdatasync"):
        yield Call("sync", on, flags=name)
    elif name == "ftruncate":
        yield Call(name, on, offset=int(numbers[1]))
    elif name == "lseek":
        yield Call(name, on, descriptor=int(first[1]) if first else -1, offset=result)
    else:
        offset = int(numbers[-1]) if name == "pwrite64" else 0
        data = b"".join(texts)[:result]
        yield Call(name, on, descriptor=int(first[1]) if first else -1, data=data, offset=offset)


class Player:
    """Plays calls into a disk; positions of descriptors are kept by (descriptor, path)."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self._positions: dict[tuple[int, str], int] = {}
        self._appending: set[tuple[int, str]] = set()

    def play(self, call: Call) -> bool:
        """True where the call touched the disk."""
        if not self.disk.contains(call.path):
            return False
        match call.name:
            case "open":
                return self._open(call)
            case "promise":
                return False
            case "mkdir":
                self.disk.make(call.path, Folder())
            case "unlink":
                self.disk.remove(call.path)
            case "link":
                node = self.disk.find(call.path)
                assert node is not None, call
                self._correct(node, Path(call.target))
                self.disk.make(call.target, node)
            case "rename":
                self.disk.rename(call.path, call.target)
            case "sync":
                self.disk.sync(call.path)
            case "lseek":
                self._positions[call.descriptor, call.path] = call.offset
            case _:
                return self._write(call)
        return True

    def _correct(self, node: File | Folder, published: Path) -> None:
        """GDAL also reads while it writes, and reads move the position but are not recorded: take the bytes of a
        published file from the real one, which nothing changes any more."""
        if isinstance(node, File) and published.is_file():
            whole = node.durable == node.content
            node.content = bytearray(published.read_bytes())
            node.durable = bytes(node.content) if whole else b""

    def _open(self, call: Call) -> bool:
        key = (call.descriptor, call.path)
        node = self.disk.find(call.path)
        self._positions[key] = 0
        self._appending.discard(key)
        if "O_APPEND" in call.flags:
            self._appending.add(key)
        if node is None and "O_CREAT" in call.flags:
            self.disk.make(call.path, File())
        elif isinstance(node, File) and "O_TRUNC" in call.flags:
            node.content.clear()
        return node is None

    def _write(self, call: Call) -> bool:
        node = self.disk.find(call.path)
        if not isinstance(node, File):
            return False
        if call.name == "ftruncate":
            del node.content[call.offset :]
            node.content.extend(bytes(call.offset - len(node.content)))
            return True
        key = (call.descriptor, call.path)
        offset = call.offset
        if call.name != "pwrite64":
            offset = len(node.content) if key in self._appending else self._positions.get(key, 0)
            self._positions[key] = offset + len(call.data)
        node.content.extend(bytes(max(0, offset - len(node.content))))
        node.content[offset : offset + len(call.data)] = call.data
        return True


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _path(text: str) -> str:
    """The path that strace -y puts behind a descriptor, hexadecimal or plain."""
    return os.fsdecode(_bytes(text)) if text.startswith("\\x") else text


def _absolute(text: bytes, base: Path) -> str:
    return os.path.normpath(base / os.fsdecode(text))
