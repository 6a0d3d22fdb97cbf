"""Which quantised layers cost accuracy, and the same graph without them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from export.graph import copy_of

Blocks = dict[str, list[str]]
"""Path of a block in the network -> names of its quantised nodes."""

Progress = Callable[[str, int, int], None]


def quantised_blocks(proto: onnx.ModelProto) -> Blocks:
    """The quantised nodes of a Q/DQ graph, by block: a residual block, or a convolution that stands alone."""
    dequantised = {node.output[0] for node in proto.graph.node if node.op_type == "DequantizeLinear"}
    blocks: Blocks = {}
    for node in proto.graph.node:
        if node.op_type not in ("QuantizeLinear", "DequantizeLinear") and dequantised.intersection(node.input):
            parts = node.name.strip("/").split("/")
            depth = 2 if node.op_type in ("Conv", "ConvTranspose") else 1
            blocks.setdefault("/".join(parts[:-depth]) or parts[0], []).append(node.name)
    return blocks


def unquantised(proto: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """The Q/DQ graph with the named nodes in floating point again; every other node keeps its scales."""
    result = copy_of(proto)
    wanted = set(names)
    producer = {node.output[0]: node for node in result.graph.node}
    for node in result.graph.node:
        if node.name in wanted:
            for index, name in enumerate(node.input):
                dequantise = producer.get(name)
                if dequantise is not None and dequantise.op_type == "DequantizeLinear":
                    node.input[index] = producer[dequantise.input[0]].input[0]
    return _without_loose_ends(result)


def ranked_blocks(
    proto: onnx.ModelProto, error: Callable[[onnx.ModelProto], float], progress: Progress
) -> list[tuple[str, float]]:
    """Blocks by the error that each causes when it alone is quantised, the worst first."""
    blocks = quantised_blocks(proto)
    every = {name for names in blocks.values() for name in names}
    errors = {}
    for done, (block, names) in enumerate(blocks.items()):
        progress("sensitivity of layers", done, len(blocks))
        errors[block] = error(unquantised(proto, every - set(names)))
    return sorted(errors.items(), key=lambda item: (-item[1], item[0]))


def _without_loose_ends(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Remove the nodes and initialisers whose output nothing reads any more."""
    while True:
        read = {name for node in proto.graph.node for name in node.input} | {item.name for item in proto.graph.output}
        loose = [node for node in proto.graph.node if not read.intersection(node.output)]
        if not loose:
            break
        for node in loose:
            proto.graph.node.remove(node)
    kept = [item for item in proto.graph.initializer if item.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    return proto
