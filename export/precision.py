"""fp32 ONNX -> fp16 or int8 ONNX. Precision is a property of the graph: every TensorRT version, OpenVINO and ONNX
Runtime then compute the same thing.

The pixels' way to the first convolution and the last sigmoid stay float32: a 16-bit DN has more digits than a half.
The first convolution itself is never int8: its input spans 100 dB, which 256 steps do not resolve.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.accuracy import Accuracy, compare
from export.graph import Graph, copy_of, infer_shapes, opset_of, with_tile
from export.runners import onnxruntime_runner, probabilities
from export.samples import Sample
from export.sensitivity import quantised_blocks, ranked_blocks, unquantised
from sarwater.dependencies import EXPORT_INSTALL, require
from sarwater.errors import DependencyMissing
from sarwater.manifest import INPUT_NAME
from sarwater.metrics import LARGEST_IOU_LOSS

Float32 = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

LARGEST_FP16_ACTIVATION = 4096.0
"""A layer whose input or output passes this on the calibration tiles stays fp32. Half a float16 ends at 65,504: the
factor of 16 is room for pixels that no calibration tile shows."""

METHOD = 5
"""Goes into every recipe; a file that was made by another is made again. Raise it when the same input and options give
another graph."""
PURPOSE = "making fp16 and int8 graphs (NVIDIA ModelOpt)"
INSTALL = f"{EXPORT_INSTALL}; or convert elsewhere and build from that ONNX file: --from-onnx FILE"
CALIBRATION_METHODS = ("entropy", "max")
INT8_OPSET = 19
"""The first whose QuantizeLinear takes float16."""
INT8_TARGET_LOSS = LARGEST_IOU_LOSS["int8"] / 2
"""Layers go back to fp16 until the loss is inside half of the gate: the tiles of tomorrow are others."""
SWEEP_SAMPLES = 8
GUARD_TILES = 8
"""Calibration tiles that look for overflow: the first are the extremes (see export.calibration)."""
_AROUND = re.compile(r"/[^/]+")
"""Names that the export gives to nodes outside of `Segmenter.net`."""


def to_fp16(graph: Graph, tiles: Float32, recipe: dict[str, Any]) -> Graph:
    """The graph in float16, but for the normalisation, the sigmoid and every layer that overflows on `tiles`.

    tiles: (n, C, t, t) float32 raw pixels, t a multiple of 32, of any size: the result has the graph's own tile size.
    Raises DependencyMissing without NVIDIA ModelOpt.
    """
    return _finished(graph, _halved(folded(with_tile(graph, tiles.shape[-1])), tiles, opset=None), "fp16", recipe)


def to_int8(
    graph: Graph, tiles: Float32, probes: Sequence[Sample], recipe: dict[str, Any], progress: Progress
) -> Graph:
    """The graph with int8 convolutions (explicit Q/DQ) and float16 around them.

    Entropy and maximum calibration are both tried on `tiles` (n, C, t, t); the better one on `probes`, labelled
    samples of the same size, is kept. Where it still costs more than half of the gate, a sensitivity sweep finds the
    layers that cost most and leaves as few of them as needed in float16. What was chosen is written to the recipe.

    Raises DependencyMissing without NVIDIA ModelOpt.
    """
    small = with_tile(graph, tiles.shape[-1])
    plain = folded(small)
    measure = _Measure(small, probes)
    tried = {}
    for done, method in enumerate(CALIBRATION_METHODS):
        progress(f"calibration: {method}", done, len(CALIBRATION_METHODS))
        quantised = _quantised(plain, tiles, method)
        tried[method] = (measure.accuracy(quantised), quantised)
    method = min(tried, key=lambda name: tried[name][0].changed_share)
    accuracy, quantised = tried[method]
    left: list[str] = []
    if accuracy.iou_loss > INT8_TARGET_LOSS:
        left, quantised = _relieved(quantised, measure, progress)
    outcome = {"calibration": method, "left_in_fp16": left}
    proto = _halved(quantised, tiles, opset=INT8_OPSET)
    return _finished(graph, proto, "int8", {**recipe, "outcome": outcome})


def float32_nodes(proto: onnx.ModelProto) -> list[str]:
    """Nodes that stay float32 in every precision, by name: those between `sar` and the first convolution, and the last
    sigmoid."""
    last = [node.name for node in proto.graph.node if node.output[0] == proto.graph.output[0].name]
    before = [node.name for node in _before_convolutions(proto)[0]]
    return [*before, *(name for name in last if name not in before)]


def first_convolutions(proto: onnx.ModelProto) -> list[str]:
    """Convolutions that read what comes from the pixels through no other convolution, by name."""
    raw = _before_convolutions(proto)[1]
    return [node.name for node in proto.graph.node if node.op_type == "Conv" and node.input[0] in raw]


def around_the_network(proto: onnx.ModelProto) -> list[str]:
    """Nodes of what the Segmenter does around a network, by name: how it prepares the pixels. Hardly any arithmetic,
    but steps of 1/256 of a range would be in the mask."""
    return [node.name for node in proto.graph.node if _AROUND.fullmatch(node.name)]


def after_enlarged_maps(proto: onnx.ModelProto) -> list[str]:
    """Convolutions that read several enlarged maps side by side, by name, as the last layer of HRNet does. OpenVINO
    rounds each map where it is upsampled, with a bias: a point of IoU for two layers of 150."""
    enlarged = {output for node in proto.graph.node if node.op_type == "Resize" for output in node.output}
    joins = [
        node for node in proto.graph.node if node.op_type == "Concat" and len(enlarged.intersection(node.input)) > 1
    ]
    joined = {node.output[0] for node in joins}
    return [node.name for node in proto.graph.node if node.op_type == "Conv" and node.input[0] in joined]


def _before_convolutions(proto: onnx.ModelProto) -> tuple[list[onnx.NodeProto], set[str]]:
    """(nodes, their outputs and the pixels): those that the pixels reach without passing through a convolution."""
    raw = {INPUT_NAME}
    nodes = []
    for node in proto.graph.node:
        if node.op_type not in ("Conv", "QuantizeLinear") and raw.intersection(node.input):
            raw.update(node.output)
            nodes.append(node)
    return nodes, raw


def folded(graph: Graph) -> onnx.ModelProto:
    """The graph with BatchNorm folded into the convolutions, which quantisation and float16 both want."""
    import onnxslim

    proto: onnx.ModelProto = onnxslim.slim(copy_of(graph.proto), skip_optimizations=["weight_tying"])
    return proto


def _tie(proto: onnx.ModelProto) -> None:
    """Keep one of the initialisers that are equal. A network that answers at two resolutions runs its layers twice, and
    folding gives each run weights of its own: the file would be twice as large."""
    kept: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {}
    unique = []
    for tensor in proto.graph.initializer:
        key = (tensor.data_type, tuple(tensor.dims), onnx.numpy_helper.to_array(tensor).tobytes())
        names[tensor.name] = kept.setdefault(key, tensor.name)
        if names[tensor.name] == tensor.name:
            unique.append(tensor)
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(unique)
    for node in proto.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a converted graph looks like. Raises DependencyMissing."""
    try:
        return {name: metadata.version(name) for name in ("nvidia-modelopt", "onnx", "onnxruntime", "onnxslim")}
    except metadata.PackageNotFoundError as error:
        raise DependencyMissing(f"{PURPOSE} needs {error.name}, which is not installed: {INSTALL}") from error


class _Measure:
    """Accuracy of graphs of one tile size against the fp32 one, on the same samples."""

    def __init__(self, reference: Graph, probes: Sequence[Sample]) -> None:
        self._graph = reference
        self._probes = probes
        self._reference = self._answers(reference.proto, probes)

    def accuracy(self, proto: onnx.ModelProto) -> Accuracy:
        answers = self._answers(proto, self._probes)
        return compare(answers, self._reference, self._probes, self._graph.manifest.threshold)

    def error(self, proto: onnx.ModelProto) -> float:
        """Mean absolute error of the probability over a few samples: finer than a change of class, and quick."""
        few = self._probes[:SWEEP_SAMPLES]
        answers = self._answers(proto, few)
        return float(np.mean([np.abs(a - b).mean() for a, b in zip(answers, self._reference, strict=False)]))

    def _answers(self, proto: onnx.ModelProto, samples: Sequence[Sample]) -> list[Float32]:
        with onnxruntime_runner(Graph(proto, self._graph.manifest)).open() as network:
            return probabilities(network, samples)


def _relieved(quantised: onnx.ModelProto, measure: _Measure, progress: Progress) -> tuple[list[str], onnx.ModelProto]:
    """(blocks left in float16, graph): the fewest of the worst blocks, doubling, that bring the loss to its target."""
    blocks = quantised_blocks(quantised)
    ranked = [block for block, _ in ranked_blocks(quantised, measure.error, progress)]
    count = 1
    while True:
        left = ranked[:count]
        graph = unquantised(quantised, [name for block in left for name in blocks[block]])
        if measure.accuracy(graph).iou_loss <= INT8_TARGET_LOSS or count >= len(ranked) / 2:
            return left, graph
        count *= 2


def _quantised(proto: onnx.ModelProto, tiles: Float32, method: str) -> onnx.ModelProto:
    """Q/DQ around everything that int8 speeds up, scales from `tiles`, float32 elsewhere."""
    with _modelopt(), tempfile.TemporaryDirectory() as folder, _silent():
        from modelopt.onnx.quantization import quantize

        source, target = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(proto, source)
        quantize(
            str(source),
            quantize_mode="int8",
            calibration_data={INPUT_NAME: tiles},
            calibration_method=method,
            calibration_eps=["cpu"],
            nodes_to_exclude=_exactly(
                [
                    *float32_nodes(proto),
                    *first_convolutions(proto),
                    *around_the_network(proto),
                    *after_enlarged_maps(proto),
                ]
            ),
            high_precision_dtype="fp32",
            output_path=str(target),
        )
        return onnx.load(target)


def _halved(proto: onnx.ModelProto, tiles: Float32, opset: int | None) -> onnx.ModelProto:
    """Float16 wherever the values on `tiles` leave room for it."""
    with _modelopt(), tempfile.TemporaryDirectory() as folder:
        from modelopt.onnx.autocast import convert_to_mixed_precision

        for index, tile in enumerate(tiles[:GUARD_TILES]):
            np.savez(Path(folder) / f"{index:04}.npz", **{INPUT_NAME: tile[None]})
        source = Path(folder) / "source.onnx"
        onnx.save(proto, source)
        converted: onnx.ModelProto = convert_to_mixed_precision(
            str(source),
            low_precision_type="fp16",
            nodes_to_exclude=_exactly(float32_nodes(proto)),
            data_max=LARGEST_FP16_ACTIVATION,
            keep_io_types=True,
            calibration_data=folder,
            providers=["cpu"],
            opset=opset,
        )
        return converted


def packed(graph: Graph) -> Graph:
    """The same graph, its weights as the int8 numbers that their QuantizeLinear nodes would make of them each time.

    The file is half as large and computes the same, but no layer can be taken back out of int8.
    """
    proto = copy_of(graph.proto)
    constants = {item.name: item for item in proto.graph.initializer}
    renamed: dict[str, str] = {}
    for node in [node for node in proto.graph.node if node.op_type == "QuantizeLinear" and node.input[0] in constants]:
        weights, scale = (onnx.numpy_helper.to_array(constants[name]).astype(np.float32) for name in node.input[:2])
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        if scale.ndim:
            scale = scale.reshape([-1 if dim == axis else 1 for dim in range(weights.ndim)])
        stored = np.clip(np.rint(weights / scale), -128, 127).astype(np.int8)
        name = f"{node.input[0]}_int8"
        if name not in constants:
            constants[name] = onnx.numpy_helper.from_array(stored, name)
            proto.graph.initializer.append(constants[name])
        renamed[node.output[0]] = name
        proto.graph.node.remove(node)
    for node in proto.graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    read = {name for node in proto.graph.node for name in node.input}
    kept = [item for item in proto.graph.initializer if item.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return dataclasses.replace(graph, proto=infer_shapes(proto))


def _finished(source: Graph, proto: onnx.ModelProto, precision: str, recipe: dict[str, Any]) -> Graph:
    """Back to the tile size of the source, with its description, and each constant once."""
    tile_px = source.manifest.tile_px
    _tie(proto)
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = tile_px
    del proto.metadata_props[:]
    proto.metadata_props.extend(source.proto.metadata_props)
    manifest = dataclasses.replace(source.manifest, precision=precision, opset=opset_of(proto), files={}, recipe=recipe)
    return Graph(infer_shapes(proto), manifest)


@contextlib.contextmanager
def _modelopt() -> Iterator[None]:
    """NVIDIA ModelOpt as a quiet CPU library. Where TensorRT is importable it would change its answer with the
    TensorRT version; a graph must depend on its inputs alone."""
    hidden: ModuleType | None = sys.modules.get("tensorrt")
    sys.modules["tensorrt"] = None  # type: ignore[assignment]
    try:
        require("modelopt.onnx.logging_config", PURPOSE, INSTALL).configure_logging(logging.CRITICAL)
        yield
    finally:
        del sys.modules["tensorrt"]
        if hidden is not None:
            sys.modules["tensorrt"] = hidden


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without the prints and progress bars of calibration; our own progress says what happens."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def _exactly(names: Sequence[str]) -> list[str]:
    """Patterns for ModelOpt, which matches from the start of a name, that each fit one node."""
    return [f"{re.escape(name)}$" for name in names]
