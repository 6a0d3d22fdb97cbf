"""The header that SNAP puts into its GeoTIFFs says what GDAL does not show: units, polarisations, nodata, time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import SceneNoBackscatter, SceneUnreadable
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import open_here, open_model_input
from tests.support.deliveries import whole
from tests.support.rasters import lake_scene, write_geotiff
from tests.support.snap import add_text_tag, write_snap_geotiff

AMPLITUDE = (Channel("sar", "amplitude_dn"),)
SIGMA0 = (Channel("sar", "sigma0_linear"),)
POWER = ((lake_scene(90, 100) / 400.0) ** 2).astype(np.float32)
DB = (10 * np.log10(POWER)).astype(np.float32)


def sigma0_of(path: Path, *polarisations: str) -> np.ndarray:
    with open_model_input(path, SIGMA0, Request(polarisations=polarisations)) as scene:
        return whole(scene)[0]


@pytest.mark.parametrize(
    ("name", "pixels", "unit", "power"),
    [
        ("Sigma0_VV_db", DB, "intensity_db", POWER),
        ("Sigma0_VV", POWER, "intensity", POWER),
        ("Sigma0_VV", np.sqrt(POWER), "amplitude", POWER),
    ],
)
def test_unit_and_polarisation_are_those_of_the_header(
    tmp_path: Path, name: str, pixels: np.ndarray, unit: str, power: np.ndarray
) -> None:
    path = write_snap_geotiff(tmp_path / "subset.tif", {name: pixels}, units={name: unit})
    assert np.allclose(sigma0_of(path), power, rtol=1e-5)
    with open_here(path) as scene:
        assert [band.polarisation for band in scene.bands] == ["vv"]
        assert scene.acquired == "2024-07-26T09:15:30Z"
        assert scene.declared_nodata == 0


def test_of_several_bands_those_of_backscatter_are_named_and_the_others_left_out(tmp_path: Path) -> None:
    bands = {"Sigma0_VH": POWER / 4, "localIncidenceAngle": POWER * 0 + 35, "Sigma0_VV": POWER}
    path = write_snap_geotiff(
        tmp_path / "stack.tif",
        bands,
        units={"localIncidenceAngle": "deg"},
        computed={"Sigma0_VV_db": "10 * log10(Sigma0_VV)"},
    )
    with open_here(path) as scene:
        assert [band.polarisation for band in scene.bands] == ["vh", "vv"]
    assert np.array_equal(sigma0_of(path, "vv"), POWER)
    assert np.array_equal(sigma0_of(path, "vh"), POWER / 4)


def test_scaled_integers_are_what_the_header_makes_of_them(tmp_path: Path) -> None:
    scaling = "<SCALING_FACTOR>0.01</SCALING_FACTOR><SCALING_OFFSET>-50.0</SCALING_OFFSET>"
    stored = np.round((DB + 50) * 100).astype(np.int16)
    path = write_snap_geotiff(
        tmp_path / "a.tif",
        {"Sigma0_VV_db": stored},
        units={"Sigma0_VV_db": "intensity_db"},
        more={"Sigma0_VV_db": scaling},
        nodata=None,
    )
    assert np.allclose(sigma0_of(path), POWER, rtol=0.002)


def test_in_phase_and_in_quadrature_are_one_amplitude(tmp_path: Path) -> None:
    bands = {"i_HH": np.full((70, 80), 30, np.int16), "q_HH": np.full((70, 80), -40, np.int16)}
    path = write_snap_geotiff(tmp_path / "slc.tif", bands, units={"i_HH": "real", "q_HH": "imaginary"})
    with open_model_input(path, AMPLITUDE) as scene:
        assert np.array_equal(whole(scene)[0], np.full((70, 80), 50))
        assert scene.bands[0].polarisation == "hh"


def test_intensity_in_whole_numbers_is_the_square_of_dn(tmp_path: Path) -> None:
    dn = lake_scene(90, 100)
    path = write_snap_geotiff(tmp_path / "a.tif", {"Intensity_VV": dn.astype(np.uint32) ** 2})
    with open_model_input(path, AMPLITUDE) as scene:
        assert np.allclose(whole(scene)[0], dn)


@pytest.mark.parametrize(
    ("name", "unit"), [("ndwi", ""), ("coh_VV_25Jul2024_06Aug2024", "coherence"), ("Phase_ifg_VV", "phase")]
)
def test_what_is_no_backscatter_by_the_header_is_refused(tmp_path: Path, name: str, unit: str) -> None:
    path = write_snap_geotiff(tmp_path / "result.tif", {name: POWER}, units={name: unit})
    with pytest.raises(SceneNoBackscatter, match=f"its bands '{name}': no backscatter; give the file that holds"):
        open_here(path)


def test_a_single_band_has_the_polarisation_of_the_product(tmp_path: Path) -> None:
    path = write_snap_geotiff(tmp_path / "a.tif", {"Sigma0": POWER}, abstracted={"mds1_tx_rx_polar": "VH"})
    with open_here(path) as scene:
        assert scene.bands[0].polarisation == "vh"


@pytest.mark.parametrize("text", [b"<Dimap_Document>", b"<Dimap_Document/>", b"no XML", b""])
def test_a_header_that_tells_nothing_changes_nothing_or_is_refused_as_damaged(tmp_path: Path, text: bytes) -> None:
    path = add_text_tag(write_geotiff(tmp_path / "a.tif", lake_scene(70, 80)), 65000, text)
    if text == b"<Dimap_Document>":
        with pytest.raises(SceneUnreadable, match=r"a\.tif: its header of SNAP"):
            open_here(path)
        return
    with open_here(path) as scene:
        assert scene.bands[0].unit == "amplitude_dn"
