"""Models that were made from a box model of tests.support.models, as an int8 file is: right, or wrong in one way."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sarwater.manifest import sha256_of
from sarwater.models import Model, open_model

BRIGHT = 20_000.0
"""No golden scene has pixels as bright."""


def derived(source: Model, path: Path, *, gain: float = 1.0, wrong_where_bright: bool = False) -> Model:
    """The graph of `source` again, with all weights times `gain`, or one that takes what is BRIGHT for water."""
    graph = onnx.load(str(source.path))
    for tensor in graph.graph.initializer:
        if tensor.name == "weights":
            tensor.CopyFrom(numpy_helper.from_array(np.float32(gain) * numpy_helper.to_array(tensor), "weights"))
    if wrong_where_bright:
        sigmoid = graph.graph.node.pop()
        graph.graph.initializer.append(helper.make_tensor("bright", TensorProto.FLOAT, [], [BRIGHT]))
        graph.graph.node.extend(
            [
                helper.make_node("Sub", ["mean", "bright"], ["brighter"]),
                helper.make_node("Relu", ["brighter"], ["excess"]),
                helper.make_node("Add", ["logit", "excess"], ["excited"]),
                helper.make_node("Sigmoid", ["excited"], list(sigmoid.output)),
            ]
        )
    onnx.save(graph, str(path))
    manifest = dataclasses.replace(
        source.manifest,
        precision="int8",
        files={path.name: sha256_of(path)},
        recipe={"source": source.manifest.files[source.path.name]},
    )
    path.with_suffix(".json").write_text(manifest.to_json(), encoding="utf-8")
    return open_model(path)
