"""fp32 ONNX -> fp16 or int8 ONNX. Precision is a property of the graph: every TensorRT version, OpenVINO and ONNX
Runtime then compute the same thing.

The pixels' way to the first convolution and the last sigmoid stay float32: a 16-bit DN has more digits than a half.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from export.graph import Graph, infer_shapes, opset_of, with_tile
from sarwater.errors import DependencyMissing
from sarwater.manifest import INPUT_NAME

Float32 = npt.NDArray[np.float32]

LARGEST_FP16_ACTIVATION = 4096.0
"""A layer whose input or output passes this on the calibration tiles stays fp32. Half a float16 ends at 65,504: the
factor of 16 is room for pixels that no calibration tile shows."""


def to_fp16(graph: Graph, tiles: Float32, recipe: dict[str, Any]) -> Graph:
    """The graph in float16, but for the normalisation, the sigmoid and every layer that overflows on `tiles`.

    tiles: (n, C, t, t) float32 raw pixels, t a multiple of 32, of any size: the result has the graph's own tile size.
    Raises DependencyMissing without NVIDIA ModelOpt.
    """
    small = folded(with_tile(graph, tiles.shape[-1]))
    with _modelopt(), tempfile.TemporaryDirectory() as folder:
        from modelopt.onnx.autocast import convert_to_mixed_precision

        for index, tile in enumerate(tiles):
            np.savez(Path(folder) / f"{index:04}.npz", **{INPUT_NAME: tile[None]})
        onnx.save(small, Path(folder) / "model.onnx")
        proto = convert_to_mixed_precision(
            str(Path(folder) / "model.onnx"),
            low_precision_type="fp16",
            nodes_to_exclude=[f"{re.escape(name)}$" for name in float32_nodes(small)],
            data_max=LARGEST_FP16_ACTIVATION,
            keep_io_types=True,
            calibration_data=folder,
            providers=["cpu"],
        )
    return _finished(graph, proto, "fp16", recipe)


def float32_nodes(proto: onnx.ModelProto) -> list[str]:
    """Nodes that stay float32 in every precision, by name: all before the first convolution, and the last sigmoid."""
    touched: set[str] = set()  # tensors that depend on a convolution
    names = []
    for node in proto.graph.node:
        if node.op_type == "Conv" or touched.intersection(node.input):
            touched.update(node.output)
            if node.op_type == "Sigmoid" and node.output[0] == proto.graph.output[0].name:
                names.append(node.name)
        else:
            names.append(node.name)
    return names


def folded(graph: Graph) -> onnx.ModelProto:
    """The graph with BatchNorm folded into the convolutions, which quantisation and FP16 both want."""
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(graph.proto)
    proto: onnx.ModelProto = onnxslim.slim(copy, skip_optimizations=["weight_tying"])
    return proto


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decide what a converted graph looks like."""
    return {name: metadata.version(name) for name in ("nvidia-modelopt", "onnx", "onnxruntime", "onnxslim")}


def _finished(source: Graph, proto: onnx.ModelProto, precision: str, recipe: dict[str, Any]) -> Graph:
    """Back to the tile size of the source, with its description."""
    tile_px = source.manifest.tile_px
    for value in (*proto.graph.input, *proto.graph.output):
        for dim in value.type.tensor_type.shape.dim[2:]:
            dim.dim_value = tile_px
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
        try:
            from modelopt.onnx.logging_config import configure_logging
        except ImportError as error:
            raise DependencyMissing(
                "fp16 and int8 graphs are made by NVIDIA ModelOpt, which cannot be imported "
                f"({str(error).splitlines()[0]}): `pip install 'sarwater[export]'`; or convert elsewhere and "
                "build from that ONNX file: --from-onnx FILE"
            ) from error
        configure_logging(logging.ERROR)
        yield
    finally:
        del sys.modules["tensorrt"]
        if hidden is not None:
            sys.modules["tensorrt"] = hidden
