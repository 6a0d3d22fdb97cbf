from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.commands.evaluate import evaluate, main
from sarwater.command import run
from sarwater.errors import DataError
from sarwater.models import Model
from tests.conftest import CHECKOUT
from tests.support.rasters import lake_scene, write_geotiff


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two scenes whose labels are what a box mean over them says, one of them off by a stripe."""
    for folder in ("img", "mask"):
        (tmp_path / folder).mkdir()
    for number in (1, 2):
        land = np.full((100, 100), 200, np.uint16)
        land[30:70, 30:70] = 10
        write_geotiff(tmp_path / "img" / f"WTR0000{number}_K5.tif", land)
        label = np.where(land == 10, 255, 0).astype(np.uint16)
        if number == 2:
            label[30:70, 70:80] = 255
        write_geotiff(tmp_path / "mask" / f"WTR0000{number}_K5_label.tif", label)
    return tmp_path


def test_the_report_names_both_averages_and_every_tile(data: Path, model: Model, tmp_path: Path) -> None:
    assert main([str(data), "--model", str(model.path), "--json", str(tmp_path / "scores.json")]) == 0
    report = json.loads((tmp_path / "scores.json").read_text())
    first, second = report["tiles"]
    assert first["name"] == "WTR00001_K5"
    assert first["iou"] > 0.85
    assert second["iou"] < 0.75
    assert second["iou"] < report["pooled_iou"] < first["iou"]
    assert report.keys() == {"model", "model_sha256", "backend", "pooled_iou", "mean_tile_iou", "tiles"}
    assert first.keys() == {"name", "iou", "tile_iou", "f1", "precision", "recall"}
    assert report["mean_tile_iou"] == pytest.approx((first["tile_iou"] + second["tile_iou"]) / 2)


def test_an_image_without_a_mask_is_named(data: Path, model: Model) -> None:
    (data / "mask" / "WTR00002_K5_label.tif").unlink()
    with pytest.raises(DataError, match="WTR00002_K5"):
        main([str(data), "--model", str(model.path)])


def test_a_mask_of_another_size_is_named(data: Path, model: Model) -> None:
    write_geotiff(data / "mask" / "WTR00001_K5_label.tif", np.zeros((99, 100), np.uint8))
    with pytest.raises(DataError, match="100 x 99"):
        main([str(data), "--model", str(model.path)])


def scored(data: object, model: Model, *options: str) -> tuple[int, dict[str, Any]]:
    """(exit code, report)."""
    file = model.path.parent / "scores.json"
    file.unlink(missing_ok=True)
    code = run(evaluate, [str(data), "--model", str(model.path), "--json", str(file), *options])
    return code, json.loads(file.read_text()) if file.exists() else {}


CODINGS = {"0,1,255": (0, 1, 255), "0,1,-1": (0, 1, -1), "1,2,0": (1, 2, 0), "10,20,30": (10, 20, 30)}


@pytest.mark.parametrize("declared", [False, True], ids=["", "nodata-declared"])
@pytest.mark.parametrize("kind", [np.int16, np.float32], ids=["int16", "float32"])
@pytest.mark.parametrize("coding", CODINGS)
def test_one_truth_scores_alike_in_every_coding_or_is_refused_with_the_option_that_works(
    tmp_path: Path, model: Model, coding: str, kind: type, declared: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    land, water, unknown = CODINGS[coding]
    for folder in ("img", "mask"):
        (tmp_path / folder).mkdir()
    pixels = lake_scene(100, 100)
    truth = pixels < 60
    write_geotiff(tmp_path / "img" / "A_s1.tif", pixels)
    for name, values in (("reference", (0, 1, 255)), ("coded", (land, water, unknown))):
        label = np.where(truth, values[1], values[0])
        label[20:40] = values[2]
        nodata = values[2] if declared else None
        write_geotiff(tmp_path / "mask" / "A_s1_label.tif", label.astype(kind), nodata=nodata)
        code, report = scored(tmp_path, model)
        if name == "reference":
            assert code == 0
            reference = report["pooled_iou"]
            continue
        if code == 1:
            said = capsys.readouterr().err.splitlines()[-1]
            flag, text = re.findall(r"(--labels) (\S+)", said)[0]
            for meaning, value in (("land", land), ("water", water), ("ignore", unknown)):
                text = text.replace(f"{meaning}=VALUE", f"{meaning}={value}")
            assert str(water) in said
            code, report = scored(tmp_path, model, flag, text)
        assert code == 0
        assert report["pooled_iou"] == reference


def test_a_picture_of_a_label_is_refused(data: Path, model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    write_geotiff(data / "mask" / "WTR00001_K5_label.tif", np.zeros((3, 100, 100), np.uint8))
    assert scored(data, model)[0] == 1
    assert "3 bands, expected one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (["nowhere"], 1, "nowhere: no such folder"),
        ([""], 1, "img: no such folder"),
        (["."], 1, "img: no such folder"),
        (["a.tif:b.tif"], 1, "a.tif: no such file"),
        ([".", "--labels", "land=0"], 2, "at least one value of land and one of water"),
        ([".", "--labels", "land=0,water=x"], 2, "water=x"),
        ([".", "--labels", "wet=1"], 2, "wet=1"),
        ([".", "--labels", "land=0,water=0"], 2, "two meanings"),
        ([".", "--json", "."], 1, "expected a file"),
        ([".", "--json", "file/x.json"], 1, "is a file; expected a folder"),
        ([".", "--model", "hrnt"], 2, "did you mean 'hrnet'?"),
        ([".", "--device", "gpuu"], 2, "did you mean 'gpu'?"),
        ([".", "--window", "1,2,3,4"], 2, "--window"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    given: list[str],
    code: int,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    assert run(evaluate, given) == code
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("model ")]
    assert len(lines) == 1
    assert said in lines[0]


def test_off_a_terminal_it_speaks_and_its_table_is_whole(data: Path, model: Model) -> None:
    name = "WTR00003_" + 90 * "x"
    write_geotiff(data / "img" / f"{name}.tif", lake_scene(100, 100))
    write_geotiff(data / "mask" / f"{name}_label.tif", np.zeros((100, 100), np.uint8))
    command = [sys.executable, "-m", "runtime.evaluate", str(data), "--model", str(model.path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("model hrnet-box, fp32")
    assert name in done.stdout
