from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from osgeo import gdal

from export.accuracy import compare
from export.artefacts import Workshop
from export.graph import read_graph, write_graph, write_model
from export.samples import simulated_samples
from export.verify import find_files, main, verify
from runtime.backends import open_backend
from sarwater.errors import DataError, ExportError, ModelNotFound, UsageError
from sarwater.manifest import Engine, sha256_of
from sarwater.metrics import LARGEST_IOU_LOSS
from sarwater.models import find_model, shipped_model
from tests.export.conftest import SMALL, TILE_PX, be_quick, speckle

gdal.UseExceptions()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One labelled scene of one tile: dark water in the left third."""
    folder = tmp_path_factory.mktemp("data")
    pixels = speckle(1, TILE_PX)[0, 0].astype(np.uint16)
    label = np.where(np.arange(TILE_PX) < TILE_PX // 3, 255, 0).astype(np.uint8)[None].repeat(TILE_PX, axis=0)
    for name, values, kind in (("img/A", pixels, gdal.GDT_UInt16), ("mask/A_label", label, gdal.GDT_Byte)):
        path = folder / f"{name}.tif"
        path.parent.mkdir()
        raster = gdal.GetDriverByName("GTiff").Create(str(path), TILE_PX, TILE_PX, 1, kind)
        raster.GetRasterBand(1).WriteArray(values)
    return folder


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, make_onnx: Callable[[str], Path]) -> Path:
    """A folder with engines/: one network in fp32, fp16 and int8, and an engine of another machine."""
    folder = tmp_path_factory.mktemp("verify")
    engines = folder / "engines"
    engines.mkdir()
    graph = read_graph(make_onnx(SMALL))
    write_graph(graph, engines / f"{SMALL}-fp32-{TILE_PX}.onnx")
    with pytest.MonkeyPatch.context() as patch:
        be_quick(patch)
        find_files(
            str(engines / f"{SMALL}-fp32-{TILE_PX}.onnx"),
            Workshop(folder=engines, tile_px=TILE_PX, say=lambda text: None),
        )
    plan = engines / f"{SMALL}-fp16-{TILE_PX}-trt-sm87.engine"
    plan.write_bytes(b"a plan")
    engine = Engine("tensorrt", "10.3.0", "NVIDIA Jetson AGX Orin", "8.7", max_batch=8, opt_batch=4)
    manifest = dataclasses.replace(graph.manifest, precision="fp16", engine=engine, files={plan.name: sha256_of(plan)})
    plan.with_suffix(".json").write_text(manifest.to_json())
    return folder


@pytest.fixture
def workplace(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(converted / "engines", tmp_path / "engines")
    monkeypatch.chdir(tmp_path)
    be_quick(monkeypatch)
    return tmp_path


MINE = f"engines/{SMALL}-fp32-{TILE_PX}.onnx"


def run(*argv: str) -> int:
    return main([*argv, "--tile", str(TILE_PX)])


@pytest.fixture(scope="module")
def table(converted: Path, data: Path) -> dict[str, Any]:
    """What `export.verify FILE --json` writes, and what it prints under `printed`."""
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        patch.chdir(converted)
        be_quick(patch)
        assert run(MINE, "--data", str(data), "--json", "table.json") == 0
    report: dict[str, Any] = json.loads((converted / "table.json").read_text())
    return {**report, "printed": printed.getvalue()}


def test_everything_of_a_model_is_side_by_side(table: dict[str, Any]) -> None:
    rows = [(row["name"], row["runs_on"]) for row in table["results"]]
    rounding = "ONNX Runtime, rounding as a GPU"
    assert rows == [
        ("PyTorch fp32", "PyTorch"),
        ("ONNX fp32", "ONNX Runtime"),
        ("ONNX fp32", "OpenVINO"),
        ("ONNX fp16", rounding),
        ("ONNX fp16", "OpenVINO"),
        ("ONNX int8", rounding),
        ("ONNX int8", "OpenVINO"),
        ("engine fp16", "tensorrt"),
    ]
    for name, runs_on in rows:
        assert name in table["printed"]
        assert runs_on in table["printed"]


def test_the_table_holds_what_an_engineer_compares(table: dict[str, Any]) -> None:
    reference, *others = table["results"]
    assert (reference["max_error"], reference["iou_loss"]) == (0, 0)
    openvino_int8 = others[5]
    assert 0 < openvino_int8["mean_error"] < openvino_int8["max_error"] < 0.5
    assert {"changed_share", "iou", "iou_loss", "f1", "f1_loss", "size_bytes", "passes"} <= openvino_int8.keys()
    assert openvino_int8["latency_s"]["samples"] >= 5
    assert table["tiles"] == ["A+0+0"]
    assert table["machine"]


def test_an_engine_that_cannot_run_here_says_why(table: dict[str, Any]) -> None:
    engine = table["results"][-1]
    assert engine["refused"]
    assert engine["refused"] in " ".join(table["printed"].split())
    assert "iou" not in engine


def test_one_file_is_compared_with_its_fp32_graph(workplace: Path, data: Path) -> None:
    run(f"engines/{SMALL}-int8-{TILE_PX}.onnx", "--data", str(data), "--json", "table.json")
    report = json.loads((workplace / "table.json").read_text())
    assert [row["precision"] for row in report["results"]] == ["fp32", "int8", "int8"]


@pytest.fixture
def damaged(workplace: Path) -> Path:
    """An fp16 graph whose last bias turns everything into land."""
    graph = read_graph(workplace / "engines" / f"{SMALL}-fp16-{TILE_PX}.onnx")
    bias = next(node.input[2] for node in reversed(graph.proto.graph.node) if node.op_type == "Conv")
    for item in graph.proto.graph.initializer:
        if item.name == bias:
            item.CopyFrom(onnx.numpy_helper.from_array(np.full(1, -9, np.float16), bias))
    write_graph(graph, workplace / "damaged.onnx")
    return workplace / "damaged.onnx"


def test_a_missed_gate_fails_and_names_layers(
    damaged: Path, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(LARGEST_IOU_LOSS, "fp16", 0.001)
    with pytest.raises(ExportError, match=r"ONNX fp16 \(OpenVINO\): outside the gate"):
        run(str(damaged), "--data", str(data))
    printed = capsys.readouterr().out
    assert "FAILED" in printed
    assert "layers that add the largest relative errors" in printed
    assert "Conv" in printed


def test_the_picture_shows_where_masks_differ(damaged: Path, data: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = damaged.with_name("picture.png")
    assert run(str(damaged), "--data", str(data), "--no-gates", "--picture", str(picture)) == 0
    assert picture.read_bytes()[1:4] == b"PNG"


def test_bisect_lists_layers_though_every_gate_is_passed(
    workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"engines/{SMALL}-fp16-{TILE_PX}.onnx", "--data", str(data), "--bisect")
    assert f"{SMALL}-fp16-{TILE_PX}.onnx: layers that add" in capsys.readouterr().out


def test_without_torch_the_fp32_graph_is_the_reference(
    workplace: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    run(f"engines/{SMALL}-fp16-{TILE_PX}.onnx", "--data", str(data), "--json", "table.json")
    report = json.loads((workplace / "table.json").read_text())
    assert (report["results"][0]["name"], report["results"][0]["runs_on"]) == ("ONNX fp32", "ONNX Runtime")


def test_data_without_labels_is_an_error(workplace: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; expected"):
        run(MINE, "--data", str(tmp_path / "nowhere"))


def test_a_name_is_never_another_network(workplace: Path, data: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"unet-w64: no model of that name ships"):
        run("unet-w64", "--data", str(data))


def test_another_model_of_the_same_name_is_not_its_reference(
    workplace: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine that was built from another graph of that name is left out, and the fp32 graph is found by hash."""
    graph = read_graph(workplace / MINE)
    write_graph(graph.with_manifest(threshold=0.9), workplace / "engines" / "a-later-one.onnx")
    plan = workplace / "engines" / f"{SMALL}-fp16-{TILE_PX}-rtx.engine"
    engine = Engine("tensorrt-rtx", "1.7.1", "RTX GPUs", "portable", max_batch=8, opt_batch=4)
    write_model(b"another plan", graph.with_manifest(engine=engine, recipe={"source": "0" * 64}).manifest, plan)
    run(MINE, "--data", str(data), "--json", "table.json")
    assert f"{plan.name}: left out" in capsys.readouterr().err
    run(f"engines/{SMALL}-int8-{TILE_PX}.onnx", "--data", str(data))
    assert f"compared with unet-w16, fp32, sha256 {graph.sha256[:12]}" in capsys.readouterr().err
    lone = workplace / "elsewhere" / "lone.onnx"
    write_graph(graph.with_manifest(precision="fp16", training={"data": "unheard of"}, recipe={}), lone)
    with pytest.raises(UsageError, match="the fp32 ONNX file that it comes from is neither beside it"):
        run(str(lone), "--data", str(data))


def test_labels_that_are_coded_otherwise_are_declared(workplace: Path, data: Path, tmp_path: Path) -> None:
    coded = tmp_path / "coded"
    shutil.copytree(data, coded)
    dataset = gdal.Open(str(coded / "mask" / "A_label.tif"), gdal.GA_Update)
    dataset.GetRasterBand(1).WriteArray(np.where(dataset.ReadAsArray() == 255, 2, 1).astype(np.uint8))
    dataset = None
    argv = [f"engines/{SMALL}-fp16-{TILE_PX}.onnx", "--json", "table.json", "--data"]
    with pytest.raises(DataError, match=r"label values 1, 2.*--labels"):
        run(*argv, str(coded))
    found = []
    for given in ([str(coded), "--labels", "land=1,water=2"], [str(data)]):
        assert run(*argv, *given) == 0
        found.append(json.loads((workplace / "table.json").read_text())["results"][0]["iou"])
    assert found[0] == found[1]


def test_an_unknown_file_is_an_error(workplace: Path, data: Path) -> None:
    with pytest.raises(ModelNotFound, match="no such model file"):
        run("engines/none.onnx", "--data", str(data))


def test_the_int8_model_that_ships_is_inside_its_gate_on_both_kinds_of_sensor() -> None:
    tiles = simulated_samples(shipped_model().manifest.channels, 384)
    answers = []
    for precision in ("fp32", "int8"):
        with open_backend(shipped_model(precision), "cpu") as backend:
            answers.append([backend.infer(tile.pixels[None])[0, 0] for tile in tiles])
    accuracy = compare(answers[1], answers[0], tiles, shipped_model().manifest.threshold)
    assert accuracy.passes("int8"), accuracy


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_shipped_model_keeps_its_accuracy_on_real_tiles(realdata: Path, tmp_path: Path) -> None:
    workshop = Workshop(folder=tmp_path, say=lambda text: None)
    files = find_files(str(find_model("hrnet").manifest.name), workshop)
    from export.samples import labelled_samples

    tiles = labelled_samples(realdata / "k5", files.fp32.manifest.channels, 1024, 4)
    for result in verify(files, tiles):
        assert result.passes, result.runner.title
