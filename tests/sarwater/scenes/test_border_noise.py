"""Border noise of old Sentinel-1 GRD, on real folders and files: what of it is nodata, and what of the scene is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.border_noise import is_old_processor, may_have_border_noise
from sarwater.scenes.readers import open_model_input
from tests.support.deliveries import write_safe
from tests.support.rasters import write_geotiff

HEIGHT, WIDTH = 700, 900
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH]
OLD = "S1A_IW_GRDH_1SDV_20160716T093112_20160716T093137_012000_012345_ABCD"
NEW = "S1A_IW_GRDH_1SDV_20240716T093112_20240716T093137_054000_069000_ABCD"
SAR = (Channel("sar", "amplitude_dn"),)
SIGMA0 = (Channel("sar", "sigma0_db"),)


def scene() -> np.ndarray:
    """(H, W) float64 DN: speckled land, lakes inside, and calm water that reaches to the right and the lower edge."""
    rng = np.random.default_rng(5)
    level = np.full((HEIGHT, WIDTH), 150.0)
    level[(ROWS - 300) ** 2 + (COLUMNS - 350) ** 2 < 100**2] = 28
    level[(ROWS > 200) & (ROWS < 400) & (COLUMNS > 650)] = 28
    level[(ROWS > 600) & (COLUMNS > 300) & (COLUMNS < 500)] = 28
    return level * np.sqrt(rng.gamma(4.4, 1 / 4.4, level.shape))


NOISES = {
    "even": lambda rng, shape: rng.integers(1, 101, shape),
    "low": lambda rng, shape: rng.integers(1, 13, shape),
    "falling": lambda rng, shape: np.clip(rng.exponential(20, shape), 1, 100),
    "single look": lambda rng, shape: np.clip(rng.rayleigh(25, shape), 1, 100),
    "as calm water": lambda rng, shape: np.clip(30 * np.sqrt(rng.gamma(4.4, 1 / 4.4, shape)), 1, 100),
}


def noisy(noise: str, width_px: int, slanted: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(H, W) uint16 pixels, and where they are noise and where scene."""
    left = 30 + (ROWS // 8 if slanted else 0)
    right = WIDTH - 20 - (ROWS // 10 if slanted else 0)
    zero = (left > COLUMNS) | (right <= COLUMNS)
    fringe = (left + width_px > COLUMNS) | (right - width_px <= COLUMNS)
    if not slanted:
        zero |= ROWS < 12
        fringe |= (12 + width_px > ROWS) | (HEIGHT - width_px <= ROWS)
    pixels = np.clip(np.round(scene()), 1, 65535)
    pixels = np.where(fringe, np.round(NOISES[noise](np.random.default_rng(2), pixels.shape)), pixels)
    return np.where(zero, 0, pixels).astype(np.uint16), fringe & ~zero, ~fringe & ~zero


def measured_in(path: Path, channels: tuple[Channel, ...] = SAR, **request: object) -> tuple[np.ndarray, str]:
    with open_model_input(path, channels, Request(**request)) as opened:  # type: ignore[arg-type]
        parts = [opened.read_valid(row, min(130, HEIGHT - row))[1] for row in range(0, HEIGHT, 130)]
        return np.concatenate(parts), " ".join(opened.notes)


def write_old_safe(folder: Path, bands: dict[str, np.ndarray], version: str) -> Path:
    path = write_safe(folder, bands)
    manifest = path / "manifest.safe"
    software = f"<x:facility xmlns:x='urn:x'><x:software name='Sentinel-1 IPF' version='{version}'/></x:facility>"
    manifest.write_text(manifest.read_text().replace("<dataObjectSection>", f"{software}<dataObjectSection>"))
    return path


@pytest.mark.parametrize(("noise", "width_px"), [*((noise, 60) for noise in NOISES), ("even", 14)])
@pytest.mark.parametrize("slanted", [False, True])
def test_border_noise_is_nodata_and_the_scene_is_not(tmp_path: Path, noise: str, width_px: int, slanted: bool) -> None:
    pixels, fringe, inside = noisy(noise, width_px, slanted)
    path = write_old_safe(tmp_path / f"{OLD}.SAFE", {"vv": pixels}, "002.72")
    measured, notes = measured_in(path)
    assert np.mean(~measured[fringe]) >= 0.95
    assert np.mean(~measured[inside]) <= 0.005
    assert not measured[pixels == 0].any()
    assert "border noise" in notes


def test_calibrated_it_is_nodata_too(tmp_path: Path) -> None:
    pixels, fringe, inside = noisy("even", 60, slanted=False)
    path = write_old_safe(tmp_path / f"{OLD}.SAFE", {"vv": pixels}, "002.72")
    measured, _ = measured_in(path, SIGMA0)
    assert np.mean(~measured[fringe]) >= 0.95
    assert np.mean(~measured[inside]) <= 0.005


@pytest.mark.parametrize("noise", ["even", None])
@pytest.mark.parametrize("version", ["002.90", "003.71"])
def test_a_modern_product_keeps_all_that_is_not_zero(tmp_path: Path, noise: str | None, version: str) -> None:
    pixels = noisy(noise or "even", 60 if noise else 0, slanted=False)[0]
    path = write_old_safe(tmp_path / f"{OLD}.SAFE", {"vv": pixels}, version)
    assert np.array_equal(measured_in(path)[0], pixels != 0)


@pytest.mark.parametrize("slanted", [False, True])
def test_an_old_product_without_noise_keeps_its_calm_water_at_the_edge(tmp_path: Path, slanted: bool) -> None:
    pixels, _, _ = noisy("even", 0, slanted)
    path = write_old_safe(tmp_path / f"{OLD}.SAFE", {"vv": pixels}, "002.43")
    measured, notes = measured_in(path)
    assert np.array_equal(measured, pixels != 0)
    assert "border noise" not in notes


@pytest.mark.parametrize(
    ("name", "tags", "old"),
    [
        (OLD, {}, True),
        (NEW, {}, False),
        ("scene", {"TIFFTAG_SOFTWARE": "Sentinel-1 IPF 002.72"}, True),
        (OLD, {"TIFFTAG_SOFTWARE": "Sentinel-1 IPF 003.10"}, False),
        ("scene", {}, False),
    ],
)
def test_a_geotiff_of_an_old_product_is_told_by_its_tags_or_its_name(
    tmp_path: Path, name: str, tags: dict[str, str], old: bool
) -> None:
    pixels, fringe, inside = noisy("even", 60, slanted=True)
    path = write_geotiff(tmp_path / f"{name}.tif", pixels, metadata=tags)
    measured, _ = measured_in(path)
    assert np.mean(~measured[fringe]) >= 0.95 if old else measured[fringe].all()
    assert np.mean(~measured[inside]) <= (0.005 if old else 0)


def test_a_geotiff_without_zeros_at_its_edges_was_cut_out_and_has_no_noise(tmp_path: Path) -> None:
    pixels = noisy("low", 60, slanted=False)[0][12:, 30:-20]
    path = write_geotiff(tmp_path / f"{OLD}.tif", pixels)
    with open_model_input(path, SAR) as opened:
        assert opened.read_valid(0, opened.height_px)[1].all()


@pytest.mark.parametrize("unit", ["Sigma0_VV", "Sigma0_VV_db", "Gamma0_VV_db", "Intensity_VV"])
@pytest.mark.parametrize(("noise", "slanted"), [("even", True), ("low", False), ("as calm water", True)])
def test_calibrated_geotiffs_of_old_products_have_it_too(tmp_path: Path, unit: str, noise: str, slanted: bool) -> None:
    dn, fringe, inside = noisy(noise, 60, slanted)
    power = dn.astype(np.float32) ** 2 / (1 if unit.startswith("Intensity") else 420**2)
    pixels = power
    if unit.endswith("_db"):
        pixels = np.where(dn > 0, 10 * np.log10(np.maximum(power, 1e-9)), 0).astype(np.float32)
    path = write_geotiff(tmp_path / f"{OLD}_Cal.tif", pixels, descriptions=[unit])
    measured, notes = measured_in(path)
    assert np.mean(~measured[fringe]) >= 0.95
    assert np.mean(~measured[inside]) <= 0.005
    assert not measured[dn == 0].any()
    assert "border noise" in notes


@pytest.mark.parametrize("unit", ["", "Sigma0_VV_db"])
def test_noise_at_the_top_needs_no_zeros_beside_it_where_other_edges_have_them(tmp_path: Path, unit: str) -> None:
    dn, fringe, inside = (part[12:] for part in noisy("even", 60, slanted=False))
    pixels = np.where(dn > 0, 20 * np.log10(np.maximum(dn, 1) / 420), 0).astype(np.float32) if unit else dn
    path = write_geotiff(tmp_path / f"{OLD}.tif", pixels, descriptions=[unit])
    with open_model_input(path, SAR) as opened:
        measured = opened.read_valid(0, opened.height_px)[1]
    assert np.mean(~measured[fringe]) >= 0.95
    assert np.mean(~measured[inside]) <= 0.005


def test_a_calibrated_scene_that_was_cut_out_keeps_its_calm_water(tmp_path: Path) -> None:
    dn = noisy("even", 0, slanted=False)[0][40:-40, 60:-60]
    path = write_geotiff(
        tmp_path / f"{OLD}.tif", (20 * np.log10(dn / 420)).astype(np.float32), descriptions=["Sigma0_VV_db"]
    )
    with open_model_input(path, SAR) as opened:
        assert opened.read_valid(0, opened.height_px)[1].all()


def test_who_names_the_nodata_value_keeps_the_noise(tmp_path: Path) -> None:
    pixels = noisy("even", 60, slanted=False)[0]
    path = write_old_safe(tmp_path / f"{OLD}.SAFE", {"vv": pixels}, "002.72")
    assert np.array_equal(measured_in(path, nodata=0)[0], pixels != 0)


def test_processors_and_names() -> None:
    assert is_old_processor("Sentinel-1 IPF 002.84") is True
    assert is_old_processor("Sentinel-1 IPF 002.90") is False
    assert is_old_processor("SNAP") is None
    assert may_have_border_noise("s1a-iw-grd-vv-20160716t093112-20160716t093137-012000-012345-001.tiff", {})
    assert not may_have_border_noise("S1A_IW_SLC__1SDV_20160716T093112_20160716T093137_012000_012345_ABCD", {})
