from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from runtime.commands.predict import main
from sarwater.command import run_command
from sarwater.errors import ManifestInvalid
from sarwater.manifest import manifest_path, sha256_of
from sarwater.models import Model
from sarwater.onnx_file import refuse_external_data
from tests.support.rasters import lake_scene, write_geotiff


def external(name: str = "w") -> TensorProto:
    tensor = numpy_helper.from_array(np.ones(4, np.float32), name)
    set_external_data(tensor, "w.bin")
    tensor.ClearField("raw_data")
    return tensor


def graph(**parts: list[object]) -> onnx.GraphProto:
    return helper.make_graph(parts.get("nodes", []), "g", [], [], parts.get("initialisers", []))


def constant(tensor: TensorProto) -> onnx.NodeProto:
    return helper.make_node("Constant", [], ["c"], value=tensor)


def sparse() -> onnx.GraphProto:
    found = graph()
    found.sparse_initializer.append(helper.make_sparse_tensor(external(), external("i"), [4]))
    return found


def training() -> onnx.ModelProto:
    model = helper.make_model(graph())
    model.training_info.add().initialization.CopyFrom(graph(initialisers=[external()]))
    return model


PLACES = {
    "an initialiser": helper.make_model(graph(initialisers=[external()])),
    "a constant": helper.make_model(graph(nodes=[constant(external())])),
    "a sparse initialiser": helper.make_model(sparse()),
    "a branch": helper.make_model(
        graph(nodes=[helper.make_node("If", ["x"], ["y"], then_branch=graph(initialisers=[external()]))])
    ),
    "a function": helper.make_model(
        graph(),
        functions=[helper.make_function("d", "f", [], ["c"], [constant(external())], [helper.make_opsetid("", 18)])],
    ),
    "what trains it": training(),
}


@pytest.mark.parametrize("place", PLACES)
def test_data_of_another_file_is_found_wherever_a_tensor_can_be(tmp_path: Path, place: str) -> None:
    (tmp_path / "x.onnx").write_bytes(PLACES[place].SerializeToString())
    with pytest.raises(ManifestInvalid, match="weights from another file"):
        refuse_external_data(tmp_path / "x.onnx")


def test_a_model_whose_weights_lie_elsewhere_does_not_run_though_its_hash_is_right(
    tmp_path: Path, model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / model.path.name
    proto = onnx.load(model.path)
    before = sha256_of(model.path)
    for item in proto.graph.initializer:  # as raw bytes, which alone may lie elsewhere
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item), item.name))
    onnx.save_model(proto, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    manifest = manifest_path(model.path).read_text().replace(before, sha256_of(path))
    manifest_path(path).write_text(manifest)
    scene = write_geotiff(tmp_path / "a.tif", lake_scene(64, 64))
    assert run_command(main, [str(scene), "-o", str(tmp_path / "out"), "--model", str(path)]) == 1
    lines = capfd.readouterr().err.splitlines()
    assert "weights from another file" in lines[-1]
    assert not (tmp_path / "out").exists()


def test_a_model_with_all_of_its_weights_passes(model: Model) -> None:
    refuse_external_data(model.path)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 0.999), value=st.integers(0, 255), cut=st.booleans())
def test_damage_never_ends_in_another_error(
    model: Model, tmp_path: Path, position: float, value: int, cut: bool
) -> None:
    content = bytearray(model.path.read_bytes())
    place = int(position * len(content))
    content[place] = value
    (tmp_path / "x.onnx").write_bytes(content[:place] if cut else content)
    with contextlib.suppress(ManifestInvalid):
        refuse_external_data(tmp_path / "x.onnx")


def test_graphs_within_one_another_end(tmp_path: Path) -> None:
    """By hand: Protocol Buffers would not write it."""

    def holding(field: int, content: bytes) -> bytes:
        size, digits = len(content), bytearray()
        while size > 0x7F:
            digits.append(size & 0x7F | 0x80)
            size >>= 7
        return bytes([field << 3 | 2, *digits, size]) + content

    content = b""
    for _ in range(60):
        content = holding(1, holding(5, holding(6, content)))  # a node, its attribute, the graph that it is
    (tmp_path / "x.onnx").write_bytes(holding(7, content))
    with pytest.raises(ManifestInvalid, match="without end"):
        refuse_external_data(tmp_path / "x.onnx")
