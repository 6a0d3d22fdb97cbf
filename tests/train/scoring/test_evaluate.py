from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sarwater.command import run
from sarwater.errors import CheckpointInvalid, DataError, ModelNotFound, OutputError
from tests.support.lakes import write_lakes, write_raster
from tests.support.rasters import read_raster
from train.models import Segmenter, architecture
from train.models.checkpoint import Checkpoint, save_checkpoint
from train.scoring.evaluate import evaluate_command, main
from train.scoring.figure import Panel, draw, thin

CHECKOUT = Path(__file__).resolve().parents[3]


@pytest.fixture
def lakes(tmp_path: Path) -> Path:
    return write_lakes(tmp_path / "lakes", 3)


def checkpoint(folder: Path, name: str = "unet-w16") -> Path:
    torch.manual_seed(0)
    segmenter = Segmenter(architecture(name))
    save_checkpoint(folder / "best.pt", Checkpoint(segmenter.arch, segmenter.net.state_dict(), threshold=0.4))
    return folder / "best.pt"


def test_several_models_are_compared_in_one_table_and_one_json(
    lakes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "out" / "scores.json"
    assert main(["otsu", str(checkpoint(tmp_path)), "--data", str(lakes), "--json", str(report)]) == 0
    table = capsys.readouterr().out
    assert "box 25 + Otsu" in table
    assert "boundary F (3" in table
    document = json.loads(report.read_text())
    baseline, network = document["models"]
    assert (network["model"], network["threshold"]) == ("unet-w16", 0.4)
    assert [tile["name"] for tile in baseline["tiles"]] == ["WTR0", "WTR1", "WTR2"]
    assert document["boundary_tolerance_px"] == 3
    assert baseline["pooled_iou"] > 0.3
    assert baseline.keys() >= {"mean_tile_iou", "f1", "precision", "recall", "boundary_f"}


def test_only_the_held_out_part_is_scored(lakes: Path, tmp_path: Path) -> None:
    report = tmp_path / "scores.json"
    main(["otsu", "--data", str(lakes), "--holdout", "WTR1", "--json", str(report)])
    assert [tile["name"] for tile in json.loads(report.read_text())["models"][0]["tiles"]] == ["WTR1"]


def test_the_figure_is_a_picture(lakes: Path, tmp_path: Path) -> None:
    figure = tmp_path / "figure.png"
    main(["otsu", "--data", str(lakes), "--figure", str(figure)])
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    plane = np.ones((8, 8), np.uint8)
    with pytest.raises(OutputError, match=r"picture\.xyz: cannot write"):
        draw(tmp_path / "picture.xyz", [Panel("a", plane.astype(np.float32), plane, (plane,), ("m",))])


def test_large_tiles_are_thinned_for_the_figure() -> None:
    assert thin(np.zeros((3000, 100))).shape == (1000, 34)


def test_a_bare_name_says_how_checkpoints_are_named(lakes: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"unet: expected a checkpoint, as runs/unet/latest, or `otsu`"):
        main(["unet", "--data", str(lakes)])


def test_a_run_is_named_by_its_folder(lakes: Path, tmp_path: Path) -> None:
    checkpoint(tmp_path / "runs" / "unet-w16" / "today")
    (tmp_path / "runs" / "unet-w16" / "latest").symlink_to("today")
    assert main([str(tmp_path / "runs" / "unet-w16" / "latest"), "--data", str(lakes), "--holdout", "WTR0"]) == 0


def test_labels_and_units_are_said_as_for_training(lakes: Path, tmp_path: Path) -> None:
    plain, coded = tmp_path / "plain.json", tmp_path / "coded.json"
    main(["otsu", "--data", str(lakes), "--json", str(plain)])
    for path in (lakes / "mask").iterdir():
        write_raster(path, np.where(read_raster(path) == 255, 7, 3).astype(np.uint8))
    with pytest.raises(DataError, match="--labels"):
        main(["otsu", "--data", str(lakes)])
    main(["otsu", "--data", str(lakes), "--json", str(coded), "--labels", "land=3,water=7", "--unit", "amplitude_dn"])
    assert json.loads(coded.read_text()) == json.loads(plain.read_text())


def test_a_file_that_is_no_checkpoint_is_named(lakes: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    (tmp_path / "m.onnx").write_bytes(b"a graph")
    with pytest.raises(CheckpointInvalid, match=r"m\.onnx: an ONNX file, expected a checkpoint \(\.pt\); to score it"):
        main([str(tmp_path / "m.onnx"), "--data", str(tmp_path)])
    with pytest.raises(CheckpointInvalid, match=r"bad\.pt: not a readable checkpoint"):
        main([str(tmp_path / "bad.pt"), "--data", str(lakes)])


def test_an_error_is_one_line_and_an_exit_code(lakes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(evaluate_command, ["otsu", "--data", str(lakes), "--holdout", "WTR9"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "module", ["train.fit", "train.scoring.evaluate", "train.finetuning.finetune", "train.simulator.simulate"]
)
def test_help_works_without_what_training_needs(module: str) -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "osgeo", "h5py", "rich", "scipy", "matplotlib", "onnx", "safetensors"):
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
import runpy
sys.argv = ["command", "--help"]
runpy.run_module("{module}", run_name="__main__")
"""
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
    assert "exit codes:" in done.stdout
