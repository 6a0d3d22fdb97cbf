"""Hostile scenes, each crafted for one weakness: of headers that are read before a pixel is.

Sources: TIFF 6.0; BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html); HDF5 user guide; XML 1.0.
"""

from __future__ import annotations

import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from osgeo import gdal

from tests.support.deliveries import write_hdf5, write_manifest, write_safe

SHORT, LONG, DOUBLE, ASCII, LONG8 = 3, 4, 12, 2, 16
_FORMAT = {1: "B", ASCII: "s", SHORT: "H", LONG: "I", 8: "h", 9: "i", DOUBLE: "d", LONG8: "Q"}
SIDE = 64
PIXELS = np.random.default_rng(0).integers(20, 900, (SIDE, SIDE)).astype(np.uint16)
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _OFFSETS, _SAMPLES, _ROWS, _SIZES, _PLANAR = (
    *(256, 257, 258, 259, 273, 277, 278, 279, 284),
)
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_SIZES, _PREDICTOR, _SAMPLE_FORMAT = 322, 323, 324, 325, 317, 339
_TIEPOINTS, _TRANSFORMATION, _GEO_KEYS, _GEO_ASCII, _METADATA, _NODATA = 33922, 34264, 34735, 34737, 42112, 42113

Entry = tuple[int, int, Any]
"""Tag, type, values (a text for ASCII)."""
RUNS = (
    *("many-control-points", "latin1", "nan-transformation", "long-nodata", "deep-metadata", "bits-7", "size-zero"),
    "name-that-is-no-utf8",
)
"""What may as well give a mask: it is odd in what no pixel depends on."""


def tiff(changes: dict[int, Entry | None] | None = None, more: list[Entry] | None = None, **form: Any) -> bytes:
    """One strip of PIXELS, with some tags changed (None leaves one out) and others added behind. `big` is a BigTIFF,
    `following` what is said to be the next directory, `content` the strip."""
    big, content = form.get("big", False), form.get("content", PIXELS.tobytes())
    entries: dict[int, Entry | None] = {
        tag: (tag, kind, value)
        for tag, kind, value in (
            *((_WIDTH, LONG, [SIDE]), (_HEIGHT, LONG, [SIDE]), (_BITS, SHORT, [16]), (_COMPRESSION, SHORT, [1])),
            *((262, SHORT, [1]), (_OFFSETS, LONG, [16]), (_SAMPLES, SHORT, [1]), (_ROWS, LONG, [SIDE])),
            (_SIZES, LONG, [len(content)]),
        )
    }
    entries.update(changes or {})
    written = sorted(entry for entry in entries.values() if entry is not None) + (more or [])
    start = 16 + len(content) + len(content) % 2
    count_format, entry_format, inline = ("<Q", "<HHQ", 8) if big else ("<H", "<HHI", 4)
    size = struct.calcsize(count_format) + len(written) * (struct.calcsize(entry_format) + inline) + inline
    directory, behind = [struct.pack(count_format, form.get("count", len(written)))], b""
    for tag, kind, values in written:
        data = values if isinstance(values, bytes) else struct.pack(f"<{len(values)}{_FORMAT[kind]}", *values)
        count = form.get("counts", {}).get(tag, len(data) // struct.calcsize(_FORMAT[kind]))
        if len(data) > inline:
            place = start + size + len(behind)
            data, behind = struct.pack("<Q" if big else "<I", place), behind + data
        directory.append(struct.pack(entry_format, tag, kind, count) + data.ljust(inline, b"\0"))
    directory.append(struct.pack("<Q" if big else "<I", form.get("following", 0)))
    header = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if big else struct.pack("<2sHI", b"II", 42, start)
    return header.ljust(16, b"\0") + content.ljust(start - 16, b"\0") + b"".join(directory) + behind


def changed(tag: int, kind: int, *values: Any, **form: Any) -> bytes:
    return tiff({tag: (tag, kind, values[0] if values and isinstance(values[0], bytes) else list(values))}, **form)


def hostile_tiffs() -> Iterator[tuple[str, bytes]]:
    for part in (_sizes, _tiles, _directories, _places, _types, _codings, _metadata):
        yield from part()


def _one(tag: int, kind: int, *values: Any) -> dict[int, Entry | None]:
    return {tag: (tag, kind, list(values))}


def _sizes() -> Iterator[tuple[str, bytes]]:
    for tag, name in ((_WIDTH, "width"), (_ROWS, "rows"), (_COMPRESSION, "compression"), (_PLANAR, "planar")):
        yield f"{name}-as-array", changed(tag, LONG, SIDE, SIDE, SIDE)
    yield "width-as-long-array", changed(_WIDTH, LONG, *[SIDE] * 500_000)
    for tag, name in ((_WIDTH, "width"), (_HEIGHT, "height"), (_ROWS, "rows"), (_SAMPLES, "samples"), (_BITS, "bits")):
        yield f"zero-{name}", changed(tag, LONG, 0)
    yield "width-4G", changed(_WIDTH, LONG, 0xFFFFFFFF)
    yield "width-2-to-63", changed(_WIDTH, LONG8, 1 << 63, big=True)
    large = _one(_WIDTH, LONG8, 1 << 62) | _one(_HEIGHT, LONG8, 1 << 62)
    yield "width-and-height-2-to-62", tiff(large, big=True)
    yield "bands-65535", changed(_SAMPLES, SHORT, 65_535)
    yield "bands-65535-planar", tiff(_one(_SAMPLES, SHORT, 65_535) | _one(_PLANAR, SHORT, 2))


def _tiles() -> Iterator[tuple[str, bytes]]:
    tiles = {
        **dict.fromkeys((_OFFSETS, _SIZES, _ROWS)),
        **_one(_TILE_WIDTH, LONG, 64),
        **_one(_TILE_HEIGHT, LONG, 64),
        **_one(_TILE_OFFSETS, LONG, 16),
        **_one(_TILE_SIZES, LONG, 2 * SIDE * SIDE),
    }
    yield "zero-tile-width", tiff(tiles | _one(_TILE_WIDTH, LONG, 0))
    yield "zero-tile-height", tiff(tiles | _one(_TILE_HEIGHT, LONG, 0))
    yield "tile-of-4-gigapixels", tiff(tiles | _one(_TILE_WIDTH, LONG, 65_536 * 16))
    yield "tile-offsets-100M", tiff(tiles | _one(_WIDTH, LONG, 640_000) | _one(_HEIGHT, LONG, 640_000))


def _directories() -> Iterator[tuple[str, bytes]]:
    yield "entries-20M", tiff(count=20_000_000, big=True)
    yield "entries-195M", tiff(count=195_000_000, big=True)
    yield "entries-65535", tiff(count=65_535) + bytes(1 << 20)
    yield "width-twice-small-first", tiff(more=[(_WIDTH, LONG, [40_000])])
    yield "width-twice-large-first", tiff(_one(_WIDTH, LONG, 40_000), [(_WIDTH, LONG, [SIDE])])
    yield "offsets-twice", tiff(more=[(_OFFSETS, LONG, [8])])
    yield "directory-loop", tiff(following=16 + 2 * SIDE * SIDE)
    yield "directory-in-header", tiff(following=4)
    yield "directory-beyond-the-end", tiff(following=0xFFFFFFF0)
    yield "directory-without-entries", tiff(count=0)


def _places() -> Iterator[tuple[str, bytes]]:
    yield "offsets-100M", changed(_OFFSETS, LONG, 16, 16, counts={_OFFSETS: 100_000_000})
    yield "offset-beyond-the-end", changed(_OFFSETS, LONG, 0x7FFFFFFF)
    yield "offset-2-to-63", changed(_OFFSETS, LONG8, (1 << 63) + 5, big=True)
    yield "size-4G", changed(_SIZES, LONG, 0xFFFFFFFF)
    yield "size-zero", changed(_SIZES, LONG, 0)
    yield "strips-overlap", _strips(SIDE * 100, lambda number: 16, 2 * SIDE)
    yield "strips-one-byte-apart", _strips(SIDE * 100, lambda number: 16 + number % 100, 2 * SIDE)


def _types() -> Iterator[tuple[str, bytes]]:
    yield "offsets-signed", changed(_OFFSETS, 9, 16)
    yield "offsets-as-text", changed(_OFFSETS, ASCII, b"16\0\0\0\0\0")
    yield "width-as-double", changed(_WIDTH, DOUBLE, 64.0)
    known, unknown = (struct.pack("<HHI", _WIDTH, kind, 1) for kind in (LONG, 77))
    yield "width-of-unknown-type", tiff().replace(known, unknown)
    for bits in (7, 65, 65_535):
        yield f"bits-{bits}", changed(_BITS, SHORT, bits)
    yield "sample-format-99", changed(_SAMPLE_FORMAT, SHORT, 99)
    yield "planar-7", changed(_PLANAR, SHORT, 7)


def _codings() -> Iterator[tuple[str, bytes]]:
    for compression in (0, 2, 34_999, 65_535):
        yield f"compression-{compression}", changed(_COMPRESSION, SHORT, compression)
    packed = zlib.compress(PIXELS.tobytes())
    for predictor in (0, 3, 99):
        tags = _one(_COMPRESSION, SHORT, 8) | _one(_PREDICTOR, SHORT, predictor)
        yield f"predictor-{predictor}", tiff(tags, content=packed)
    yield "deflate-900-megapixels", _bomb(30_000, 250)


def _metadata() -> Iterator[tuple[str, bytes]]:
    yield "deep-metadata", changed(_METADATA, ASCII, b"<GDALMetadata>" + b"<a>" * 100_000 + b"\0")
    yield "metadata-40M", changed(_METADATA, ASCII, b"<GDALMetadata/>\0", counts={_METADATA: 40_000_000})
    yield "crs-10M", _geo(b"x" * 10_000_000 + b"|\0")
    yield "many-control-points", changed(_TIEPOINTS, DOUBLE, *_control_points(8000))
    yield "nan-control-points", _with_crs(_TIEPOINTS, [float("nan"), *_control_points(9)[1:]])
    yield "nan-transformation", _with_crs(_TRANSFORMATION, [float("nan")] * 16)
    item = b'<GDALMetadata><Item name="%s">%s</Item></GDALMetadata>\0'
    yield "latin1", changed(_METADATA, ASCII, item % (b"place", b"H\xf6he \xff"))
    yield "forged-line", changed(_METADATA, ASCII, item % (b"AMPLITUDE_UNIT", b"sigma0 dB&#10;sarwater: ready&#27;[2J"))
    yield "long-nodata", changed(_NODATA, ASCII, b"9" * 1_000_000 + b"\0")


def _strips(height: int, offset: Callable[[int], int], size: int) -> bytes:
    return tiff(
        {
            _HEIGHT: (_HEIGHT, LONG, [height]),
            _ROWS: (_ROWS, LONG, [1]),
            _OFFSETS: (_OFFSETS, LONG, [offset(number) for number in range(height)]),
            _SIZES: (_SIZES, LONG, [size] * height),
        }
    )


def _bomb(side: int, rows: int) -> bytes:
    """`side` squared bytes of zeros in strips of `rows`, each of its own."""
    packer = zlib.compressobj(9)
    strip = packer.compress(bytes(side * rows)) + packer.flush()
    strips = side // rows
    return tiff(
        {
            **{tag: (tag, LONG, [side]) for tag in (_WIDTH, _HEIGHT)},
            _BITS: (_BITS, SHORT, [8]),
            _COMPRESSION: (_COMPRESSION, SHORT, [8]),
            _ROWS: (_ROWS, LONG, [rows]),
            _OFFSETS: (_OFFSETS, LONG, [16 + number * len(strip) for number in range(strips)]),
            _SIZES: (_SIZES, LONG, [len(strip)] * strips),
        },
        content=strip * strips,
    )


def _control_points(count: int) -> list[float]:
    side = int(count**0.5)
    points = [(x, y, 0.0, 127 + x * 1e-4, 36 - y * 1e-4, 0.0) for x in range(side) for y in range(side)]
    return [number for point in points for number in point]


def _with_crs(tag: int, values: list[float]) -> bytes:
    keys = [1, 1, 0, 3, 1024, 0, 1, 2, 1025, 0, 1, 1, 2048, 0, 1, 4326]
    return tiff({tag: (tag, DOUBLE, values), _GEO_KEYS: (_GEO_KEYS, SHORT, keys)})


def _geo(text: bytes) -> bytes:
    keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1026, _GEO_ASCII, 65_535, 0, 3072, 0, 1, 32_767]
    return tiff({_GEO_KEYS: (_GEO_KEYS, SHORT, keys), _GEO_ASCII: (_GEO_ASCII, ASCII, text)})


def coded_bombs() -> Iterator[tuple[str, bytes]]:
    """300 megapixels of one value each, in the codecs that GDAL writes."""
    for codec in ("LZW", "ZSTD", "LERC", "JPEG"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.tif"
            options = [f"COMPRESS={codec}", "TILED=YES", "BLOCKXSIZE=4096", "BLOCKYSIZE=4096"]
            if f"<Value>{codec}</Value>" not in gdal.GetDriverByName("GTiff").GetMetadataItem("DMD_CREATIONOPTIONLIST"):
                continue
            raster = gdal.GetDriverByName("GTiff").Create(str(path), 17_500, 17_500, 1, gdal.GDT_Byte, options)
            raster.GetRasterBand(1).Fill(7)
            del raster
            yield f"bomb-{codec.lower()}", path.read_bytes()


def hostile_hdf5() -> Iterator[tuple[str, bytes]]:
    for name, spoil in _SPOILT.items():
        with tempfile.TemporaryDirectory() as folder:
            path = write_hdf5(Path(folder) / "x.h5", "L1D", PIXELS)
            with h5py.File(path, "a", libver=("v110", "v110")) as file:  # large attributes are not of the oldest format
                spoil(file)
            yield name, path.read_bytes()
    for name, deep in (("groups-nested", 4000), ("groups-empty", 0)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x.h5"
            with h5py.File(path, "w", libver=("v110", "v110")) as file:
                group = file
                for number in range(deep or 20_100):
                    inner = group.create_group(f"{number:x}")
                    group = inner if deep else group
            yield name, path.read_bytes()


def _image(file: h5py.File, **keys: Any) -> None:
    attributes = dict(file["S01/SBI"].attrs)
    del file["S01/SBI"]
    file["S01"].create_dataset("SBI", **keys).attrs.update(attributes)


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((SIDE, SIDE), "u2")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (SIDE, SIDE))
    del file["S01/SBI"]
    file.create_virtual_dataset("S01/SBI", layout)


def _inflating(file: h5py.File, *filters: int) -> None:
    """One chunk of 512 KiB that says it is, and inflates to 8 GiB; each of `filters` packs it once more."""
    shape = (512, 512)
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk(shape)
    for _ in filters:
        properties.set_deflate(9)
    attributes = dict(file["S01/SBI"].attrs)
    del file["S01/SBI"]
    space = h5py.h5s.create_simple(shape)
    dataset = h5py.Dataset(h5py.h5d.create(file["S01"].id, b"SBI", h5py.h5t.STD_U16LE, space, properties))
    dataset.attrs.update(attributes)
    packer = zlib.compressobj(9)
    begin = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    content = begin + again * 8192
    for _ in filters[1:]:
        content = zlib.compress(content)
    dataset.id.write_direct_chunk((0, 0), content)


_SPOILT: dict[str, Callable[[h5py.File], Any]] = {
    "attribute-8M": lambda file: file.create_group("x").attrs.create("x", np.zeros(1 << 20)),
    "text-12M": lambda file: file.attrs.create("x", "x" * (12 << 20), dtype=h5py.string_dtype()),
    "no-chunk": lambda file: _image(file, shape=(31_000, 31_000), dtype="u2", chunks=(500, 500)),
    "one-chunk": lambda file: (
        _image(file, shape=(31_000, 31_000), dtype="u2", chunks=(500, 500)),
        file["S01/SBI"].__setitem__((slice(9), slice(9)), 1),
    ),
    "not-chunked": lambda file: _image(file, shape=(31_000, 31_000), dtype="u2"),
    "chunk-of-2G": lambda file: _image(file, shape=(40_000, 25_000), dtype="u2", chunks=(40_000, 25_000)),
    "chunk-that-inflates": lambda file: _inflating(file, 9),
    "chunk-that-inflates-twice": lambda file: _inflating(file, 9, 9),
    "no-pixel": lambda file: _image(file, shape=(0, 0), dtype="u2"),
    "scalar": lambda file: _image(file, data=np.uint16(7)),
    "vector": lambda file: _image(file, data=np.arange(99, dtype=np.uint16)),
    "five-dimensions": lambda file: _image(file, data=np.zeros((4, 4, 2, 2, 2), np.uint16)),
    "seven-planes": lambda file: _image(file, data=np.zeros((64, 64, 7), np.uint16)),
    "texts": lambda file: _image(file, data=np.full((8, 8), b"x")),
    "texts-of-any-length": lambda file: _image(file, shape=(8, 8), dtype=h5py.string_dtype()),
    "compound": lambda file: _image(file, data=np.zeros((8, 8), [("i", "i2"), ("q", "i2")])),
    "references": lambda file: _image(file, shape=(8, 8), dtype=h5py.ref_dtype),
    "one-row-of-2-to-40": lambda file: _image(file, shape=(1, 1 << 40), dtype="u2", chunks=(1, 4096)),
    "link-to-another-file": lambda file: file.__setitem__("x", h5py.ExternalLink("/etc/hostname", "/x")),
    "external": lambda file: file.create_dataset("x", (2, 2), "u1", external=[("/etc/hostname", 0, 4)]),
    "virtual": _virtual,
    "mission-of-another-kind": lambda file: file.attrs.__setitem__("Mission ID", np.zeros(1000)),
    "type-of-another-kind": lambda file: file.attrs.__setitem__("Product Type", h5py.Empty("f")),
    "name-that-is-no-utf8": lambda file: _bad_name(file),
}


def _bad_name(file: h5py.File) -> None:
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(file["S01"].id, b"\xff\xfe", h5py.h5t.NATIVE_INT32, space)


def write_hostile_safes(folder: Path) -> Iterator[Path]:
    """SAFE folders whose XML is hostile."""
    entities = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    plain = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "b">]><a>&b;</a>'
    manifests = {
        "entities": entities + b"<a>&c;&c;</a>",
        "entities-utf16": plain.encode("utf-16"),
        "entities-ebcdic": b'<?xml version="1.0" encoding="cp037"?>' + plain[21:].encode("cp037"),
        "brackets": b"<a>" * 100_000,
        "brackets-closed": b"<a>" * 100_000 + b"</a>" * 100_000,
        "elements-2M": b"<a>" + b"<b/>" * 2_000_000 + b"</a>",
        "no-xml": b"\0" * 5000,
        "unknown-encoding": b'<?xml version="1.0" encoding="x-none"?><a/>',
    }
    for name, manifest in manifests.items():
        safe = write_safe(folder / f"manifest-{name}.SAFE", {"vv": PIXELS})
        (safe / "manifest.safe").write_bytes(manifest)
        yield safe
    calibrations = {
        "entities": entities + b"<a>&c;</a>",
        "brackets": b"<a>" * 100_000,
        "numbers": b"<a><calibrationVector><line>0</line><pixel>0 x</pixel><sigmaNought>1</sigmaNought>"
        b"</calibrationVector></a>",
    }
    for name, calibration in calibrations.items():
        safe = write_safe(folder / f"calibration-{name}.SAFE", {"vv": PIXELS})
        next((safe / "annotation" / "calibration").glob("*.xml")).write_bytes(calibration)
        yield write_manifest(safe)


def write_large(folder: Path) -> Iterator[Path]:
    """Sparse files: what they declare does lie inside of them."""
    for name, entries in (("entries-20M", 20_000_000), ("entries-195M", 195_000_000)):
        path = folder / f"large-{name}.tif"
        path.write_bytes(tiff(count=entries, big=True))
        with path.open("r+b") as file:
            file.truncate(20 * entries + 20_000)
        yield path
    path = folder / "large-offsets-100M.tif"
    path.write_bytes(changed(_OFFSETS, LONG, 16, 16, counts={_OFFSETS: 100_000_000}))
    with path.open("r+b") as file:
        file.truncate(400_100_000)
    yield path
    path = folder / "large-width-100M.tif"
    options = ["SPARSE_OK=TRUE", "TILED=YES"]
    gdal.GetDriverByName("GTiff").Create(str(path), 100_000_000, 10, 1, gdal.GDT_UInt16, options)
    yield path
