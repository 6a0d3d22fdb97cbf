"""What the fuzzer damages, and what reads it: kind -> (seeds, reader, suffix)."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from osgeo import gdal

from sarwater.manifest import ModelManifest, manifest_path
from sarwater.scenes.readers import open_here
from tests.support.deliveries import write_hdf5, write_k5_folder, write_safe
from tests.support.models import box_model
from tests.support.rasters import lake_scene, write_geotiff

TIFF_FORMS = (
    [],
    ["COMPRESS=DEFLATE", "PREDICTOR=2"],
    ["COMPRESS=LZW", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
    ["BIGTIFF=YES", "TILED=YES", "BLOCKXSIZE=64", "BLOCKYSIZE=64"],
    ["ENDIANNESS=BIG"],
    ["COMPRESS=ZSTD"],
)
PIXELS = lake_scene(90, 110)


def made(make: Callable[[Path], Path]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return make(Path(folder)).read_bytes()


@functools.cache
def tiffs() -> tuple[bytes, ...]:
    metadata = {"POLARISATION": "vv", "TIFFTAG_DATETIME": "2024:07:26 09:15:30", "scale_factor": "0.5"}
    found = [
        made(lambda folder, form=form: write_geotiff(folder / "x.tif", PIXELS, options=form, metadata=metadata))  # type: ignore[misc]
        for form in TIFF_FORMS
    ]
    points = [gdal.GCP(127 + x * 1e-4, 36 - y * 1e-4, 0, x, y) for x in (0, 110) for y in (0, 90)]
    return (*found, made(lambda folder: write_geotiff(folder / "x.tif", PIXELS, gcps=points)))


@functools.cache
def hdf5s() -> tuple[bytes, ...]:
    iq = np.stack([PIXELS, PIXELS], axis=2).astype(np.int16)
    levels = {"L1A": iq, "L1B": PIXELS, "L1C": PIXELS, "L1D": PIXELS}
    gim = np.full(PIXELS.shape, 180, np.uint8)
    return tuple(
        made(lambda folder, at=level: write_hdf5(folder / "x.h5", at, levels[at], gim=gim if at == "L1D" else None))  # type: ignore[misc]
        for level in levels
    )


@functools.cache
def safe_xmls() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        safe = write_safe(Path(folder) / "x.SAFE", {"vv": PIXELS})
        return (safe / "manifest.safe").read_bytes(), next(safe.glob("*/*/*.xml")).read_bytes()


@functools.cache
def aux_xmls() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return (next(write_k5_folder(Path(folder) / "x", PIXELS).glob("*_Aux.xml")).read_bytes(),)


@functools.cache
def models() -> tuple[bytes, ...]:
    return (made(lambda folder: box_model(folder / "x.onnx").path),)


@functools.cache
def manifests() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as folder:
        return (manifest_path(box_model(Path(folder) / "x.onnx").path).read_bytes(),)


@functools.cache
def checkpoints() -> tuple[bytes, ...]:
    import torch

    from train.models import Segmenter, architecture
    from train.models.checkpoint import Checkpoint, save_checkpoint

    torch.manual_seed(0)
    arch = architecture("hrnet-w18-small")
    whole = Segmenter(arch).net.state_dict()
    few = dict(list(whole.items())[:4])

    def make(folder: Path) -> Path:
        save_checkpoint(folder / "x.pt", Checkpoint(arch, few, training={"date": "2026-11-30"}))
        return folder / "x.pt"

    return (made(make),)


def settings() -> tuple[bytes, ...]:
    return (
        b'incoming = "in"\noutgoing = "out"\nstate = "state"\nsettle_s = 1.5\nmax_pixels = 1000000\n'
        b'products = ["mask", "stac"]\nthreshold = 0.5\nwindow = "0,0,64,64"\npriority = {"K5*" = 1}\n',
        b'polarisations = ["vv"]\nunit = "sigma0_db"\nnodata = -9999.0\nread_only_inbox = false\n',
    )


def read_scene(path: Path) -> None:
    """All of it, in this process, where every error shows as what it is."""
    scene = open_here(path)
    with scene:
        if scene.width_px * scene.height_px <= 1 << 22:
            for number in range(1, len(scene.bands) + 1):
                scene.read(band=number)
        _ = scene.pixel_m, scene.georeference.footprint(scene.width_px, scene.height_px), scene.acquired


def read_safe(path: Path) -> None:
    """Its manifest, or its calibration."""
    content = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        safe = write_safe(Path(folder) / "x.SAFE", {"vv": PIXELS})
        lookup = next(safe.glob("*/*/*.xml"))
        target = lookup if b"alib" in content else safe / "manifest.safe"
        target.write_bytes(content)
        read_scene(safe)


def read_k5_folder(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        product = write_k5_folder(Path(folder) / "x", PIXELS)
        shutil.copy(path, next(product.glob("*_Aux.xml")))
        read_scene(product)


def read_model(path: Path) -> None:
    """Damage that somebody signed: the manifest has the hash of it."""
    import dataclasses

    from runtime.backends.cpu.openvino import OpenVinoBackend
    from sarwater.manifest import sha256_of

    with tempfile.TemporaryDirectory() as folder:
        manifest = box_model(Path(folder) / "x.onnx").manifest
    manifest = dataclasses.replace(manifest, files={path.name: sha256_of(path)})
    manifest_path(path).write_text(manifest.to_json())
    from sarwater.models import open_model

    OpenVinoBackend.open(open_model(path)).close()


def read_manifest(path: Path) -> None:
    ModelManifest.read(path)


def read_checkpoint(path: Path) -> None:
    from train.models.checkpoint import load_checkpoint
    from train.models.initialise import read_weights

    read_weights(path)
    load_checkpoint(path)


def read_settings(path: Path) -> None:
    from runtime.daemon.config import load

    load(path, {}, {})


KINDS: dict[str, tuple[Callable[[], tuple[bytes, ...]], Callable[[Path], None], str]] = {
    "geotiff": (tiffs, read_scene, ".tif"),
    "hdf5": (hdf5s, read_scene, ".h5"),
    "safe": (safe_xmls, read_safe, ".xml"),
    "k5aux": (aux_xmls, read_k5_folder, ".xml"),
    "onnx": (models, read_model, ".onnx"),
    "manifest": (manifests, read_manifest, ".json"),
    "checkpoint": (checkpoints, read_checkpoint, ".pt"),
    "settings": (settings, read_settings, ".toml"),
}
