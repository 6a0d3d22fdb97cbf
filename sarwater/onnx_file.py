"""An ONNX file as bytes: whether all of its weights are in it. Needs no onnx, for those who run models.

A tensor may name another file that holds its data (`external_data`), with any path, and inference libraries follow it:
bytes that no manifest hashes would run. Only the messages that can hold a tensor are walked through.

Source: onnx.proto (field numbers); Protocol Buffers encoding, https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from sarwater.errors import ManifestInvalid

_MODEL: dict[int, str] = {7: "graph", 20: "training", 25: "function"}
_FIELDS: dict[str, dict[int, str]] = {
    "model": _MODEL,
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
"""Message -> field -> the message that it holds."""
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 100
"""Of messages within one another, as in Protocol Buffers' own libraries."""


def refuse_external_data(path: Path) -> None:
    """Raises ManifestInvalid for a graph that takes data from another file, or is none."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise ManifestInvalid(f"{path}: an empty file, cannot read it as an ONNX graph; copy it again")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                external = _takes_external_data(content, "model", 0, len(content), 0)
            except (ValueError, IndexError) as error:
                raise ManifestInvalid(f"{path}: cannot read it as an ONNX graph ({error}); export it again") from error
    if external:
        raise ManifestInvalid(
            f"{path}: takes weights from another file, which its manifest does not hash; expected one file with all of "
            "them: save it without external data, or export it again"
        )


def _takes_external_data(content: mmap.mmap, message: str, start: int, end: int, depth: int) -> bool:
    if depth > _MAX_DEPTH:
        raise ValueError("graphs within one another without end")
    inside = _FIELDS[message]
    for field, value_start, value_end in _fields(content, start, end):
        if message == "tensor" and (field == _EXTERNAL_DATA or (field == _DATA_LOCATION and content[value_start])):
            return True
        if field in inside and _takes_external_data(content, inside[field], value_start, value_end, depth + 1):
            return True
    return False


def _fields(content: mmap.mmap, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(field number, first byte of its value and the one after the last). Raises ValueError, IndexError."""
    while position < end:
        key, position = _varint(content, position)
        kind, start = key & 7, position
        if kind == _VARINT:
            _, position = _varint(content, position)
        elif kind == _BYTES:
            size, start = _varint(content, position)
            position = start + size
        elif kind in (_FIXED64, _FIXED32):
            position += 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if position > end:
            raise ValueError("a field that reaches beyond its message")
        yield key >> 3, start, position


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = content[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, position
    raise ValueError("a number of more than 10 bytes")
