from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from osgeo import gdal

from runtime.commands.predict import predict as command
from runtime.products import PRODUCTS
from runtime.products.catalogue import COLLECTION
from sarwater.command import run
from sarwater.models import Model
from tests.conftest import CHECKOUT
from tests.support.deliveries import write_safe
from tests.support.rasters import lake_scene, read_raster, write_geotiff


def predict(*arguments: object) -> int:
    return run(command, [str(argument) for argument in arguments])


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "a.tif", lake_scene(100, 120))


def test_the_folder_where_one_stands_has_its_name(
    tmp_path: Path, out: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_safe(tmp_path / "S1A_IW_GRDH_1SDV_20240726T091530.SAFE", {"vv": lake_scene(100, 120)})
    monkeypatch.chdir(folder)
    assert predict(".", "-o", out, "--model", model.path) == 0
    item = json.loads((out / "S1A_IW_GRDH_1SDV_20240726T091530_water.json").read_text())
    assert item["properties"]["datetime"] == "2024-07-26T09:15:30Z"
    assert item["properties"]["sarwater:latency"]["input"] == folder.name


def test_json_names_the_products_and_the_times(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(scene, "-o", out, "--model", model.path, "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    assert outcome["outcome"] == "published"
    *others, last = (Path(path).name for path in outcome["products"])
    assert sorted([*others, last]) == sorted(product.file_name("a") for product in PRODUCTS)
    assert last == "a_water.tif"
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


def outcome_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert predict(*arguments, "--json") == 0
    (outcome,) = json.loads(capsys.readouterr().out)
    return dict(outcome)


def test_a_product_that_was_not_asked_for_before_is_made_and_said(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    at = (scene, "-o", out, "--model", model.path)
    assert outcome_of(capsys, *at, "--products", "mask")["outcome"] == "published"
    mask = (out / "a_water.tif").read_bytes()
    completed = outcome_of(capsys, *at, "--products", "mask,polygons")
    assert completed["outcome"] == "completed"
    assert completed["polygons"] > 0
    assert sorted(path.name for path in out.iterdir()) == ["a_water.gpkg", "a_water.tif"]
    assert (out / "a_water.tif").read_bytes() == mask
    assert outcome_of(capsys, *at, "--products", "mask,polygons")["outcome"] == "adopted"


@pytest.mark.parametrize("setting", [("--simplify-m", "5"), ("--minimum-area-m2", "300")])
def test_polygons_of_other_settings_are_made_anew_beside_the_same_mask(
    scene: Path, out: Path, model: Model, setting: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    at = (scene, "-o", out, "--model", model.path)
    assert outcome_of(capsys, *at)["outcome"] == "published"
    polygons = (out / "a_water.gpkg").read_bytes()
    for expected in ("completed", "adopted"):
        assert outcome_of(capsys, *at, *setting)["outcome"] == expected
    assert (out / "a_water.gpkg").read_bytes() != polygons
    item = json.loads((out / "a_water.json").read_text())
    digest = hashlib.sha256((out / "a_water.gpkg").read_bytes()).hexdigest()
    assert item["assets"]["polygons"]["file:checksum"] == "1220" + digest


def test_the_item_goes_on_listing_what_it_listed(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    at = (scene, "-o", out, "--model", model.path)
    assert outcome_of(capsys, *at)["outcome"] == "published"
    (out / "a_water.gpkg").unlink()
    assert outcome_of(capsys, *at, "--products", "polygons")["outcome"] == "completed"
    item = json.loads((out / "a_water.json").read_text())
    assert set(item["assets"]) == {product.asset_name for product in PRODUCTS} - {""} | {"model"}


@pytest.mark.parametrize("damaged", ["a_water.gpkg", "a_quicklook.png", "a_water.json", "a_confidence.tif"])
def test_a_product_that_is_damaged_is_made_anew(
    scene: Path, out: Path, model: Model, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    at = (scene, "-o", out, "--model", model.path)
    assert outcome_of(capsys, *at)["outcome"] == "published"
    (out / damaged).write_bytes(b"not what it was")
    assert outcome_of(capsys, *at)["outcome"] == "completed"
    assert outcome_of(capsys, *at)["outcome"] == "adopted"


def test_it_ends_with_water_polygons_notes_and_model(
    tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = lake_scene(100, 120)
    pixels[:10] = 0
    scene = write_geotiff(tmp_path / "a.tif", pixels)
    outcome = outcome_of(capsys, scene, "-o", out, "--model", model.path)
    mask = read_raster(out / "a_water.tif")
    water_px = int((mask == 1).sum())
    assert (outcome["water_px"], outcome["nodata_px"], outcome["shadow_px"]) == (water_px, int((mask == 255).sum()), 0)
    assert outcome["land_px"] == int((mask == 0).sum())
    assert outcome["water_percent"] == pytest.approx(100 * water_px / (mask != 255).sum())
    assert outcome["water_km2"] == pytest.approx(water_px * 1.25**2 / 1e6, rel=1e-3)
    assert outcome["polygons"] == gdal.OpenEx(str(out / "a_water.gpkg")).GetLayer(0).GetFeatureCount()
    assert outcome["model"]["precision"] == "fp32"
    assert outcome["model"]["sha256"] == hashlib.sha256(model.path.read_bytes()).hexdigest()
    again = outcome_of(capsys, scene, "-o", out, "--model", model.path)
    for name in ("water_px", "land_px", "nodata_px", "shadow_px", "water_km2", "water_percent", "polygons", "notes"):
        assert again[name] == outcome[name], name


def test_the_text_is_whole_in_a_pipe_and_its_times_add_up(
    tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "a-name-that-is-much-longer-than-any-column-of-a-terminal-that-is-eighty-columns-wide.tif"
    scene = write_geotiff(tmp_path / name, lake_scene(100, 120), transform=None)
    assert predict(scene, "-o", out, "--model", model.path) == 0
    text = capsys.readouterr().out
    assert "km2" not in text
    assert "% of what was measured" in text
    assert "  note      the scene has no georeference: products are in rows and columns" in text
    assert "model: hrnet-box, fp32, sha256 " in text
    heads, row = text.splitlines()[-2:]
    assert heads.split() == ["open", "first", "rows", "network", "finish", "sync", "publish", "total", "Mpx", "scene"]
    *seconds, total, _mpx, shown = row.split()
    assert shown == name
    assert sum(map(float, seconds)) == pytest.approx(float(total))


def test_the_stages_of_the_json_add_up_to_the_total(
    scene: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = outcome_of(capsys, scene, "-o", out, "--model", model.path)
    assert sum(outcome["stages_s"].values()) == pytest.approx(outcome["latency"]["total_s"], abs=1e-5)


def test_zeros_taken_for_nodata_are_said(
    tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    pixels = lake_scene(100, 120).astype(np.float32)
    pixels[:, :7] = 0
    scene = write_geotiff(tmp_path / "a.tif", pixels)
    outcome = outcome_of(capsys, scene, "-o", out, "--model", model.path)
    assert any("zeros that reach in" in note for note in outcome["notes"])


def test_a_scene_of_another_constant_gets_a_note_a_refusal_or_the_usual_level(
    tmp_path: Path, out: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = write_geotiff(tmp_path / "a.tif", lake_scene(100, 120) * 16)
    noted = outcome_of(capsys, scene, "-o", out, "--model", model.path)
    item = json.loads((out / "a_water.json").read_text())
    told = [note for note in noted["notes"] if note.startswith("too bright for what the model knows")]
    assert len(told) == 1
    assert told[0] in item["properties"]["sarwater:notes"]
    assert predict(scene, "-o", out, "--model", model.path) == 0
    assert told[0] in capsys.readouterr().out
    assert predict(scene, "-o", tmp_path / "no", "--model", model.path, "--off-level", "refuse") == 1
    assert "too bright" in capsys.readouterr().err
    refusing = outcome_of(capsys, scene, "-o", out, "--model", model.path, "--off-level", "refuse")
    assert refusing["outcome"] == "adopted", "it changes no pixel, so the mask is the same"
    usual = outcome_of(capsys, scene, "-o", tmp_path / "usual", "--model", model.path, "--level", "usual")
    assert not any("the model knows" in note for note in usual["notes"])
    assert usual["latency"]["key"] != noted["latency"]["key"]


def test_nothing_of_ours_is_an_input(
    scene: Path, out: Path, model: Model, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(scene, "-o", out, "--model", model.path) == 0
    products = sorted(path for path in out.iterdir() if path.name != COLLECTION)
    assert len(products) == len(PRODUCTS)
    for product in products:
        shutil.copy(product, renamed := tmp_path / f"renamed{product.suffix}")
        capsys.readouterr()
        assert predict(product, renamed, "-o", tmp_path / "again", "--model", model.path) == 1
        lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("model ")]
        assert len(lines) == 2
        assert all("a product of sarwater, never its input" in line for line in lines)


def test_an_output_that_is_a_file_is_one_line(
    scene: Path, tmp_path: Path, model: Model, capsys: pytest.CaptureFixture[str]
) -> None:
    for output in (scene, scene / "below"):
        assert predict(scene, "-o", output, "--model", model.path) == 1
        assert "Traceback" not in (said := capsys.readouterr().err)
        assert str(scene) in said.splitlines()[-1]


def test_off_a_terminal_it_speaks_at_once_and_json_is_alone_on_stdout(scene: Path, out: Path, model: Model) -> None:
    command = [
        sys.executable,
        "-m",
        "runtime.predict",
        str(scene),
        "-o",
        str(out),
        "--model",
        str(model.path),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)[0]["outcome"] == "published"
    assert done.stderr.startswith("model hrnet-box, fp32, sha256 ")


def test_products_of_other_settings_are_replaced_only_when_asked(scene: Path, out: Path, model: Model) -> None:
    assert predict(scene, "-o", out, "--model", model.path) == 0
    assert predict(scene, "-o", out, "--model", model.path, "--threshold", "0.9") == 1
    assert predict(scene, "-o", out, "--model", model.path, "--threshold", "0.9", "--overwrite") == 0


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "2"],
        ["--window", "1,2,3"],
        ["--window", "a,b,c,d"],
        ["--window", "0,0,9999,1"],
        ["--window", "-1,0,5,5"],
        ["--products", "cake"],
        ["--unit", "furlongs"],
        ["--sieve-px", "-1"],
        ["--device", "abacus"],
    ],
)
def test_a_senseless_option_is_a_usage_error(
    scene: Path, out: Path, model: Model, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(scene, "-o", out, "--model", model.path, *options) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("model ")]
    assert len(lines) == 1
    assert options[1].split(",")[0] in lines[0]


def test_an_engine_that_does_not_match_its_manifest_is_refused(scene: Path, out: Path, tmp_path: Path, model: Model):
    changed = tmp_path / "box.onnx"
    changed.write_bytes(model.path.read_bytes() + b"\0")
    changed.with_suffix(".json").write_text(model.path.with_suffix(".json").read_text())
    assert predict(scene, "-o", out, "--model", changed) == 1
    assert not out.exists()


def test_ctrl_c_leaves_nothing_half_written(tmp_path: Path, out: Path, model: Model) -> None:
    scene = write_geotiff(tmp_path / "big.tif", np.full((3000, 3000), 9, np.uint16))
    # A shell lets what it starts in the background ignore Ctrl-C, and that is inherited.
    heeding = ["env", "--default-signal=INT", sys.executable]
    command = [*heeding, "-m", "runtime.predict", str(scene), "-o", str(out), "--model", str(model.path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."}, text=True)
    while process.poll() is None and not (out.is_dir() and list(out.glob(".*/*"))):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert list(out.iterdir()) == []
