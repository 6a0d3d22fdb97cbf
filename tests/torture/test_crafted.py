"""Each crafted file costs one line, little memory, and itself alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from runtime.commands.predict import main
from sarwater.command import run_command
from sarwater.errors import DataError
from sarwater.models import Model
from sarwater.scenes.labels import Label
from tests.conftest import CHECKOUT
from tests.support.rasters import lake_scene, read_raster, write_geotiff
from tests.torture import crafted

MOST_KB = 1_500_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("crafted")


MEASURED = """
import resource, subprocess, sys
code = subprocess.run([sys.executable, "-m", "sarwater", "predict", *sys.argv[1:]]).returncode
print("peak_kb", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""
"""From a small process: a child begins with the memory of the one that starts it, and tests have much."""


def written(folder: Path) -> Iterator[Path]:
    for suffix, files in ((".tif", crafted.hostile_tiffs()), (".h5", crafted.hostile_hdf5())):
        for name, content in files:
            (folder / (name + suffix)).write_bytes(content)
            yield folder / (name + suffix)
    yield from crafted.write_hostile_safes(folder)
    yield from crafted.write_large(folder)


def test_each_is_one_line_within_the_budget_and_the_good_scene_runs(folder: Path, tmp_path: Path, model: Model) -> None:
    hostile = list(written(folder))
    assert len(hostile) >= 100
    good = write_geotiff(folder / "zz-good.tif", lake_scene(64, 64))
    paths = [str(path) for path in (*hostile, good)]
    arguments = [*paths, "-o", str(tmp_path / "out"), "--model", str(model.path), "--device", "fake", "--json"]
    done = subprocess.run([sys.executable, "-c", MEASURED, *arguments], cwd=CHECKOUT, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    errors = done.stderr
    outcomes = {Path(outcome["scene"]).stem: outcome for outcome in json.loads(done.stdout)}
    assert outcomes["zz-good"]["outcome"] == "published"
    refused = [outcome for name, outcome in outcomes.items() if name not in (*crafted.RUNS, "zz-good")]
    for outcome in refused:
        assert outcome["outcome"] == "failed", outcome
        assert outcome["reason"].startswith(("scene_", "unit_")), outcome
        assert "made sense of" not in outcome["error"], outcome
    lines = [line for line in errors.splitlines() if line.startswith("sarwater predict: ")]
    assert len(lines) == sum(outcome["outcome"] == "failed" for outcome in outcomes.values())
    assert all(Path(outcome["scene"]).name in outcome["error"] for outcome in refused)
    assert [line for line in lines if not (line.isprintable() and ";" in line)] == []
    assert int(errors.split()[-1]) < MOST_KB


def test_metadata_that_is_no_utf8_changes_no_pixel(tmp_path: Path, model: Model) -> None:
    odd = next(content for name, content in crafted.hostile_tiffs() if name == "latin1")
    (tmp_path / "odd.tif").write_bytes(odd)
    (tmp_path / "plain.tif").write_bytes(crafted.tiff())
    out = tmp_path / "out"
    assert (
        main([str(tmp_path / "odd.tif"), str(tmp_path / "plain.tif"), "-o", str(out), "--model", str(model.path)]) == 0
    )
    assert np.array_equal(read_raster(out / "odd_water.tif"), read_raster(out / "plain_water.tif"))


@pytest.mark.slow
def test_codecs_that_compress_one_value_to_nothing_are_no_way_in(
    tmp_path: Path, model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, content in crafted.coded_bombs():
        (tmp_path / f"{name}.tif").write_bytes(content)
        arguments = [str(tmp_path / f"{name}.tif"), "-o", str(tmp_path / "out"), "--model", str(model.path)]
        assert run_command(main, arguments) == 1, name
        assert "declares" in capfd.readouterr().err, name


def test_a_label_that_declares_gigapixels_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "label.png"
    memory = gdal.GetDriverByName("MEM").Create("", 8, 8)
    gdal.GetDriverByName("PNG").CreateCopy(str(path), memory)
    content = bytearray(path.read_bytes())
    content[16:24] = (200_000).to_bytes(4, "big") * 2
    path.write_bytes(content)
    with pytest.raises(DataError):
        Label(path)
