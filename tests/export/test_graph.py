from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from export.graph import Graph, check_contract, manifest_in, read_graph, with_tile, write_graph
from sarwater.errors import ExportError, HashMismatch, ManifestInvalid, ModelNotFound, OutputError
from sarwater.manifest import manifest_path
from tests.export.conftest import SMALL
from tests.support.models import box_model

Shape = list[int | str]


def box_graph(**changes: object) -> onnx.ModelProto:
    """A one-convolution network that keeps the contract, but for `changes`."""
    options: dict[str, object] = {
        "sar": ["N", 1, 64, 64],
        "water": ["N", 1, 64, 64],
        "names": ("sar", "water"),
        "kind": TensorProto.FLOAT,
        "opset": 17,
    }
    options |= changes
    source, target = options["names"]  # type: ignore[misc]
    graph = helper.make_graph(
        [helper.make_node("Sigmoid", [source], [target])],
        "box",
        [helper.make_tensor_value_info(source, options["kind"], options["sar"])],
        [helper.make_tensor_value_info(target, options["kind"], options["water"])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", options["opset"])], ir_version=8)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"names": ("image", "water")}, r"inputs \['image'\].*expected one input 'sar'"),
        ({"names": ("sar", "mask")}, r"outputs \['mask'\].*one output 'water'"),
        ({"kind": TensorProto.FLOAT16}, "sar is not float32"),
        ({"opset": 11}, "opset 11; expected 13 to 20"),
        ({"opset": 22}, "opset 22; expected 13 to 20"),
        ({"sar": [1, 1, 64, 64]}, r"sar is \(1, 1, 64, 64\); expected \(N, C, T, T\) with a dynamic batch"),
        ({"sar": ["N", 1, "H", "W"]}, r"sar is \(dynamic, 1, dynamic, dynamic\); expected a fixed"),
        ({"sar": ["N", 1, 64, 96]}, "a fixed, square tile of a multiple of 32 px"),
        ({"sar": ["N", 1, 48, 48]}, "a fixed, square tile of a multiple of 32 px"),
        ({"water": ["N", 2, 64, 64]}, r"water is \(dynamic, 2, 64, 64\); expected \(N, 1, 64, 64\)"),
    ],
)
def test_another_contract_is_refused_with_what_was_found(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ExportError, match=complaint):
        check_contract(box_graph(**changes), "x.onnx")


def test_the_contract_gives_tile_and_channels() -> None:
    assert check_contract(box_graph(), "x.onnx") == (64, 1)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"nowhere\.onnx: no such file"):
        read_graph(tmp_path / "nowhere.onnx")


@pytest.mark.parametrize("content", [b"", b"\x08\x08 not protobuf \xff\xff", b"<html>404</html>"])
def test_a_file_that_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ExportError, match=r"x\.onnx: not a valid ONNX file"):
        read_graph(path)


def test_a_graph_of_others_without_a_manifest_is_refused(tmp_path: Path) -> None:
    onnx.save(box_graph(), tmp_path / "x.onnx")
    with pytest.raises(ExportError, match="no manifest beside it and none inside"):
        read_graph(tmp_path / "x.onnx")


def test_a_graph_with_a_manifest_beside_it_is_read(tmp_path: Path) -> None:
    model = box_model(tmp_path / "box.onnx")
    assert read_graph(model.path).manifest == model.manifest


def test_a_changed_file_is_refused(tmp_path: Path) -> None:
    model = box_model(tmp_path / "box.onnx")
    model.path.write_bytes(model.path.read_bytes() + b"\x00")
    with pytest.raises(HashMismatch, match="its manifest expects"):
        read_graph(model.path)


def test_a_manifest_of_another_tile_size_is_refused(tmp_path: Path) -> None:
    model = box_model(tmp_path / "box.onnx")
    other = dataclasses.replace(model.manifest, tile_px=128)
    manifest_path(model.path).write_text(other.to_json())
    with pytest.raises(ManifestInvalid, match=r"the graph takes 1 channel.* of 64 px, its manifest says 1 of 128 px"):
        read_graph(model.path)


def test_a_graph_of_ours_needs_no_manifest_beside_it(tmp_path: Path, make_onnx: Callable[[str], Path]) -> None:
    path = tmp_path / "alone.onnx"
    path.write_bytes(make_onnx(SMALL).read_bytes())
    graph = read_graph(path)
    assert graph.manifest == dataclasses.replace(
        manifest_in(graph.proto, "x", {}), files={"alone.onnx": graph.manifest.files["alone.onnx"]}
    )


def test_writing_and_reading_changes_nothing(tmp_path: Path, small_graph: Graph) -> None:
    written = write_graph(small_graph, tmp_path / "copy.onnx")
    again = read_graph(tmp_path / "copy.onnx")
    assert again.manifest == written.manifest
    assert again.proto.SerializeToString(deterministic=True) == (tmp_path / "copy.onnx").read_bytes()


def test_a_smaller_tile_has_a_smaller_overlap_where_it_must(small_graph: Graph) -> None:
    small = with_tile(small_graph, 64)
    assert (small.manifest.tile_px, small.manifest.overlap_px) == (64, 20)
    assert check_contract(small.proto, "x") == (64, 1)


def test_a_resize_with_a_fixed_size_is_named_as_the_reason(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("MaxPool", ["sar"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["half", "", "", "size"], ["back"], mode="nearest"),
        helper.make_node("Sigmoid", ["back"], ["water"]),
    ]
    shape: Shape = ["N", 1, 64, 64]
    graph = helper.make_graph(
        nodes,
        "fixed",
        [helper.make_tensor_value_info("sar", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, shape)],
        [helper.make_tensor("size", TensorProto.INT64, [4], [1, 1, 64, 64])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = box_model(tmp_path / "box.onnx").manifest
    with pytest.raises(ExportError, match="a resize layer has fixed sizes"):
        with_tile(Graph(proto, manifest), 128)


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path, small_graph: Graph) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        write_graph(small_graph, tmp_path / "file" / "x.onnx")
