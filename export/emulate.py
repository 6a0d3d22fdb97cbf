"""An fp16 or int8 graph as a CPU can run it, with the rounding and the overflow of a GPU.

CPU runtimes quietly compute float16 layers in float32, so an overflow would show on the GPU first. Here every layer
computes in float32, as a tensor core accumulates, and its result goes through float16 and back wherever the graph
says float16. (onnxruntime keeps such casts: they lose precision, so they are no round trip to be optimised away.)
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper, numpy_helper

from export.graph import copy_of, infer_shapes


def emulated(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same network in float32 arithmetic with explicit rounding; float32 and int8 parts are as they were."""
    typed = infer_shapes(proto)
    halves = {value.name for value in typed.graph.value_info if value.type.tensor_type.elem_type == TensorProto.FLOAT16}
    result = copy_of(proto)
    del result.graph.value_info[:]
    _widen_initialisers(result.graph)
    nodes = []
    for node in list(result.graph.node):
        _widen_attributes(node)
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in halves and node.op_type != "DequantizeLinear":
                node.output[index] = f"{name}/exact"
                nodes += _through_half(f"{name}/exact", name)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _through_half(source: str, target: str) -> list[onnx.NodeProto]:
    half = f"{target}/half"
    return [
        helper.make_node("Cast", [source], [half], name=f"{target}/to_half", to=TensorProto.FLOAT16),
        helper.make_node("Cast", [half], [target], name=f"{target}/from_half", to=TensorProto.FLOAT),
    ]


def _widen_initialisers(graph: onnx.GraphProto) -> None:
    for item in graph.initializer:
        if item.data_type == TensorProto.FLOAT16:
            item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype("float32"), item.name))


def _widen_attributes(node: onnx.NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT16:
            attribute.i = TensorProto.FLOAT
        if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT16:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype("float32")))
