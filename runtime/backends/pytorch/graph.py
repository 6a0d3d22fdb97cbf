"""An ONNX graph as a function of PyTorch: its nodes one after the other, and nothing that our graphs do not have.

Precision is that of the graph. An fp32 one can be computed in halves: its convolutions and what only they feed; what
comes from the pixels without one in between stays float32, as in `export.precision`. A sum of both is float32, by
PyTorch's own rules of promotion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from runtime.backends.pytorch.operators import OPERATORS, Constant, Node, Unsupported
from sarwater.dependencies import require
from sarwater.errors import ManifestInvalid, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[Any]

INSTALL = "`pip install 'sarwater[torch]'`"
PURPOSE = "running a model with PyTorch"


@dataclass(frozen=True)
class _Step:
    run: Callable[..., Tensor]
    inputs: tuple[str, ...]
    output: str
    done_with: tuple[str, ...]
    """Values that no later step reads: their memory serves the next ones."""


class TorchGraph:
    """`graph(pixels)`: (N, C, T, T) float32 raw pixels -> (N, 1, T, T) float32 probability, both on `device`.

    `half`: `float16` or `bfloat16`, what the convolutions of an fp32 graph compute in; None leaves the graph as it is.
    `title` names the graph in messages. Raises DependencyMissing without torch or onnx, ManifestInvalid for bytes that
    are no graph, and for one with an operator that is not among ours.
    """

    def __init__(self, content: bytes, title: str, device: str = "cpu", half: str | None = None) -> None:
        self._torch = torch = require("torch", PURPOSE, INSTALL)
        onnx = require("onnx", PURPOSE, INSTALL)
        try:
            graph = onnx.load_from_string(content).graph
        except Exception as error:  # protobuf's own DecodeError, whose module moves between its versions
            raise ManifestInvalid(f"{title}: cannot be read as an ONNX graph ({error}); export it again") from error
        constants = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
        self._title = title
        self._device = torch.device(device)
        nodes = [_node(onnx, node, constants) for node in graph.node]
        nodes = _without_batch_norms(nodes)
        self._pixels, self._answer = graph.input[0].name, graph.output[0].name
        self._steps = self._compiled(nodes, title, getattr(torch, half) if half else None)

    def __call__(self, pixels: Tensor) -> Tensor:
        values = {self._pixels: pixels}
        with self._torch.inference_mode():
            for step in self._steps:
                values[step.output] = step.run(*(values[name] for name in step.inputs))
                for name in step.done_with:
                    del values[name]
            return values[self._answer].float()

    def check_tile(self, channels: int, tile_px: int) -> None:
        """Raises UsageError where the graph does not answer for every pixel of such a tile."""
        try:
            shape = tuple(self(self._torch.zeros((1, channels, tile_px, tile_px), device=self._device)).shape)
        except RuntimeError as error:
            shape, reason = (), (str(error).strip().splitlines() or [type(error).__name__])[0]
        else:
            reason = f"its answer has the shape {shape}"
        if shape != (1, 1, tile_px, tile_px):
            raise UsageError(
                f"{self._title}: cannot be run at a tile of {tile_px} px ({reason}); take a larger one, or export it "
                "for that size: `sarwater export MODEL --tile-px PX`"
            )

    def _compiled(self, nodes: list[Node], title: str, half: Any) -> list[_Step]:
        last_use = {name: number for number, node in enumerate(nodes) for name in node.tensors}
        steps = []
        for number, node in enumerate(nodes):
            build = OPERATORS.get(node.operator)
            try:
                if build is None:
                    raise Unsupported("no operator of ours")
                run = build(self._torch, node, Constant(self._torch, self._device, half))
            except Unsupported as reason:
                raise ManifestInvalid(
                    f"{title}: PyTorch does not run its node {node.name} ({node.operator}: {reason}); use the model's "
                    "fp32 or fp16 file as `sarwater export` writes it, or another --device"
                ) from reason
            done = {name for name in node.tensors if last_use[name] == number and name != self._answer}
            steps.append(_Step(run, node.tensors, node.output, tuple(done)))
        return steps


def _node(onnx: Any, node: Any, constants: dict[str, Array]) -> Node:
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    texts = {name: value.decode() if isinstance(value, bytes) else value for name, value in attributes.items()}
    inputs = tuple(node.input)
    known = {place: constants[name] for place, name in enumerate(inputs) if name in constants}
    return Node(node.op_type, node.name, inputs, node.output[0], texts, known)


def _without_batch_norms(nodes: list[Node]) -> list[Node]:
    """Each BatchNormalization that alone reads a convolution becomes part of its weights."""
    made_by = {node.output: node for node in nodes}
    readers: dict[str, int] = {}
    for node in nodes:
        for name in node.tensors:
            readers[name] = readers.get(name, 0) + 1
    folded: dict[str, Node] = {}
    dropped = set()
    for norm in nodes:
        source = made_by.get(norm.inputs[0])
        if norm.operator != "BatchNormalization" or source is None or source.operator != "Conv":
            continue
        if readers[source.output] == 1 and 1 in source.constants:
            folded[source.output] = _folded(source, norm)
            dropped.add(norm.output)
    return [folded.get(node.output, node) for node in nodes if node.output not in dropped]


def _folded(convolution: Node, norm: Node) -> Node:
    """y = scale * (conv(x) - mean) / sqrt(variance + epsilon) + shift, in float64, as one convolution."""
    scale, shift, mean, variance = (norm.constants[place].astype(np.float64) for place in range(1, 5))
    factor = scale / np.sqrt(variance + norm.attributes.get("epsilon", 1e-5))
    weight = convolution.constants[1]
    bias = convolution.constants.get(2, np.zeros(len(weight)))
    constants = {
        1: (weight * factor[:, None, None, None]).astype(weight.dtype),
        2: ((bias - mean) * factor + shift).astype(weight.dtype),
    }
    inputs = (*convolution.inputs[:2], norm.inputs[2])
    return Node("Conv", convolution.name, inputs, norm.output, convolution.attributes, constants)
