"""What lies beside a GeoTIFF and says what its pixels are, or which were measured, is told, with what helps."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import SceneIncomplete, UnitMismatch
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import open_model_input, open_scene
from tests.support.rasters import write_geotiff

SAR = (Channel("sar", "amplitude_dn"),)
AUX = """<PAMDataset><PAMRasterBand band="1"><Description>{name}</Description><UnitType>{unit}</UnitType>
<Offset>{offset}</Offset><Scale>{scale}</Scale></PAMRasterBand></PAMDataset>"""
BAND = {"unit": "dB", "scale": 0.2, "offset": -40, "name": "VV"}
BESIDE = {
    "PAM": ("a.tif.aux.xml", AUX.format(name="Sigma0_VV", unit="dB", scale=0.2, offset=-40)),
    "STAC 1.0": ("a.json", json.dumps({"assets": {"vv": {"href": "./a.tif", "raster:bands": [BAND]}}})),
    "STAC 1.1": (
        "a.stac.json",
        json.dumps(
            {
                "assets": {
                    "mask": {"href": "m.tif", "bands": [{"unit": "m"}]},
                    "vv": {"href": "a.tif", "bands": [{"unit": "dB", "raster:scale": 0.2, "raster:offset": -40}]},
                }
            }
        ),
    ),
    "plain JSON": ("a.tif.json", json.dumps({"units": "decibels", "scale_factor": 0.2, "add_offset": -40.0})),
}


def levels_db() -> np.ndarray:
    return np.random.default_rng(0).normal(-12, 3, (60, 70))


def in_bytes(folder: Path) -> Path:
    return write_geotiff(folder / "a.tif", ((levels_db() + 40) / 0.2).round().astype(np.uint8))


@pytest.mark.parametrize("kind", BESIDE)
def test_the_unit_that_a_file_beside_says_has_to_be_stated(tmp_path: Path, kind: str) -> None:
    path = in_bytes(tmp_path)
    name, text = BESIDE[kind]
    (tmp_path / name).write_text(text)
    with pytest.raises(UnitMismatch, match=f"{name} beside a.tif says") as refused:
        open_model_input(path, SAR)
    assert str(refused.value).endswith("--unit sigma0_db --scale 0.2 --offset -40")
    with open_model_input(path, SAR, Request(unit="sigma0_db", scale=0.2, offset=-40)) as scene:
        rows, _ = scene.read(0, 60)
    assert np.abs(20 * np.log10(rows[0] / 400) - levels_db()).max() <= 0.101


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", "{"),
        ("a.json", "[1, 2]"),
        ("a.json", json.dumps({"assets": {"vv": {"href": "a.tif"}}, "scale": 3})),
        ("a.json", json.dumps({"title": "scale and offset of a lake"})),
        ("a.tif.aux.xml", "<PAMDataset><Metadata/></PAMDataset>"),
        ("a.tif.aux.xml", "no XML"),
        ("b.json", json.dumps({"unit": "dB", "scale": 0.2})),
    ],
)
def test_files_that_say_nothing_of_it_change_nothing(tmp_path: Path, name: str, text: str) -> None:
    path = in_bytes(tmp_path)
    (tmp_path / name).write_text(text)
    open_model_input(path, SAR).close()


def test_a_file_that_says_its_unit_itself_needs_none_beside(tmp_path: Path) -> None:
    path = write_geotiff(tmp_path / "a.tif", levels_db().astype(np.float32), descriptions=["Sigma0_VV_db"])
    (tmp_path / "a.json").write_text(json.dumps({"unit": "dB", "scale": 0.5}))
    with open_scene(path) as scene:
        assert not scene.said_beside


def test_a_mask_beside_is_put_into_the_file_by_the_command_of_the_refusal(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(50, 200, (60, 70)).astype(np.uint16)
    path = write_geotiff(tmp_path / "a scene.tif", pixels)
    measured = np.ones(pixels.shape, np.uint8) * 255
    measured[:, :20] = 0
    write_geotiff(tmp_path / "a scene.tif.msk", measured)
    from osgeo import gdal

    mask = gdal.Open(str(tmp_path / "a scene.tif.msk"), gdal.GA_Update)
    mask.SetMetadata({"INTERNAL_MASK_FLAGS_1": "2"})
    del mask
    with pytest.raises(SceneIncomplete, match=r"in a scene\.tif\.msk, which is not read") as refused:
        open_scene(path)
    command = str(refused.value).split("put it into the file: ")[1]
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    with open_model_input(tmp_path / "a scene-masked.tif", SAR) as scene:
        rows, valid = scene.read_valid(0, 60)
    assert np.array_equal(valid, measured > 0)
    assert np.array_equal(rows[0][valid], pixels[valid])
