"""A hundred and more broken and hostile files through `predict`: one clear line each, and the next scene runs."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from osgeo import gdal

from runtime.commands.predict import main
from sarwater.command import run_command
from sarwater.models import Model
from sarwater.tags import MASK_KEY_TAG
from tests.support.deliveries import write_hdf5, write_k5_folder, write_manifest, write_safe
from tests.support.rasters import lake_scene, read_raster, wkt, write_geotiff

LAYOUTS = {
    "strips": [],
    "deflate": ["COMPRESS=DEFLATE"],
    "lzw-tiles": ["COMPRESS=LZW", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
    "bigtiff": ["BIGTIFF=YES", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
}
DAMAGED = {"scene_truncated", "scene_unreadable", "scene_empty"}

PROGRESS = re.compile(r".*: (?:\d+ s so far|\d+ of \d+ tiles, .*)")
"""On a machine that is busy."""


def broken_files(folder: Path) -> Iterator[tuple[Path, set[str]]]:
    """(path, reasons that are right) of each broken input."""
    rng = np.random.default_rng(0)
    pixels = lake_scene(150, 170)
    yield from truncated(folder, pixels)
    yield from corrupted(folder, pixels, rng)
    yield from of_another_kind(folder, rng)
    yield from hostile(folder, pixels)
    yield from wrong_content(folder, pixels)


def truncated(folder: Path, pixels: np.ndarray) -> Iterator[tuple[Path, set[str]]]:
    for name, options in LAYOUTS.items():
        whole = write_geotiff(folder / f"{name}.source", pixels, options=options).read_bytes()
        for percent in (0, 1, 3, 10, 20, 35, 50, 65, 80, 90, 97, 99):
            path = folder / f"cut-{name}-{percent}.tif"
            path.write_bytes(whole[: len(whole) * percent // 100])
            yield path, DAMAGED
    for level in ("L1A", "L1D"):
        data = np.stack([pixels, pixels], axis=2).astype(np.int16) if level == "L1A" else pixels
        whole = write_hdf5(folder / f"{level}.source", level, data).read_bytes()
        for percent in (1, 10, 30, 60, 90, 99):
            path = folder / f"cut-{level}-{percent}.h5"
            path.write_bytes(whole[: len(whole) * percent // 100])
            yield path, DAMAGED


def corrupted(folder: Path, pixels: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[Path, set[str]]]:
    for name in ("deflate", "lzw-tiles"):
        whole = write_geotiff(folder / f"{name}.source", pixels, options=LAYOUTS[name]).read_bytes()
        for number in range(6):
            data = bytearray(whole)
            start = 2000 + number * (len(data) - 9000) // 6
            data[start : start + 6000] = rng.bytes(6000)
            path = folder / f"corrupt-{name}-{number}.tif"
            path.write_bytes(data)
            yield path, DAMAGED
    header = write_geotiff(folder / "header.source", pixels).read_bytes()
    for number in range(8):
        data = bytearray(header)
        data[4:8] = rng.bytes(4)  # where the first directory is
        path = folder / f"directory-{number}.tif"
        path.write_bytes(data)
        yield path, DAMAGED


def of_another_kind(folder: Path, rng: np.random.Generator) -> Iterator[tuple[Path, set[str]]]:
    for size in (0, 1, 3, 4, 8, 100, 5000):
        path = folder / f"noise-{size}.tif"
        path.write_bytes(rng.bytes(size))
        yield path, DAMAGED
    for magic in (
        b"II*\0",
        b"MM\0*",
        b"II+\0\x08\0\0\0",
        b"\x89HDF\r\n\x1a\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"PK\x03\x04",
    ):
        path = folder / f"magic-{magic.hex()}.tif"
        path.write_bytes(magic + rng.bytes(300))
        yield path, DAMAGED
    texts = {
        "vrt.tif": "<VRTDataset rasterXSize='9' rasterYSize='9'><VRTRasterBand dataType='Byte' band='1'/></VRTDataset>",
        "wms.tif": "<GDAL_WMS><Service name='WMS'><ServerUrl>http://localhost/</ServerUrl></Service></GDAL_WMS>",
        "html.tif": "<html>404</html>",
        "json.tif": "{}",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        yield folder / name, DAMAGED
    gdal.Translate(
        str(folder / "picture.png"), str(write_geotiff(folder / "p.source", lake_scene(20, 20))), format="PNG"
    )
    yield folder / "picture.png", DAMAGED
    packed = gzip.compress((folder / "p.source").read_bytes())
    (folder / "scene.tif.gz").write_bytes(packed[: len(packed) // 2])
    yield folder / "scene.tif.gz", DAMAGED
    with zipfile.ZipFile(folder / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "no scene")
    yield folder / "notes.zip", DAMAGED
    (folder / "empty-folder").mkdir()
    yield folder / "empty-folder", DAMAGED
    os.mkfifo(folder / "pipe.tif")
    yield folder / "pipe.tif", {"scene_missing"}
    yield folder / "absent.tif", {"scene_missing"}


def hostile(folder: Path, pixels: np.ndarray) -> Iterator[tuple[Path, set[str]]]:
    with zipfile.ZipFile(folder / "climbing.zip", "w") as archive:
        archive.writestr("../climbed.tif", "x")
    yield folder / "climbing.zip", {"scene_unsafe"}
    bomb = ["TILED=YES", "BLOCKXSIZE=1024", "BLOCKYSIZE=1024", "COMPRESS=DEFLATE", "SPARSE_OK=TRUE", "BIGTIFF=YES"]
    gdal.GetDriverByName("GTiff").Create(str(folder / "80gb.tif"), 200_000, 200_000, 1, gdal.GDT_UInt16, bomb)
    yield folder / "80gb.tif", {"scene_unsafe"}
    strip = ["BLOCKYSIZE=30000", "SPARSE_OK=TRUE", "COMPRESS=DEFLATE"]
    gdal.GetDriverByName("GTiff").Create(str(folder / "one-strip.tif"), 30_000, 30_000, 1, gdal.GDT_UInt16, strip)
    yield folder / "one-strip.tif", {"scene_unsafe"}
    many = write_geotiff(folder / "bands.tif", np.ones((20, 8, 8), np.uint8))
    yield many, {"scene_unsafe"}
    linked = write_hdf5(folder / "linked.h5", "L1D", pixels)
    with h5py.File(linked, "a") as file:
        file["elsewhere"] = h5py.ExternalLink("/etc/hostname", "/x")
    yield linked, {"scene_unsafe"}
    stored = write_hdf5(folder / "stored.h5", "L1D", pixels)
    with h5py.File(stored, "a") as file:
        file["S01"].create_dataset("MBI", (2, 2), "u1", external=[("/etc/hostname", 0, 4)])
    yield stored, {"scene_unsafe"}
    symlinked = write_k5_folder(folder / "symlinked", pixels)
    (symlinked / "K5_GIM.tif").symlink_to("/etc/hostname")
    yield symlinked, {"scene_unsafe"}
    entities = write_k5_folder(folder / "entities", pixels)
    next(entities.glob("*.xml")).write_text("<!DOCTYPE a [<!ENTITY b 'bbbbbbbb'>]><a>&b;</a>")
    yield entities, {"scene_unsafe"}


def wrong_content(folder: Path, pixels: np.ndarray) -> Iterator[tuple[Path, set[str]]]:
    yield write_geotiff(folder / "rgb.tif", np.stack([pixels] * 3)), {"channel_missing"}
    yield write_geotiff(folder / "db.tif", -pixels.astype(np.float32)), {"unit_mismatch"}
    yield write_geotiff(folder / "power.tif", pixels.astype(np.float32) ** 2 / 1e6), {"unit_mismatch"}
    yield write_geotiff(folder / "db-integers.tif", -pixels.astype(np.int16)), {"unit_mismatch"}
    with h5py.File(folder / "other.h5", "w") as file:
        file["temperature"] = np.zeros((4, 4))
    yield folder / "other.h5", {"scene_unreadable"}
    yield write_safe(folder / "nothing.SAFE", {}), {"scene_incomplete"}
    complex_ = write_safe(folder / "no-grd.SAFE", {"vv": pixels})
    measurement = next((complex_ / "measurement").iterdir())
    measurement.rename(measurement.with_name(measurement.name.replace("-grd-", "-slc-")))
    yield write_manifest(complex_), {"scene_unreadable"}
    cut = write_safe(folder / "cut.SAFE", {"vv": pixels})
    measurement = next((cut / "measurement").iterdir())
    measurement.write_bytes(measurement.read_bytes()[:-100])
    yield cut, {"scene_incomplete"}
    lone = write_k5_folder(folder / "no-aux", pixels)
    next(lone.glob("*_Aux.xml")).unlink()
    yield lone, {"scene_incomplete"}
    product = write_geotiff(folder / "product.tif", pixels, metadata={MASK_KEY_TAG: "0" * 64})
    yield product, {"scene_is_product"}
    unequal = write_safe(folder / "unequal.SAFE", {"vv": pixels, "vh": pixels[:99]})
    yield unequal, {"scene_unreadable"}


def test_every_broken_input_is_one_clear_line_and_the_good_scene_still_runs(
    tmp_path: Path, out: Path, model: Model, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    cases = list(broken_files(folder))
    assert len(cases) >= 100
    good = write_geotiff(folder / "good.tif", lake_scene(64, 64))
    paths = [str(path) for path, _ in cases]
    assert run_command(main, [*paths, str(good), "-o", str(out), "--model", str(model.path), "--json"]) == 1
    printed, errors = capfd.readouterr()
    outcomes = {Path(outcome["scene"]).name: outcome for outcome in json.loads(printed)}
    for path, reasons in cases:
        outcome = outcomes[path.name]
        assert outcome["outcome"] == "failed", path.name
        assert outcome["reason"] in reasons, (path.name, outcome)
    lines = [line for line in errors.splitlines() if not (line.startswith("model ") or PROGRESS.fullmatch(line))]
    assert len(lines) == len(cases), "one line each, and nothing from the libraries below"
    for (path, _), line in zip(cases, lines, strict=True):
        assert path.name in line or path.parent.name in line
        assert ";" in line, "says what to do"
    assert outcomes["good.tif"]["outcome"] == "published"
    assert [path.name for path in out.iterdir() if "good" not in path.name] == ["collection.json"]


LOCAL = 'LOCAL_CS["site",UNIT["metre",1]]'
ODD_PLACES = {
    "without a reference system": (None, (300000.0, 1.25, 0.0, 4100000.0, 0.0, -1.25)),
    "on a local plane": (LOCAL, (300000.0, 1.25, 0.0, 4100000.0, 0.0, -1.25)),
    "nan": (wkt(32652), (300000.0, np.nan, 0.0, 4100000.0, 0.0, np.nan)),
    "infinite": (wkt(32652), (300000.0, np.inf, 0.0, 4100000.0, 0.0, -1.0)),
    "beyond all bounds": (wkt(32652), (300000.0, 1e300, 0.0, 4100000.0, 0.0, -1e300)),
    "pixels without area": (wkt(32652), (300000.0, 0.0, 0.0, 4100000.0, 0.0, 0.0)),
    "beyond the pole": (wkt(4326), (500.0, 0.1, 0.0, 95.0, 0.0, -0.1)),
}


@pytest.mark.parametrize("place", ODD_PLACES)
def test_a_georeference_that_says_nothing_costs_no_scene(tmp_path: Path, model: Model, place: str) -> None:
    crs, transform = ODD_PLACES[place]
    good = write_geotiff(tmp_path / "good.tif", lake_scene(90, 110))
    odd = write_geotiff(tmp_path / "odd.tif", lake_scene(90, 110), transform=transform, epsg=None)
    if crs:
        dataset = gdal.Open(str(odd), gdal.GA_Update)
        dataset.SetProjection(crs)
        del dataset
    out = tmp_path / "out"
    assert main([str(good), str(odd), "-o", str(out), "--model", str(model.path)]) == 0
    assert np.array_equal(read_raster(out / "odd_water.tif"), read_raster(out / "good_water.tif"))
    assert all((out / f"odd_{name}").stat().st_size for name in ("quicklook.png", "water.gpkg", "water.json"))
    assert json.loads((out / "odd_water.json").read_text())["geometry"] is None


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_scene_of_nothing_but_nan_or_infinity_is_all_nodata(
    tmp_path: Path, out: Path, model: Model, value: float
) -> None:
    path = write_geotiff(tmp_path / "a.tif", np.full((70, 70), value, np.float32))
    assert run_command(main, [str(path), "-o", str(out), "--model", str(model.path)]) == 0
    assert np.all(read_raster(out / "a_water.tif") == 255)


@pytest.mark.parametrize("limit_bytes", [0, 4_000, 40_000, 120_000])
def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(
    tmp_path: Path, out: Path, model: Model, limit_bytes: int
) -> None:
    """No file may grow beyond a limit: every write past it fails, as on a full disk."""
    path = write_geotiff(tmp_path / "a.tif", lake_scene(700, 700))
    # By a command of its own, not by preexec_fn: a fork of this process, with its threads, may never come back.
    limited = ["prlimit", f"--fsize={limit_bytes}", sys.executable]
    command = [*limited, "-m", "runtime.predict", str(path), "-o", str(out), "--model", str(model.path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": "."})
    lines = [line for line in done.stderr.splitlines() if not (line.startswith("model ") or PROGRESS.fullmatch(line))]
    assert done.returncode == 1, done.stderr
    assert len(lines) == 1, done.stderr
    assert "cannot be written" in lines[0] or "not written whole" in lines[0] or "holds" in lines[0]
    assert list(out.iterdir()) == []
