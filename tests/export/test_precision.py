from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from export.accuracy import compare
from export.bisect import worst_layers
from export.emulate import emulated
from export.graph import Graph, read_graph, with_tile, write_graph
from export.inspect import onnx_layers
from export.precision import (
    CALIBRATION_METHODS,
    after_enlarged_maps,
    first_convolutions,
    float32_nodes,
    folded,
    packed,
    to_fp16,
    to_int8,
)
from export.runners import onnxruntime_runner, probabilities
from export.samples import Sample, simulated_samples
from export.sensitivity import quantised_blocks, ranked_blocks, unquantised
from sarwater.errors import DependencyMissing
from sarwater.manifest import INPUT_NAME, Channel, sha256_of
from sarwater.models import ENGINES
from tests.export.conftest import TILE_PX, speckle
from tests.support.models import box_model


def ignore(phase: str, done: int, steps: int) -> None:
    assert 0 <= done <= steps, phase


@pytest.fixture(scope="module")
def fp16(small_graph: Graph) -> Graph:
    return to_fp16(small_graph, speckle(1, 64, count=2), {"source": "test"})


@pytest.fixture(scope="module")
def probes() -> list[Sample]:
    return simulated_samples((Channel("sar", "amplitude_dn"),), 64, 4)


@pytest.fixture(scope="module")
def int8(small_graph: Graph, probes: list[Sample]) -> Graph:
    return to_int8(small_graph, speckle(1, 64, count=2), probes, {"source": "test"}, ignore)


def answer(graph: Graph, pixels: np.ndarray) -> np.ndarray:
    with onnxruntime_runner(graph).open() as network:
        return network(pixels)


def precisions(graph: Graph) -> dict[str, str]:
    return {layer["name"]: layer["precision"] for layer in onnx_layers(graph.proto)}


def test_fp16_keeps_the_pixels_and_the_sigmoid_in_float32(fp16: Graph, small_graph: Graph) -> None:
    found = precisions(fp16)
    for name in float32_nodes(folded(small_graph)):
        assert found[name] == "fp32", name
    convolutions = [layer for layer in onnx_layers(fp16.proto) if layer["type"] == "Conv"]
    assert {layer["precision"] for layer in convolutions} == {"fp16"}


def test_fp16_is_half_the_size_and_almost_the_same(fp16: Graph, small_graph: Graph) -> None:
    assert fp16.proto.ByteSize() < 0.6 * small_graph.proto.ByteSize()
    pixels = speckle(1, TILE_PX)
    error = np.abs(answer(fp16, pixels) - answer(small_graph, pixels)).max()
    assert 0 < error < 0.01


def test_weights_that_two_resolutions_share_are_in_the_file_once() -> None:
    graph = read_graph(ENGINES / "hrnet-w18-small.onnx")
    small = to_fp16(graph, speckle(1, 128, count=1), {"source": "test"})
    assert small.proto.ByteSize() < 0.6 * graph.proto.ByteSize()
    pixels = speckle(1, 128)
    error = np.abs(answer(with_tile(small, 128), pixels) - answer(with_tile(graph, 128), pixels)).max()
    assert error < 0.02


def test_fp16_has_the_tile_and_the_contract_of_its_source(fp16: Graph, small_graph: Graph, tmp_path: Path) -> None:
    write_graph(fp16, tmp_path / "x.onnx")
    again = read_graph(tmp_path / "x.onnx").manifest
    assert (again.tile_px, again.precision, again.training) == (TILE_PX, "fp16", small_graph.manifest.training)


def test_the_same_input_gives_the_same_fp16_file(fp16: Graph, small_graph: Graph, tmp_path: Path) -> None:
    again = to_fp16(small_graph, speckle(1, 64, count=2), {"source": "test"})
    write_graph(fp16, tmp_path / "a.onnx")
    write_graph(again, tmp_path / "b.onnx")
    assert sha256_of(tmp_path / "a.onnx") == sha256_of(tmp_path / "b.onnx")


def test_a_layer_that_overflows_on_bright_pixels_stays_float32(tmp_path: Path) -> None:
    """Two convolutions on raw DN, the first with gain 8: 23,391 DN x 8 does not fit into a half."""
    model = box_model(tmp_path / "box.onnx")
    graph = read_graph(model.path)
    weights = next(item for item in graph.proto.graph.initializer if item.name == "weights")
    loud = onnx.numpy_helper.to_array(weights) * 8 * 25
    weights.CopyFrom(onnx.numpy_helper.from_array(loud.astype(np.float32), "weights"))
    graph.proto.graph.node[0].name = "loud"
    bright = speckle(1, 64)
    dim = np.clip(bright, 0, 30)
    assert precisions(to_fp16(graph, bright, {}))["loud"] == "fp32"
    assert precisions(to_fp16(graph, dim / 8, {}))["loud"] == "fp16"


def test_emulation_shows_the_overflow_that_a_cpu_hides() -> None:
    from onnx import TensorProto, helper

    shape = ["N", 1, 32, 32]
    nodes = [
        helper.make_node("Cast", ["sar"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Mul", ["half", "half"], ["square"]),
        helper.make_node("Cast", ["square"], ["water"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "square",
        [helper.make_tensor_value_info("sar", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, shape)],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    pixels = np.full((1, 1, 32, 32), 300, np.float32)
    session = onnxruntime.InferenceSession(emulated(proto).SerializeToString())
    assert np.isinf(session.run(None, {"sar": pixels})[0]).all()


def test_emulation_rounds_every_fp16_layer(fp16: Graph, small_graph: Graph) -> None:
    added = [node for node in emulated(fp16.proto).graph.node if node.name.endswith("/to_half")]
    halves = [name for name, precision in precisions(fp16).items() if precision == "fp16"]
    assert len(added) == len(halves) > 20


def test_int8_quantises_convolutions_and_leaves_the_pixels_alone(int8: Graph) -> None:
    found = precisions(int8)
    assert "int8" in found.values()
    for name in ("/Clip", "/Log", "/Sigmoid"):
        assert found[name] == "fp32"
    assert {found[name] for name in first_convolutions(int8.proto)} == {"fp16"}, "100 dB are too much for 256 steps"
    assert int8.manifest.recipe["outcome"]["calibration"] in CALIBRATION_METHODS


def test_int8_is_for_the_network_and_not_for_what_is_around_it(make_onnx: Callable[[str], Path]) -> None:
    graph = read_graph(make_onnx("hrnet-w18-small"))
    proto = folded(graph)
    around = [node.name for node in proto.graph.node if not node.name.startswith("/net")]
    assert around
    int8 = to_int8(graph, speckle(1, 128, count=2), simulated_samples(graph.manifest.channels, 128, 2), {}, ignore)
    found = precisions(int8)
    assert "int8" in found.values()
    quantised = {
        output for node in int8.proto.graph.node if node.op_type == "DequantizeLinear" for output in node.output
    }
    assert not [node.name for node in int8.proto.graph.node if node.name in around and quantised & set(node.input)]
    last = after_enlarged_maps(proto)
    assert len(last) == 1, "the last layer but one"
    assert {found[name] for name in last} == {"fp16"}


def test_int8_is_explicit_symmetric_and_per_channel(int8: Graph) -> None:
    """What TensorRT asks of Q/DQ: zero points of 0, one scale per output channel of the weights."""
    constants = {item.name: onnx.numpy_helper.to_array(item) for item in int8.proto.graph.initializer}
    quantise = [node for node in int8.proto.graph.node if node.op_type == "QuantizeLinear"]
    assert all(not constants[node.input[2]].any() for node in quantise if len(node.input) > 2)
    weights = [node for node in quantise if node.input[0] in constants]
    assert weights
    assert all(constants[node.input[1]].size == constants[node.input[0]].shape[0] for node in weights)


def test_packed_weights_are_smaller_and_compute_the_same(int8: Graph) -> None:
    small = packed(int8)
    assert small.proto.ByteSize() < 0.8 * int8.proto.ByteSize()
    constants = {item.name for item in small.proto.graph.initializer}
    assert not any(node.op_type == "QuantizeLinear" and node.input[0] in constants for node in small.proto.graph.node)
    pixels = speckle(1, TILE_PX)
    assert np.array_equal(answer(small, pixels), answer(int8, pixels))


def test_the_same_input_gives_the_same_int8_file(
    int8: Graph, small_graph: Graph, probes: list[Sample], tmp_path: Path
) -> None:
    again = to_int8(small_graph, speckle(1, 64, count=2), probes, {"source": "test"}, ignore)
    write_graph(int8, tmp_path / "a.onnx")
    write_graph(again, tmp_path / "b.onnx")
    assert sha256_of(tmp_path / "a.onnx") == sha256_of(tmp_path / "b.onnx")


def test_unquantised_layers_compute_as_before_quantisation(int8: Graph, small_graph: Graph) -> None:
    every = [name for names in quantised_blocks(int8.proto).values() for name in names]
    plain = Graph(unquantised(int8.proto, every), int8.manifest)
    assert not {node.op_type for node in plain.proto.graph.node} & {"QuantizeLinear", "DequantizeLinear"}
    pixels = speckle(1, TILE_PX)
    quantised_error = np.abs(answer(int8, pixels) - answer(small_graph, pixels)).mean()
    assert np.abs(answer(plain, pixels) - answer(small_graph, pixels)).mean() < quantised_error / 4


def test_the_ranking_finds_the_layer_that_was_spoiled(int8: Graph, small_graph: Graph) -> None:
    """One block gets scales eight times too large; its error must come out on top."""
    spoiled = onnx.ModelProto()
    spoiled.CopyFrom(int8.proto)
    block, names = list(quantised_blocks(spoiled).items())[4]
    node = next(node for node in spoiled.graph.node if node.name == names[0])
    producer = {item.output[0]: item for item in spoiled.graph.node}
    scale_names = {producer[node.input[1]].input[1], producer[producer[node.input[1]].input[0]].input[1]}
    for item in spoiled.graph.initializer:
        if item.name in scale_names:
            item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * np.float16(8), item.name))
    pixels = speckle(1, 64)
    expected = answer(with_tile(small_graph, 64), pixels)

    def error(proto: onnx.ModelProto) -> float:
        return float(np.abs(answer(with_tile(Graph(proto, int8.manifest), 64), pixels) - expected).mean())

    assert ranked_blocks(spoiled, error, ignore)[0][0] == block


def test_layers_that_cost_too_much_go_back_to_fp16(
    small_graph: Graph, probes: list[Sample], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a target that int8 cannot reach, the sweep takes layers away, the worst first, and says which."""
    monkeypatch.setattr("export.precision.INT8_TARGET_LOSS", -1.0)
    monkeypatch.setattr("export.precision.CALIBRATION_METHODS", ("max",))
    graph = to_int8(small_graph, speckle(1, 64, count=1), probes[:1], {}, ignore)
    left = graph.manifest.recipe["outcome"]["left_in_fp16"]
    found = precisions(graph)
    assert len(left) > 1
    for block in left:
        assert all(
            precision != "int8" for name, precision in found.items() if name.strip("/").startswith(block + "/conv")
        )
    assert "int8" in found.values()


def test_bisect_names_the_layer_that_was_damaged(fp16: Graph, small_graph: Graph) -> None:
    damaged = onnx.ModelProto()
    damaged.CopyFrom(fp16.proto)
    node = [node for node in damaged.graph.node if node.op_type == "Conv"][7]
    for item in damaged.graph.initializer:
        if item.name == node.input[1]:
            item.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(item) * np.float16(1.5), item.name))
    tile = Sample("t", speckle(1, 64)[0], np.zeros((64, 64), np.uint8))
    worst = worst_layers(small_graph, Graph(damaged, fp16.manifest), tile)[0]
    assert worst.name == node.name
    assert worst.added > 0.1


def test_accuracy_of_the_conversions_is_measured_on_the_same_tiles(
    small_graph: Graph, fp16: Graph, int8: Graph, probes: list[Sample]
) -> None:
    answers = []
    for graph in (small_graph, fp16, int8):
        with onnxruntime_runner(with_tile(graph, 64)).open() as network:
            answers.append(probabilities(network, probes))
    half, quarter = (compare(found, answers[0], probes, 0.4) for found in answers[1:])
    assert 0 < half.mean_error < quarter.mean_error < 0.1


def test_without_modelopt_the_message_says_what_to_install(small_graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "modelopt"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "modelopt", None)
    with pytest.raises(DependencyMissing, match=r"pip install 'sarwater\[export\]'.*--from-onnx FILE"):
        to_fp16(small_graph, speckle(1, 64), {})


def test_tensorrt_stays_importable_after_a_conversion(fp16: Graph) -> None:
    assert sys.modules.get("tensorrt", "absent") is not None


@pytest.mark.parametrize("name", ["hrnet-w18-small", "deepunet"])
def test_the_pixels_way_to_the_first_convolution_is_found(name: str, make_onnx: Callable[[str], Path]) -> None:
    graph = folded(read_graph(make_onnx(name))).graph
    made_by = {output: node for node in graph.node for output in node.output}

    @cache
    def sees_pixels(tensor: str) -> bool:
        """Whether the pixels come here without passing a convolution; what is convolved may come here, too."""
        node = made_by.get(tensor)
        if node is None or node.op_type == "Conv":
            return tensor == INPUT_NAME
        return any(sees_pixels(source) for source in node.input)

    names = {node.name for node in graph.node if sees_pixels(node.output[0])}
    kinds = {node.name: node.op_type for node in graph.node}
    found = float32_nodes(folded(read_graph(make_onnx(name))))
    assert set(found) == {*names, graph.node[-1].name}
    assert {"Clip", "Log"} <= {kinds[item] for item in found}
    assert kinds[found[-1]] == "Sigmoid"
    first = first_convolutions(folded(read_graph(make_onnx(name))))
    assert {kinds[item] for item in first} == {"Conv"}
    assert len(first) == 1
    assert ("AveragePool" in map(kinds.get, found)) == (name == "hrnet-w18-small"), "means stay in float32, too"
