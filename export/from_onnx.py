"""ONNX -> the network of PyTorch that it was exported from, tensor for tensor; needs no more than torch and onnx."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sarwater.dependencies import EXPORT_INSTALL, require
from sarwater.errors import ExportError

if TYPE_CHECKING:
    from export.graph import Graph
    from train.models import Segmenter


def segmenter_from_onnx(path: Path) -> Segmenter:
    """As `segmenter_of`, of a file. Raises as `export.graph.read_graph`, too."""
    from export.graph import read_graph

    return segmenter_of(read_graph(path))


def segmenter_of(graph: Graph) -> Segmenter:
    """The network of an fp32 graph of ours, in evaluation mode, its tensors bit for bit as in the checkpoint.

    BatchNorm's step counters, which no graph has, are 0. Raises ExportError for a graph whose BatchNorm is folded or
    that is not fp32, DependencyMissing without torch.
    """
    torch = require("torch", "a network of PyTorch", EXPORT_INSTALL)
    import onnx

    from export.graph import architecture_in
    from train.models import Architecture, Segmenter

    path, manifest = graph.path or "the graph", graph.manifest
    document = architecture_in(graph.proto)
    if not document:
        raise ExportError(f"{path}: does not say which network it holds; export it again with this version")
    segmenter = Segmenter(Architecture.from_dict(document))
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
    expected = segmenter.net.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - stored.keys() - counters)
    if manifest.precision != "fp32" or missing:
        raise ExportError(
            f"{path}: {manifest.precision}, without the tensor {missing[0] if missing else '?'} of {manifest.name}; "
            "weights come back only from an fp32 file that export.to_onnx wrote"
        )
    tensors = {name: torch.tensor(stored.get(name, np.zeros((), np.int64))) for name in expected}
    segmenter.net.load_state_dict(tensors)
    return segmenter.eval()
