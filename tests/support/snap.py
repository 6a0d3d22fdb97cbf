"""GeoTIFF as SNAP writes it: the header of BEAM-DIMAP in tag 65000, and nothing else that says what the bands are."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.product_folders import write_dimap
from tests.support.rasters import write_geotiff

_TAG = 65000


def write_snap_geotiff(path: Path, bands: Mapping[str, np.ndarray], **header: Any) -> Path:
    """`bands` by their names, (H, W) each; `header` as of `write_dimap`. Computed bands are told and not stored."""
    dim = write_dimap(path.parent / f"{path.stem}_dimap" / f"{path.stem}.dim", bands, **header)
    write_geotiff(path, np.stack(list(bands.values())))
    return add_text_tag(path, _TAG, dim.read_bytes())


def add_text_tag(path: Path, tag: int, text: bytes) -> Path:
    """To the first image of a little-endian TIFF: its directory is written again, behind the text at the end."""
    data = bytearray(path.read_bytes())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    entries = [bytes(data[start + 2 + 12 * number : start + 14 + 12 * number]) for number in range(count)]
    (following,) = struct.unpack_from("<I", data, start + 2 + 12 * count)
    data += bytes(len(data) % 2)
    entries.append(struct.pack("<HHII", tag, 2, len(text) + 1, len(data)))
    data += text + bytes(1 + (len(text) + 1) % 2)
    struct.pack_into("<I", data, 4, len(data))
    data += struct.pack("<H", len(entries)) + b"".join(sorted(entries)) + struct.pack("<I", following)
    path.write_bytes(data)
    return path
