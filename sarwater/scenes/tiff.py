"""The structure of a TIFF file, read without decoding a pixel: is it whole, how large does it claim to be, what tags.

A TIFF cut in half opens in GDAL without an error and fails (or reads as zeros) only later, so every strip and tile
must lie inside the file before a scene is accepted. Source: TIFF 6.0 and BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneTruncated, SceneUnreadable
from sarwater.regular import open_regular

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_UNSIGNED = {1: "u1", 3: "u2", 4: "u4", 13: "u4", 16: "u8", 18: "u8"}
_MAX_DIRECTORIES = 256
_MAX_ENTRIES = 4096
"""Of one directory; the baseline and all known extensions define some hundreds of tags."""
_MAX_BLOCKS = 1 << 24
"""Strips and tiles of all images of a file."""
_MAX_TAG_BYTES = 4 << 20
"""Of one tag that is no list of strips or tiles: a CRS, control points, metadata."""
_UNCOMPRESSED = 1

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _STRIP_OFFSETS, _SAMPLES = 256, 257, 258, 259, 273, 277
_STRIP_ROWS, _STRIP_BYTES, _PLANAR = 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_BLOCK_LISTS = (_STRIP_OFFSETS, _STRIP_BYTES, _TILE_OFFSETS, _TILE_BYTES)
GDAL_METADATA, SNAP_METADATA = 42112, 65000
_MAX_BYTES_OF = {SNAP_METADATA: 32 << 20}
"""Of tags that are longer: all that the sensor's own product said, as XML."""


@dataclass(frozen=True)
class TiffStructure:
    """What the first image of a file declares."""

    width_px: int
    height_px: int
    block_bytes: int
    """Decoded size of one strip or tile: what a reader must hold at once."""
    stored_bytes: int
    """Decoded size of all strips and tiles that are present; absent (sparse) ones cost nothing to read."""
    bands: int


def is_tiff(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def check_structure(path: Path, name: str | None = None) -> TiffStructure:
    """Check that every directory, tag, strip and tile lies inside the file, and that no tag is given in two ways: some
    libraries take the first, others the last.

    Raises SceneTruncated where one does not, SceneUnreadable where the directories make no sense.
    """
    name = name or path.name
    first: TiffStructure | None = None
    blocks = 0
    with open_regular(path) as file:
        for tags in _Reader(name, file).directories():
            structure, listed = _check_image(name, tags)
            first = first or structure
            blocks += listed
            if blocks > _MAX_BLOCKS:
                raise _damaged(name, f"lists more than {_MAX_BLOCKS:,} strips or tiles")
    if first is None:
        raise SceneUnreadable(f"{name}: a TIFF without an image; expected one raster: produce it again")
    return first


def read_text_tag(path: Path, tag: int) -> str | None:
    """The text of one tag of the first image, or None; raises as check_structure does."""
    text = read_tag(path, tag)
    return None if text is None else text.decode("utf-8", "replace")


def read_tag(path: Path, tag: int) -> bytes | None:
    """The bytes of one text tag of the first image, or None; raises as check_structure does."""
    with open_regular(path) as file:
        for tags in _Reader(path.name, file).directories():
            return tags.text(tag)
    return None


class _Directory:
    """One image file directory: tag -> (type, count, file position of the value)."""

    def __init__(self, reader: _Reader, entries: dict[int, tuple[int, int, int]]) -> None:
        self._reader = reader
        self._entries = entries
        self.file_bytes = reader.file_bytes

    def count(self, tag: int) -> int:
        return self._entries.get(tag, (4, 0, 0))[1]

    def numbers(self, tag: int, most: int) -> npt.NDArray[np.int64]:
        """The first values of a tag, `most` at most."""
        kind, count, position = self._entries.get(tag, (4, 0, 0))
        if kind not in _UNSIGNED:
            raise _damaged(self._reader.name, f"TIFF tag {tag} has type {kind}, expected unsigned integers")
        data = self._reader.read(position, min(count, most) * _TYPE_BYTES[kind])
        values = np.frombuffer(data, self._reader.order + _UNSIGNED[kind])
        if values.size and values.max() > np.iinfo(np.int64).max:
            raise SceneTruncated(f"{self._reader.name}: TIFF tag {tag} points far outside the file; transfer it again")
        return values.astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """The only value of a tag."""
        if self.count(tag) > 1:
            raise _damaged(self._reader.name, f"TIFF tag {tag} has {self.count(tag):,} values, expected one")
        return self.first(tag, default)

    def first(self, tag: int, default: int) -> int:
        values = self.numbers(tag, 1)
        return int(values[0]) if values.size else default

    def text(self, tag: int) -> bytes | None:
        if tag not in self._entries:
            return None
        _, count, position = self._entries[tag]
        return self._reader.read(position, count).rstrip(b"\0")


class _Reader:
    def __init__(self, name: str, file: BinaryIO) -> None:
        self.name = name
        self.file_bytes = os.fstat(file.fileno()).st_size
        self._file = file
        header = self.read(0, 8)
        self.order = "<" if header[:2] == b"II" else ">"
        self._big = self._unpack("H", header[2:4]) == 43
        self._first = self._unpack("Q", self.read(8, 8)) if self._big else self._unpack("I", header[4:8])

    def read(self, position: int, size: int) -> bytes:
        self._must_hold(position + size)
        self._file.seek(position)
        return self._file.read(size)

    def _must_hold(self, end: int) -> None:
        if end > self.file_bytes:
            raise SceneTruncated(
                f"{self.name}: needs byte {end:,}, but the file ends at {self.file_bytes:,}; "
                "the transfer was cut short: send it again"
            )

    def directories(self) -> Iterator[_Directory]:
        position, seen = self._first, set[int]()
        while position:
            if position in seen or len(seen) == _MAX_DIRECTORIES:
                raise _damaged(self.name, "its TIFF directories run in a circle or never end")
            seen.add(position)
            directory, position = self._directory(position)
            yield directory

    def _directory(self, position: int) -> tuple[_Directory, int]:
        count_format, entry_bytes, inline = ("Q", 20, 8) if self._big else ("H", 12, 4)
        count_bytes = struct.calcsize(count_format)
        count = self._unpack(count_format, self.read(position, count_bytes))
        if count > _MAX_ENTRIES:
            raise _damaged(self.name, f"a TIFF directory of {count:,} entries, expected {_MAX_ENTRIES:,} at most")
        body = self.read(position + count_bytes, count * entry_bytes)
        entries: dict[int, tuple[int, int, int]] = {}
        written: dict[int, bytes] = {}
        for i in range(count):
            entry = body[i * entry_bytes : (i + 1) * entry_bytes]
            tag, kind = self._unpack("H", entry[:2]), self._unpack("H", entry[2:4])
            values = self._unpack("Q" if self._big else "I", entry[4:-inline])
            size = values * _TYPE_BYTES.get(kind, 1)
            where = position + count_bytes + i * entry_bytes + entry_bytes - inline
            found = (kind, values, where if size <= inline else self._offset(entry[-inline:]))
            if tag in entries and entry != written[tag]:
                raise _damaged(self.name, f"gives TIFF tag {tag} twice, and not the same")
            most = _MAX_BYTES_OF.get(tag, _MAX_TAG_BYTES)
            if size > most and tag not in _BLOCK_LISTS:
                raise _damaged(self.name, f"TIFF tag {tag} has {size:,} bytes, expected {most:,} at most")
            if size > inline:
                self._must_hold(found[2] + size)
            entries[tag], written[tag] = found, entry
        end = position + count_bytes + count * entry_bytes
        return _Directory(self, entries), self._offset(self.read(end, inline))

    def _offset(self, data: bytes) -> int:
        return self._unpack("Q" if self._big else "I", data)

    def _unpack(self, kind: str, data: bytes) -> int:
        return int(struct.unpack(self.order + kind, data)[0])


def _check_image(name: str, tags: _Directory) -> tuple[TiffStructure, int]:
    """What one image declares, and how many strips or tiles it has."""
    width, height = tags.number(_WIDTH, 0), tags.number(_HEIGHT, 0)
    samples, planar = tags.number(_SAMPLES, 1), tags.number(_PLANAR, 1) == 2
    bits = tags.first(_BITS, 1)
    tiled = tags.count(_TILE_OFFSETS) > 0
    block_width = tags.number(_TILE_WIDTH, 0) if tiled else width
    block_height = tags.number(_TILE_HEIGHT, 0) if tiled else min(tags.number(_STRIP_ROWS, height), height)
    if min(width, height, samples, bits, block_width, block_height) < 1:
        raise _damaged(name, f"a TIFF of {width} x {height} px in blocks of {block_width} x {block_height}")
    blocks = -(-width // block_width) * -(-height // block_height) * (samples if planar else 1)
    block_bytes = -(-block_width * bits * (1 if planar else samples) // 8) * block_height
    lists = (_TILE_OFFSETS, _TILE_BYTES) if tiled else (_STRIP_OFFSETS, _STRIP_BYTES)
    listed = [tags.count(tag) for tag in lists]
    uncompressed = tags.number(_COMPRESSION, _UNCOMPRESSED) == _UNCOMPRESSED
    if listed[1] == 0 and uncompressed:
        listed[1] = blocks  # old writers leave the sizes of uncompressed strips out
    if min(listed) < blocks:
        raise SceneTruncated(f"{name}: lists {min(listed):,} of its {blocks:,} strips or tiles; produce it again")
    if max(listed) > max(2 * blocks, _MAX_ENTRIES) or blocks > _MAX_BLOCKS:
        most = min(blocks, _MAX_BLOCKS)
        raise _damaged(name, f"lists {max(listed):,} strips or tiles, expected {most:,} at most")
    offsets, sizes = (tags.numbers(tag, blocks) for tag in lists)
    if sizes.size == 0:
        sizes = np.full(offsets.size, 1, np.int64)  # only the last strip may be shorter
    # Capped, so that the sum of two absurd numbers does not wrap around.
    end = int((np.minimum(offsets, 1 << 61) + np.minimum(sizes, 1 << 61)).max())
    if end > tags.file_bytes:
        raise SceneTruncated(
            f"{name}: its pixels reach to byte {end:,}, but the file ends at {tags.file_bytes:,}; "
            "the transfer was cut short: send it again"
        )
    present = (offsets > 0) & (sizes > 0)
    # As floats: a few million numbers of up to the file's size do not fit into 64 bits.
    if float(sizes[present].sum(dtype=np.float64)) > tags.file_bytes:
        raise _damaged(name, "its strips or tiles overlap")
    return TiffStructure(width, height, block_bytes, int(np.count_nonzero(present)) * block_bytes, samples), blocks


def _damaged(name: str, what: str) -> SceneUnreadable:
    return SceneUnreadable(f"{name}: {what}: the file is damaged; produce it again")
