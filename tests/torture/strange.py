"""Strange things for an inbox: what uploaders, operators, other systems and enemies leave there.

Each either is no scene, or is one that fails alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import stat
import subprocess
import threading
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

_DEEP = 1500
_DEEP_FOLDERS = ("K5_deep", "K5_long_path")
NOBODY = 65534


def put_strange_things(inbox: Path, sound: bytes) -> list[str]:
    """Put every kind once, and return the names. `sound` is a GeoTIFF, of which each copy gets other last bytes."""
    names: list[str] = []
    number = 1000

    def scene(name: bytes | str) -> Path:
        nonlocal number
        number += 1
        content = bytearray(sound)
        content[-8:] = number.to_bytes(8, "little")
        path = inbox / os.fsdecode(name)
        path.write_bytes(content)
        names.append(path.name)
        return path

    def folder(name: str, *files: str) -> Path:
        path = inbox / name
        path.mkdir()
        for file in files:
            (path / file).write_bytes(sound)
        names.append(name)
        return path

    def text(name: bytes | str, content: str = "notes\n") -> None:
        path = inbox / os.fsdecode(name)
        path.write_text(content)
        names.append(path.name)

    # Names that are not UTF-8, of scenes and of what is ignored; names that would forge a line.
    scene("한강_홍수.tif".encode("cp949"))
    scene(b"caf\xe9.tif")
    text(b"caf\xe9.txt")
    text("안내.txt".encode("cp949"))
    scene("two\nforged line ready.tif")
    scene("red\x1b[31m\x07.tif")
    text("b\rforged.txt")
    # Twins by normalisation, equal stems.
    for form in ("NFC", "NFD"):
        scene(unicodedata.normalize(form, "é-강.tif"))
    scene("flood 1.tif"), scene("flood_1.tif"), scene("flood 1.tiff")
    # Folders.
    folder("K5_no_search", "a.tif").chmod(0o600)
    folder("K5_no_read", "a.tif").chmod(0o300)
    folder("K5_none", "a.tif").chmod(0)
    _nest(folder("K5_deep", "a.tif"), "d", _DEEP)
    _nest(folder("K5_long_path", "a.tif"), "n" * 250, 20)
    (folder("K5_with_fifo", "a.tif", "a_Aux.xml") / "pipe").mkdir()
    os.mkfifo(inbox / "K5_with_fifo" / "pipe" / "fifo")
    # Markers and checksums that are none.
    for name in (
        "fifo-sum.tif",
        "brackets.tif",
        "folder-sum.tif",
        "folder-done.tif",
        "others-done.tif",
        "link-sum.tif",
    ):
        scene(name)
    os.mkfifo(inbox / "fifo-sum.tif.sha256")
    (inbox / "brackets.tif.sha256").write_text("[" * 4096)
    (inbox / "folder-sum.tif.sha256").mkdir()
    (inbox / "folder-done.tif.done").mkdir()
    others = inbox / "others-done.tif.done"
    others.mkdir()
    (others / "x").touch()
    others.chmod(0o555)
    if os.geteuid() == 0:
        os.chown(others, NOBODY, NOBODY)
    (inbox / "link-sum.tif.sha256").symlink_to("/dev/zero")
    # Too large; special; called like something of ours.
    huge = scene("huge.tif")
    os.truncate(huge, 60 * 10**9)
    os.mkfifo(inbox / "fifo.tif")
    (inbox / "link.tif").symlink_to("/etc/hostname")
    (inbox / "loop.tif").symlink_to("loop.tif")
    (inbox / ".sarwater-probe-1").mkdir()
    scene("flood.done"), scene("flood.sha256"), scene("x.tif.done")
    (inbox / "dangling.tif").symlink_to("nowhere")
    (inbox / "outside.SAFE").symlink_to("/etc")
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, inbox / "socket.tif")
    names.extend(["dangling.tif", "outside.SAFE", "socket.tif"])
    with contextlib.suppress(PermissionError):  # only root makes devices
        os.mknod(inbox / "device.tif", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        names.append("device.tif")
    # One file under two names; of somebody else; that nobody may change.
    os.link(scene("hard.tif"), inbox / "hard-2.tif")
    names.append("hard-2.tif")
    foreign = scene("foreign.tif")
    if os.geteuid() == 0:
        os.chown(foreign, NOBODY, NOBODY)
    foreign.chmod(0o600)
    subprocess.run(["chattr", "+i", str(scene("immutable.tif"))], check=False, capture_output=True)
    # Nothing in it, and times that nobody has.
    (inbox / "zero.tif").touch()
    names.append("zero.tif")
    for name, time_s in (("before-1970.tif", -1e9), ("in-2200.tif", 7.3e9), ("in-3000.tif", 3.3e10)):
        os.utime(scene(name), (time_s, time_s))
    (inbox / "reason.json").write_bytes(bytes(100))
    (inbox / ("n" * 250 + ".tif")[:255]).write_bytes(b"x")
    names.extend(["fifo.tif", "link.tif", "loop.tif", ".sarwater-probe-1", "reason.json"])
    # No scenes, and no alarm.
    text("README"), text("SHA256SUMS", hashlib.sha256(sound).hexdigest() + "  x.tif\n"), text("list.md5", "0  x\n")
    return names


def put_together(inbox: Path) -> None:
    """Make the folder removable again: permissions, and what is too deep for shutil.rmtree."""
    subprocess.run(["chattr", "-i", str(inbox / "immutable.tif")], check=False, capture_output=True)
    subprocess.run(["chmod", "-R", "u+rwX", str(inbox)], check=False)
    subprocess.run(["rm", "-rf", *(str(inbox / name) for name in _DEEP_FOLDERS)], check=True)


@contextlib.contextmanager
def restless(inbox: Path, sound: bytes) -> Iterator[list[str]]:
    """What does not keep still while the daemon looks: a file that grows for ever, one that is truncated once it was
    claimed, a folder that becomes a file and back. The names."""
    over = threading.Event()

    def until_over(step: Callable[[], object]) -> None:
        while not over.wait(0.03):
            with contextlib.suppress(OSError):
                step()

    growing, truncated, swapped = inbox / "growing.tif", inbox / "truncated.tif", inbox / "swapped.SAFE"
    truncated.write_bytes(sound)
    with growing.open("ab") as file, truncated.open("r+b") as taken:

        def truncate() -> None:
            if not truncated.exists():
                os.truncate(taken.fileno(), len(sound) // 2)

        def swap() -> None:
            if swapped.is_dir():
                swapped.rmdir()
                swapped.write_bytes(sound[:100])
            else:
                swapped.unlink(missing_ok=True)
                swapped.mkdir()

        steps = (lambda: file.write(sound) and file.flush(), truncate, swap)
        threads = [threading.Thread(target=until_over, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield [growing.name, truncated.name, swapped.name]
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _bind(listener: socket.socket, path: Path) -> None:
    """By a path that is short enough for a socket, whatever the folder's is."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        listener.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


def _nest(folder: Path, name: str, depth: int) -> None:
    """Folders within one another, however long the path."""
    descriptor = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=descriptor)
        inner = os.open(name, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
