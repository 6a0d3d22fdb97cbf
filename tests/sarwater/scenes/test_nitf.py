"""SICD and SIDD: amplitude, place, time, polarisation and calibration; what is no plain SAR image is refused."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from osgeo import gdal

from runtime.backends import Backend
from runtime.pipeline import process_scene
from runtime.products.publish import publish
from sarwater.errors import SceneError, SceneNoBackscatter, SceneTruncated, SceneUnreadable, SceneUnsafe
from sarwater.manifest import Channel
from sarwater.request import Limits
from sarwater.scenes.readers import find_reader, open_model_input, open_scene
from sarwater.scenes.readers.nitf import Nitf
from tests.support.advice import translated
from tests.support.deliveries import sicd_xml, sidd_xml, whole, write_nitf
from tests.support.rasters import lake_scene, read_raster, write_geotiff

PIXELS = lake_scene(150, 170)
TURNS = np.random.default_rng(0).choice([1, 1j, -1, -1j], PIXELS.shape)
COMPLEX = (PIXELS * TURNS).astype(np.complex64)
SAR = (Channel("sar", "amplitude_dn"),)


def sicd(path: Path, pixel_type: str, factor: float | None = None) -> Path:
    dtype = np.int16 if pixel_type == "RE16I_IM16I" else np.float32
    bands = np.stack([COMPLEX.real, COMPLEX.imag]).astype(dtype)
    xml = sicd_xml(*PIXELS.shape, pixel_type=pixel_type, factor=factor)
    return write_nitf(path, bands, xml, category="SARIQ", kinds="I,Q")


@pytest.mark.parametrize("pixel_type", ["RE32F_IM32F", "RE16I_IM16I"])
def test_sicd_is_its_amplitude_with_time_and_polarisation(tmp_path: Path, pixel_type: str) -> None:
    path = sicd(tmp_path / "a_20200101T000000.ntf", pixel_type)
    assert isinstance(find_reader(path), Nitf)
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), PIXELS)
        assert (scene.format, scene.acquired) == ("SICD", "2024-07-26T09:15:30Z")
        assert [band.polarisation for band in scene.bands] == ["vv"]
        assert scene.bands[0].unit == "amplitude_dn"


def test_sicd_lies_between_its_corners(tmp_path: Path) -> None:
    with open_scene(sicd(tmp_path / "a.nitf", "RE32F_IM32F")) as scene:
        ground = scene.georeference.ground(scene.width_px, scene.height_px)
        assert ground is not None
        corners = ground.to_lonlat(np.array([[0.5, 0.5], [169.5, 0.5], [169.5, 149.5], [0.5, 149.5]]))
        centre = ground.to_lonlat(np.array([[85.5, 75.5]]))
    assert corners == pytest.approx(np.array([[127, 36.1], [127.01, 36.1], [127.01, 36.09], [127, 36.09]]), abs=1e-7)
    assert centre[0] == pytest.approx([127.005, 36.095], abs=1e-7)


def test_sicd_is_calibrated_by_the_constant_of_its_polynomial(tmp_path: Path) -> None:
    path = sicd(tmp_path / "a.nitf", "RE32F_IM32F", factor=1e-6)
    with open_model_input(path, (Channel("sar", "sigma0_linear"),)) as scene:
        assert whole(scene)[0] == pytest.approx(1e-6 * PIXELS.astype(float) ** 2, rel=1e-5)
    with open_model_input(path, SAR) as scene:
        assert whole(scene)[0] == pytest.approx(0.4 * PIXELS, rel=1e-5)


@pytest.mark.parametrize("table", ["", "".join(f"<Amplitude index='{i}'>{i * i}</Amplitude>" for i in range(256))])
def test_of_amplitude_and_phase_the_amplitude_is_taken(tmp_path: Path, table: str) -> None:
    amplitude = np.clip(PIXELS, 0, 255).astype(np.uint8)
    xml = sicd_xml(*PIXELS.shape, pixel_type="AMP8I_PHS8I", table=table)
    path = write_nitf(tmp_path / "a.nitf", np.stack([amplitude, amplitude[::-1]]), xml, category="SARIQ", kinds="M,P")
    expected = amplitude.astype(float) ** 2 if table else amplitude
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), expected)
    with open_model_input(path, SAR) as scene:
        assert np.array_equal(whole(scene)[0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_sidd_is_amplitude(tmp_path: Path, dtype: type) -> None:
    pixels = np.clip(PIXELS, 0, 255).astype(dtype)
    with open_scene(write_nitf(tmp_path / "a.ntf", pixels, sidd_xml())) as scene:
        assert scene.read().dtype == dtype
        assert np.array_equal(scene.read(), pixels)
        assert (scene.format, scene.acquired) == ("SIDD", "2024-07-26T09:15:30Z")
        assert scene.bands[0].polarisation == "hh"
        assert len(scene.georeference.gcps) == 4


def test_without_xml_the_header_places_it(tmp_path: Path) -> None:
    corners = "360600N1270000E360600N1270036E360524N1270036E360524N1270000E"
    path = write_nitf(
        tmp_path / "a_20240726T091530_HH.ntf", PIXELS, options=["ICORDS=G", f"IGEOLO={corners}", "FDT=20250101000000"]
    )
    with open_scene(path) as scene:
        assert (scene.format, scene.acquired) == ("NITF", "2024-07-26T09:15:30Z")
        assert scene.bands[0].polarisation == "hh"
        ground = scene.georeference.ground(scene.width_px, scene.height_px)
        assert ground is not None
        assert ground.to_lonlat(np.array([[0.5, 0.5]]))[0] == pytest.approx([127, 36.1], abs=1e-4)


def test_the_mask_is_that_of_the_amplitudes(tmp_path: Path, backend: Backend, out: Path) -> None:
    plain = write_geotiff(tmp_path / "plain.tif", PIXELS, transform=None)
    for path in (plain, sicd(tmp_path / "sicd.ntf", "RE16I_IM16I")):
        publish(process_scene(path, backend, out))
    assert np.array_equal(read_raster(out / "sicd_water.tif"), read_raster(out / "plain_water.tif"))


def refused(path: Path, kind: type[SceneError], match: str, limits: Limits | None = None) -> None:
    with pytest.raises(kind, match=match) as error:
        open_scene(path, limits)
    assert str(error.value).startswith(f"{path.name}: ")


@pytest.mark.parametrize("compression", ["C8", "C3", "I1", "C4"])
def test_compressed_images_are_refused_before_gdal_sees_them(tmp_path: Path, compression: str) -> None:
    path = write_nitf(tmp_path / "a.ntf", PIXELS, sidd_xml())
    data = bytearray(path.read_bytes())
    at = _image_subheader(data) + 372  # IC follows ICORDS, blank here, and NICOM
    assert data[at + 1 : at + 3] == b"NC"
    data[at + 1 : at + 3] = compression.encode()
    path.write_bytes(data)
    refused(path, SceneUnreadable, r"compressed \(.*gdal_translate -of NITF -co IC=NC")


@pytest.mark.parametrize("xml", [sicd_xml(*PIXELS.shape), ""])
def test_complex_pixels_are_of_a_radar_whatever_the_category_says(tmp_path: Path, xml: str) -> None:
    with open_scene(write_nitf(tmp_path / "a.ntf", COMPLEX, xml, category="VIS")) as scene:
        assert np.array_equal(scene.read(), PIXELS)
        assert scene.format == ("SICD" if xml else "NITF")


def test_the_only_image_of_a_sar_product_is_that_of_the_radar(tmp_path: Path) -> None:
    with open_scene(write_nitf(tmp_path / "a.ntf", PIXELS, sidd_xml(), category="VIS")) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_several_segments_are_refused_with_the_way_to_take_them_out(tmp_path: Path) -> None:
    path = write_nitf(tmp_path / "a.ntf", PIXELS, options=["NUMI=2"])
    write_nitf(path, PIXELS, options=["APPEND_SUBDATASET=YES"])
    refused(
        path, SceneUnreadable, r"2 segments, expected one; .* gdal_translate NITF_IM:0:a.ntf a-0.tif, gdal_translate"
    )


def advice(path: Path) -> str:
    with pytest.raises(SceneError) as error:
        open_scene(path)
    return str(error.value)


def test_one_of_several_segments_can_be_taken_out_as_advised(tmp_path: Path) -> None:
    path = write_nitf(tmp_path / "my a.ntf", PIXELS, options=["NUMI=2"])
    write_nitf(path, PIXELS[:, ::-1].copy(), options=["APPEND_SUBDATASET=YES"])
    with open_scene(translated(advice(path), tmp_path)) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_an_image_of_another_category_can_be_written_anew_as_advised(tmp_path: Path) -> None:
    path = write_nitf(tmp_path / "a.ntf", PIXELS, category="VIS")
    with open_scene(translated(advice(path), tmp_path)) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_a_compressed_image_can_be_converted_as_advised(tmp_path: Path) -> None:
    if gdal.GetDriverByName("JP2OpenJPEG") is None:
        pytest.skip("this GDAL writes no JPEG 2000")
    path = write_nitf(tmp_path / "a.ntf", PIXELS, options=["IC=C8", "QUALITY=100"])
    with open_scene(translated(advice(path), tmp_path)) as scene:
        assert scene.read().shape == PIXELS.shape


@pytest.mark.parametrize("first", ["SAR", "LEG"])
def test_a_legend_beside_the_image_is_left_out(tmp_path: Path, first: str) -> None:
    images = {"SAR": PIXELS, "LEG": np.zeros((20, 30), np.uint8)}
    second = "LEG" if first == "SAR" else "SAR"
    path = write_nitf(tmp_path / "a.ntf", images[first], category=first, options=["NUMI=2"])
    write_nitf(path, images[second], category=second, options=["APPEND_SUBDATASET=YES"])
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_an_optical_image_is_refused(tmp_path: Path) -> None:
    refused(write_nitf(tmp_path / "a.ntf", PIXELS, category="VIS"), SceneNoBackscatter, "VIS, expected SAR")
    rgb = write_nitf(tmp_path / "rgb.ntf", np.full((3, 80, 90), 9, np.uint8), options=["IREP=RGB"])
    refused(rgb, SceneNoBackscatter, "red, green and blue")


@pytest.mark.parametrize("percent", [1, 3, 20, 60, 99])
def test_a_part_is_refused(tmp_path: Path, percent: int) -> None:
    path = sicd(tmp_path / "a.ntf", "RE32F_IM32F")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * percent // 100])
    with pytest.raises((SceneTruncated, SceneUnreadable), match="send it again"):
        open_scene(path)


def test_damaged_headers_raise_nothing_else(tmp_path: Path) -> None:
    path = sicd(tmp_path / "a.ntf", "RE32F_IM32F")
    data, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(80):
        damaged = bytearray(data)
        start = int(rng.integers(9, 1000))
        damaged[start : start + 12] = rng.bytes(12)
        path.write_bytes(damaged)
        with contextlib.suppress(SceneError), open_scene(path) as scene:
            scene.read()


def test_other_versions_and_sizes_are_refused(tmp_path: Path) -> None:
    path = write_nitf(tmp_path / "a.ntf", PIXELS, sidd_xml())
    refused(path, SceneUnsafe, "25,500 pixels", Limits(max_pixels=1000))
    path.write_bytes(path.read_bytes().replace(b"NITF02.10", b"NITF02.00", 1))
    refused(path, SceneUnreadable, r"NITF02.00, expected NITF 2.1")


def test_entities_in_the_xml_are_refused(tmp_path: Path) -> None:
    xml = "<!DOCTYPE a [<!ENTITY b 'c'>]>" + sidd_xml()
    refused(write_nitf(tmp_path / "a.ntf", PIXELS, xml), SceneUnsafe, "entities")


def _image_subheader(data: bytes) -> int:
    return int(data[354:360])
