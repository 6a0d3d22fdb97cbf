"""The benchmark commands run, on next to nothing: what they print is complete, and how fast it was is not asked."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

import pytest

from benchmarks import daemon, host, precision, scene, seams, training
from sarwater.errors import UsageError
from tests.support.models import box_model
from tests.support.rasters import lake_scene, write_geotiff


def test_the_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.main(["--scenes", "5", "--repeat", "2", "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report.keys() == {"machine", "claim", "start", "overhead_ms", "scenes_per_s"}
    assert report["scenes_per_s"] > 0


def test_the_whole_scene(capsys: pytest.CaptureFixture[str]) -> None:
    assert scene.main(["--size", "1300x1024"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tiles"] == 2
    # How large the share is, is for the benchmark to say: two tiles on a busy machine may take less than alone.
    assert len(report["shares_processor"]) == report["rounds"]
    assert report["share_of_raw_processor"] == median(report["shares_processor"]) > 0


def test_the_host(capsys: pytest.CaptureFixture[str]) -> None:
    assert host.main(["--size", "1300x1100", "--rounds", "1"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["steps"]["polygons write"].keys() == {"cpu_s", "wall_s", "cpu_ns_per_px"}
    assert sum(step["cpu_s"] for step in report["steps"].values()) > 0
    assert report["gdal_cog_alone"]["cpu_s"] > 0
    assert report["side_by_side"]["processors"] >= 1


def test_seams(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_geotiff(tmp_path / "scene.tif", lake_scene(700, 600, seed=5, lake=40, land=90))
    model = box_model(tmp_path / "box.onnx", tile_px=128, overlap_px=40)
    command = [str(path), "--model", str(model.path)]
    assert seams.main([*command, "--at", "10,20", "--picture", str(tmp_path / "seams.png")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["tile_px"] == 160
    assert figures["pixels"] == (700 - 20 - 4 * 80) * (600 - 10 - 4 * 80)
    assert (tmp_path / "seams.png").stat().st_size > 1000
    with pytest.raises(UsageError, match="more than 240 px and at most 510 x 600"):
        seams.main([*command, "--at", "10,20", "--size", "600x600"])


def test_training(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--crop", "64", "--batch", "2", "--warmup", "1", "--steps", "1", "--device", "cpu"]
    assert training.main(["--models", "unet-w16", *small]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| unet-w16")]
    assert [row.split("|")[2].strip() for row in rows] == ["plain fp32", "ours fp32", "ours bf16"]


@pytest.mark.slow
def test_precisions(capsys: pytest.CaptureFixture[str]) -> None:
    assert precision.main(["--tile", "512", "--repeat", "2"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precisions"].keys() - {"bf16"} == {"fp32", "fp16", "int8"}
