"""RADARSAT-2, RCM and TerraSAR-X folders: calibrated to sigma0 before a network of amplitudes sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from osgeo import osr

from runtime.backends import Backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.errors import SceneIncomplete, SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.readers import find_reader, open_model_input, open_scene
from tests.support.deliveries import whole
from tests.support.product_folders import CORNERS, write_radarsat2, write_rcm, write_terrasarx
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, write_geotiff

HEIGHT, WIDTH = 90, 70
DN = lake_scene(HEIGHT, WIDTH, lake=300, land=2000)
GAINS = np.linspace(2e7, 4e7, WIDTH)
RS2 = "RS2_OK123_PK1_DK1_F23_20240101_000000_HH_HV_SGF"
RCM = "RCM1_OK1234567_PK1_1_5M11_20240101_000000_HH_HV_GRD"
TSX = "TSX1_SAR__MGD_SE___SM_S_SRA_20240101T000000_20240101T000010"
SIGMA0 = (Channel("sar", "sigma0_linear"),)
AMPLITUDE = (Channel("sar", "amplitude_dn"),)
COMPLEX = (DN * np.exp(1j * np.pi / 4)).round()
"""Whole numbers, as the products hold them."""


def sigma0_of(path: Path) -> np.ndarray:
    with open_model_input(path, SIGMA0) as scene:
        return whole(scene)[0]


def masks(path: Path, sigma0: np.ndarray, backend: Backend, out: Path) -> tuple[np.ndarray, np.ndarray]:
    """The scene's mask, and that of a GeoTIFF of the sigma0 that it stands for."""
    plain = write_geotiff(out.parent / "plain_sigma0_linear.tif", sigma0.astype(np.float32), nodata=0)
    for scene in (path, plain):
        publish(process_scene(scene, backend, out))
    return read_raster(out / f"{path.stem}_water.tif"), read_raster(out / f"{plain.stem}_water.tif")


def gcps_of(path: Path) -> dict[tuple[float, float], tuple[float, float]]:
    with open_scene(path) as scene:
        assert scene.georeference.geotransform is None
        assert osr.SpatialReference(scene.georeference.gcp_crs_wkt).GetAuthorityCode(None) == "4326"
        return {(gcp.pixel, gcp.line): (gcp.x, gcp.y) for gcp in scene.georeference.gcps}


def at_corners(inset_px: float) -> dict[tuple[float, float], tuple[float, float]]:
    return {
        (abs(column * WIDTH - inset_px), abs(row * HEIGHT - inset_px)): place
        for (column, row), place in CORNERS.items()
    }


class TestRadarsat2:
    def test_detected_pixels_are_calibrated_with_gain_and_offset(
        self, tmp_path: Path, backend: Backend, out: Path
    ) -> None:
        dn = DN.copy()
        dn[:9] = 0
        path = write_radarsat2(tmp_path / RS2, {"HH": dn, "HV": DN}, GAINS, offset=1234.5)
        expected = np.where(dn > 0, (dn.astype(np.float64) ** 2 + 1234.5) / GAINS, 0)
        assert np.allclose(sigma0_of(path), expected, rtol=1e-6)
        mask, plain = masks(path, expected, backend, out)
        assert np.array_equal(mask, plain)
        assert set(np.unique(mask)) == {0, 1, 255}

    def test_it_says_what_it_is(self, tmp_path: Path) -> None:
        path = write_radarsat2(tmp_path / RS2, {"HV": DN // 2, "HH": DN}, GAINS)
        with open_scene(path) as scene:
            assert scene.format == "RADARSAT-2"
            assert scene.acquired == "2024-07-26T09:15:30Z", "rawDataStartTime, before the name"
            assert [band.polarisation for band in scene.bands] == ["hh", "hv"]
            assert {band.unit for band in scene.bands} == {"amplitude_dn"}
            assert np.array_equal(scene.read(band="hv"), DN // 2)
        with open_model_input(path, AMPLITUDE) as scene:
            assert "hh: DN were calibrated to sigma0 with lutSigma.xml" in scene.notes

    @pytest.mark.parametrize("form", ["complex numbers", "two bands"])
    def test_single_look_complex_is_calibrated_as_power(
        self, tmp_path: Path, backend: Backend, out: Path, form: str
    ) -> None:
        parts = np.stack([COMPLEX.real, COMPLEX.imag]).astype(np.int16)
        pixels = parts if form == "two bands" else COMPLEX.astype(np.complex64)
        gains = np.sqrt(GAINS)
        path = write_radarsat2(tmp_path / RS2, {"VV": pixels}, gains)
        expected = np.abs(COMPLEX) ** 2 / gains**2
        assert np.allclose(sigma0_of(path), expected, rtol=1e-5)
        mask, plain = masks(path, expected, backend, out)
        assert np.array_equal(mask, plain)

    def test_complex_pixels_in_another_form_are_refused(self, tmp_path: Path) -> None:
        path = write_radarsat2(tmp_path / RS2, {"VV": COMPLEX.astype(np.complex64)}, GAINS)
        write_geotiff(path / "imagery_VV.tif", DN.astype(np.uint32))
        with pytest.raises(SceneUnreadable, match="packed into whole numbers"):
            open_scene(path)

    def test_it_lies_where_its_images_or_else_its_tie_points_say(self, tmp_path: Path) -> None:
        assert gcps_of(write_radarsat2(tmp_path / "RS2_a", {"HH": DN}, GAINS)) == at_corners(0)
        ties = gcps_of(write_radarsat2(tmp_path / "RS2_b", {"HH": DN}, GAINS, place="ties"))
        assert ties == at_corners(0.5), "from the middle of a pixel"
        with open_scene(write_radarsat2(tmp_path / "RS2_c", {"HH": DN}, GAINS, place="map")) as scene:
            assert scene.georeference.geotransform == TRANSFORM
            assert scene.georeference.epsg == 32652

    def test_pixels_stated_to_be_amplitude_are_left_as_they_are(self, tmp_path: Path) -> None:
        path = write_radarsat2(tmp_path / RS2, {"HH": DN}, GAINS)
        with open_model_input(path, AMPLITUDE, Request(unit="amplitude_dn")) as scene:
            assert np.array_equal(whole(scene)[0], DN)

    def test_without_gains_dn_are_taken_as_they_are_and_that_is_said(self, tmp_path: Path) -> None:
        path = write_radarsat2(tmp_path / RS2, {"HH": DN}, "")
        with open_model_input(path, AMPLITUDE) as scene:
            assert np.array_equal(whole(scene)[0], DN)
            assert any("no gains in lutSigma.xml" in note for note in scene.notes)

    @pytest.mark.parametrize(
        ("table", "message"),
        [
            ("1.0 " * (WIDTH - 1), f"{WIDTH - 1} gains for {WIDTH} columns"),
            ("1.0 " * (WIDTH + 1), f"{WIDTH + 1} gains for {WIDTH} columns"),
            ("1.0 x " * WIDTH, "not a lookup table"),
            ("nan " * WIDTH, "not finite"),
            ("0 " * WIDTH, "not above 0"),
        ],
    )
    def test_a_table_that_makes_no_sense_is_refused(self, tmp_path: Path, table: str, message: str) -> None:
        with pytest.raises(SceneUnreadable, match=f"/lutSigma.xml: .*{message}"):
            open_scene(write_radarsat2(tmp_path / RS2, {"HH": DN}, table))

    def test_a_reference_never_leads_out_of_the_folder(self, tmp_path: Path) -> None:
        path = write_radarsat2(tmp_path / "RS2_x", {"HH": DN}, GAINS)
        write_geotiff(tmp_path / "secret.tif", DN)
        header = path / "product.xml"
        for href in ("../secret.tif", str(tmp_path / "secret.tif"), "..\\secret.tif"):
            text = header.read_text().replace("imagery_HH.tif", href)
            header.write_text(text)
            with pytest.raises(SceneIncomplete, match=r"without secret\.tif"):
                open_scene(path)
            header.write_text(text.replace(href, "imagery_HH.tif"))
        (path / "imagery_HH.tif").unlink()
        (path / "imagery_HH.tif").symlink_to(tmp_path / "secret.tif")
        with pytest.raises(SceneUnsafe, match="a link"):
            open_scene(path)

    @pytest.mark.parametrize("name", ["product.xml", "lutSigma.xml"])
    def test_xml_with_entities_is_refused(self, tmp_path: Path, name: str) -> None:
        path = write_radarsat2(tmp_path / RS2, {"HH": DN}, GAINS)
        (path / name).write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>")
        with pytest.raises(SceneUnsafe, match="entities"):
            open_scene(path)


class TestRcm:
    @pytest.mark.parametrize(
        ("first", "step", "calibration", "first_is"),
        [
            (0, 1, "metadata/calibration", "pixelFirstLutValue"),
            (0, 8, "calibration", "pixelFirstAnglesValue"),
            (WIDTH - 1, -3, "metadata/calibration", "pixelFirstLutValue"),
        ],
    )
    def test_gains_are_those_of_the_columns_that_the_table_names(
        self, tmp_path: Path, backend: Backend, out: Path, first: int, step: int, calibration: str, first_is: str
    ) -> None:
        columns = first + step * np.arange(-(-WIDTH // abs(step)) + 1)
        gains = 2e7 + 3e5 * columns
        path = write_rcm(
            tmp_path / RCM,
            {"HH": DN, "HV": DN // 2},
            gains,
            first=first,
            step=step,
            offset=77.0,
            calibration=calibration,
            first_is=first_is,
        )
        expected = (DN.astype(np.float64) ** 2 + 77) / (2e7 + 3e5 * np.arange(WIDTH))
        assert np.allclose(sigma0_of(path), expected, rtol=1e-5)
        mask, plain = masks(path, expected, backend, out)
        assert np.array_equal(mask, plain)
        with open_scene(path) as scene:
            assert scene.format == "RCM"
            assert scene.acquired == "2024-07-26T09:15:30Z"
            assert [band.polarisation for band in scene.bands] == ["hh", "hv"]

    def test_compact_polarimetry_is_named_by_what_is_received(self, tmp_path: Path) -> None:
        path = write_rcm(tmp_path / "any_name", {"CH": DN, "CV": DN // 2}, GAINS)
        with open_scene(path) as scene:
            assert [band.polarisation for band in scene.bands] == ["ch", "cv"]
            assert np.array_equal(scene.read(band="cv"), DN // 2)

    @pytest.mark.parametrize(("first", "count"), [(20, WIDTH), (0, WIDTH // 2)])
    def test_a_table_for_other_columns_is_refused(self, tmp_path: Path, first: int, count: int) -> None:
        with pytest.raises(SceneUnreadable, match=r"_GRD/lutSigma_HH.xml: .* gains .* for columns"):
            open_scene(write_rcm(tmp_path / RCM, {"HH": DN}, np.full(count, 1e7), first=first))

    def test_a_table_that_miscounts_itself_is_refused(self, tmp_path: Path) -> None:
        path = write_rcm(tmp_path / RCM, {"HH": DN}, GAINS)
        table = path / "metadata" / "calibration" / "lutSigma_HH.xml"
        table.write_text(table.read_text().replace(f">{WIDTH}<", f">{WIDTH + 5}<"))
        with pytest.raises(SceneUnreadable, match=f"{WIDTH} gains .it says {WIDTH + 5}. for columns 0 to {WIDTH - 1}"):
            open_scene(path)


class TestTerraSarX:
    @pytest.mark.parametrize("variant", ["MGD", "GEC", "EEC"])
    def test_detected_pixels_are_calibrated_with_the_angle_at_the_centre(
        self, tmp_path: Path, backend: Backend, out: Path, variant: str
    ) -> None:
        path = write_terrasarx(
            tmp_path / TSX.replace("MGD", variant), {"HH": DN, "VV": DN}, {"HH": 9e-8, "VV": 4e-8}, variant=variant
        )
        expected = 9e-8 * DN.astype(np.float64) ** 2 * np.sin(np.radians(35))
        assert np.allclose(sigma0_of(path), expected, rtol=1e-5)
        with open_model_input(path, (Channel("vv", "sigma0_linear"),)) as scene:
            assert np.allclose(whole(scene)[0] / expected, 4e-8 / 9e-8, rtol=1e-5), "each has its own factor"
        path = write_terrasarx(tmp_path / "TDX1_SAR__b", {"HH": DN}, {"HH": 9e-8}, variant=variant)
        mask, plain = masks(path, expected, backend, out)
        assert np.array_equal(mask, plain)
        assert 0.05 < (mask == 1).mean() < 0.6
        with open_scene(path) as scene:
            assert scene.format == f"TanDEM-X {variant}"
            assert scene.acquired == "2024-07-26T09:15:30Z"
            assert scene.bands[0].polarisation == "hh"

    def test_it_lies_where_its_images_or_else_its_corners_say(self, tmp_path: Path) -> None:
        radar = write_terrasarx(tmp_path / TSX, {"HH": DN}, {"HH": 1e-6})
        assert gcps_of(radar) == at_corners(0.5), "corners count from 1, in the middle of a pixel"
        with open_scene(write_terrasarx(tmp_path / "PAZ1_SAR__x", {"HH": DN}, {"HH": 1e-6}, variant="GEC")) as scene:
            assert scene.format == "PAZ GEC"
            assert scene.georeference.geotransform == TRANSFORM

    def test_angles_are_those_of_the_mask_where_it_has_them(self, tmp_path: Path) -> None:
        gim = np.tile(np.arange(WIDTH, dtype=np.uint16) * 50 + 2000, (HEIGHT, 1)) // 10 * 10
        angles = gim / 100
        gim[:, ::2] += 3  # the last digit says layover and shadow
        gim[:10] = 0
        path = write_terrasarx(tmp_path / TSX, {"HH": DN}, {"HH": 1e-6}, variant="EEC", gim=gim)
        sine = np.sin(np.radians(angles))
        sine[:10] = np.sin(np.radians(35))
        assert np.allclose(sigma0_of(path), 1e-6 * DN.astype(np.float64) ** 2 * sine, rtol=1e-5)

    def test_a_mask_of_another_size_is_not_used_and_that_is_said(self, tmp_path: Path) -> None:
        path = write_terrasarx(tmp_path / TSX, {"HH": DN}, {"HH": 1e-6}, gim=np.full((5, 5), 3000, np.uint16))
        assert np.allclose(sigma0_of(path), 1e-6 * DN.astype(np.float64) ** 2 * np.sin(np.radians(35)), rtol=1e-5)
        with open_scene(path) as scene:
            assert any("differs in size" in note for note in scene.notes)

    def test_cosar_is_read_as_amplitude(self, tmp_path: Path, backend: Backend, out: Path) -> None:
        path = write_terrasarx(tmp_path / TSX, {"VV": COMPLEX}, {"VV": 9e-8}, variant="SSC")
        expected = 9e-8 * np.abs(COMPLEX) ** 2 * np.sin(np.radians(35))
        assert np.allclose(sigma0_of(path), expected, rtol=1e-5)
        mask, plain = masks(path, expected, backend, out)
        assert np.array_equal(mask, plain)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.99])
    def test_a_cosar_file_cut_short_is_refused(self, tmp_path: Path, share: float) -> None:
        path = write_terrasarx(tmp_path / TSX, {"VV": COMPLEX}, {"VV": 9e-8}, variant="SSC")
        (image,) = (path / "IMAGEDATA").iterdir()
        image.write_bytes(image.read_bytes()[: int(image.stat().st_size * share)] or b"x")
        with pytest.raises((SceneTruncated, SceneUnreadable), match="send it again"):
            open_scene(path)

    def test_several_bursts_are_refused(self, tmp_path: Path) -> None:
        path = write_terrasarx(tmp_path / TSX, {"VV": COMPLEX}, {"VV": 9e-8}, variant="SSC")
        (image,) = (path / "IMAGEDATA").iterdir()
        image.write_bytes(image.read_bytes() * 2)
        with pytest.raises(SceneUnreadable, match="several bursts"):
            open_scene(path)

    @pytest.mark.parametrize("factor", ["-1", "nan", "much", ""])
    def test_a_factor_that_makes_no_sense_is_refused(self, tmp_path: Path, factor: str) -> None:
        path = write_terrasarx(tmp_path / TSX, {"HH": DN}, {"HH": 1e-6})
        header = path / f"{TSX}.xml"
        header.write_text(header.read_text().replace("1.000000e-06", factor))
        with pytest.raises(SceneUnreadable, match="calFactor"):
            open_scene(path)


@pytest.mark.parametrize(
    ("write", "gone", "said"),
    [
        ("rs2", "product.xml", "product.xml"),
        ("rs2", "imagery_HV.tif", "imagery_HV.tif"),
        ("rs2", "lutSigma.xml", "lutSigma.xml"),
        ("rcm", "metadata/product.xml", "metadata/product.xml"),
        ("rcm", "metadata/calibration/lutSigma_HV.xml", "calibration/lutSigma_HV.xml"),
        ("tsx", f"{TSX}.xml", f"{TSX}.xml"),
        ("tsx", "IMAGEDATA/IMAGE_HV_SRA_strip_007.tif", "IMAGEDATA/IMAGE_HV_SRA_strip_007.tif"),
    ],
)
def test_a_product_waits_for_every_file_that_it_names(tmp_path: Path, write: str, gone: str, said: str) -> None:
    bands = {"HH": DN, "HV": DN}
    if write == "rs2":
        path = write_radarsat2(tmp_path / RS2, bands, GAINS)
    elif write == "rcm":
        path = write_rcm(tmp_path / RCM, bands, GAINS)
    else:
        path = write_terrasarx(tmp_path / TSX, bands, {"HH": 1e-6, "HV": 1e-6})
    open_scene(path).close()
    aside = (path / gone).rename(tmp_path / "aside")
    reader = find_reader(path)
    assert reader is not None
    assert reader.missing(path) == [said]
    with pytest.raises(SceneIncomplete, match=said):
        open_scene(path)
    aside.rename(path / gone)
    open_scene(path).close()


def test_who_names_a_part_is_told_to_name_the_folder(tmp_path: Path) -> None:
    for part in (
        write_radarsat2(tmp_path / RS2, {"HH": DN}, GAINS) / "product.xml",
        write_terrasarx(tmp_path / TSX, {"HH": DN}, {"HH": 1e-6}) / f"{TSX}.xml",
    ):
        with pytest.raises(SceneUnreadable, match=f"give the folder, {part.parent}$"):
            open_scene(part)


def test_polarisations_of_different_sizes_are_refused(tmp_path: Path) -> None:
    path = write_radarsat2(tmp_path / RS2, {"HH": DN, "HV": DN}, GAINS)
    write_geotiff(path / "imagery_HV.tif", DN[:50])
    with pytest.raises(SceneUnreadable, match=r"imagery_HV\.tif has 70 x 50 px, imagery_HH\.tif has 70 x 90 px"):
        open_scene(path)
