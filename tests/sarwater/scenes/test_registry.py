"""Each reader answers for a path: is it yours, what does it lack, which files belong to it, open it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sarwater
from runtime.pipeline import scene_sha256
from sarwater.errors import (
    ChannelMissing,
    SceneEmpty,
    SceneIncomplete,
    SceneIsProduct,
    SceneMissing,
    SceneUnreadable,
    SceneUnsafe,
    UsageError,
)
from sarwater.identity import input_sha256
from sarwater.scenes.readers import READERS, find_reader, members, open_scene, reader_of
from sarwater.scenes.readers.beam_dimap import BeamDimap
from sarwater.scenes.readers.envi import Envi
from sarwater.scenes.readers.geotiff import GeoTiff
from sarwater.scenes.readers.hdf5_product import Hdf5Product
from sarwater.scenes.readers.kompsat5_folder import Kompsat5Folder
from sarwater.scenes.readers.nitf import Nitf
from sarwater.scenes.readers.radarsat2_folder import Radarsat2Folder
from sarwater.scenes.readers.rcm_folder import RcmFolder
from sarwater.scenes.readers.sentinel1_safe import Sentinel1Safe
from sarwater.scenes.readers.terrasarx_folder import TerraSarXFolder
from sarwater.tags import MASK_KEY_TAG
from tests.support.deliveries import sidd_xml, write_hdf5, write_k5_folder, write_manifest, write_nitf, write_safe
from tests.support.hdf5_products import write_gcov, write_netcdf, write_opera
from tests.support.product_folders import write_dimap, write_envi_folder, write_radarsat2, write_rcm, write_terrasarx
from tests.support.rasters import lake_scene, write_geotiff

PIXELS = lake_scene(40, 60)
POWER = PIXELS.astype(np.float32)
K5 = "K5_20240726091530_000000_12345_D_ES19_HH_GTC_B_L1D"
TELLING = (
    ("safe of another name", "manifest.safe"),
    ("rcm of another name", "product.xml"),
    ("envi", "Amplitude_VV.hdr"),
)
RS2 = "RS2_OK123_PK1_DK1_F23_20240726_091530_HH_SGF"
TSX = "TSX1_SAR__MGD_SE___SM_S_SRA_20240726T091530_20240726T091540"
SAFE = "S1A_IW_GRDH_1SDV_20240726T091530.SAFE"

KINDS: dict[str, tuple[type, str, Callable[[Path], Path], int]] = {
    "geotiff": (GeoTiff, "a.tif", lambda path: write_geotiff(path, PIXELS), 1),
    "bigtiff": (GeoTiff, "a.tiff", lambda path: write_geotiff(path, PIXELS, options=["BIGTIFF=YES"]), 1),
    "a TIFF of another name": (GeoTiff, "scene.dat", lambda path: write_geotiff(path, PIXELS), 1),
    "hdf5": (Hdf5Product, "a.h5", lambda path: write_hdf5(path, "L1D", PIXELS), 1),
    "cosmo": (Hdf5Product, "CSKS1.h5", lambda path: write_hdf5(path, "L1D", PIXELS, mission="CSK"), 1),
    "nisar": (Hdf5Product, "NISAR_L2_PR_GCOV.h5", lambda path: write_gcov(path, {"HHHH": POWER}), 1),
    "opera": (Hdf5Product, "OPERA_L2_RTC-S1.h5", lambda path: write_opera(path, {"VV": POWER}), 1),
    "netcdf": (Hdf5Product, "rtc.nc", lambda path: write_netcdf(path, {"gamma0_vv": POWER}), 1),
    "kompsat5": (Kompsat5Folder, K5, lambda path: write_k5_folder(path, PIXELS, np.full((40, 60), 190, np.uint8)), 3),
    "kompsat5 of another name": (Kompsat5Folder, "delivery", lambda path: write_k5_folder(path, PIXELS), 2),
    "nitf": (Nitf, "a.ntf", lambda path: write_nitf(path, PIXELS, sidd_xml()), 1),
    "safe": (Sentinel1Safe, SAFE, lambda path: write_safe(path, {"vv": PIXELS, "vh": PIXELS}), 7),
    "safe of another name": (Sentinel1Safe, "input", lambda path: write_safe(path, {"vv": PIXELS}), 4),
    "radarsat-2": (Radarsat2Folder, RS2, lambda path: write_radarsat2(path, {"HH": PIXELS}, np.ones(60)), 6),
    "radarsat-2 of another name": (Radarsat2Folder, "b", lambda path: write_radarsat2(path, {"HH": PIXELS}, ""), 6),
    "rcm": (RcmFolder, "RCM1_OK1", lambda path: write_rcm(path, {"HH": PIXELS}, np.ones(60)), 5),
    "rcm of another name": (RcmFolder, "input", lambda path: write_rcm(path, {"HH": PIXELS}, np.ones(60)), 5),
    "terrasar-x": (TerraSarXFolder, TSX, lambda path: write_terrasarx(path, {"HH": PIXELS}, {"HH": 1e-5}), 2),
    "envi": (Envi, "ENVI_20240726T091530", lambda path: write_envi_folder(path, PIXELS), 2),
    "beam-dimap": (BeamDimap, "S1A_Cal_TC", lambda path: write_dimap(path / "a.dim", {"VV": PIXELS}).parent, 3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_one_reader_that_knows_its_members_and_opens_it(tmp_path: Path, kind: str) -> None:
    reader, name, write, count = KINDS[kind]
    path = write(tmp_path / name)
    assert [type(found) for found in READERS if found.matches(path, path.name)][0] is reader  # noqa: RUF015
    found = reader_of(path)
    assert type(found) is reader
    assert found.missing(path) == []
    assert members(path) == sorted(members(path))
    assert len(members(path)) == count
    with open_scene(path) as scene:
        assert (scene.width_px, scene.height_px) == (60, 40)
        assert np.array_equal(scene.read(), PIXELS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_that_was_renamed_is_told_by_what_it_was_called(tmp_path: Path, kind: str) -> None:
    _, name, write, _ = KINDS[kind]
    path = write(tmp_path / name)
    renamed = path.rename(tmp_path / ("renamed" + "".join(path.suffixes[-1:])))
    with open_scene(renamed, name=name) as scene:
        assert scene.name == name
        acquired = scene.acquired
    renamed.rename(path)
    with open_scene(path) as scene:
        assert scene.acquired == acquired


@pytest.mark.parametrize("kind", [kind for kind, (_, _, _, count) in KINDS.items() if count > 1])
def test_a_folder_without_any_one_of_its_needed_files_is_incomplete(tmp_path: Path, kind: str) -> None:
    _, name, write, _ = KINDS[kind]
    path = write(tmp_path / name)
    unread = ("GIM", "QL", "Browse", "lutBeta", "lutGamma")
    unread += ("manifest.safe",) if "rcm" in kind else ()
    needed = [file for file in members(path) if not any(word in file.name for word in unread)]
    for file in needed:
        if (kind, file.name) in TELLING:
            continue  # nothing is left to tell it by
        aside = file.rename(tmp_path / "aside")
        if kind == "kompsat5 of another name" and file.suffix == ".xml":
            assert find_reader(path) is not None, "the image is named K5_"
        with pytest.raises(SceneIncomplete, match=r"without .*; send all of the product"):
            open_scene(path)
        aside.rename(file)
    open_scene(path).close()


@pytest.mark.parametrize("kind", [kind for kind, (_, _, _, count) in KINDS.items() if count > 1])
def test_hidden_files_are_no_part_of_a_product(tmp_path: Path, kind: str) -> None:
    """A desktop leaves `.DS_Store`, and `._NAME` beside each file that it copied."""
    _, name, write, count = KINDS[kind]
    path = write(tmp_path / name)
    before = scene_sha256(path, name)
    for file in members(path):
        file.with_name(f"._{file.name}").write_bytes(b"Mac OS X")
    (path / ".DS_Store").write_bytes(b"Bud1")
    (path / ".thumbnails").mkdir()
    (path / ".thumbnails" / "K5_quicklook.tif").write_bytes(b"a picture")
    assert len(members(path)) == count
    assert scene_sha256(path, name) == before
    with open_scene(path) as scene:
        assert np.array_equal(scene.read(), PIXELS)


def test_a_safe_folder_that_is_still_being_copied_is_incomplete(tmp_path: Path) -> None:
    path = write_safe(tmp_path / SAFE, {"vv": PIXELS})
    measurement = next((path / "measurement").iterdir())
    measurement.write_bytes(measurement.read_bytes()[:-1])
    with pytest.raises(SceneIncomplete, match="measurement/s1a-iw-grd-vv"):
        open_scene(path)


def test_a_safe_folder_is_not_held_to_files_outside_of_what_is_read(tmp_path: Path) -> None:
    path = write_safe(tmp_path / SAFE, {"vv": PIXELS})
    (path / "preview").mkdir()
    (path / "preview" / "quick-look.png").write_bytes(b"x")
    write_manifest(path)
    shutil.rmtree(path / "preview")
    with open_scene(path) as scene:
        assert scene.bands[0].polarisation == "vv"


@pytest.mark.parametrize("href", ["../../secret.tif", "/etc/hostname", "measurement/../../x", ""])
def test_a_manifest_cannot_point_out_of_its_folder(tmp_path: Path, href: str) -> None:
    path = write_safe(tmp_path / SAFE, {"vv": PIXELS})
    text = (path / "manifest.safe").read_text()
    more = f"<byteStream size='1'><fileLocation href='{href}'/></byteStream></dataObjectSection>"
    (path / "manifest.safe").write_text(text.replace("</dataObjectSection>", more))
    open_scene(path).close()


@pytest.mark.parametrize("count", [2, 3])
def test_a_folder_of_several_products_is_not_taken_for_its_first(tmp_path: Path, count: int) -> None:
    for number in range(count):
        write_hdf5(tmp_path / f"K5_{number}.h5", "L1D", PIXELS)
    with pytest.raises(SceneUnreadable, match=f"a folder with {count} images; expected one product"):
        open_scene(tmp_path)


def test_a_folder_that_is_no_product_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(SceneUnreadable, match=r"plain: a folder of no kind.*\*\.SAFE.*K5_\*.*HDF5"):
        open_scene(tmp_path / "plain")


@pytest.mark.parametrize("where", ["file", "kompsat5", "safe"])
def test_what_we_made_is_never_a_scene(tmp_path: Path, where: str) -> None:
    if where == "file":
        path = mask = tmp_path / "a_water.tif"
    elif where == "kompsat5":
        path = write_k5_folder(tmp_path / K5, PIXELS)
        mask = next(path.glob("*.tif"))
    else:
        path = write_safe(tmp_path / SAFE, {"vv": PIXELS})
        mask = next((path / "measurement").iterdir())
    write_geotiff(mask, PIXELS, metadata={MASK_KEY_TAG: "0" * 64})
    if where == "safe":
        write_manifest(path)
    with pytest.raises(SceneIsProduct, match="give the SAR scene"):
        open_scene(path)


def test_special_files_are_refused_before_they_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(SceneMissing, match="not a regular file"):
        open_scene(tmp_path / "pipe.tif")
    folder = write_k5_folder(tmp_path / K5, PIXELS)
    os.mkfifo(folder / "pipe")
    with pytest.raises(SceneUnsafe, match="special file"):
        members(folder)
    (tmp_path / "empty.tif").touch()
    with pytest.raises(SceneEmpty):
        open_scene(tmp_path / "empty.tif")


class TestReadingAScene:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return write_safe(tmp_path / SAFE, {"vh": PIXELS // 2, "vv": PIXELS})

    def test_the_band_is_named_by_polarisation_or_number(self, path: Path) -> None:
        with sarwater.open_scene(str(path)) as scene:
            assert np.array_equal(scene.read(), PIXELS), "the co-polarised one"
            assert np.array_equal(scene.read(band="VH"), PIXELS // 2)
            assert np.array_equal(scene.read(band=1), PIXELS // 2)
            with pytest.raises(ChannelMissing, match="it has vh, vv"):
                scene.read(band="hh")
            with pytest.raises(ChannelMissing):
                scene.read(band=3)

    def test_a_window_is_cut_out(self, path: Path) -> None:
        with sarwater.open_scene(path) as scene:
            assert np.array_equal(scene.read((10, 5, 20, 8)), PIXELS[5:13, 10:30])
            assert np.array_equal(scene.read(sarwater.Window(0, 0, 1, 1)), PIXELS[:1, :1])
            for window in ((50, 0, 20, 1), (-1, 0, 2, 2), (0, 0, 0, 1)):
                with pytest.raises(UsageError, match="60 x 40"):
                    scene.read(window)

    def test_it_says_what_it_is(self, path: Path) -> None:
        with sarwater.open_scene(path) as scene:
            text = repr(scene)
        assert all(word in text for word in (SAFE, "Sentinel-1 GRD", "60 x 40 px", "vh (amplitude_dn)", "2024-07-26"))

    def test_a_closed_scene_says_so(self, path: Path) -> None:
        with sarwater.open_scene(path) as scene:
            pass
        with pytest.raises(UsageError, match="closed"):
            scene.read()
        assert "closed" in repr(scene)


class TestIdentity:
    def test_a_file_is_its_bytes_whatever_it_is_called(self, tmp_path: Path) -> None:
        first = write_geotiff(tmp_path / "a.tif", PIXELS)
        second = tmp_path / "b.tif"
        shutil.copy(first, second)
        assert scene_sha256(first) == scene_sha256(second)

    def test_a_folder_is_its_files_whatever_it_is_called(self, tmp_path: Path) -> None:
        first = write_k5_folder(tmp_path / K5, PIXELS)
        second = tmp_path / "input"
        shutil.copytree(first, second)
        assert scene_sha256(first) == scene_sha256(second, name=K5)

    @given(st.dictionaries(st.sampled_from("abcdefgh"), st.binary(max_size=20), min_size=1), st.randoms())
    def test_the_order_of_members_does_not_matter(
        self, tmp_path_factory: pytest.TempPathFactory, contents: dict[str, bytes], random: object
    ) -> None:
        folder = tmp_path_factory.mktemp("product")
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        files = [folder / name for name in contents]
        expected = input_sha256(folder, files)
        random.shuffle(files)  # type: ignore[attr-defined]
        assert input_sha256(folder, files) == expected
        (folder / next(iter(contents))).write_bytes(b"something else altogether")
        assert input_sha256(folder, files) != expected
