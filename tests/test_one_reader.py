"""Every kind of scene through predict, the daemon and the training reader: each must see the same thing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from runtime.backends import Backend, open_backend
from runtime.pipeline import process_scene, scene_sha256
from runtime.products.publish import publish, tags_of
from sarwater.classes import LAND, NODATA, WATER
from sarwater.identity import mask_key, stem_of
from sarwater.request import Request
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.raster import gdal
from sarwater.scenes.readers import members, open_model_input
from sarwater.tags import INPUT_TAG, MASK_KEY_TAG
from tests.conftest import CHECKOUT
from tests.support.deliveries import sicd_xml, write_hdf5, write_k5_folder, write_nitf, write_safe
from tests.support.hdf5_products import write_gcov, write_iceye, write_netcdf, write_opera
from tests.support.models import box_model
from tests.support.product_folders import write_dimap, write_envi, write_radarsat2, write_rcm, write_terrasarx
from tests.support.rasters import lake_scene, read_raster, write_geotiff
from train.data.labelled import LabelledScene, find_labelled

HEIGHT, WIDTH = 96, 80
K5 = "K5_20240726091530_000000_12345_D_ES19_HH"
TIME = "20240726T091530"


def amplitude(seed: int = 1) -> np.ndarray:
    """With a border of zeros that nothing measured."""
    pixels = lake_scene(HEIGHT, WIDTH, seed=seed)
    pixels[:7], pixels[:, -5:] = 0, 0
    return pixels


def decibels() -> np.ndarray:
    pixels = 20 * np.log10(lake_scene(HEIGHT, WIDTH) / np.float32(400))
    pixels[:6] = np.nan
    return pixels.astype(np.float32)


def shadowed() -> np.ndarray:
    """Incidence angles of 40 degrees, and a corner in radar shadow."""
    gim = np.full((HEIGHT, WIDTH), 185, np.uint8)
    gim[-20:, :20] = 255
    return gim


def striped(folder: Path) -> Path:
    return write_geotiff(folder / f"striped_{TIME}.tif", amplitude(), nodata=0)


def tiled(folder: Path) -> Path:
    options = ("TILED=YES", "BLOCKXSIZE=32", "BLOCKYSIZE=32", "COMPRESS=DEFLATE")
    pixels = np.where(amplitude(2) == 0, 65535, amplitude(2)).astype(np.uint16)
    return write_geotiff(folder / f"tiled_{TIME}.tif", pixels, nodata=65535, options=options)


def alpha(folder: Path) -> Path:
    bands = np.stack([lake_scene(HEIGHT, WIDTH, seed=3), np.full((HEIGHT, WIDTH), 65535, np.uint16)])
    bands[1, :9] = 0
    return write_geotiff(folder / f"alpha_{TIME}.tif", bands, options=("ALPHA=YES", "PHOTOMETRIC=MINISBLACK"))


def mask_band(folder: Path) -> Path:
    path = write_geotiff(folder / f"masked_{TIME}.tif", lake_scene(HEIGHT, WIDTH, seed=4))
    gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
    try:
        dataset = gdal.Open(str(path), gdal.GA_Update)
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        measured = np.full((HEIGHT, WIDTH), 255, np.uint8)
        measured[:, :11] = 0
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(measured)
        dataset.FlushCache()
        del dataset
    finally:
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", None)
    return path


def sigma0_db(folder: Path) -> Path:
    return write_geotiff(folder / f"Sigma0_VV_db_{TIME}.tif", decibels(), descriptions=("Sigma0_VV_db",))


def two_bands(folder: Path) -> Path:
    pixels = np.stack([amplitude(5), amplitude(6)])
    return write_geotiff(folder / f"dual_{TIME}.tif", pixels, nodata=0, descriptions=("VV", "VH"))


def hdf5(level: str, mission: str = "KMPS", gim: bool = False) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pixels = amplitude(7 + len(mission) + ord(level[-1]))
        if level == "L1A":  # in phase, in quadrature
            pixels = np.stack([pixels, np.zeros_like(pixels)], axis=-1).astype(np.int16)
        path = folder / f"{mission}_{level}.h5"
        return write_hdf5(path, level, pixels, mission=mission, gim=shadowed() if gim else None)

    return write


def power(seed: int) -> np.ndarray:
    """gamma0, linear, with a border that nothing measured."""
    pixels = np.square(lake_scene(HEIGHT, WIDTH, seed=seed) / np.float32(400)).astype(np.float32)
    pixels[:8] = np.nan
    return pixels


def csg(folder: Path) -> Path:
    path = write_hdf5(folder / "CSG_L1C.h5", "L1C", amplitude(30), mission="CSG")
    with h5py.File(path, "a") as file:
        file.move("S01/SBI", "S01/IMG")
    return path


def gcov(folder: Path) -> Path:
    subswaths = np.ones((HEIGHT, WIDTH), np.uint8)
    subswaths[40:44] = 0  # not focused
    path = folder / "NISAR_L2_PR_GCOV.h5"
    return write_gcov(path, {"HHHH": power(31), "HVHV": power(32)}, mask=subswaths)


def opera(folder: Path) -> Path:
    hidden = np.zeros((HEIGHT, WIDTH), np.uint8)
    hidden[-20:, :20] = 1
    return write_opera(folder / "OPERA_L2_RTC-S1.h5", {"VV": power(33), "VH": power(34)}, mask=hidden)


def netcdf(folder: Path) -> Path:
    return write_netcdf(folder / "rtc_netcdf.h5", {"gamma0_vv": power(35)})


def k5_folder(folder: Path) -> Path:
    return write_k5_folder(folder / f"{K5}_GTC_B_L1D", amplitude(20), shadowed())


def iceye(folder: Path) -> Path:
    return write_iceye(folder / "ICEYE_X7_SLC_SM.h5", amplitude(36).astype(np.float32), factor=1 / 400**2)


def k5_hdf5_folder(folder: Path) -> Path:
    inside = folder / "KMPS5_delivery"
    inside.mkdir()
    write_hdf5(inside / f"{K5}_GTC_B_L1D.h5", "L1D", amplitude(21), gim=shadowed())
    (inside / f"{K5}_GTC_B_L1D_Aux.xml").write_text("<Auxiliary/>")
    return inside


def safe(folder: Path) -> Path:
    name = "S1A_IW_GRDH_1SDV_20240726T091530_20240726T091555_054921_06B0A4_0000.SAFE"
    return write_safe(folder / name, {"vv": amplitude(22), "vh": amplitude(23)})


def radarsat2(folder: Path) -> Path:
    bands = {"HH": amplitude(24) * 9, "HV": amplitude(25) * 9}
    return write_radarsat2(folder / "RS2_OK123_PK1_DK1_F23_HH_HV_SGF", bands, np.linspace(1e7, 2e7, WIDTH), offset=99.0)


def rcm(folder: Path) -> Path:
    bands = {"HH": amplitude(26) * 9, "HV": amplitude(27) * 9}
    gains = np.linspace(1e7, 2e7, WIDTH // 4 + 1)
    return write_rcm(folder / "RCM1_OK123_PK1_HH_HV_GRD", bands, gains, step=4, offset=99.0)


def terrasarx(folder: Path) -> Path:
    return write_terrasarx(folder / "TSX1_SAR__MGD_SE___SM_S_SRA", {"HH": amplitude(28)}, {"HH": 1e-5})


def sigma0_bands() -> dict[str, np.ndarray]:
    return {name: np.square(amplitude(seed) / np.float32(400)) for name, seed in (("Sigma0_VV", 29), ("Sigma0_VH", 30))}


def envi_folder(folder: Path) -> Path:
    inside = folder / f"ENVI_{TIME}"
    inside.mkdir()
    for name, pixels in sigma0_bands().items():
        write_envi(inside / f"{name}.img", pixels, names=[name], nodata=0)
    return inside


def dimap_folder(folder: Path) -> Path:
    return write_dimap(folder / "S1A_Cal_TC" / f"S1A_{TIME}_Cal_TC.dim", sigma0_bands()).parent


def stripmap_slc(folder: Path) -> Path:
    path = folder / "S1A_S3_SLC__1SSV_20240726T091530_20240726T091555_054921_06B0A4_0000.SAFE"
    return write_safe(path, {"vv": amplitude(24) * np.complex64(1j)}, kind="s1a-s3-slc")


def sicd(folder: Path) -> Path:
    bands = np.stack([amplitude(25), np.zeros((HEIGHT, WIDTH), np.uint16)]).astype(np.float32)
    return write_nitf(folder / "SICD.nitf", bands, sicd_xml(HEIGHT, WIDTH), category="SARIQ", kinds="I,Q")


def safe_zip(folder: Path) -> Path:
    source = safe(folder)
    return Path(shutil.make_archive(str(folder / f"packed_{source.name}"), "zip", folder, source.name))


def k5_tar_gz(folder: Path) -> Path:
    source = k5_folder(folder)
    path = folder / f"packed_{source.name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(source, source.name)
    return path


KINDS: dict[str, Callable[[Path], Path]] = {
    "striped GeoTIFF": striped,
    "tiled GeoTIFF": tiled,
    "GeoTIFF with alpha": alpha,
    "GeoTIFF with a mask band": mask_band,
    "GeoTIFF of Sigma0 in dB": sigma0_db,
    "GeoTIFF of VV and VH": two_bands,
    "KOMPSAT-5 L1A": hdf5("L1A"),
    "KOMPSAT-5 L1B": hdf5("L1B"),
    "KOMPSAT-5 L1C": hdf5("L1C"),
    "KOMPSAT-5 L1D with GIM": hdf5("L1D", gim=True),
    "COSMO-SkyMed": hdf5("L1B", mission="CSK"),
    "COSMO-SkyMed 2": csg,
    "NISAR GCOV with its mask": gcov,
    "OPERA RTC-S1 with its mask": opera,
    "netCDF-4": netcdf,
    "ICEYE SLC": iceye,
    "KOMPSAT-5 folder with GIM": k5_folder,
    "KOMPSAT-5 folder with HDF5": k5_hdf5_folder,
    "Sentinel-1 SAFE": safe,
    "RADARSAT-2": radarsat2,
    "RCM": rcm,
    "TerraSAR-X": terrasarx,
    "ENVI folder": envi_folder,
    "BEAM-DIMAP": dimap_folder,
    "Sentinel-1 SLC of stripmap": stripmap_slc,
    "Sentinel-1 SAFE in a zip": safe_zip,
    "KOMPSAT-5 folder in a tar.gz": k5_tar_gz,
    "SICD": sicd,
}
SHADOWED = (
    "KOMPSAT-5 L1D with GIM",
    "KOMPSAT-5 folder with GIM",
    "KOMPSAT-5 folder with HDF5",
    "KOMPSAT-5 folder in a tar.gz",
    "OPERA RTC-S1 with its mask",
)


@dataclass
class Rooms:
    """The scenes, and what predict and the daemon made of them."""

    root: Path
    backend: Backend
    scenes: dict[str, Path] = field(default_factory=dict)
    request: Request = field(default_factory=lambda: Request(products=("mask", "confidence", "stac")))

    @property
    def predicted(self) -> Path:
        return self.root / "predicted"

    @property
    def watched(self) -> Path:
        return self.root / "watched"

    def write(self) -> None:
        for number, (kind, write) in enumerate(KINDS.items()):
            folder = self.root / "scenes" / str(number)
            folder.mkdir(parents=True)
            self.scenes[kind] = write(folder)

    def predict(self) -> None:
        for scene in self.scenes.values():
            publish(process_scene(scene, self.backend, self.predicted, self.request))

    def watch(self, model: Path) -> None:
        """All in one inbox, and one daemon."""
        incoming = self.root / "incoming"
        incoming.mkdir()
        for scene in self.scenes.values():
            copy = shutil.copytree if scene.is_dir() else shutil.copyfile
            copy(scene, incoming / scene.name)
        folders = [f"--incoming={incoming}", f"--outgoing={self.watched}", f"--state={self.root / 'state'}"]
        settings = ["--settle-s=0.2", "--scan-s=0.5", "--free-fraction=0", "--products=mask,confidence,stac"]
        command = [sys.executable, "-m", "runtime.watch", "--once", f"--model={model}", *folders, *settings]
        done = subprocess.run(command, cwd=CHECKOUT, env=dict(os.environ), capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stderr

    @cached_property
    def labels(self) -> dict[str, Path]:
        labels = {}
        for number, (kind, scene) in enumerate(self.scenes.items()):
            truth = np.zeros((HEIGHT, WIDTH), np.uint8)
            truth[HEIGHT // 2 :] = 255
            labels[kind] = write_geotiff(self.root / f"label{number}.tif", truth)
            assert scene.exists()
        return labels


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("rooms")
    model = box_model(root / "box.onnx")
    with open_backend(model) as backend:
        rooms = Rooms(root, backend)
        rooms.write()
        rooms.predict()
        rooms.watch(model.path)
        yield rooms


def product(folder: Path, scene: Path, suffix: str) -> Path:
    return folder / f"{stem_of(scene)}{suffix}"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_the_daemon_makes_the_same_products_as_predict(rooms: Rooms, kind: str) -> None:
    scene = rooms.scenes[kind]
    for suffix in ("_water.tif", "_confidence.tif"):
        predicted, watched = (product(folder, scene, suffix) for folder in (rooms.predicted, rooms.watched))
        assert predicted.read_bytes() == watched.read_bytes(), suffix


@pytest.mark.parametrize("kind", KINDS)
def test_hash_and_mask_key_are_those_of_the_scene_and_the_request(rooms: Rooms, kind: str) -> None:
    scene = rooms.scenes[kind]
    digest = scene_sha256(scene)
    for folder in (rooms.predicted, rooms.watched):
        tags = tags_of(product(folder, scene, "_water.tif"))
        assert tags[INPUT_TAG] == digest
        assert tags[MASK_KEY_TAG] == mask_key(digest, rooms.backend.model_sha256, Request())


@pytest.mark.parametrize("kind", KINDS)
def test_the_catalogue_entries_agree_in_all_but_where_and_when(rooms: Rooms, kind: str) -> None:
    items = [
        json.loads(product(folder, rooms.scenes[kind], "_water.json").read_text())
        for folder in (rooms.predicted, rooms.watched)
    ]
    properties = [item["properties"] for item in items]
    assert {entry["sarwater:datetime_is"] for entry in properties} == {"acquisition"}
    assert {entry["datetime"] for entry in properties} == {"2024-07-26T09:15:30Z"}
    records = [entry.pop("sarwater:latency") for entry in properties]
    assert {record["input"] for record in records} == {rooms.scenes[kind].name}
    assert len({record["input_bytes"] for record in records}) == 1
    for entry in properties:
        del entry["created"]
    assert items[0] == items[1]


@pytest.mark.parametrize("kind", KINDS)
def test_the_training_reader_sees_the_pixels_that_the_network_is_shown(rooms: Rooms, kind: str) -> None:
    labelled, scene = trained_on(rooms, kind)
    with scene:
        rows, valid = scene.read_valid(0, scene.height_px)
        pixels, truth = labelled.read(0, 0, WIDTH, HEIGHT)
        nodata = 0 if scene.sar_nodata is None else scene.sar_nodata
        assert np.array_equal(pixels, np.where(valid & (rows != nodata), rows, 0).astype(np.float32))
        assert np.array_equal(truth == NODATA, ~valid)
        assert labelled.pixel_m == scene.pixel_m
    assert set(np.unique(truth)) <= {LAND, WATER, NODATA}


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_measured_is_nodata_in_training_and_in_the_mask(rooms: Rooms, kind: str) -> None:
    labelled, scene = trained_on(rooms, kind)
    scene.close()
    mask = read_raster(product(rooms.watched, rooms.scenes[kind], "_water.tif"))
    assert np.array_equal(mask == NODATA, labelled.truth() == NODATA)
    assert 0 < (mask == NODATA).mean() < 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_lies_where_the_scene_does(rooms: Rooms, kind: str) -> None:
    with open_model_input(rooms.scenes[kind], rooms.backend.manifest.channels) as scene:
        expected = scene.georeference
    mask = gdal.Open(str(product(rooms.watched, rooms.scenes[kind], "_water.tif")))
    if expected.geotransform is not None:
        assert mask.GetGeoTransform() == pytest.approx(expected.geotransform)
    assert len(mask.GetGCPs()) == (0 if expected.geotransform else len(expected.gcps))


@pytest.mark.parametrize("kind", SHADOWED)
def test_radar_shadow_is_neither_land_nor_water(rooms: Rooms, kind: str) -> None:
    mask = read_raster(product(rooms.watched, rooms.scenes[kind], "_water.tif"))
    assert (mask[-15:, :15] == 2).all()
    assert not (mask[:60] == 2).any()


def test_the_daemon_kept_every_scene_whole(rooms: Rooms) -> None:
    for scene in rooms.scenes.values():
        kept = rooms.root / "state" / "done" / scene.name
        assert scene_sha256(kept) == scene_sha256(scene)
        assert len(members(kept)) == len(members(scene))
    assert list((rooms.root / "state").glob("unpacked/*")) == []


def trained_on(rooms: Rooms, kind: str) -> tuple[LabelledScene, ModelInput]:
    """The scene as the training reader and as the runtime open it."""
    channels = rooms.backend.manifest.channels
    (labelled,) = find_labelled(f"{rooms.scenes[kind]}:{rooms.labels[kind]}", channels)
    return labelled, open_model_input(rooms.scenes[kind], channels)
