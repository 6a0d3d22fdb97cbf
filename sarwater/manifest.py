"""ModelManifest: all that is needed to use a model file correctly, as JSON beside it (`x.onnx` -> `x.json`).

Unknown fields are refused: a manifest written by a newer version may say something that matters.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sarwater.errors import HashMismatch, ManifestInvalid
from sarwater.families import FAMILIES
from sarwater.regular import open_regular
from sarwater.tensorrt_library import FLAVOURS

FORMAT = "sarwater-model/1"
UNITS = ("amplitude_dn", "sigma0_linear", "sigma0_db", "incidence_dn")
PRECISIONS = ("fp32", "fp16", "int8")
INPUT_NAME = "sar"
OUTPUT_NAME = "water"
MANIFEST_KEY = "sarwater"
"""The `metadata_props` entry of an ONNX file that holds, as JSON, what the manifest says, less the hashes."""
ARCHITECTURE_KEY = "sarwater_architecture"
"""The `metadata_props` entry of an ONNX file that holds `train.models.Architecture`: with it, training can go on."""
THRESHOLD_KEY = "seg_thresh"
"""The one that holds the threshold, under the name that QGIS' Deepness plugin gives it."""

LARGEST_TILE_PX = 1 << 14
MOST_CHANNELS = 3
_MAX_BYTES = 16 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Channel:
    """One input channel: `name` is `sar` for any polarisation, a polarisation (`hh`, `vv`, ...) or `gim`."""

    name: str
    unit: str

    def __post_init__(self) -> None:
        _expect("channels.unit", self.unit, UNITS)


@dataclass(frozen=True)
class Engine:
    """What a TensorRT plan is bound to. `compute_capability` is `8.6` and the like, or `portable`."""

    flavor: str
    library_version: str
    gpu_name: str
    compute_capability: str
    max_batch: int
    opt_batch: int
    accuracy: Mapping[str, float] = field(default_factory=dict)
    """Figures against the checkpoint, as `export.verify` measured them; empty where nothing could be measured."""

    def __post_init__(self) -> None:
        _expect("engine.flavor", self.flavor, tuple(FLAVOURS))
        if not 1 <= self.opt_batch <= self.max_batch:
            raise ManifestInvalid(f"engine.opt_batch is {self.opt_batch}, expected 1 to max_batch ({self.max_batch})")


@dataclass(frozen=True)
class ModelManifest:
    """The contract of one model or engine file. Raises ManifestInvalid for values that cannot be."""

    family: str
    variant: str
    channels: tuple[Channel, ...]
    tile_px: int
    overlap_px: int
    threshold: float
    """Probability from which a pixel counts as water, between 0 and 1."""
    precision: str
    opset: int
    files: Mapping[str, str]
    """File name (beside the manifest, no folders) -> sha256 in hexadecimal."""
    coarsest_m: float | None = None
    """Pixel spacing of the coarsest scenes that it knows: coarser ones are upsampled to it. None: they are not."""
    level_db: float | None = None
    """Level to which uncalibrated scenes are brought before it sees them (sarwater/scenes/level.py). None: they are
    not."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: data, commit, date, metrics with the data set they were measured on."""
    engine: Engine | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """What export made the file from and with: sha256 of the source, options, library versions. A file whose recipe
    has not changed is not made again; a file with a `source` is derived, not a model of its own."""
    format: str = FORMAT

    def __post_init__(self) -> None:
        _expect("format", self.format, (FORMAT,))
        _expect("family", self.family, tuple(FAMILIES))
        _expect("precision", self.precision, PRECISIONS)
        if not 1 <= len(self.channels) <= MOST_CHANNELS:
            raise ManifestInvalid(f"channels lists {len(self.channels)}, expected 1 to {MOST_CHANNELS}")
        if not 0 < self.threshold < 1:
            raise ManifestInvalid(f"threshold is {self.threshold}, expected a probability between 0 and 1")
        if self.coarsest_m is not None and not self.coarsest_m > 0:
            raise ManifestInvalid(f"coarsest_m is {self.coarsest_m}, expected metres above 0, or null")
        if self.level_db is not None and not -100 < self.level_db < 100:
            raise ManifestInvalid(f"level_db is {self.level_db}, expected decibels above sigma0 of 1, or null")
        if self.tile_px < 32 or self.tile_px % 32:
            raise ManifestInvalid(f"tile_px is {self.tile_px}, expected a multiple of 32")
        if self.tile_px > LARGEST_TILE_PX:
            raise ManifestInvalid(f"tile_px is {self.tile_px}, expected {LARGEST_TILE_PX} at most")
        if self.overlap_px < 0 or self.overlap_px % 2 or self.overlap_px * 3 > self.tile_px:
            raise ManifestInvalid(f"overlap_px is {self.overlap_px}, expected an even number up to a third of tile_px")
        for name, digest in self.files.items():
            if os.path.basename(name) != name or name in ("", ".", ".."):
                raise ManifestInvalid(f"files names {name!r}, expected a plain file name beside the manifest")
            if not _SHA256.fullmatch(digest):
                raise ManifestInvalid(f"files[{name!r}] is {digest!r}, expected a sha256 in lower-case hexadecimal")

    @property
    def name(self) -> str:
        return f"{self.family}-{self.variant}" if self.variant else self.family

    def with_tile(self, tile_px: int) -> ModelManifest:
        """The same network for another tile size; the overlap shrinks where it must. Raises ManifestInvalid."""
        return dataclasses.replace(
            self, tile_px=tile_px, overlap_px=min(self.overlap_px, max(tile_px, 0) // 3 // 2 * 2)
        )

    @classmethod
    def read(cls, path: Path) -> ModelManifest:
        """Read the manifest at `path` (the `.json` itself)."""
        try:
            if path.stat().st_size > _MAX_BYTES:
                raise ManifestInvalid(f"{path}: larger than {_MAX_BYTES:,} bytes, expected the manifest of one model")
            with open_regular(path) as file:
                document = json.load(file)
        except FileNotFoundError:
            raise ManifestInvalid(
                f"{path}: no such manifest; a model file needs its JSON manifest beside it: copy both, or export again"
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise ManifestInvalid(
                f"{path}: not a readable JSON manifest ({error}); copy it again with its model"
            ) from error
        try:
            return cls.from_document(document)
        except ManifestInvalid as error:
            raise ManifestInvalid(f"{path}: {error}") from error

    @classmethod
    def from_document(cls, document: Any) -> ModelManifest:
        """Build from decoded JSON, as in the file or in the metadata of an ONNX graph."""
        manifest: ModelManifest = _build(cls, document, "")
        return manifest

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False, default=dict) + "\n"

    def verify(self, path: Path) -> str:
        """Return the sha256 of the model file at `path`; raises HashMismatch unless it is the one named here."""
        expected = self._sha256_named(path)
        return _matching(path, sha256_of(path), expected)

    def read_verified(self, path: Path) -> tuple[bytes, str]:
        """The model file's bytes and their sha256: what runs is what was verified, whatever becomes of the file
        meanwhile. Raises HashMismatch."""
        expected = self._sha256_named(path)
        content = path.read_bytes()
        return content, _matching(path, hashlib.sha256(content).hexdigest(), expected)

    def _sha256_named(self, path: Path) -> str:
        expected = self.files.get(path.name)
        if expected is None:
            raise HashMismatch(
                f"{path}: its manifest describes {', '.join(self.files) or 'no file'}, not {path.name}; export it again"
            )
        return expected


def _matching(path: Path, found: str, expected: str) -> str:
    if found != expected:
        raise HashMismatch(
            f"{path}: sha256 is {found[:12]}…, its manifest expects {expected[:12]}…; "
            "the file was changed or damaged: copy it again with its manifest, or export it again"
        )
    return found


def manifest_path(model_path: Path) -> Path:
    return model_path.with_suffix(".json")


def sha256_of(path: Path) -> str:
    """Raises OSError as open() does."""
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _expect(name: str, found: str, expected: tuple[str, ...]) -> None:
    if found not in expected:
        raise ManifestInvalid(f"{name} is {found!r}, expected one of: {', '.join(expected)}")


def _build(cls: type, document: Any, where: str) -> Any:
    """Make a dataclass from JSON: every field of its declared type, none missing, none unknown."""
    if not isinstance(document, dict):
        raise ManifestInvalid(f"{where or 'the document'} is {type(document).__name__}, expected an object")
    fields = {item.name: item for item in dataclasses.fields(cls)}
    if unknown := sorted(document.keys() - fields.keys()):
        raise ManifestInvalid(f"unknown field {where}{unknown[0]!r}; this version knows {', '.join(fields)}")
    hints = typing.get_type_hints(cls)
    values = {name: _value(hints[name], value, where + name) for name, value in document.items()}
    required = {
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - values.keys()):
        raise ManifestInvalid(f"field {where}{missing[0]!r} is missing")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if origin is types.UnionType:
        return None if value is None else _value(typing.get_args(hint)[0], value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ManifestInvalid(f"{where} is {type(value).__name__}, expected a list")
        return tuple(_value(typing.get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return _build(typing.cast(type, hint), value, where + ".")
    expected = Mapping if origin is not None else hint
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value) if abs(value) < 1 << 1000 else math.inf
    if not isinstance(value, expected) or isinstance(value, bool):
        raise ManifestInvalid(f"{where} is {value!r}, expected {getattr(expected, '__name__', expected)}")
    if origin is not None and (item := typing.get_args(hint)[1]) is not Any:
        return {key: _value(item, entry, f"{where}[{key!r}]") for key, entry in value.items()}
    return value
