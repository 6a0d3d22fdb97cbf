"""Every operator of our graphs in PyTorch against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from runtime.backends.pytorch.graph import TorchGraph
from runtime.backends.pytorch.operators import OPERATORS
from sarwater.errors import ManifestInvalid
from sarwater.models import shipped_model

RNG = np.random.default_rng(7)
SIZE = 12


def noise(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def onnx_bytes(nodes: list[Any], constants: dict[str, np.ndarray], channels: int) -> bytes:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("sar", TensorProto.FLOAT, ["N", channels, SIZE, SIZE])],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def int64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def float32(value: float) -> np.ndarray:
    return np.array(value, np.float32)


Case = tuple[str, dict[str, np.ndarray], dict[str, Any]]
SCALES = np.array([1, 1, 2, 2], np.float32)
HALF_PIXEL = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
CASES: list[Case] = [
    ("Add", {"b": float32(3)}, {}),
    ("Sub", {"b": noise(4, 1, 1)}, {}),
    ("Mul", {"b": np.array([2.5], np.float32)}, {}),
    ("Div", {"b": float32(3)}, {}),
    ("AveragePool", {}, {"kernel_shape": [4, 4], "strides": [4, 4], "count_include_pad": 1}),
    ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [1, 1, 1, 1], "count_include_pad": 1}),
    ("AveragePool", {}, {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ("MaxPool", {}, {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", {}, {"kernel_shape": [5, 5], "strides": [3, 3], "ceil_mode": 1}),
    ("GlobalAveragePool", {}, {}),
    ("Clip", {"low": float32(-0.5), "high": float32(0.75)}, {}),
    ("Clip", {"low": float32(0)}, {}),
    ("Conv", {"w": noise(6, 4, 3, 3), "b": noise(6)}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ("Conv", {"w": noise(4, 1, 3, 3)}, {"pads": [2, 2, 2, 2], "dilations": [2, 2], "group": 4}),
    ("ConvTranspose", {"w": noise(4, 3, 4, 4), "b": noise(3)}, {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    (
        "BatchNormalization",
        {"s": noise(4), "b": noise(4), "m": noise(4), "v": np.abs(noise(4))},
        {"epsilon": 1e-3},
    ),
    ("DepthToSpace", {}, {"blocksize": 2, "mode": "CRD"}),
    ("Exp", {}, {}),
    ("Neg", {}, {}),
    ("Relu", {}, {}),
    ("Sigmoid", {}, {}),
    ("Resize", {"roi": np.zeros(0, np.float32), "s": SCALES}, HALF_PIXEL),
    ("Resize", {"roi": np.zeros(0, np.float32), "s": SCALES * np.float32([1, 1, 2, 2])}, NEAREST),
    ("Slice", {"from": int64(1), "to": int64(2**63 - 1), "axes": int64(2), "steps": int64(1)}, {}),
    ("Slice", {"from": int64(0, -5), "to": int64(3, -1), "axes": int64(1, 3)}, {}),
]


def both(content: bytes, channels: int) -> tuple[np.ndarray, np.ndarray]:
    tiles = noise(2, channels, SIZE, SIZE)
    found = TorchGraph(content, "test")(torch.from_numpy(tiles)).numpy()
    (expected,) = onnxruntime.InferenceSession(content).run(None, {"sar": tiles})
    return found, expected


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"), CASES, ids=lambda value: value if isinstance(value, str) else ""
)
def test_an_operator_is_that_of_onnx(
    operator: str, constants: dict[str, np.ndarray], attributes: dict[str, Any]
) -> None:
    node = helper.make_node(operator, ["sar", *constants], ["water"], **attributes)
    found, expected = both(onnx_bytes([node], constants, 4), 4)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_operators_of_several_tensors_are_those_of_onnx() -> None:
    nodes = [
        helper.make_node("Exp", ["sar"], ["a"]),
        helper.make_node("Log", ["a"], ["same"]),
        helper.make_node("Greater", ["same", "zero"], ["above"]),
        helper.make_node("Cast", ["above"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["mask", "sar", "a"], ["joined"], axis=1),
        helper.make_node("Sub", ["one", "joined"], ["rest"]),
        helper.make_node("Mul", ["rest", "joined"], ["water"]),
    ]
    found, expected = both(onnx_bytes(nodes, {"zero": float32(0), "one": float32(1)}, 2), 2)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_batch_norm_behind_a_convolution_becomes_part_of_it() -> None:
    constants = {"w": noise(5, 3, 3, 3), "s": noise(5), "b": noise(5), "m": noise(5), "v": np.abs(noise(5)) + 0.1}
    nodes = [
        helper.make_node("Conv", ["sar", "w"], ["x"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["water"]),
    ]
    content = onnx_bytes(nodes, constants, 3)
    assert len(TorchGraph(content, "test")._steps) == 1
    found, expected = both(content, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_batch_norm_whose_convolution_has_other_readers_stays() -> None:
    constants = {"w": noise(3, 3, 1, 1), "s": noise(3), "b": noise(3), "m": noise(3), "v": np.abs(noise(3)) + 0.1}
    nodes = [
        helper.make_node("Conv", ["sar", "w"], ["x"]),
        helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"]),
        helper.make_node("Add", ["x", "y"], ["water"]),
    ]
    found, expected = both(onnx_bytes(nodes, constants, 3), 3)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_halves_begin_at_the_first_convolution(half: str) -> None:
    """A 16-bit pixel has more digits than a half: what is taken off it before is taken off in float32."""
    nodes = [
        helper.make_node("Sub", ["sar", "dark"], ["small"]),
        helper.make_node("Conv", ["small", "w"], ["x"]),
        helper.make_node("Mul", ["x", "two"], ["water"]),
    ]
    constants = {"dark": float32(60000), "w": np.ones((1, 1, 1, 1), np.float32), "two": np.array([2], np.float32)}
    graph = TorchGraph(onnx_bytes(nodes, constants, 1), "test", half=half)
    answer = graph(torch.full((1, 1, SIZE, SIZE), 60001.5))
    assert answer.dtype == torch.float32
    assert (answer == 3).all()


@pytest.mark.parametrize(
    ("operator", "attributes"),
    [
        ("Softmax", {}),
        ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}),
        ("MaxPool", {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1]}),
    ],
)
def test_a_node_that_is_none_of_ours_is_named(operator: str, attributes: dict[str, Any]) -> None:
    node = helper.make_node(operator, ["sar"], ["water"], name="/the/node", **attributes)
    with pytest.raises(ManifestInvalid, match=rf"test: .*/the/node \({operator}: .*--device"):
        TorchGraph(onnx_bytes([node], {}, 4), "test")


def test_what_is_no_graph_is_refused() -> None:
    with pytest.raises(ManifestInvalid, match="cannot be read as an ONNX graph"):
        TorchGraph(b"no graph at all", "test")


def test_the_model_that_ships_has_only_operators_of_ours() -> None:
    nodes = onnx.load(shipped_model().path).graph.node
    assert {node.op_type for node in nodes} <= OPERATORS.keys()
