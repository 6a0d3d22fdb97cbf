"""Strange things for an inbox: what uploaders, operators, other systems and enemies leave there.

Each either is no scene, or is one that fails alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import hashlib
import os
import signal
import socket
import stat
import subprocess
import tarfile
import threading
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

_DEEP = 1500
_DEEP_FOLDERS = ("K5_deep", "K5_long_path")
NOBODY = 65534


def put_strange_things(inbox: Path, sound: bytes) -> list[str]:
    """Put every kind once, and return the names. `sound` is a GeoTIFF, of which each copy gets other last bytes."""
    put = _Put(inbox, sound)
    for kind in (
        *(_names, _folders, _headers, _markers, _special_files, _files_of_others, _sizes_and_times, _no_scenes),
        _archives,
    ):
        kind(put)
    return put.names


class _Put:
    """Puts things into the inbox, and keeps their names."""

    def __init__(self, inbox: Path, sound: bytes) -> None:
        self.inbox, self.sound = inbox, sound
        self.names: list[str] = []
        self._number = 1000

    def scene(self, name: bytes | str) -> Path:
        self._number += 1
        content = bytearray(self.sound)
        content[-8:] = self._number.to_bytes(8, "little")
        path = self.new(name)
        path.write_bytes(content)
        return path

    def folder(self, name: str, *files: str) -> Path:
        path = self.new(name)
        path.mkdir()
        for file in files:
            (path / file).write_bytes(self.sound)
        return path

    def text(self, name: bytes | str, content: str = "notes\n") -> None:
        self.new(name).write_text(content)

    def new(self, name: bytes | str) -> Path:
        """Where the caller puts something of this name."""
        path = self.inbox / os.fsdecode(name)
        self.names.append(path.name)
        return path


def _names(put: _Put) -> None:
    """That are not UTF-8, of scenes and of what is ignored; that would forge a line, or mean something to a shell, to a
    formatter, or to whoever reads flags; twins by normalisation, equal stems; called like something of ours."""
    for name in ("한강_홍수.tif".encode("cp949"), b"caf\xe9.tif", "two\nforged line ready.tif", "red\x1b[31m\x07.tif"):
        put.scene(name)
    for name in ("-rf.tif", "--help.tif", " .tif", "$(reboot).tif", "%s%n{0}.tif", "a\\b.tif", "00000001"):
        put.scene(name)
    for name in (b"caf\xe9.txt", "안내.txt".encode("cp949"), "b\rforged.txt"):
        put.text(name)
    for form in ("NFC", "NFD"):
        put.scene(unicodedata.normalize(form, "é-강.tif"))
    for name in ("flood 1.tif", "flood_1.tif", "flood 1.tiff", "flood.done", "flood.sha256", "x.tif.done"):
        put.scene(name)
    put.new(".sarwater-probe-1").mkdir()
    put.new("reason.json").write_bytes(bytes(100))
    (put.inbox / ("n" * 250 + ".tif")[:255]).write_bytes(b"x")


def _folders(put: _Put) -> None:
    for name, mode in (("K5_no_search", 0o600), ("K5_no_read", 0o300), ("K5_none", 0)):
        put.folder(name, "a.tif").chmod(mode)
    _nest(put.folder("K5_deep", "a.tif"), "d", _DEEP)
    _nest(put.folder("K5_long_path", "a.tif"), "n" * 250, 20)
    inner = put.folder("K5_with_fifo", "a.tif", "a_Aux.xml") / "pipe"
    inner.mkdir()
    os.mkfifo(inner / "fifo")


def _headers(put: _Put) -> None:
    """Which a reader looks into before anything is claimed: pipes, links without end, and more than any product has."""
    for name in ("manifest.safe", "product.xml", "TSX1_SAR.xml", "K5_Aux.xml", "x.hdr", "x.dim"):
        os.mkfifo(put.folder(f"pipe-{name}.SAFE", "a.tif") / name)
        os.mkfifo(put.new(f"loose-{name}"))
    (put.inbox / "loose-x.img").write_bytes(bytes(100))
    (put.folder("zeros.SAFE", "a.tif") / "manifest.safe").symlink_to("/dev/zero")
    sparse = put.folder("sparse.SAFE", "a.tif") / "manifest.safe"
    sparse.touch()
    os.truncate(sparse, 60 * 10**9)
    images = "".join(f"<fullResolutionImageData>{number}.tif</fullResolutionImageData>" for number in range(5_000))
    (put.folder("RS2_long", "a.tif") / "product.xml").write_text(f"<product>{images}</product>")
    crowd = put.folder("crowd.SAFE", "a.tif")
    for number in range(3000):
        (crowd / str(number)).touch()


def _markers(put: _Put) -> None:
    """And checksums that are none."""
    os.mkfifo(f"{put.scene('fifo-sum.tif')}.sha256")
    Path(f"{put.scene('brackets.tif')}.sha256").write_text("[" * 4096)
    Path(f"{put.scene('folder-sum.tif')}.sha256").mkdir()
    Path(f"{put.scene('folder-done.tif')}.done").mkdir()
    Path(f"{put.scene('link-sum.tif')}.sha256").symlink_to("/dev/zero")
    others = Path(f"{put.scene('others-done.tif')}.done")
    others.mkdir()
    (others / "x").touch()
    others.chmod(0o555)
    _give_away(others)


def _special_files(put: _Put) -> None:
    os.mkfifo(put.new("fifo.tif"))
    links = {
        "link.tif": "/etc/hostname", "loop.tif": "loop.tif", "dangling.tif": "nowhere", "outside.SAFE": "/etc"
    }  # fmt: skip
    for name, target in links.items():
        put.new(name).symlink_to(target)
    with socket.socket(socket.AF_UNIX) as listener:
        _bind(listener, put.new("socket.tif"))
    with contextlib.suppress(PermissionError):  # only root makes devices
        os.mknod(put.inbox / "device.tif", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        put.names.append("device.tif")


def _files_of_others(put: _Put) -> None:
    """One file under two names; of somebody else; that nobody may change."""
    os.link(put.scene("hard.tif"), put.new("hard-2.tif"))
    foreign = put.scene("foreign.tif")
    _give_away(foreign)
    foreign.chmod(0o600)
    subprocess.run(["chattr", "+i", str(put.scene("immutable.tif"))], check=False, capture_output=True)


def _sizes_and_times(put: _Put) -> None:
    """Too large, nothing in it, and times that nobody has."""
    os.truncate(put.scene("huge.tif"), 60 * 10**9)
    put.new("zero.tif").touch()
    for name, time_s in (("before-1970.tif", -1e9), ("in-2200.tif", 7.3e9), ("in-3000.tif", 3.3e10)):
        os.utime(put.scene(name), (time_s, time_s))


def _no_scenes(put: _Put) -> None:
    """And no alarm."""
    put.text("README")
    put.text("SHA256SUMS", hashlib.sha256(put.sound).hexdigest() + "  x.tif\n")
    put.text("list.md5", "0  x\n")


def _archives(put: _Put) -> None:
    """Names that lead out, links, too many members, an archive in itself, one that is cut."""
    for number, member in enumerate(("../../evil.tif", "/tmp/evil.tif", "C:\\evil.tif", "a/../../evil.tif", "a" * 300)):
        with zipfile.ZipFile(put.new(f"name-{number}.zip"), "w") as archive:
            archive.writestr(member, put.sound)
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        with tarfile.open(put.new(f"type-{kind.decode()}.tar"), "w") as tar:
            entry = tarfile.TarInfo("a.tif")
            entry.type, entry.linkname = kind, "/etc/hostname"
            tar.addfile(entry)
    with zipfile.ZipFile(put.new("many.zip"), "w") as archive:
        for number in range(3000):
            archive.writestr(str(number), b"")
    put.new("twice.tif.gz").write_bytes(gzip.compress(gzip.compress(put.sound)))
    put.new("cut.tif.gz").write_bytes(gzip.compress(put.sound)[:-100])


def _give_away(path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)


def put_together(inbox: Path) -> None:
    """Make the folder removable again: permissions, and what is too deep for shutil.rmtree."""
    subprocess.run(["chattr", "-i", str(inbox / "immutable.tif")], check=False, capture_output=True)
    subprocess.run(["chmod", "-R", "u+rwX", str(inbox)], check=False)
    subprocess.run(["rm", "-rf", *(str(inbox / name) for name in _DEEP_FOLDERS)], check=True)


@contextlib.contextmanager
def restless(inbox: Path, sound: bytes) -> Iterator[list[str]]:
    """What does not keep still while the daemon looks: a file that grows for ever, one that is truncated once it was
    claimed, a folder that becomes a file and back, one that changes its name all the time, one that is written anew and
    gets its old time back, one that nobody may open while another has a lease on it. The names."""
    over = threading.Event()

    def until_over(step: Callable[[], object]) -> None:
        while not over.wait(0.03):
            with contextlib.suppress(OSError):
                step()

    growing, truncated, swapped = inbox / "growing.tif", inbox / "truncated.tif", inbox / "swapped.SAFE"
    wandering, elsewhere, rewritten, leased = (
        inbox / f"{name}.tif" for name in ("wandering", "elsewhere", "rewritten", "leased")
    )
    for number, path in enumerate((truncated, wandering, rewritten, leased)):
        path.write_bytes(sound[:-1] + bytes([number]))
    with growing.open("ab") as file, truncated.open("r+b") as taken, leased.open("r+b") as holder:
        fcntl.fcntl(holder, fcntl.F_SETSIG, signal.SIGURG)  # which is ignored, unlike SIGIO
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)

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

        def wander() -> None:
            os.rename(wandering, elsewhere) if wandering.exists() else os.rename(elsewhere, wandering)

        def rewrite() -> None:
            if rewritten.exists():
                rewritten.write_bytes(sound[:-8] + os.urandom(8))
                os.utime(rewritten, (0, 0))

        steps = (lambda: file.write(sound) and file.flush(), truncate, swap, wander, rewrite)
        threads = [threading.Thread(target=until_over, args=(step,)) for step in steps]
        for thread in threads:
            thread.start()
        try:
            yield [growing.name, truncated.name, swapped.name, wandering.name, rewritten.name, leased.name]
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
