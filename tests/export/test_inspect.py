from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from export.graph import Graph
from export.inspect import inspect, main
from sarwater.errors import ExportError, HashMismatch, ManifestInvalid, ModelNotFound
from sarwater.manifest import Engine, sha256_of
from sarwater.models import shipped_model
from tests.export.conftest import SMALL, TILE_PX

SAVED_LAYERS = [
    {"name": "/net/conv1", "type": "convolution", "output_type": "half", "output_shape": [-1, 16, 128, 128]},
    {"Name": "conv2 + relu", "LayerType": "CaskConvolution", "Outputs": [{"Format/Datatype": "Int8 NC/32HW32"}]},
    {"Name": "conv3", "LayerType": "kgen", "Outputs": [{"Format": "row major", "DataType": "FP16"}]},
]


@pytest.fixture
def engine(small_graph: Graph, tmp_path: Path) -> Path:
    path = tmp_path / "x.engine"
    path.write_bytes(b"a plan")
    bound = Engine("tensorrt", "10.3.0", "NVIDIA Jetson AGX Orin", "8.7", 8, 4, {"iou_loss": 0.0004})
    manifest = dataclasses.replace(small_graph.manifest, files={path.name: sha256_of(path)}, engine=bound)
    path.with_suffix(".json").write_text(manifest.to_json())
    path.with_suffix(".layers.json").write_text(json.dumps(SAVED_LAYERS))
    return path


def test_an_onnx_is_described_layer_by_layer(make_onnx: Callable[[str], Path]) -> None:
    path = make_onnx(SMALL)
    report = inspect(path)
    assert report["sha256"] == sha256_of(path)
    assert report["input"] == {"sar": f"float32 (N, 1, {TILE_PX}, {TILE_PX})"}
    assert report["layers_by_precision"] == {"fp32": len(report["layers"])}
    assert report["layers"][0] == {"name": "/Clip", "type": "Clip", "precision": "fp32"}
    assert report["parameters"] > 1_900_000
    assert report["training"]["data"] == "random"
    assert report["recipe"].keys() == {"checkpoint"}


def test_an_engine_is_described_without_running_it(engine: Path) -> None:
    report = inspect(engine)
    assert report["runs_on"] == "NVIDIA Jetson AGX Orin, compute capability 8.7, with tensorrt 10.3.0"
    assert report["input"] == {"sar": f"float32 (1..8, 1, {TILE_PX}, {TILE_PX})"}
    assert report["accuracy"] == {"iou_loss": 0.0004}
    assert [layer["precision"] for layer in report["layers"]] == ["fp16", "Int8 NC/32HW32", "FP16"]


def test_an_engine_without_its_layer_list_is_still_described(engine: Path) -> None:
    engine.with_suffix(".layers.json").unlink()
    assert inspect(engine)["layers"] == []


def test_a_table_for_people_and_json_for_programs(
    make_onnx: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_onnx(SMALL)
    assert main([str(path), "--layers"]) == 0
    text = capsys.readouterr().out
    assert "unet-w16" in text
    assert "Sigmoid" in text
    assert main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "unet-w16"


def test_an_engine_that_is_not_the_one_of_its_manifest_is_refused(engine: Path) -> None:
    engine.write_bytes(b"another plan")
    with pytest.raises(HashMismatch):
        inspect(engine)


def test_an_engine_without_a_manifest_is_refused(engine: Path) -> None:
    engine.with_suffix(".json").unlink()
    with pytest.raises(ManifestInvalid, match="a model file needs its JSON manifest beside it"):
        inspect(engine)


@pytest.mark.parametrize(("name", "error"), [("none.onnx", ModelNotFound), ("empty.onnx", ExportError)])
def test_what_is_not_there_or_no_graph_is_one_clear_error(tmp_path: Path, name: str, error: type[Exception]) -> None:
    (tmp_path / "empty.onnx").touch()
    with pytest.raises(error, match=name):
        inspect(tmp_path / name)


def test_a_training_run_is_answered_with_how_to_export_it(tmp_path: Path) -> None:
    (tmp_path / "latest").mkdir()
    with pytest.raises(ModelNotFound, match=r"a training run or a checkpoint.*`sarwater export .*latest`"):
        inspect(tmp_path / "latest")


def test_no_cell_of_a_card_is_cut_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["hrnet"]) == 0
    _, *lines = capsys.readouterr().out.splitlines()  # the first one shortens the hash
    assert not any("…" in line for line in lines)


def test_a_family_is_the_model_that_ships_and_shows_its_card(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # where no other model was exported
    assert main(["hrnet"]) == 0
    text = capsys.readouterr().out
    assert "Training data and their owners" in text
    assert re.search(r"^ +560: SIM00001, SIM00002, SIM00003, \.\.\. \(weight 0\.12\) *$", text, re.MULTILINE)
    assert "4: WTR00001, WTR00003, WTR00004, ... (weight 0.16)" in text
    assert "crop_px" not in text
    assert sha256_of(shipped_model().path) in re.sub(r"\s", "", text)
    assert main(["hrnet", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert card == shipped_model().path.with_suffix(".md").read_text()


def test_a_file_without_a_card_has_none(make_onnx: Callable[[str], Path]) -> None:
    assert inspect(make_onnx(SMALL))["card"] is None


def test_a_card_of_another_file_is_shown_as_such(make_onnx: Callable[[str], Path], tmp_path: Path) -> None:
    path = tmp_path / "copy.onnx"
    path.write_bytes(make_onnx(SMALL).read_bytes())
    path.with_suffix(".md").write_text("# a card\n")
    assert inspect(path)["card"].startswith("**This card is of another file")
