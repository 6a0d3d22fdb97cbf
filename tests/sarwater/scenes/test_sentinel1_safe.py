"""Sentinel-1 in all its products: read with their calibration, or refused with what makes them readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import SceneUnreadable
from sarwater.manifest import Channel
from sarwater.scenes.readers import open_model_input, open_scene
from tests.support.deliveries import whole, write_manifest, write_safe
from tests.support.rasters import lake_scene

PIXELS = lake_scene(60, 70)
NAME = "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054921_06B0A4_0000"
TILED = ["TILED=YES", "BLOCKXSIZE=32", "BLOCKYSIZE=32", "COMPRESS=DEFLATE"]
SIGMA0 = (Channel("sar", "sigma0_linear"),)


def sigma0_of(path: Path) -> np.ndarray:
    with open_model_input(path, SIGMA0) as scene:
        return whole(scene)[0]


@pytest.mark.parametrize("annotation", ["-cog", ""])
def test_cog_safe_is_safe(tmp_path: Path, annotation: str) -> None:
    """Whether its annotation is called as the measurement is, or as it was before."""
    plain = write_safe(tmp_path / f"{NAME}.SAFE", {"vv": PIXELS, "vh": PIXELS // 2})
    cog = write_safe(tmp_path / f"{NAME}_COG.SAFE", {"vv": PIXELS, "vh": PIXELS // 2}, end="-cog", options=TILED)
    for file in (cog / "annotation").rglob("*.xml"):
        file.rename(file.with_name(file.name.replace("-cog", annotation)))
    write_manifest(cog)
    assert np.array_equal(sigma0_of(cog), sigma0_of(plain))
    with open_scene(cog) as scene, open_scene(plain) as expected:
        assert np.array_equal(scene.read(band="vh"), PIXELS // 2)
        assert (scene.format, scene.acquired, scene.georeference) == (
            expected.format,
            expected.acquired,
            expected.georeference,
        )


@pytest.mark.parametrize("dtype", [np.complex64, "cint16"])
def test_stripmap_slc_is_its_amplitude(tmp_path: Path, dtype: object) -> None:
    turns = np.random.default_rng(0).choice([1, 1j, -1, -1j], PIXELS.shape)
    pixels = (PIXELS * turns).astype(np.complex64)
    pixels[:4] = 0
    safe = write_safe(tmp_path / "S1A_S3_SLC__1SSV_20240726T091530.SAFE", {"vv": pixels}, kind="s1a-s3-slc")
    if dtype == "cint16":
        as_cint16(next((safe / "measurement").iterdir()))
        write_manifest(safe)
    detected = write_safe(tmp_path / "S1A_S3_GRDH.SAFE", {"vv": PIXELS}, kind="s1a-s3-grd")
    assert sigma0_of(safe)[4:] == pytest.approx(sigma0_of(detected)[4:], rel=1e-5)
    with open_scene(safe) as scene:
        assert (scene.format, scene.bands[0].polarisation) == ("Sentinel-1 SLC", "vv")
        assert scene.read() == pytest.approx(np.abs(pixels), rel=1e-6)
        assert len(scene.georeference.gcps) == 9
    with open_model_input(safe, (Channel("sar", "amplitude_dn"),)) as scene:
        _, valid = scene.read_valid(0, 60)
        assert np.array_equal(valid, pixels != 0)


def as_cint16(path: Path) -> None:
    """As ESA stores it."""
    from osgeo import gdal

    copy = path.with_name("copy.tif")
    gdal.Translate(str(copy), str(path), outputType=gdal.GDT_CInt16)
    copy.rename(path)


@pytest.mark.parametrize("swaths", [("iw1", "iw2", "iw3"), ("ew1",), ("iw2",)])
def test_slc_in_bursts_is_refused_with_the_way_out(tmp_path: Path, swaths: tuple[str, ...]) -> None:
    folder = tmp_path / "S1A_IW_SLC__1SDV_20240726T091530_20240726T091557_054921_06B0A4_0000.SAFE"
    for number, swath in enumerate(swaths):
        made = write_safe(tmp_path / str(number), {"vv": PIXELS.astype(np.complex64)}, kind=f"s1a-{swath}-slc")
        shutil.copytree(made, folder, dirs_exist_ok=True)
    write_manifest(folder)
    with pytest.raises(SceneUnreadable, match=r"TOPSAR-Deburst .*or give the GRD product"):
        open_scene(folder)
    shutil.rmtree(folder / "annotation")
    with pytest.raises(SceneUnreadable, match="TOPSAR-Deburst"):
        open_scene(folder)  # nothing that is still to come would help


def test_wave_mode_and_level_0_are_refused(tmp_path: Path) -> None:
    wave = write_safe(tmp_path / "S1A_WV.SAFE", {"vv": PIXELS.astype(np.complex64)}, kind="s1a-wv1-slc")
    with pytest.raises(SceneUnreadable, match="wave mode"):
        open_scene(wave)
    other = write_safe(tmp_path / "S1A_OCN.SAFE", {"vv": PIXELS}, kind="s1a-iw-ocn")
    with pytest.raises(SceneUnreadable, match="give the GRD product"):
        open_scene(other)
