"""An ONNX file of this project: raw pixels `sar` in, probability `water` out, and everything its manifest needs inside.

    sar    float32 (N, C, T, T)   N dynamic, T = tile_px fixed
    water  float32 (N, 1, T, T)

The file describes itself in `metadata_props`: the manifest can be made again from it, and QGIS Deepness can run it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from sarwater.atomic import replacing
from sarwater.errors import ExportError, ManifestInvalid, ModelNotFound, OutputError
from sarwater.manifest import (
    ARCHITECTURE_KEY,
    INPUT_NAME,
    MANIFEST_KEY,
    OUTPUT_NAME,
    THRESHOLD_KEY,
    ModelManifest,
    manifest_path,
)
from sarwater.onnx_file import refuse_external_data

OLDEST_OPSET, NEWEST_OPSET = 13, 20
"""Per-channel Q/DQ came with 13; 20 is the newest that the ONNX parser of TensorRT 10.3 (JetPack 6) reads.
Source: the operator support matrix of onnx-tensorrt, release/10.3-GA."""


@dataclass(frozen=True)
class Graph:
    """A checked ONNX graph and what it says of itself. Steps of the export take one and return one."""

    proto: onnx.ModelProto
    manifest: ModelManifest
    """`files` is empty where the graph lies in memory alone."""
    path: Path | None = None
    """The file that holds it; None where it lies in memory alone."""

    @property
    def channels(self) -> int:
        return len(self.manifest.channels)

    @property
    def sha256(self) -> str:
        """Of the file that holds it, or would."""
        return self.manifest.files[self.path.name] if self.path else hashlib.sha256(as_bytes(self)).hexdigest()

    @property
    def size_bytes(self) -> int:
        return self.path.stat().st_size if self.path else self.proto.ByteSize()

    def with_manifest(self, **changes: Any) -> Graph:
        """The same graph in memory with another manifest."""
        return Graph(self.proto, dataclasses.replace(self.manifest, **changes, files={}))


def read_graph(path: Path) -> Graph:
    """Read an ONNX file of ours and check it against the contract and, if one lies beside it, its manifest.

    Raises ModelNotFound, ExportError (not ONNX, other inputs or outputs, an opset that TensorRT 10.3 cannot read),
    HashMismatch, ManifestInvalid.
    """
    if not path.is_file():
        raise ModelNotFound(f"{path}: no such file; expected an .onnx file")
    sidecar = manifest_path(path)
    manifest = ModelManifest.read(sidecar) if sidecar.is_file() else None
    if manifest is not None:
        content, digest = manifest.read_verified(path)
    else:
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
    try:
        proto = onnx.load_model_from_string(content)
        onnx.checker.check_model(proto)
    except Exception as error:  # protobuf, onnx and the operating system each have their own
        raise ExportError(f"{path}: not a valid ONNX file ({_first_line(error)}); export it again") from error
    refuse_external_data(path)
    tile_px, channels = check_contract(proto, str(path))
    manifest = manifest or manifest_in(proto, str(path), {path.name: digest})
    if (manifest.tile_px, len(manifest.channels)) != (tile_px, channels):
        raise ManifestInvalid(
            f"{path}: the graph takes {channels} channel(s) of {tile_px} px, its manifest says "
            f"{len(manifest.channels)} of {manifest.tile_px} px; export it again"
        )
    return Graph(proto, manifest, path)


def check_contract(proto: onnx.ModelProto, where: str) -> tuple[int, int]:
    """Return (tile_px, channels) of a graph that keeps the contract; raise ExportError for any other."""
    opset = opset_of(proto)
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise ExportError(
            f"{where}: opset {opset}; expected {OLDEST_OPSET} to {NEWEST_OPSET}, which every TensorRT from 10.3 reads; "
            "export it again with `python -m export.to_onnx`"
        )
    initialisers = {item.name for item in proto.graph.initializer}
    inputs = [item for item in proto.graph.input if item.name not in initialisers]
    outputs = list(proto.graph.output)
    if [item.name for item in inputs] != [INPUT_NAME] or [item.name for item in outputs] != [OUTPUT_NAME]:
        raise ExportError(
            f"{where}: inputs {[item.name for item in inputs]} and outputs {[item.name for item in outputs]}; expected "
            f"one input {INPUT_NAME!r} (raw pixels) and one output {OUTPUT_NAME!r} (probability): only graphs of "
            "export.to_onnx fit"
        )
    for item in (inputs[0], outputs[0]):
        if item.type.tensor_type.elem_type != TensorProto.FLOAT:
            raise ExportError(
                f"{where}: {item.name} is not float32; raw pixels and probability are, whatever lies between"
            )
    shape, out = _dims(inputs[0]), _dims(outputs[0])
    if len(shape) != 4 or shape[0] is not None:
        raise ExportError(f"{where}: {INPUT_NAME} is {_text(shape)}; expected (N, C, T, T) with a dynamic batch N")
    _, channels, height, width = shape
    if channels is None or height is None or height != width or height % 32:
        raise ExportError(
            f"{where}: {INPUT_NAME} is {_text(shape)}; expected a fixed number of channels and a fixed, square tile "
            "of a multiple of 32 px; export it again with --tile"
        )
    if out != (None, 1, height, width):
        raise ExportError(f"{where}: {OUTPUT_NAME} is {_text(out)}; expected (N, 1, {height}, {width})")
    return height, channels


def opset_of(proto: onnx.ModelProto) -> int:
    return next((item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")), 0)


def with_tile(graph: Graph, tile_px: int) -> Graph:
    """The same network for another tile size; raises ExportError where a size is written into the graph itself."""
    if tile_px == graph.manifest.tile_px:
        return graph
    manifest = dataclasses.replace(graph.manifest.with_tile(tile_px), files={})
    proto = copy_of(graph.proto)
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = tile_px
    return described(Graph(infer_shapes(proto), manifest))


def infer_shapes(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with every intermediate shape filled in; raises ExportError where the graph contradicts itself."""
    bare = copy_of(proto)
    del bare.graph.value_info[:]
    try:
        return onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise ExportError(
            f"the shapes of the graph do not fit together at this tile size ({_first_line(error)}); either the "
            "network's strides do not divide it (512 and 1024 always fit), or a resize layer has fixed sizes: export "
            "it again"
        ) from error


def copy_of(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy


def described(graph: Graph) -> Graph:
    """Write the manifest, and what QGIS Deepness reads, into the graph's own metadata, in a fixed order."""
    manifest, proto = graph.manifest, graph.proto
    about = dataclasses.asdict(dataclasses.replace(manifest, files={}))
    properties = {
        MANIFEST_KEY: json.dumps(about, sort_keys=True, default=dict),
        ARCHITECTURE_KEY: json.dumps(architecture_in(proto), sort_keys=True),
        # https://qgis-plugin-deepness.readthedocs.io, "Model metadata": the plugin divides pixels by 255 before it
        # standardises them; this standard deviation undoes that, since the graph takes raw pixels.
        "model_type": json.dumps("Segmentor"),
        "class_names": json.dumps({"0": "land", "1": "water"}),
        "tile_size": json.dumps(manifest.tile_px),
        "tiles_overlap": json.dumps(round(100 * manifest.overlap_px / manifest.tile_px)),
        "standardization_mean": json.dumps([0.0] * graph.channels),
        "standardization_std": json.dumps([1 / 255] * graph.channels),
        THRESHOLD_KEY: json.dumps(manifest.threshold),
        "channels": ", ".join(f"{channel.name} [{channel.unit}]" for channel in manifest.channels),
    }
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, properties)
    return graph


def architecture_in(proto: onnx.ModelProto) -> dict[str, Any]:
    """The network that the graph was exported from, as `Architecture.to_dict` has it; empty for other graphs."""
    return _metadata(proto, ARCHITECTURE_KEY)


def set_architecture(proto: onnx.ModelProto, architecture: dict[str, Any]) -> None:
    onnx.helper.set_model_props(proto, {ARCHITECTURE_KEY: json.dumps(architecture)})


def manifest_in(proto: onnx.ModelProto, where: str, files: Mapping[str, str]) -> ModelManifest:
    """The manifest that a graph of ours carries, for `files` (name -> sha256). Raises ExportError for other graphs."""
    about = _metadata(proto, MANIFEST_KEY)
    if not about:
        raise ExportError(
            f"{where}: no manifest beside it and none inside; expected a graph of export.to_onnx, which carries "
            f"{MANIFEST_KEY!r} in its metadata"
        )
    return ModelManifest.from_document({**about, "files": dict(files)})


def as_bytes(graph: Graph) -> bytes:
    """What its file holds. Equal graphs give equal bytes."""
    content: bytes = described(graph).proto.SerializeToString(deterministic=True)
    return content


def write_graph(graph: Graph, path: Path) -> Graph:
    """Write graph and manifest beside each other, each whole or not at all; returns the graph of that file.

    Raises OutputError.
    """
    manifest = write_model(as_bytes(graph), graph.manifest, path)
    return Graph(graph.proto, manifest, path)


def write_model(content: bytes, manifest: ModelManifest, path: Path) -> ModelManifest:
    """Write a model file and the manifest beside it; returns the manifest with the file's hash. Raises OutputError."""
    manifest = dataclasses.replace(manifest, files={path.name: hashlib.sha256(content).hexdigest()})
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(content)
        with replacing(manifest_path(path)) as temporary:
            temporary.write_text(manifest.to_json(), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free some space or choose another folder") from error
    return manifest


def _metadata(proto: onnx.ModelProto, key: str) -> dict[str, Any]:
    for item in proto.metadata_props:
        if item.key == key:
            loaded: dict[str, Any] = json.loads(item.value)
            return loaded
    return {}


def _dims(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)


def _text(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("dynamic" if dim is None else str(dim) for dim in shape) + ")"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
