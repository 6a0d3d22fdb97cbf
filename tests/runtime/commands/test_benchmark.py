"""Real measurements of a tiny network: what a report holds, never how fast it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runtime.benchmarking.measure import Task, check, start_up
from runtime.benchmarking.presentation import markdown
from runtime.commands import benchmark
from sarwater import command
from sarwater.errors import UsageError
from sarwater.manifest import Engine, ModelManifest
from sarwater.models import Model, open_model
from tests.support.models import box_model

QUICK = ("--seconds", "0.05", "--starts", "0")


def run(*arguments: object) -> int:
    return command.run(benchmark.benchmark, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every output of one run: two tile sizes, two batches, a scene."""
    folder = tmp_path_factory.mktemp("benchmark")
    model = box_model(folder / "box.onnx")
    paths = {name: folder / f"report.{name}" for name in ("json", "md", "png")}
    outputs = ["--json", paths["json"], "--markdown", paths["md"], "--plot", paths["png"]]
    assert run(model.path, "--tile", "64,96", "--batch", "1,3", "--scene", "150x200", *QUICK, *outputs) == 0
    return {**paths, "model": model.path}


@pytest.fixture(scope="module")
def report(files: dict[str, Path]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(files["json"].read_text())
    return document


def test_every_tile_and_batch_is_measured(report: dict[str, Any]) -> None:
    found = [(model["tile_px"], entry["batch"]) for model in report["models"] for entry in model["network"]]
    assert found == [(64, 1), (64, 3), (96, 1), (96, 3)]


def test_rates_follow_from_the_mean_latency(report: dict[str, Any]) -> None:
    for model in report["models"]:
        for entry in model["network"]:
            mean_s = entry["latency"]["mean_s"]
            assert entry["tiles_per_s"] * mean_s == pytest.approx(entry["batch"])
            assert entry["mpx_per_s"] * mean_s == pytest.approx(entry["batch"] * model["tile_px"] ** 2 / 1e6)
        scene = model["scene"]
        assert scene["mpx_per_s"] * scene["latency"]["mean_s"] == pytest.approx(0.03)


def test_a_scene_is_measured_with_all_its_tiles_stages_and_the_network_beside_it(report: dict[str, Any]) -> None:
    scene = report["models"][0]["scene"]
    assert (scene["width_px"], scene["height_px"], scene["tiles"], scene["tiles_skipped"]) == (150, 200, 12, 0)
    assert scene["stages_s"].keys() == {"read", "infer", "post", "write"}
    assert scene["share_of_network"]["low"] <= scene["share_of_network"]["mean"]
    assert scene["network_busy"] == pytest.approx(scene["stages_s"]["infer"] / scene["latency"]["mean_s"])


def test_the_report_says_what_it_was_measured_on(report: dict[str, Any]) -> None:
    assert report["machine"]["cpus"] >= 1
    assert report["machine"]["libraries"].keys() >= {"openvino", "numpy", "gdal"}
    assert report["models"][0]["backend"] == "openvino"
    assert report["models"][0]["network"][0]["conditions"]["seconds"] > 0


def test_the_command_in_the_report_is_without_its_output_files(report: dict[str, Any]) -> None:
    assert report["command"].startswith("sarwater benchmark ")
    assert "--batch 1,3 --tile 64,96 --scene 150x200 --seconds 0.05 --starts 0" in report["command"]
    assert "--json" not in report["command"]


def test_a_sensor_that_is_not_there_is_null_and_said_to_be_not_readable(report: dict[str, Any]) -> None:
    bare = json.loads(json.dumps(report))
    bare["machine"]["board"] = None
    for entry in bare["models"][0]["network"]:
        entry["joules_per_mpx"] = entry["conditions"]["hottest_c"] = None
    text = markdown(bare)
    assert "| board | not readable |" in text
    assert "Energy: not readable." in text
    assert "hottest °C" in text.split("Not readable: ")[1]


def test_energy_is_shown_by_sensor(report: dict[str, Any]) -> None:
    powered = json.loads(json.dumps(report))
    powered["models"][0]["network"][0]["joules_per_mpx"] = {"VDD_IN": 0.25, "gpu": 0.125}
    assert "VDD_IN 0.25, gpu 0.125 |" in markdown(powered)


def test_the_markdown_has_the_command_and_a_table_for_everything(files: dict[str, Path]) -> None:
    text = files["md"].read_text()
    assert text.startswith("# Speed on ")
    assert "\n    sarwater benchmark " in text
    for heading in ("## Machine", "64 px, openvino: the network alone", "96 px, openvino: scene", ": conditions"):
        assert heading in text, heading
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_the_plot_is_a_picture(files: dict[str, Path]) -> None:
    with Image.open(files["png"]) as picture:
        assert picture.format == "PNG"
        assert picture.width > 500


def test_a_run_that_is_faster_than_before_ends_with_0(
    files: dict[str, Path], report: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = tmp_path / "earlier.json"
    earlier.write_text(json.dumps(with_latency(report, 1e3)))
    arguments = (files["model"], "--tile", 64, "--batch", 1, "--scene", "none", *QUICK)
    assert run(*arguments, "--compare", earlier) == 0
    assert "Against the earlier report" in capsys.readouterr().out


def test_what_became_slower_is_exit_1_and_named(report: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark._compared(with_latency(report, 1.2), with_latency(report, 1.0), 0.05) == 1
    assert "slower by more than 5.0%: hrnet-box fp32 64 px (openvino), batch 1;" in capsys.readouterr().err


def with_latency(report: dict[str, Any], mean_s: float) -> dict[str, Any]:
    """The report, had the network taken exactly `mean_s` every time."""
    changed: dict[str, Any] = json.loads(json.dumps(report))
    for model in changed["models"]:
        for entry in model["network"]:
            entry["latency"] |= {"mean_s": mean_s, "mean_low_s": mean_s, "mean_high_s": mean_s}
    return changed


def test_start_up_is_timed_in_processes_of_their_own(files: dict[str, Path]) -> None:
    times = start_up(open_model(files["model"]), "cpu", 96, 2)
    assert times is not None
    assert len(times["to_open_s"]) == len(times["first_inference_s"]) == 2
    assert min(times["to_open_s"] + times["first_inference_s"]) > 0


def test_a_model_of_two_named_channels_gets_a_scene_that_has_them(tmp_path: Path) -> None:
    model = box_model(tmp_path / "dual.onnx", channels=("vv", "vh"))
    assert run(model.path, "--batch", 1, "--scene", "80x80", *QUICK, "--json", tmp_path / "r.json") == 0
    assert json.loads((tmp_path / "r.json").read_text())["models"][0]["scene"]["tiles"] == 4


def test_a_model_that_wants_more_than_a_simulated_scene_has_says_so(tmp_path: Path) -> None:
    model = box_model(tmp_path / "gim.onnx", channels=("sar", "gim"))
    assert run(model.path, "--batch", 1, "--scene", "80x80", *QUICK, "--json", tmp_path / "r.json") == 0
    measured = json.loads((tmp_path / "r.json").read_text())["models"][0]
    assert measured["scene"] is None
    assert "incidence-angle" in measured["scene_not_measured"]
    assert measured["network"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--batch", "0"), "'0'"),
        (("--batch", "1,,2"), "''"),
        (("--batch", "-1"), "'-1'"),
        (("--batch", "two"), "'two'"),
        (("--tile", "100"), "multiples of 32"),
        (("--tile", "0"), "multiples of 32"),
        (("--scene", "big"), "WIDTHxHEIGHT"),
        (("--scene", "0x100"), "at least 1 x 1"),
        (("--scene", "100000x100000"), "at most 1e9"),
        (("--scene", "-5x5"), "WIDTHxHEIGHT"),
        (("--seconds", "0"), "above 0"),
        (("--seconds", "nan"), "above 0"),
        (("--tolerance", "-1"), "--tolerance"),
        (("--starts", "-1"), "--starts"),
        (("--plot", "figure.svg"), ".png"),
        (("--compare", "none.json"), "none.json"),
        (("--device", "abacus"), "abacus"),
        (("--seconds", "soon"), "soon"),
    ],
)
def test_what_cannot_be_measured_is_a_usage_error_before_anything_is(
    files: dict[str, Path], arguments: tuple[str, str], found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    name, value = arguments
    assert run(files["model"], "--scene", "none", *QUICK, f"{name}={value}") == 2
    assert found in capsys.readouterr().err


def test_an_unknown_model_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("resnet") == 2
    assert "resnet: unknown model" in capsys.readouterr().err
    assert run("--model", "nowhere.onnx") == 2
    assert "nowhere.onnx: no such model file" in capsys.readouterr().err


def test_a_plot_without_matplotlib_is_refused_before_anything_is_measured(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert run(files["model"], "--plot", "figure.png") == 78
    assert "pip install 'matplotlib" in capsys.readouterr().err


def test_an_engine_keeps_its_tile_and_its_largest_batch(files: dict[str, Path]) -> None:
    manifest = ModelManifest.read(files["model"].with_suffix(".json"))
    engine = Engine("tensorrt", "10.13", "NVIDIA RTX A2000", "8.6", max_batch=4, opt_batch=2)
    model = Model(Path("box.engine"), ModelManifest(**{**vars(manifest), "engine": engine}))
    check(model, Task(batches=(1, 4), tiles_px=(64,)))
    with pytest.raises(UsageError, match=r"fixed when it was built.*--tile 96"):
        check(model, Task(tiles_px=(64, 96)))
    with pytest.raises(UsageError, match=r"up to 4, not 8.*--max-batch 8"):
        check(model, Task(batches=(2, 8)))
