"""The operators of our ONNX graphs in PyTorch, each made once from its node: attributes and constants are settled then.

What they mean: https://onnx.ai/onnx/operators/ (opset 17 to 19).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Run = Callable[..., Any]
"""From the tensors of a node's inputs, constants left out, to its output."""

_INT32_MAX = 2**31 - 1


class Unsupported(Exception):
    """A node that no graph of ours has."""


@dataclass(frozen=True)
class Node:
    operator: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any]
    constants: Mapping[int, Array]
    """By the place of the input."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """Its inputs that are known only when it runs."""
        return tuple(name for place, name in enumerate(self.inputs) if name and place not in self.constants)

    def ints(self, place: int) -> list[int]:
        return [int(value) for value in self._constant(place).ravel()]

    def number(self, place: int) -> float | None:
        """None where the input is left out."""
        absent = place >= len(self.inputs) or not self.inputs[place]
        return None if absent else float(self._constant(place).item())

    def _constant(self, place: int) -> Array:
        if place not in self.constants:
            raise Unsupported(f"its input {place} is no constant")
        return self.constants[place]

    def symmetric_pads(self) -> list[int]:
        if self.attributes.get("auto_pad", "NOTSET") != "NOTSET":
            raise Unsupported("it pads by itself")
        pads = self.attributes.get("pads", [0, 0, 0, 0])
        if len(pads) != 4 or list(pads[:2]) != list(pads[2:]):
            raise Unsupported(f"pads {pads}")
        return list(pads[:2])


@dataclass(frozen=True)
class Constant:
    """Arrays to tensors on the device."""

    torch: Any
    device: Any
    half: Any = None
    """What weights of float32 become; None leaves them."""

    def tensor(self, values: Array) -> Any:
        return self.torch.from_numpy(np.array(values)).to(self.device)

    def weight(self, values: Array | None) -> Any:
        if values is None:
            return None
        found = self.tensor(values)
        found = found.to(self.half) if self.half is not None and values.dtype == np.float32 else found
        return found.contiguous(memory_format=self.torch.channels_last) if found.ndim == 4 else found


def _convolution(torch: Any, node: Node, constant: Constant) -> Run:
    weight, bias = (constant.weight(node.constants.get(place)) for place in (1, 2))
    if weight is None or weight.ndim != 4:
        raise Unsupported("its weights are no constant of four dimensions")
    attributes = node.attributes
    functional = torch.nn.functional
    stride, dilation = attributes.get("strides", [1, 1]), attributes.get("dilations", [1, 1])
    padding, groups = node.symmetric_pads(), attributes.get("group", 1)
    layout = torch.channels_last

    def convolve(x: Any) -> Any:
        return functional.conv2d(
            x.to(weight.dtype, memory_format=layout), weight, bias, stride, padding, dilation, groups
        )

    def transposed(x: Any) -> Any:
        more = attributes.get("output_padding", [0, 0])
        x = x.to(weight.dtype, memory_format=layout)
        return functional.conv_transpose2d(x, weight, bias, stride, padding, more, groups, dilation)

    return transposed if node.operator == "ConvTranspose" else convolve


def _batch_norm(torch: Any, node: Node, constant: Constant) -> Run:
    scale, shift, mean, variance = (constant.tensor(node.constants[place]) for place in range(1, 5))
    epsilon = node.attributes.get("epsilon", 1e-5)
    return lambda x: torch.nn.functional.batch_norm(x, mean, variance, scale, shift, False, 0.0, epsilon)


def _binary(name: str) -> Callable[[Any, Node, Constant], Run]:
    def build(torch: Any, node: Node, constant: Constant) -> Run:
        function = getattr(torch, name)
        if not node.constants:
            return function  # type: ignore[no-any-return]
        if len(node.constants) > 1:
            raise Unsupported("it reads constants alone")
        ((place, values),) = node.constants.items()
        # Of no dimension, a number does not make halves float32.
        other = constant.tensor(values.reshape(()) if values.size == 1 else values)

        def run(x: Any) -> Any:
            like = other.to(x.dtype) if other.ndim else other
            return function(x, like) if place else function(like, x)

        return run

    return build


def _unary(name: str) -> Callable[[Any, Node, Constant], Run]:
    return lambda torch, node, constant: getattr(torch, name)


def _cast(torch: Any, node: Node, constant: Constant) -> Run:
    kinds = {1: torch.float32, 10: torch.float16, 16: torch.bfloat16, 9: torch.bool, 7: torch.int64, 6: torch.int32}
    wanted = kinds.get(node.attributes["to"])
    if wanted is None:
        raise Unsupported(f"to type {node.attributes['to']}")
    return lambda x: x.to(wanted)


def _clip(torch: Any, node: Node, constant: Constant) -> Run:
    low, high = node.number(1), node.number(2)
    return lambda x: x.clamp(low, high)


def _concat(torch: Any, node: Node, constant: Constant) -> Run:
    if node.constants:
        raise Unsupported("it reads constants")
    axis = node.attributes["axis"]
    return lambda *parts: torch.cat(parts, axis)


def _slice(torch: Any, node: Node, constant: Constant) -> Run:
    starts, ends = node.ints(1), node.ints(2)
    axes = node.ints(3) if len(node.inputs) > 3 and node.inputs[3] else list(range(len(starts)))
    steps = node.ints(4) if len(node.inputs) > 4 and node.inputs[4] else [1] * len(starts)
    if min(steps) < 1 or min(axes) < 0:
        raise Unsupported(f"steps {steps}, axes {axes}")
    index = [slice(None)] * (max(axes) + 1)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = slice(start, min(end, _INT32_MAX), step)
    return lambda x: x[tuple(index)]


def _resize(torch: Any, node: Node, constant: Constant) -> Run:
    mode, place = node.attributes.get("mode", "nearest"), node.attributes.get("coordinate_transformation_mode")
    linear = mode == "linear" and place in (None, "half_pixel", "pytorch_half_pixel")
    nearest = mode == "nearest" and place == "asymmetric" and node.attributes.get("nearest_mode") == "floor"
    scales = node.constants.get(2)
    if not (linear or nearest) or scales is None or scales.size != 4 or list(scales[:2]) != [1, 1]:
        raise Unsupported(f"{mode}, {place}, scales {scales}")
    factors = tuple(float(value) for value in scales[2:])
    named = {"mode": "bilinear", "align_corners": False} if linear else {"mode": "nearest"}
    return lambda x: torch.nn.functional.interpolate(x, scale_factor=factors, **named)


def _pool(torch: Any, node: Node, constant: Constant) -> Run:
    attributes = node.attributes
    kernel, padding = attributes["kernel_shape"], node.symmetric_pads()
    stride, ceil = attributes.get("strides", [1, 1]), bool(attributes.get("ceil_mode", 0))
    functional = torch.nn.functional
    if node.operator == "MaxPool":
        dilation = attributes.get("dilations", [1, 1])
        return lambda x: functional.max_pool2d(x, kernel, stride, padding, dilation, ceil)
    counted = bool(attributes.get("count_include_pad", 0))
    return lambda x: functional.avg_pool2d(x, kernel, stride, padding, ceil, counted)


def _global_average(torch: Any, node: Node, constant: Constant) -> Run:
    return lambda x: x.mean((2, 3), keepdim=True)


def _depth_to_space(torch: Any, node: Node, constant: Constant) -> Run:
    if node.attributes.get("mode", "DCR") != "CRD":
        raise Unsupported("depth first")
    size = node.attributes["blocksize"]
    return lambda x: torch.nn.functional.pixel_shuffle(x, size)


OPERATORS: Mapping[str, Callable[[Any, Node, Constant], Run]] = {
    "Add": _binary("add"),
    "AveragePool": _pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "DepthToSpace": _depth_to_space,
    "Div": _binary("div"),
    "Exp": _unary("exp"),
    "GlobalAveragePool": _global_average,
    "Greater": _binary("gt"),
    "Log": _unary("log"),
    "MaxPool": _pool,
    "Mul": _binary("mul"),
    "Neg": _unary("neg"),
    "Relu": _unary("relu"),
    "Resize": _resize,
    "Sigmoid": _unary("sigmoid"),
    "Slice": _slice,
    "Sqrt": _unary("sqrt"),
    "Sub": _binary("sub"),
}
