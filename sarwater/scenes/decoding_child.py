"""The other end of decoding.py: a child of trial_server.py that has a scene open, and decodes what it is asked for.

Each part of a scene (decoding.py: 16 MiB, or one larger block) has a budget of its own: `max_open_s`, and more for a
larger block; and `max_open_bytes` beside the shared memory and two blocks. A child that is over it ends, or says so.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from sarwater.request import Limits
from sarwater.scenes.decoding import MESSAGE_BYTES, PART_BYTES
from sarwater.scenes.raster import dtype_of
from sarwater.shown import shown

_LARGER_BYTES_PER_S = 128 << 20
"""Of decoded bytes beyond those of an ordinary part, which `max_open_s` is for: LZMA decodes 16 MiB in 1 s, in 2 s on a
small processor. So no file is refused later than 9 s after it asked for the processor."""
_LONGEST_TEXT = 1000

Limit = Callable[[float, int], None]
"""Called with processor time in s and memory in bytes that may be taken from now on."""


def serve_pixels(channel: int, memory: int, rasters: Sequence[Any], limits: Limits, limit: Limit) -> None:
    """Decode until nobody asks any more. `channel` keeps messages apart."""
    while content := os.read(channel, MESSAGE_BYTES):
        try:
            answer = _decode(json.loads(content), memory, rasters, limits, limit)
        except MemoryError:
            answer = {"memory": True}
        except RuntimeError as error:
            answer = {"gdal": shown(str(error))[:_LONGEST_TEXT] or "no reason given"}
        except Exception as error:
            answer = {"bug": shown(f"{type(error).__name__}: {error}")[:_LONGEST_TEXT]}
        os.write(channel, json.dumps(answer).encode())


def _decode(
    request: dict[str, Any], memory: int, rasters: Sequence[Any], limits: Limits, limit: Limit
) -> dict[str, Any]:
    x_px, y_px, width_px, height_px = request["window"]
    raster = rasters[request["raster"]]
    band = raster.GetRasterBand(request["band"])
    band = band.GetMaskBand() if request["mask"] else band
    dtype = dtype_of(band)
    size_bytes = width_px * height_px * dtype.itemsize
    columns, rows = band.GetBlockSize()
    # Pixels of one place may be stored together: a block holds those of every band then.
    block_bytes = columns * rows * dtype.itemsize * raster.RasterCount
    blocks = _count(x_px, width_px, columns) * _count(y_px, height_px, rows)
    larger_bytes = max(0, blocks * block_bytes - PART_BYTES)
    seconds = limits.max_open_s + larger_bytes / _LARGER_BYTES_PER_S
    limit(seconds, limits.max_open_bytes + size_bytes + 2 * block_bytes)
    pixels = np.frombuffer(mmap.mmap(memory, size_bytes), dtype, width_px * height_px)  # which unmaps it when it goes
    band.ReadAsArray(x_px, y_px, width_px, height_px, buf_obj=pixels.reshape(height_px, width_px))
    return {"done": True}


def _count(start: int, length: int, block: int) -> int:
    """How many blocks a stretch touches."""
    return (start + length - 1) // block - start // block + 1
