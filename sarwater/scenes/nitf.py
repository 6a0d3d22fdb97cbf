"""The structure of a NITF file, read without decoding a pixel: is it whole, what images and XML does it hold.

GDAL hands compressed images on to other drivers, so that is looked at before GDAL may open a file.
Source: MIL-STD-2500C (NITF 2.1, which is NSIF 1.0), tables A-1 (file header), A-3 (image subheader), A-8 (data
extension segments).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sarwater.errors import SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular
from sarwater.request import Limits
from sarwater.scenes.foreign import nitf_of
from sarwater.scenes.limits import check_declared, how_to_lift

_VERSIONS = (b"NITF02.10", b"NSIF01.00")
_SECURITY_BYTES = 167
"""Of every subheader: the fields from classification to control number."""
_MOST_IMAGES, _MOST_TEXTS = 32, 8
_MOST_SUBHEADER_BYTES = 64 << 10
_MOST_TEXT_BYTES = 16 << 20
_UNCOMPRESSED = ("NC", "NM")
_COMPRESSIONS = {"C1": "bi-level", "C3": "JPEG", "C4": "vector quantisation", "C5": "JPEG", "C7": "SAR-specific"}
_COMPRESSIONS |= {"C8": "JPEG 2000", "I1": "JPEG", "CB": "JPEG 2000", "CD": "JPEG 2000"}


@dataclass(frozen=True)
class NitfImage:
    """One image segment."""

    number: int
    """GDAL's, from 0."""
    width_px: int
    height_px: int
    category: str
    """ICAT: `SAR` for detected images, `SARIQ` for complex ones; `VIS`, `EL`, `LEG` and others for what is none."""
    is_complex: bool
    """Whether a pixel is a complex number (PVTYPE C), not two bands."""
    band_kinds: tuple[str, ...]
    """ISUBCAT of each band: `I` and `Q`, `M` (magnitude) and `P` (phase), or nothing."""


@dataclass(frozen=True)
class NitfFile:
    images: tuple[NitfImage, ...]
    texts: tuple[bytes, ...]
    """The XML in data extension segments (XML_DATA_CONTENT, which SICD and SIDD use)."""


def is_nitf(path: Path) -> bool:
    with open_regular(path) as file:
        return file.read(5) in (b"NITF0", b"NSIF0")


def read_structure(path: Path, limits: Limits, name: str | None = None) -> NitfFile:
    """Raises SceneTruncated, SceneUnreadable (damaged, older, compressed), and SceneUnsafe for absurd sizes."""
    name = name or path.name
    with open_regular(path) as file:
        version = file.read(9)
        if version not in _VERSIONS:
            raise SceneUnreadable(
                f"{name}: {version.decode('ascii', 'replace')}, expected NITF 2.1 or NSIF 1.0; convert it with "
                + nitf_of(name, "2.1")
            )
        try:
            return _read(file, name, limits)
        except (ValueError, IndexError) as error:
            raise SceneUnreadable(f"{name}: its NITF headers are damaged ({error}); send it again") from error


class _Fields:
    """Text fields of fixed widths, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def skip(self, size: int) -> None:
        self._at += size

    def text(self, size: int) -> str:
        data = self._data[self._at : self._at + size]
        if len(data) < size:
            raise IndexError("a header ends too early")
        self._at += size
        return data.decode("ascii").strip()

    def number(self, size: int) -> int:
        text = self.text(size)
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"{text!r} in place of a number")
        return int(text)


def _read(file: BinaryIO, name: str, limits: Limits) -> NitfFile:
    file_bytes = os.fstat(file.fileno()).st_size
    file.seek(342)
    fields = _Fields(file.read(1 << 20))
    fields.skip(12)
    header_bytes = fields.number(6)
    images = [(fields.number(6), fields.number(10)) for _ in range(fields.number(3))]
    graphics = [(fields.number(4), fields.number(6)) for _ in range(fields.number(3))]
    fields.skip(3)
    texts = [(fields.number(4), fields.number(5)) for _ in range(fields.number(3))]
    extensions = [(fields.number(4), fields.number(9)) for _ in range(fields.number(3))]
    end = header_bytes + sum(sum(pair) for pair in (*images, *graphics, *texts, *extensions))
    if end > file_bytes:
        raise SceneTruncated(
            f"{name}: its segments reach to byte {end:,}, but the file ends at {file_bytes:,}; the transfer was cut "
            "short: send it again"
        )
    if len(images) > _MOST_IMAGES:
        raise SceneUnsafe(f"{name}: holds {len(images)} images, more than {_MOST_IMAGES}; give the one of the scene")
    position, found = header_bytes, []
    for number, (subheader_bytes, data_bytes) in enumerate(images):
        file.seek(position)
        subheader = _Fields(file.read(min(subheader_bytes, _MOST_SUBHEADER_BYTES)))
        found.append(_image(subheader, number, data_bytes, name, limits))
        position += subheader_bytes + data_bytes
    position += sum(sum(pair) for pair in (*graphics, *texts))
    xml: list[bytes] = []
    for subheader_bytes, data_bytes in extensions:
        file.seek(position)
        kind = file.read(27)[2:].decode("ascii", "replace").strip()
        if kind in ("XML_DATA_CONTENT", "SICD_XML", "SIDD_XML") and len(xml) < _MOST_TEXTS:
            if data_bytes > _MOST_TEXT_BYTES:
                raise SceneUnsafe(f"{name}: holds {data_bytes:,} bytes of XML, more than {_MOST_TEXT_BYTES:,}")
            file.seek(position + subheader_bytes)
            xml.append(file.read(data_bytes))
        position += subheader_bytes + data_bytes
    return NitfFile(tuple(found), tuple(xml))


def _image(fields: _Fields, number: int, stored_bytes: int, name: str, limits: Limits) -> NitfImage:
    fields.skip(2 + 10 + 14 + 17 + 80 + _SECURITY_BYTES + 1 + 42)  # IM, IID1, IDATIM, TGTID, IID2, ..., ENCRYP, ISORCE
    height, width = fields.number(8), fields.number(8)
    is_complex = fields.text(3) == "C"
    fields.skip(8)  # IREP
    category = fields.text(8)
    fields.skip(2 + 1)  # ABPP, PJUST
    if fields.text(1):
        fields.skip(60)  # IGEOLO, where ICORDS says that there is one
    fields.skip(80 * fields.number(1))  # ICOM
    compression = fields.text(2)
    if compression not in _UNCOMPRESSED:
        kind = _COMPRESSIONS.get(compression, "unknown")
        raise SceneUnreadable(
            f"{name}: its image is compressed ({compression}: {kind}), expected an uncompressed one; convert it with "
            + nitf_of(name, "uncompressed", "IC=NC", *([f"ICAT={category}"] if category else []))
        )
    count = fields.number(1) or fields.number(5)
    if count > limits.max_bands:
        raise SceneUnsafe(
            f"{name}: has {count} bands, more than the limit of {limits.max_bands}; {how_to_lift('max_bands', count)}"
        )
    kinds = []
    for _ in range(count):
        fields.text(2)  # IREPBAND
        kinds.append(fields.text(6))
        fields.skip(1 + 3)  # IFC, IMFLT
        tables = fields.number(1)
        fields.skip(tables * fields.number(5) if tables else 0)
    fields.skip(1)  # ISYNC
    mode = fields.text(1)
    across, down = fields.number(4), fields.number(4)
    block_width, block_height = fields.number(4) or width, fields.number(4) or height
    bits = fields.number(2)
    if min(width, height, across, down, bits) < 1:
        raise ValueError(f"an image of {width} x {height} px in {across} x {down} blocks of {bits} bits")
    if across == down == 1:
        block_width, block_height = width, 1  # GDAL reads it row by row
    together = 1 if mode in ("B", "S") else count
    check_declared(
        name,
        limits,
        pixels=width * height,
        block_bytes=block_width * block_height * together * bits // 8,
        decoded_bytes=width * height * count * bits // 8,
        stored_bytes=stored_bytes,
    )
    return NitfImage(number, width, height, category, is_complex, tuple(kinds))
