"""Broken and hostile files: of one sound GeoTIFF, what a downlink, a bad disk or an enemy would deliver; and those that
are crafted for one weakness each (crafted.py)."""

from __future__ import annotations

import gzip
import itertools
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

from tests.torture import crafted

_WIDTH, _HEIGHT, _COMPRESSION, _STRIP_OFFSETS, _STRIP_BYTES = 256, 257, 259, 273, 279


def hostile_files(sound: bytes, count: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """(name, content) of `count` files: kinds in a random order, each once, then random damage."""
    kinds = [*_handmade(sound), *_hdf5(), *_crafted()]
    rng.shuffle(kinds)
    yield from itertools.islice(
        ((f"h{number:04d}-{name}", content) for number, (name, content) in enumerate(kinds)), count
    )
    for number in range(len(kinds), count):
        match number % 4:
            case 0:
                yield f"h{number:04d}-cut.tif", sound[: rng.randrange(1, len(sound))]
            case 1:
                yield f"h{number:04d}-head.tif", _flipped(sound, 300, rng)
            case 2:
                yield f"h{number:04d}-flips.tif", _flipped(sound, len(sound), rng)
            case 3:
                yield f"h{number:04d}-noise.tif", sound[:8] + rng.randbytes(rng.randrange(20_000))


def _flipped(sound: bytes, within: int, rng: random.Random) -> bytes:
    damaged = bytearray(sound)
    for _ in range(rng.randrange(1, 12)):
        damaged[rng.randrange(within)] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def _handmade(sound: bytes) -> Iterator[tuple[str, bytes]]:
    vrt = (
        b'<VRTDataset rasterXSize="9" rasterYSize="9"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
        b'<SourceFilename relativeToVRT="0">/etc/hostname</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
    )
    yield "empty.tif", b""
    yield "one-byte.tif", b"I"
    yield "zeros.tif", bytes(100_000)
    yield "text.tif", b"this is not a raster\n" * 50
    yield "vrt-as.tif", vrt
    yield "plain.vrt", vrt
    yield "overview.tif.ovr", vrt
    yield "wms.xml", b'<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1/${z}</ServerUrl></Service></GDAL_WMS>'
    yield "deflate-bomb.tif", deflate_bomb()
    yield "declares-4-gigapixels.tif", _with_tags(sound, {_WIDTH: 65_535, _HEIGHT: 65_535})
    yield "declares-zero-width.tif", _with_tags(sound, {_WIDTH: 0})
    yield "strip-beyond-the-end.tif", _with_tags(sound, {_STRIP_OFFSETS: 0x7FFFFFFF})
    yield "strip-of-4-gigabytes.tif", _with_tags(sound, {_STRIP_BYTES: 0xFFFFFFFF})
    yield "unknown-compression.tif", _with_tags(sound, {_COMPRESSION: 34_999})
    yield "directory-loop.tif", _looping_directory(sound)
    yield "directory-beyond-the-end.tif", sound[:4] + struct.pack("<I", 0xFFFFFFF0) + sound[8:]
    yield "half-of-it-zeros.tif", sound[: len(sound) // 2] + bytes(len(sound) - len(sound) // 2)
    yield "bigtiff-of-nothing.tif", struct.pack("<2sHHHQ", b"II", 43, 8, 0, 1 << 60) + bytes(64)
    yield "gzip.tif", gzip.compress(sound)[:-9]
    yield "zip.zip", _zipped(sound)
    yield "elf.tif", b"\x7fELF" + bytes(1000)
    yield "pickle.tif", b"\x80\x04\x95\x1b\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    yield "png.tif", b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 99_999, 99_999, 8, 0, 0, 0, 0)
    yield "newline\nin name.tif", b"x"
    yield "; rm -rf $HOME.tif", b"x"
    yield "…日本語-한국어.tif", b"x"
    yield "n" * 245 + ".tif", b"x"
    yield "HDF5:x.h5:", b"x"


def deflate_bomb(side_px: int = 40_000) -> bytes:
    """A TIFF of a few MB whose one strip inflates to `side_px` squared bytes (TIFF 6.0, Adobe Deflate)."""
    packer = zlib.compressobj(9)
    row = bytes(1 << 20)
    strip = b"".join(packer.compress(row) for _ in range(side_px * side_px >> 20)) + packer.flush()
    tags = [(256, 4, side_px), (257, 4, side_px), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 4, side_px), (279, 4, len(strip))]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, kind, 1, v) for tag, kind, v in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory + bytes(4)


def _with_tags(sound: bytes, values: dict[int, int]) -> bytes:
    """The same file, with other values in its first directory."""
    damaged = bytearray(sound)
    start = struct.unpack_from("<I", sound, 4)[0]
    for entry in range(struct.unpack_from("<H", sound, start)[0]):
        offset = start + 2 + 12 * entry
        tag, kind = struct.unpack_from("<HH", sound, offset)
        if tag in values:
            struct.pack_into(
                "<I" if kind == 4 else "<H", damaged, offset + 8, values[tag] & (0xFFFFFFFF if kind == 4 else 0xFFFF)
            )
    return bytes(damaged)


def _looping_directory(sound: bytes) -> bytes:
    damaged = bytearray(sound)
    start = struct.unpack_from("<I", sound, 4)[0]
    entries = struct.unpack_from("<H", sound, start)[0]
    struct.pack_into("<I", damaged, start + 2 + 12 * entries, start)
    return bytes(damaged)


def _crafted() -> Iterator[tuple[str, bytes]]:
    for name, content in crafted.hostile_tiffs():
        yield f"{name}.tif", content
    for name, content in crafted.hostile_hdf5():
        yield f"{name}.h5", content


def _zipped(sound: bytes) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../escape.tif", sound)
    return buffer.getvalue()


def _hdf5() -> Iterator[tuple[str, bytes]]:
    """HDF5 files that would read other files: external storage and external links."""
    import h5py

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.h5"
        with h5py.File(path, "w") as file:
            file.attrs["Mission ID"] = "KMPS"
            file.create_dataset("S01/SBI", shape=(8, 8), dtype="u1", external=[("/etc/hostname", 0, 64)])
        yield "external-storage.h5", path.read_bytes()
        with h5py.File(path, "w") as file:
            file.attrs["Mission ID"] = "KMPS"
            file.create_group("S01")["SBI"] = h5py.ExternalLink("/etc/hostname", "/x")
        yield "external-link.h5", path.read_bytes()
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=[1, 2, 3])
        yield "not-a-scene.h5", path.read_bytes()
