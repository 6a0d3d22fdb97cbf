from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from runtime.commands.predict import main
from sarwater.command import run_command
from sarwater.models import Model
from tests.support.rasters import lake_scene, read_raster, write_geotiff


def predict(*arguments: object) -> int:
    return run_command(main, [str(argument) for argument in arguments])


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "a.tif", lake_scene(100, 120))


def test_json_names_the_products_and_the_times(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(scene, "-o", out, "--model", model.path, "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["outcome"] == "published"
    names = ["a_water.json", "a_confidence.tif", "a_water.gpkg", "a_quicklook.png", "a_water.tif"]
    assert [Path(path).name for path in outcome["products"]] == names
    assert all(Path(path).is_file() for path in outcome["products"])
    assert outcome["latency"]["total_s"] > 0


def test_a_bad_scene_is_one_line_and_the_next_one_runs(
    scene: Path, tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.tif").write_bytes(scene.read_bytes()[:1000])
    assert predict(tmp_path / "bad.tif", tmp_path / "absent.tif", scene, "-o", out, "--model", model.path) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("model ")]
    assert len(lines) == 2
    assert "bad.tif" in lines[0]
    assert "absent.tif" in lines[1]
    assert (out / "a_water.tif").is_file()


@pytest.mark.parametrize(("unit", "in_db"), [("sigma0_linear", False), ("gamma0_db", True)])
def test_calibrated_backscatter_gets_the_mask_of_its_amplitude(
    tmp_path: Path, out: Path, model: Model, unit: str, in_db: bool
) -> None:
    amplitude = lake_scene(100, 120)
    power = (amplitude / np.float32(400)) ** 2
    write_geotiff(tmp_path / "dn.tif", amplitude)
    write_geotiff(tmp_path / "power.tif", 10 * np.log10(power) if in_db else power)
    assert predict(tmp_path / "dn.tif", "-o", out, "--model", model.path) == 0
    assert predict(tmp_path / "power.tif", "-o", out, "--model", model.path, "--unit", unit) == 0
    masks = [read_raster(out / f"{name}_water.tif") for name in ("dn", "power")]
    assert np.mean(masks[0] == masks[1]) > 0.999
    item = json.loads((out / "power_water.json").read_text())
    assert f"{unit} was converted to amplitude_dn" in " ".join(item["properties"]["sarwater:notes"])


def test_backscatter_without_a_unit_is_no_amplitude(
    tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    write_geotiff(tmp_path / "power.tif", (lake_scene(100, 120) / np.float32(400)) ** 2)
    assert predict(tmp_path / "power.tif", "-o", out, "--model", model.path) == 1
    assert "looks like linear backscatter: state that with --unit" in capsys.readouterr().err
    assert not list(out.glob("power*"))


def test_a_second_run_adopts_what_is_there(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    for outcome in ("published", "adopted"):
        assert predict(scene, "-o", out, "--model", model.path, "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["outcome"] == outcome


def test_products_of_other_settings_are_replaced_only_when_asked(scene: Path, out: Path, model: Model) -> None:
    assert predict(scene, "-o", out, "--model", model.path) == 0
    assert predict(scene, "-o", out, "--model", model.path, "--threshold", "0.9") == 1
    assert predict(scene, "-o", out, "--model", model.path, "--threshold", "0.9", "--overwrite") == 0


@pytest.mark.parametrize(
    "options", [["--threshold", "2"], ["--window", "1,2,3"], ["--products", "cake"], ["--window", "0,0,9999,1"]]
)
def test_a_senseless_option_is_a_usage_error(scene: Path, out: Path, model: Model, options: list[str]) -> None:
    assert predict(scene, "-o", out, "--model", model.path, *options) == 2


def test_an_engine_that_does_not_match_its_manifest_is_refused(scene: Path, out: Path, tmp_path: Path, model: Model):
    changed = tmp_path / "box.onnx"
    changed.write_bytes(model.path.read_bytes() + b"\0")
    changed.with_suffix(".json").write_text(model.path.with_suffix(".json").read_text())
    assert predict(scene, "-o", out, "--model", changed) == 1
    assert not out.exists()


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, out: Path, model: Model) -> None:
    scene = write_geotiff(tmp_path / "big.tif", np.full((3000, 3000), 9, np.uint16))
    command = [sys.executable, "-m", "runtime.predict", str(scene), "-o", str(out), "--model", str(model.path)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": "."},
        text=True,
        # A shell lets what it starts in the background ignore Ctrl-C, and that is inherited.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while process.poll() is None and not (out.is_dir() and list(out.glob(".*/*"))):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert list(out.iterdir()) == []
