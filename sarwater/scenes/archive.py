"""Archives (.zip, .tar, .tar.gz, .gz), unpacked within bounds before anything in them is opened.

They are unpacked, not read in place through GDAL's /vsizip and /vsitar: every reader looks at real files before GDAL or
HDF5 may open them, a jump within a deflated member inflates it again from its beginning, and one set of bounds then
holds for all kinds of archive and product.

Nothing is written outside of the folder, and nothing but regular files: names, their depth and number, links and
devices are checked here, and every byte that is written is counted, whatever the archive declares.
Sources: PKWARE APPNOTE 6.3.10 (zip), POSIX.1-2017 pax (tar), RFC 1952 (gzip).
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from sarwater.errors import OutputError, SceneEmpty, SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular
from sarwater.request import Limits
from sarwater.scenes.life import show_life
from sarwater.scenes.limits import SMALL_BYTES
from sarwater.scratch import scratch_folder

MOST_ENTRIES = 2000
MOST_EXPANSION, MOST_EXPANSION_OF_LARGE = 200, 20
"""Unpacked bytes per byte of the archive, above SMALL_BYTES and above LARGE_BYTES. Pixels of a SAR rarely shrink to a
tenth; what surrounds them does."""
LARGE_BYTES = 1 << 30
"""Takes some 6 s of processor time to unpack."""
_DEEPEST = 12
_LONGEST_PART_BYTES, _LONGEST_NAME_BYTES = 255, 1024
_MOST_HEADER_BYTES = 8 << 20
"""Of names and directories, all together: libraries keep them in memory, and decode them slowly."""
_FREE_BYTES = 256 << 20
"""Stay free on the disk."""
_CHUNK_BYTES = 1 << 20
_TAR_BLOCK_BYTES = 512

_ZIP, _GZIP, _TAR = "zip", "gzip", "tar"
_FOREIGN = {b"7z\xbc\xaf\x27\x1c": "7z", b"Rar!\x1a\x07": "rar", b"\xfd7zXZ\0": "xz", b"BZh": "bzip2"}
_SUFFIX = re.compile(r"(?:\.tar)?\.(?:zip|tar|tgz|gz|7z|rar|bz2|tbz2?|xz|txz)", re.IGNORECASE)
_NO_PRODUCT = ("__macosx",)
_UNPACK_YOURSELF = "unpack it and give the product in it"


_below: Path | None = None


def unpack_below(folder: Path) -> None:
    """From now on, in this process; it is made when it is needed. Otherwise the system's folder for temporary files is
    used, or TMPDIR."""
    global _below
    _below = folder


def is_archive(path: Path) -> bool:
    """Of a kind that is unpacked, or of one that a message can name."""
    return _kind_of(path) is not None


def without_suffix(name: str) -> str:
    """`S1A.SAFE.zip`, `K5.tar.gz` -> `S1A.SAFE`, `K5`; another name as it is."""
    found = re.search(_SUFFIX.pattern + r"$", name, re.IGNORECASE)
    return name[: found.start()] or name if found else name


@contextmanager
def unpacked(path: Path, name: str, limits: Limits) -> Iterator[Path]:
    """The archive at `path`, called `name`, in a temporary folder that is gone afterwards, whatever happens.

    Its files count against `max_input_bytes`, all together. Raises SceneUnreadable (damaged, encrypted, of a foreign
    kind), SceneTruncated, SceneEmpty, SceneUnsafe (beyond a bound, or names and kinds of members that no product has),
    OutputError for a disk without room.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(scratch_folder(_below)) / "product"
            folder.mkdir()
        except OSError as error:
            raise OutputError(
                f"{name}: cannot be unpacked ({error.strerror}); set TMPDIR to a writable folder"
            ) from error
        try:
            _unpack(path, name, _Target(folder, name, path.stat().st_size, limits))
        except EOFError as error:
            raise SceneTruncated(f"{name}: the archive ends too early; send it again") from error
        except (
            *(zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error),
            *(ValueError, KeyError, IndexError, OverflowError, NotImplementedError, RecursionError),
        ) as error:
            raise SceneUnreadable(f"{name}: a damaged archive ({error}); send it again") from error
        yield folder


def _kind_of(path: Path) -> str | None:
    with open_regular(path) as file:
        head = file.read(_TAR_BLOCK_BYTES)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _ZIP
    if head.startswith(b"\x1f\x8b"):
        return _GZIP
    if _is_tar(head):
        return _TAR
    return next((kind for magic, kind in _FOREIGN.items() if head.startswith(magic)), None)


def _is_tar(head: bytes) -> bool:
    """By the checksum of the first header."""
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def _unpack(path: Path, name: str, target: _Target) -> None:
    kind = _kind_of(path)
    with open_regular(path) as file:
        if kind == _ZIP:
            _unpack_zip(file, name, target)
        elif kind == _TAR:
            _unpack_tar(file, target)
        elif kind == _GZIP:
            with gzip.GzipFile(fileobj=file) as inflated:
                head = inflated.read(_TAR_BLOCK_BYTES)
                inflated.seek(0)
                if _is_tar(head):
                    _unpack_tar(inflated, target)
                    target.read_out(inflated)
                else:
                    target.write(without_suffix(name), inflated)
        else:
            raise SceneUnreadable(f"{name}: a {kind} archive, expected .zip, .tar or .tar.gz; {_UNPACK_YOURSELF}")
    if not target.files:
        raise SceneEmpty(f"{name}: an archive without files; pack the product again")


def _unpack_zip(file: IO[bytes], name: str, target: _Target) -> None:
    gauge = _Gauge(file, target)
    with zipfile.ZipFile(gauge) as archive:
        members = archive.infolist()
        target.check_number(len(members))
        for member in members:
            mode = stat.S_IFMT(member.external_attr >> 16)
            if mode and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise target.no_file(member.filename)
            if member.flag_bits & 0x41:
                raise SceneUnreadable(f"{name}: is protected by a password; {_UNPACK_YOURSELF}")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise SceneUnreadable(
                    f"{name}: compressed by a method (number {member.compress_type}) that is not known here, expected "
                    f"Deflate; {_UNPACK_YOURSELF}"
                )
        target.check_size(sum(member.file_size for member in members))
        for member in members:
            if "\0" in member.orig_filename:  # zipfile would cut it off there
                raise target.bad_name(member.orig_filename)
            if not member.is_dir():
                gauge.expect(member.compress_size)
                with archive.open(member) as stream:
                    target.write(member.filename, stream)


def _unpack_tar(file: IO[bytes] | gzip.GzipFile, target: _Target) -> None:
    gauge = _Gauge(file, target)
    with tarfile.open(fileobj=gauge, mode="r:") as archive:  # type: ignore[call-overload]
        count = 0
        while (member := archive.next()) is not None:
            target.check_number(count := count + 1)
            if member.isdir():
                target.check_name(member.name)
            elif not member.isreg() or member.issparse():
                raise target.no_file(member.name)
            else:
                target.check_size(member.size)
                gauge.expect(member.size)
                with archive.extractfile(member) as stream:
                    target.write(member.name, stream)
            archive.members.clear()  # or every header is kept
            gauge.expect(0)


class _Gauge:
    """A file as a library of archives reads it, with an end to what it may ask for beside the members."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile, target: _Target) -> None:
        self._file, self._target = file, target
        self._furthest = target.most_bytes + target.archive_bytes + _MOST_HEADER_BYTES
        self._header_bytes, self._member_bytes = _MOST_HEADER_BYTES, 0
        """Left of each."""

    def expect(self, size_bytes: int) -> None:
        """A member of this size is read next, beside some headers."""
        self._member_bytes = size_bytes

    def read(self, size: int = -1) -> bytes:
        show_life()
        most_bytes = self._member_bytes + self._header_bytes + 1
        data = self._file.read(most_bytes if size < 0 else min(size, most_bytes))
        of_member = min(len(data), self._member_bytes)
        self._member_bytes -= of_member
        self._header_bytes -= len(data) - of_member
        if self._header_bytes < 0:
            raise self._target.too_many_headers()
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if offset > self._furthest:
            raise self._target.too_large()
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        pass


class _Target:
    """The folder that an archive is unpacked into: takes files, and refuses what exceeds a bound."""

    def __init__(self, folder: Path, archive: str, archive_bytes: int, limits: Limits) -> None:
        self.files: set[tuple[str, ...]] = set()
        self.archive_bytes = archive_bytes
        self._folder, self._archive = folder, archive
        self._parent = folder.parents[1]
        self._folders: set[tuple[str, ...]] = set()
        self._written_bytes = 0
        self._room_bytes = shutil.disk_usage(folder).free - _FREE_BYTES
        most_of_large = max(LARGE_BYTES, MOST_EXPANSION_OF_LARGE * archive_bytes)
        self._expanded_bytes = max(SMALL_BYTES, min(MOST_EXPANSION * archive_bytes, most_of_large))
        self._limit_bytes = limits.max_input_bytes
        self.most_bytes = min(self._expanded_bytes, self._limit_bytes)

    def write(self, name: str, stream: Any) -> None:
        """A member from its stream. What no product needs is left out."""
        parts = self.check_name(name)
        if any(part.startswith(".") or part.lower() in _NO_PRODUCT for part in parts):
            return
        if without_suffix(parts[-1]) != parts[-1]:
            raise SceneUnreadable(
                f"{self._archive}: holds another archive ({_shown(parts[-1])}); unpack it and give what is in that one"
            )
        parents = {parts[:depth] for depth in range(1, len(parts))}
        if parts in self.files | self._folders or parents & self.files:
            raise SceneUnsafe(f"{self._archive}: holds {_shown(name)} twice; pack the product again")
        self.files.add(parts)
        self._folders |= parents
        path = self._folder.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except OSError as error:
            raise self._no_room(error) from error
        with file:
            while chunk := stream.read(_CHUNK_BYTES):
                show_life()
                self._written_bytes += len(chunk)
                self.check_size()
                try:
                    file.write(chunk)
                except OSError as error:
                    raise self._no_room(error) from error

    def read_out(self, stream: Any) -> None:
        """What follows the last member, padding, up to the checksum at the end."""
        left_bytes = _MOST_HEADER_BYTES
        while chunk := stream.read(_CHUNK_BYTES):
            show_life()
            left_bytes -= len(chunk)
            if left_bytes < 0:
                raise self.too_large()

    def check_number(self, count: int) -> None:
        if count > MOST_ENTRIES:
            raise SceneUnsafe(
                f"{self._archive}: holds more than {MOST_ENTRIES:,} files, expected one product; {_UNPACK_YOURSELF}"
            )

    def check_size(self, more_bytes: int = 0) -> None:
        """With `more_bytes` to come. Raises SceneUnsafe, OutputError."""
        size_bytes = self._written_bytes + more_bytes
        if size_bytes > self.most_bytes:
            raise self.too_large()
        if size_bytes > self._room_bytes:
            raise OutputError(
                f"{self._archive}: unpacks to more than the {max(0, self._room_bytes):,} bytes that are free in "
                f"{self._parent}; free disk space, or set TMPDIR to a folder with room"
            )

    def check_name(self, name: str) -> tuple[str, ...]:
        """The parts of a member's name. Raises SceneUnsafe for one that leads elsewhere, or nowhere."""
        readable = name.encode(errors="replace").decode()  # GDAL takes no bytes that are no UTF-8
        slashed = readable.replace("\\", "/")  # as archives of Windows have it
        parts = tuple(part for part in slashed.split("/") if part not in ("", "."))
        encoded = [part.encode() for part in parts]
        if (
            not parts
            or slashed.startswith("/")
            or re.match(r"[A-Za-z]:", slashed)
            or ".." in parts
            or any(ord(letter) < 32 for letter in name)
            or len(parts) > _DEEPEST
            or max(map(len, encoded)) > _LONGEST_PART_BYTES
            or sum(map(len, encoded)) > _LONGEST_NAME_BYTES
        ):
            raise self.bad_name(name)
        return parts

    def bad_name(self, name: str) -> SceneUnsafe:
        return SceneUnsafe(
            f"{self._archive}: holds {_shown(name)}, a name that leads out of its folder, or that no file can have; "
            "pack the product again, with plain relative names"
        )

    def no_file(self, name: str) -> SceneUnsafe:
        return SceneUnsafe(
            f"{self._archive}: holds {_shown(name)}, a link or a special file; expected regular files: pack them again"
        )

    def too_large(self) -> SceneUnsafe:
        if self.most_bytes == self._limit_bytes:
            return SceneUnsafe(
                f"{self._archive}: unpacks to more than the limit of {self._limit_bytes:,} bytes; raise it with "
                "--max-input-bytes if that is right"
            )
        return SceneUnsafe(
            f"{self._archive}: unpacks to more than {MOST_EXPANSION} times its size (from {LARGE_BYTES:,} bytes on, "
            f"{MOST_EXPANSION_OF_LARGE} times); if that is right, {_UNPACK_YOURSELF}"
        )

    def too_many_headers(self) -> SceneUnsafe:
        return SceneUnsafe(
            f"{self._archive}: holds more than {_MOST_HEADER_BYTES:,} bytes of names and headers, expected those of "
            f"one product; {_UNPACK_YOURSELF}"
        )

    def _no_room(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self._archive}: cannot be unpacked in {self._parent} ({error.strerror}); free disk space, or set "
            "TMPDIR to a folder with room"
        )


def _shown(name: str) -> str:
    return repr(name if len(name) <= 80 else name[:77] + "...")
