"""ENVI pairs and BEAM-DIMAP: pixels in one file, what they are in another."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from osgeo import osr

from runtime.backends import Backend
from runtime.pipeline import process_scene, scene_sha256
from runtime.products.publish import publish
from sarwater.errors import (
    SceneIncomplete,
    SceneNoBackscatter,
    SceneTruncated,
    SceneUnreadable,
    SceneUnsafe,
)
from sarwater.manifest import Channel
from sarwater.request import Request
from sarwater.scenes.labels import images_in
from sarwater.scenes.readers import find_reader, members, open_model_input, open_scene
from tests.support.deliveries import whole
from tests.support.product_folders import CORNERS, write_dimap, write_envi
from tests.support.rasters import TRANSFORM, lake_scene, read_raster, wkt, write_geotiff

HEIGHT, WIDTH = 90, 70
AMPLITUDE = lake_scene(HEIGHT, WIDTH).astype(np.float32)
SIGMA0 = np.square(AMPLITUDE / 400).astype(np.float32)
SIGMA0[:7] = 0
SAR = (Channel("sar", "amplitude_dn"),)
LINEAR = (Channel("sar", "sigma0_linear"),)
NAME = "S1A_IW_GRDH_1SDV_20240726T091530_Cal_TC"


def mask_of(path: Path, backend: Backend, out: Path) -> np.ndarray:
    publish(process_scene(path, backend, out))
    return read_raster(out / f"{path.stem}_water.tif")


@pytest.fixture
def expected(tmp_path: Path, backend: Backend) -> np.ndarray:
    """The mask of a GeoTIFF of SIGMA0."""
    plain = write_geotiff(tmp_path / "plain_sigma0_linear.tif", SIGMA0, nodata=0)
    mask = mask_of(plain, backend, tmp_path / "plain")
    assert set(np.unique(mask)) == {0, 1, 255}
    return mask


def assert_on_the_map(path: Path) -> None:
    with open_scene(path) as scene:
        assert scene.georeference.geotransform == pytest.approx(TRANSFORM)
        crs = osr.SpatialReference(scene.georeference.crs_wkt)
        assert scene.georeference.epsg == 32652
        assert crs.IsSame(osr.SpatialReference(wkt(32652)), ["IGNORE_DATA_AXIS_TO_SRS_AXIS_MAPPING=YES"])


GEOTOOLS = {
    4326: """GEOGCS["WGS84(DD)", DATUM["WGS84", SPHEROID["WGS84", 6378137.0, 298.257223563]], PRIMEM["Greenwich", 0.0],
        UNIT["degree", 0.017453292519943295], AXIS["Geodetic longitude", EAST], AXIS["Geodetic latitude", NORTH],
        AUTHORITY["EPSG","4326"]]""",
    32752: """PROJCS["UTM Zone 52, South", GEOGCS["World Geodetic System 1984", DATUM["World Geodetic System 1984",
        SPHEROID["WGS 84", 6378137.0, 298.257223563, AUTHORITY["EPSG","7030"]], AUTHORITY["EPSG","6326"]],
        PRIMEM["Greenwich", 0.0, AUTHORITY["EPSG","8901"]], UNIT["degree", 0.017453292519943295],
        AXIS["Geodetic longitude", EAST], AXIS["Geodetic latitude", NORTH]], PROJECTION["Transverse_Mercator"],
        PARAMETER["central_meridian", 129.0], PARAMETER["latitude_of_origin", 0.0], PARAMETER["scale_factor", 0.9996],
        PARAMETER["false_easting", 500000.0], PARAMETER["false_northing", 10000000.0], UNIT["m", 1.0],
        AXIS["Easting", EAST], AXIS["Northing", NORTH]]""",
    None: """PROJCS["EPSG:5186", GEOGCS["Korean", DATUM["GRS80", SPHEROID["GRS 1980", 6378137, 298.257222101]],
        PRIMEM["Greenwich", 0], UNIT["degree", 0.0174532925199433]], PROJECTION["Transverse_Mercator"],
        PARAMETER["latitude_of_origin", 38], PARAMETER["central_meridian", 127], PARAMETER["scale_factor", 1],
        PARAMETER["false_easting", 200000], PARAMETER["false_northing", 600000], UNIT["metre", 1]]""",
}
"""As SNAP writes them, by EPSG code."""


@pytest.mark.parametrize("epsg", GEOTOOLS)
def test_a_crs_of_snap_has_its_code(tmp_path: Path, epsg: int | None) -> None:
    path = write_dimap(tmp_path / "a.dim", {"Sigma0_VV": SIGMA0})
    path.write_text(path.read_text().replace(wkt(32652), GEOTOOLS[epsg]))
    with open_scene(path) as scene:
        assert scene.georeference.epsg == epsg
        same = osr.SpatialReference(scene.georeference.crs_wkt)
        assert same.GetProjParm("central_meridian") == osr.SpatialReference(GEOTOOLS[epsg]).GetProjParm(
            "central_meridian"
        )


class TestEnviPair:
    @pytest.mark.parametrize("interleave", ["bsq", "bil", "bip"])
    @pytest.mark.parametrize("big_endian", [True, False])
    def test_every_order_of_bytes_and_bands_gives_the_mask_of_the_geotiff(
        self, tmp_path: Path, backend: Backend, out: Path, expected: np.ndarray, interleave: str, big_endian: bool
    ) -> None:
        path = write_envi(
            tmp_path / f"{NAME}.img",
            np.stack([SIGMA0 / 2, SIGMA0]),
            names=["Sigma0_VH", "Sigma0_VV"],
            interleave=interleave,
            big_endian=big_endian,
            nodata=0,
            offset_bytes=13,
        )
        with open_scene(path) as scene:
            assert [band.polarisation for band in scene.bands] == ["vh", "vv"]
            assert {band.unit for band in scene.bands} == {"sigma0_linear"}
            assert np.array_equal(scene.read(), SIGMA0), "the co-polarised one"
            assert scene.acquired == "2024-07-26T09:15:30Z"
            assert scene.format == "ENVI"
        assert np.array_equal(mask_of(path, backend, out), expected)
        assert_on_the_map(path)

    @pytest.mark.parametrize("suffix", [".img", "", ".dat", ".bin", ".IMG"])
    def test_header_and_pixels_are_one_scene_whichever_is_named(self, tmp_path: Path, suffix: str) -> None:
        pixels = write_envi(tmp_path / f"Sigma0_VV{suffix}", SIGMA0)
        header = tmp_path / "Sigma0_VV.hdr"
        write_envi(tmp_path / "other.img", SIGMA0 * 2)
        assert members(pixels) == members(header) == sorted([header, pixels])
        assert scene_sha256(pixels) == scene_sha256(header)
        for path in (pixels, header):
            with open_scene(path) as scene:
                assert np.array_equal(scene.read(), SIGMA0)
                assert scene.bands[0].polarisation == "vv"

    def test_pixels_that_are_named_are_the_ones_that_are_read(self, tmp_path: Path) -> None:
        for number, suffix in enumerate((".img", ".dat", ".sig0"), 1):
            path = write_envi(tmp_path / f"a{suffix}", SIGMA0 * number)
            with open_scene(path) as scene:
                assert np.array_equal(scene.read(), SIGMA0 * number)
            assert members(path) == sorted([tmp_path / "a.hdr", path])

    def test_a_header_finds_pixels_of_any_suffix(self, tmp_path: Path) -> None:
        path = write_envi(tmp_path / "S1.grd.sig0", SIGMA0)
        (tmp_path / "S1.grd.xml").write_text("<a/>")
        assert members(tmp_path / "S1.grd.hdr") == [tmp_path / "S1.grd.hdr", path]

    def test_a_header_may_be_called_after_the_whole_name(self, tmp_path: Path) -> None:
        pixels = write_envi(tmp_path / "a.img", SIGMA0)
        header = (tmp_path / "a.hdr").rename(tmp_path / "a.img.hdr")
        assert members(pixels) == members(header) == [pixels, header]
        with open_scene(header) as scene:
            assert np.array_equal(scene.read(), SIGMA0)

    def test_a_link_leads_to_the_pair(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        pixels = write_envi(tmp_path / "there" / "a.img", SIGMA0)
        link = tmp_path / "link.img"
        link.symlink_to(pixels)
        assert scene_sha256(link) == scene_sha256(pixels)
        with open_scene(link) as scene:
            assert np.array_equal(scene.read(), SIGMA0)

    @pytest.mark.parametrize(
        ("names", "unit", "means"),
        [
            ("Sigma0_VV", "intensity", "sigma0_linear"),
            ("Gamma0_VH_db", "intensity_db", "gamma0_db"),
            ("Intensity_VV", "intensity", "intensity_linear"),
            ("Amplitude_VV", "amplitude", "amplitude_dn"),
            ("gamma nought", "", "gamma0_linear"),
            ("", "", "unknown"),
        ],
    )
    def test_the_unit_is_what_name_and_description_say(self, tmp_path: Path, names: str, unit: str, means: str) -> None:
        path = write_envi(tmp_path / "a.img", AMPLITUDE, names=[names] if names else [], unit=unit)
        with open_scene(path) as scene:
            assert scene.bands[0].unit == means

    def test_gain_and_offset_are_applied(self, tmp_path: Path) -> None:
        db = np.full((HEIGHT, WIDTH), -1234, np.int16)
        gain = "data gain values = {0.01}\ndata offset values = {1.5}"
        path = write_envi(tmp_path / "a.img", db, names=["Sigma0_VV_db"], more=gain)
        with open_model_input(path, (Channel("sar", "sigma0_db"),), Request(nodata=-32768)) as scene:
            assert np.allclose(whole(scene), -10.84)

    @pytest.mark.parametrize("kind", ["u1", "i2", "u2", "i4", "u4", "f4", "f8"])
    def test_every_type_of_pixel_is_read(self, tmp_path: Path, kind: str) -> None:
        pixels = AMPLITUDE.astype(np.uint8).astype(kind)
        with open_scene(write_envi(tmp_path / "a.img", pixels)) as scene:
            assert np.array_equal(scene.read(), pixels)

    def test_complex_pixels_come_as_amplitude(self, tmp_path: Path) -> None:
        with open_scene(write_envi(tmp_path / "a.img", (AMPLITUDE * (0.6 + 0.8j)).astype(np.complex64))) as scene:
            assert np.allclose(scene.read(), AMPLITUDE)

    @pytest.mark.parametrize("named", ["img", "hdr"])
    @pytest.mark.parametrize("gone", ["img", "hdr"])
    def test_one_without_the_other_is_incomplete(self, tmp_path: Path, named: str, gone: str) -> None:
        path = write_envi(tmp_path / "a.img", SIGMA0).with_suffix(f".{named}")
        if gone == named:
            return
        (tmp_path / f"a.{gone}").unlink()
        with pytest.raises(SceneIncomplete, match=rf"a\.{named}: .* without a\.{gone}; send all of the product"):
            open_scene(path)

    def test_pixels_cut_short_are_incomplete(self, tmp_path: Path) -> None:
        path = write_envi(tmp_path / "a.img", SIGMA0)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(SceneIncomplete, match=r"a\.img .25,199 of 25,200 bytes."):
            open_scene(path)

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("samples = 70", "samples = -70", "samples = -70, expected a whole number"),
            ("samples = 70", "samples = 9e9", "expected a whole number"),
            ("lines   = 90", "lines = ", "lines = nothing"),
            ("data type = 4", "data type = 11", "data type 11"),
            ("interleave = bsq", "interleave = tiles", "'tiles'"),
            ("byte order = 1", "byte order = 7", "byte order 7"),
            ("file type = ENVI Standard", "file type = ENVI Virtual Mosaic", "virtual mosaic"),
            ("byte order = 1", "byte order = 1\nfile compression = 1", "compressed"),
            ("byte order = 1", "byte order = 1\nband names = { Sigma0_VV \udcff }", "'band names' is not in UTF-8"),
        ],
    )
    def test_a_header_that_makes_no_sense_is_refused(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        path = write_envi(tmp_path / "a.img", SIGMA0)
        header = path.with_suffix(".hdr")
        assert old in header.read_text()
        header.write_text(header.read_text().replace(old, new), errors="surrogateescape")
        with pytest.raises(SceneUnreadable, match=message):
            open_scene(path)

    def test_an_absurd_size_is_refused(self, tmp_path: Path) -> None:
        path = write_envi(tmp_path / "a.img", SIGMA0)
        with pytest.raises(SceneUnsafe, match="6,300 pixels"):
            open_scene(path, Request(max_pixels=6299))
        path.with_suffix(".hdr").write_text("ENVI\n" + "x" * (2 << 20))
        with pytest.raises(SceneUnsafe, match="larger than"):
            open_scene(path)

    @pytest.mark.parametrize("beside", ["a.hdr", "a.sta"])
    def test_what_lies_beside_is_a_file_of_its_own(self, tmp_path: Path, beside: str) -> None:
        path = write_envi(tmp_path / "a.img", SIGMA0)
        if beside == "a.hdr":
            elsewhere = (tmp_path / "a.hdr").rename(tmp_path / "elsewhere.hdr")
            (tmp_path / "a.hdr").symlink_to(elsewhere)
        else:
            os.mkfifo(tmp_path / beside)  # GDAL reads it, and would wait for ever
        with pytest.raises(SceneUnsafe, match=f"{beside[2:]} beside it is a link or a special file"):
            open_scene(path)

    @pytest.mark.parametrize("name", ["localIncidenceAngle", "elevation", "layover_shadow_mask"])
    def test_what_is_no_backscatter_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(SceneNoBackscatter, match=name):
            open_scene(write_envi(tmp_path / f"{name}.img", SIGMA0, names=[name]))

    def test_a_geotiff_beside_a_header_stays_a_geotiff(self, tmp_path: Path) -> None:
        path = write_geotiff(tmp_path / "a.tif", AMPLITUDE.astype(np.uint16))
        write_envi(tmp_path / "a.img", SIGMA0)
        with open_scene(path) as scene:
            assert scene.format == "GeoTIFF"
        assert members(path) == [path]


class TestEnviFolder:
    def test_its_backscatter_is_one_scene(
        self, tmp_path: Path, backend: Backend, out: Path, expected: np.ndarray
    ) -> None:
        folder = tmp_path / f"{NAME}.data"
        folder.mkdir()
        for name, pixels in (("Sigma0_VH", SIGMA0 / 3), ("Sigma0_VV", SIGMA0), ("localIncidenceAngle", SIGMA0)):
            write_envi(folder / f"{name}.img", pixels, names=[name])
        assert len(members(folder)) == 6
        with open_scene(folder) as scene:
            assert [band.polarisation for band in scene.bands] == ["vh", "vv"]
            assert scene.acquired == "2024-07-26T09:15:30Z"
            assert scene.notes == ("left out: localIncidenceAngle",)
        assert np.array_equal(mask_of(folder, backend, out), expected)

    def test_several_scenes_are_no_product(self, tmp_path: Path) -> None:
        folder = tmp_path / "many"
        folder.mkdir()
        for date in ("20240101", "20240113"):
            write_envi(folder / f"{date}_VV.img", SIGMA0, names=["Sigma0_VV"])
        with pytest.raises(SceneUnreadable, match="several rasters of vv in sigma0_linear; expected one product"):
            open_scene(folder)

    def test_pixels_that_have_not_arrived_are_waited_for(self, tmp_path: Path) -> None:
        folder = tmp_path / "a"
        folder.mkdir()
        path = write_envi(folder / "Sigma0_VV.img", SIGMA0)
        whole_file = path.read_bytes()
        reader = find_reader(folder)
        assert reader is not None
        for size, lack in ((None, ["Sigma0_VV.img"]), (100, ["Sigma0_VV.img (100 of 25,200 bytes)"]), (25200, [])):
            path.unlink() if size is None else path.write_bytes(whole_file[:size])
            assert reader.missing(folder) == lack


class TestBeamDimap:
    def write(self, tmp_path: Path, **options: object) -> Path:
        (tmp_path / "product").mkdir()
        bands = {"Sigma0_VH": SIGMA0 / 3, "Sigma0_VV": SIGMA0, "localIncidenceAngle": SIGMA0, "elevation": SIGMA0}
        units = {"localIncidenceAngle": "deg", "elevation": "meters"}
        return write_dimap(tmp_path / "product" / f"{NAME}.dim", bands, units=units, **options)  # type: ignore[arg-type]

    def test_header_data_and_folder_are_one_product(
        self, tmp_path: Path, backend: Backend, out: Path, expected: np.ndarray
    ) -> None:
        header = self.write(tmp_path)
        data, folder = header.with_suffix(".data"), header.parent
        assert members(header) == members(data) == members(folder)
        assert len(members(header)) == 9
        assert scene_sha256(header) == scene_sha256(data) == scene_sha256(folder)
        for path in (header, data, folder):
            with open_scene(path) as scene:
                assert scene.format == "BEAM-DIMAP"
                assert scene.name == path.name
                assert [(band.polarisation, band.unit) for band in scene.bands] == [
                    ("vh", "sigma0_linear"),
                    ("vv", "sigma0_linear"),
                ]
                assert scene.acquired == "2024-07-26T09:15:30Z", "the .dim says so, whatever the folder is called"
                assert scene.georeference.epsg == 32652
                assert (scene.declared_nodata, scene.nodata) == (0, 0)
            assert np.array_equal(mask_of(path, backend, out / path.suffix), expected)
            assert_on_the_map(path)

    def test_a_product_that_was_renamed_is_still_found(self, tmp_path: Path) -> None:
        header = self.write(tmp_path)
        header.with_suffix(".data").rename(header.with_name("new.data"))
        with open_scene(header.rename(header.with_name("new.dim"))) as scene:
            assert np.array_equal(scene.read(), SIGMA0)

    @pytest.mark.parametrize(
        ("band", "unit", "means"),
        [
            ("Gamma0_VH_db", "intensity_db", "gamma0_db"),
            ("Beta0_HH", "intensity", "beta0_linear"),
            ("Intensity_VV", "intensity", "intensity_linear"),
            ("Amplitude_VV", "amplitude", "amplitude_dn"),
            ("Sigma0_IW1_VV", "intensity", "sigma0_linear"),
            ("Sigma0_VV_S0", "", "sigma0_linear"),
        ],
    )
    def test_units_are_those_of_snap(self, tmp_path: Path, band: str, unit: str, means: str) -> None:
        path = write_dimap(tmp_path / "a.dim", {band: AMPLITUDE}, units={band: unit})
        with open_scene(path) as scene:
            assert scene.bands[0].unit == means
            assert scene.bands[0].polarisation == next(pole for pole in ("hh", "vh", "vv") if pole in band.lower())

    def test_scaling_and_logarithm_are_undone(self, tmp_path: Path) -> None:
        stored = np.full((HEIGHT, WIDTH), 30, np.int16)
        more = (
            "<SCALING_FACTOR>-0.05</SCALING_FACTOR><SCALING_OFFSET>0.5</SCALING_OFFSET><LOG10_SCALED>{}</LOG10_SCALED>"
        )
        for log10, value in (("true", 10 ** (-0.05 * 30 + 0.5)), ("false", -0.05 * 30 + 0.5)):
            path = write_dimap(
                tmp_path / f"{log10}.dim", {"Sigma0_VV": stored}, nodata=None, more={"Sigma0_VV": more.format(log10)}
            )
            with open_model_input(path, LINEAR, Request(nodata=0)) as scene:
                assert np.allclose(whole(scene), value, rtol=1e-5)

    def test_nodata_is_what_the_header_declares(self, tmp_path: Path) -> None:
        pixels = np.where(SIGMA0 == 0, np.float32(-9999), SIGMA0)
        path = write_dimap(tmp_path / "a.dim", {"Sigma0_VV": pixels}, nodata=-9999)
        with open_model_input(path, LINEAR) as scene:
            _, valid = scene.read_valid(0, HEIGHT)
        assert np.array_equal(valid, SIGMA0 != 0)

    def test_computed_bands_are_left_out_and_that_is_said(self, tmp_path: Path) -> None:
        computed = {"Sigma0_VV_db": "10 * log10(Sigma0_VV)"}
        path = write_dimap(tmp_path / "a.dim", {"Sigma0_VV": SIGMA0}, computed=computed)
        with open_scene(path) as scene:
            assert [band.unit for band in scene.bands] == ["sigma0_linear"]
            assert scene.notes == ("left out, as SNAP computes it from others: Sigma0_VV_db",)

    def test_a_product_of_computed_bands_alone_is_refused(self, tmp_path: Path) -> None:
        path = write_dimap(
            tmp_path / "a.dim",
            {"elevation": SIGMA0},
            units={"elevation": "meters"},
            computed={"Intensity_VV": "i_VV * i_VV + q_VV * q_VV"},
        )
        with pytest.raises(SceneUnreadable, match="SNAP computes Intensity_VV from others, and has not stored it"):
            open_scene(path)

    @pytest.mark.parametrize("calibrated", ["0", "1"])
    def test_real_and_imaginary_bands_are_one(self, tmp_path: Path, calibrated: str) -> None:
        parts = {"i_VV": AMPLITUDE * np.float32(0.6), "q_VV": AMPLITUDE * np.float32(-0.8)}
        units = {"i_VV": "real", "q_VV": "imaginary"}
        abstracted = {"abs_calibration_flag": calibrated}
        path = write_dimap(
            tmp_path / "a.dim", parts, units=units, computed={"Intensity_VV": "..."}, abstracted=abstracted
        )
        with open_scene(path) as scene:
            (band,) = scene.bands
            assert (band.polarisation, band.unit) == ("vv", ["amplitude_dn", "sigma0_amplitude"][int(calibrated)])
            assert np.allclose(scene.read(), AMPLITUDE, rtol=1e-5)

    def test_tie_points_tell_the_place_of_a_product_in_radar_geometry(self, tmp_path: Path) -> None:
        path = write_dimap(tmp_path / "a.dim", {"Sigma0_VV": SIGMA0}, place="ties")
        with open_scene(path) as scene:
            assert scene.georeference.geotransform is None
            places = {(gcp.pixel, gcp.line): (gcp.x, gcp.y) for gcp in scene.georeference.gcps}
        assert places.keys() == {(column * WIDTH, row * HEIGHT) for column, row in CORNERS}
        for (column, row), place in CORNERS.items():
            assert places[column * WIDTH, row * HEIGHT] == pytest.approx(place, abs=1e-5)

    def test_a_product_waits_for_every_file_that_it_names(self, tmp_path: Path) -> None:
        header = write_dimap(tmp_path / "in" / "a.dim", {"Sigma0_VV": SIGMA0, "Sigma0_VH": SIGMA0}, place="ties")
        for file in members(header):
            aside = file.rename(tmp_path / "aside")
            for path in (header, header.parent):
                if path.exists():
                    with pytest.raises(SceneIncomplete, match=f"without .*{file.stem}"):
                        open_scene(path)
            aside.rename(file)
        shutil.rmtree(header.with_suffix(".data"))
        with pytest.raises(SceneIncomplete, match=r"a\.dim: a BEAM-DIMAP product without a\.data"):
            open_scene(header)

    @pytest.mark.parametrize(
        "href", ["../secret.hdr", "{folder}/secret.hdr", "a.data/../../secret.hdr", "..\\secret.hdr"]
    )
    @pytest.mark.parametrize("by", ["href", "name"])
    def test_no_name_leads_out_of_the_product(self, tmp_path: Path, href: str, by: str) -> None:
        write_envi(tmp_path / "secret.img", SIGMA0)
        header = write_dimap(tmp_path / "in" / "a.dim", {"Sigma0_VV": SIGMA0})
        href = href.format(folder=tmp_path)
        text = header.read_text()
        if by == "href":
            text = text.replace("a.data/Sigma0_VV.hdr", href)
        else:
            text = text.replace("a.data/Sigma0_VV.hdr", "").replace(">Sigma0_VV<", f">{href.removesuffix('.hdr')}<")
        header.write_text(text)
        with pytest.raises(SceneIncomplete, match=r"without a\.data/secret\.hdr"):
            open_scene(header)

    def test_links_and_entities_are_refused(self, tmp_path: Path) -> None:
        header = write_dimap(tmp_path / "in" / "a.dim", {"Sigma0_VV": SIGMA0})
        data = header.with_suffix(".data")
        elsewhere = data.rename(tmp_path / "elsewhere")
        data.symlink_to(elsewhere)
        for path in (header, header.parent):
            with pytest.raises(SceneUnsafe, match="a link"):
                open_scene(path)
        data.unlink()
        elsewhere.rename(data)
        (data / "Sigma0_VV.img").rename(tmp_path / "pixels")
        (data / "Sigma0_VV.img").symlink_to(tmp_path / "pixels")
        with pytest.raises(SceneUnsafe, match="a link"):
            open_scene(header)
        header.write_text("<!DOCTYPE a [<!ENTITY b 'c'>]><Dimap_Document>&b;</Dimap_Document>")
        (data / "Sigma0_VV.img").unlink()
        shutil.copy(tmp_path / "pixels", data / "Sigma0_VV.img")
        with pytest.raises(SceneUnsafe, match="entities"):
            open_scene(header)

    @pytest.mark.parametrize("last", [True, False])
    def test_the_metadata_of_the_original_product_are_passed_over(self, tmp_path: Path, last: bool) -> None:
        header = write_dimap(
            tmp_path / "a.dim", {"i_VV": AMPLITUDE, "q_VV": AMPLITUDE}, units={"i_VV": "real", "q_VV": "imaginary"}
        )
        own = '<MDElem name="Abstracted_Metadata"><MDATTR name="abs_calibration_flag">1</MDATTR></MDElem>'
        other = '<MDElem name="Original_Product_Metadata"><MDElem name="a"/><MDElem name="b"> &bad; </MDElem></MDElem>'
        text = header.read_text().replace(
            '<MDElem name="Abstracted_Metadata"></MDElem>', own + other if last else other + own
        )
        assert own in text
        header.write_text(text)
        with open_scene(header) as scene:
            assert scene.bands[0].unit == "sigma0_amplitude"

    def test_a_folder_of_several_products_is_refused(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_dimap(tmp_path / "many" / f"{name}.dim", {"Sigma0_VV": SIGMA0})
        with pytest.raises(SceneUnreadable, match="a folder of 2 products; give them one by one"):
            open_scene(tmp_path / "many")
        with open_scene(tmp_path / "many" / "b.dim") as scene:
            assert np.array_equal(scene.read(), SIGMA0)

    def test_a_header_that_describes_no_band_leaves_it_to_the_pairs(self, tmp_path: Path) -> None:
        header = write_dimap(tmp_path / "a.dim", {"Sigma0_VV": SIGMA0})
        header.write_text("<?xml version='1.0'?><Dimap_Document name='a'></Dimap_Document>")
        with open_scene(header) as scene:
            assert [(band.polarisation, band.unit) for band in scene.bands] == [("vv", "sigma0_linear")]
        assert_on_the_map(header)


def test_a_pair_is_one_image_to_train_on(tmp_path: Path) -> None:
    write_envi(tmp_path / "a.img", SIGMA0)
    write_envi(tmp_path / "b", SIGMA0)
    write_dimap(tmp_path / "c.dim", {"Sigma0_VV": SIGMA0})
    assert [path.name for path in images_in(tmp_path)] == ["a.img", "b", "c.dim"]


def test_truncated_pixels_are_named_while_they_are_read(tmp_path: Path) -> None:
    """Who shortens them after they were found whole."""
    from sarwater.scenes.readers.base import Source
    from sarwater.scenes.readers.envi import Pair, open_dataset

    path = write_envi(tmp_path / "a.img", SIGMA0)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SceneTruncated, match=r"a\.img ends at 25,199"):
        open_dataset(Source(path, "a.img", Request()), Pair.of(path))
