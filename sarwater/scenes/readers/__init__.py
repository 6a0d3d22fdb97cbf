"""The registry of readers, and the way in: what a path is, which files belong to it, whether it is whole, open it.

Told by content and by the product's fixed layout. A new kind of product is one file here and one line in READERS.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path

from sarwater.errors import (
    SceneEmpty,
    SceneError,
    SceneIncomplete,
    SceneIsProduct,
    SceneMissing,
    SceneNoBackscatter,
    SceneUnreadable,
)
from sarwater.identity import name_of
from sarwater.manifest import Channel
from sarwater.request import Limits, Request
from sarwater.scenes.backscatter import refuse_what_is_no_backscatter
from sarwater.scenes.band import Incidence
from sarwater.scenes.decoding import Decoder, rasters_through
from sarwater.scenes.foreign import foreign_raster
from sarwater.scenes.limits import check_declared
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.names import polarisation_in
from sarwater.scenes.readers.archived_product import ArchivedProduct
from sarwater.scenes.readers.base import EMPTY, Reader, Source, check_members
from sarwater.scenes.readers.beam_dimap import BeamDimap
from sarwater.scenes.readers.envi import Envi
from sarwater.scenes.readers.geotiff import GeoTiff
from sarwater.scenes.readers.hdf5_product import Hdf5Product
from sarwater.scenes.readers.kompsat5_files import Role, is_companion, role_of
from sarwater.scenes.readers.kompsat5_flat import Kompsat5Flat
from sarwater.scenes.readers.kompsat5_folder import Kompsat5Folder
from sarwater.scenes.readers.nested_folder import NestedFolder
from sarwater.scenes.readers.nitf import Nitf
from sarwater.scenes.readers.products_within import SHOWN, incomplete, levels
from sarwater.scenes.readers.radarsat2_folder import Radarsat2Folder
from sarwater.scenes.readers.rcm_folder import RcmFolder
from sarwater.scenes.readers.sentinel1_safe import Sentinel1Safe
from sarwater.scenes.readers.terrasarx_folder import TerraSarXFolder
from sarwater.scenes.scene import Scene
from sarwater.scenes.trial import open_on_trial
from sarwater.shown import shown
from sarwater.tags import PRODUCT_REFUSED, is_product

READERS: tuple[Reader, ...] = (
    NestedFolder(),
    BeamDimap(),
    Envi(),
    RcmFolder(),
    Sentinel1Safe(),
    Radarsat2Folder(),
    TerraSarXFolder(),
    Kompsat5Folder(),
    Hdf5Product(),
    Nitf(),
    Kompsat5Flat(),
    GeoTiff(),
    ArchivedProduct(),
)
"""The first that matches has it: RCM folders hold a manifest.safe, too."""

_DEEPEST_IN_PRODUCT = 3
"""Folders of a product within each other."""

__all__ = ["READERS", "Reader", "find_reader", "members", "open_model_input", "open_scene", "reader_of", "try_to_open"]


def find_reader(path: Path, name: str | None = None, without: tuple[type[Reader], ...] = ()) -> Reader | None:
    """The reader of `path`, called `name`, and none of those `without` which it is asked; None where it is of no kind
    that is known, or cannot be looked at."""
    asked = (reader for reader in READERS if not isinstance(reader, without))
    try:
        return next((reader for reader in asked if reader.matches(path, name or name_of(path))), None)
    except OSError:
        return None


def reader_of(path: Path, name: str | None = None) -> Reader:
    """Raises SceneMissing, SceneUnreadable with what was looked for, SceneIncomplete for a product that lacks files."""
    name = name or name_of(path)
    if not path.exists():
        raise SceneMissing(f"{name}: no such file or folder; expected a readable SAR scene")
    reader = find_reader(path, name)
    if reader is None and path.is_file() and not path.stat().st_size:
        raise SceneEmpty(f"{name}: {EMPTY}")
    if reader is None and path.is_file() and is_product(path):
        raise SceneIsProduct(f"{name}: {PRODUCT_REFUSED}")
    if reader is None and is_companion(name):
        raise SceneUnreadable(f"{name}: {_a_part(name)}")
    if reader is None:
        if not os.access(path, os.R_OK):
            raise SceneUnreadable(f"{name}: may not be read by this user; grant read permission on it")
        raise _of_no_kind(path, name)
    if (around := _product_around(path)) is not None:
        raise SceneUnreadable(f"{name}: {_an_image_of(*around, name)}")
    if lack := reader.missing(path):
        raise SceneIncomplete(
            f"{name}: a {reader.name} without {', '.join(lack[:3])}{f' and {len(lack) - 3} more' * (len(lack) > 3)}; "
            "send all of the product"
        )
    return reader


def _of_no_kind(path: Path, name: str) -> SceneError:
    if path.is_dir():
        if products := [product for product, _ in next(levels(path, name), [])]:
            some = "one scene" if len(products) == 1 else f"{len(products)} scenes"
            return SceneUnreadable(f"{name}: a folder of {some}, and no product; give {_each(products)}")
        if lack := incomplete(path, name):
            return SceneIncomplete(f"{name}: a folder without a whole product; {lack}: send all of the product")
    elif why := foreign_raster(path, name):
        return SceneUnreadable(f"{name}: {why}")
    hint = ""
    for folder in path.parents[:_DEEPEST_IN_PRODUCT] if path.is_file() else ():
        if (of := find_reader(folder, without=(NestedFolder,))) is not None:
            hint = f". It lies in a {of.name}: give the folder, {shlex.quote(str(folder))}"
            break
    looked_for = "; ".join(f"{reader.name}: {reader.looks_for}" for reader in READERS)
    kind = "folder" if path.is_dir() else "file"
    return SceneUnreadable(f"{name}: a {kind} of no kind that this version reads; looked for: {looked_for}{hint}")


def _each(paths: Sequence[Path]) -> str:
    quoted = [shlex.quote(str(path)) for path in paths[:SHOWN]]
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{'it' if len(paths) == 1 else 'them one by one'}: {' '.join(quoted)}{more}"


def _product_around(path: Path) -> tuple[Reader, Path] | None:
    """The whole product folder that `path` is an image of, and its reader."""
    if path.is_dir():
        return None
    path = path.absolute()
    for reader in READERS:
        for pattern in reader.images:
            folder = path.parents[min(pattern.count("/"), len(path.parents) - 1)]
            inside = str(path.relative_to(folder)).lower()
            if fnmatch(inside, pattern.lower()) and reader.matches(folder, folder.name) and not reader.missing(folder):
                return reader, folder
    return None


def _an_image_of(reader: Reader, folder: Path, name: str) -> str:
    polarisation = polarisation_in(name)
    choice = f" --polarisations {polarisation}" if polarisation else ""
    return (
        f"one image of a {reader.name}, which holds its calibration and time; give the folder: "
        f"{shlex.quote(str(folder))}{choice}"
    )


def _a_part(name: str) -> str:
    return f"the {role_of(name).value} of a KOMPSAT-5 product, no scene by itself; give the image, beside which it lies"


def members(path: Path, name: str | None = None) -> list[Path]:
    """The files of the scene at `path`, sorted; a file of no kind that is known is its own. Raises as `reader_of` for
    a folder, and SceneUnsafe for links in it."""
    path, name = _followed(path), name or name_of(path)
    if path.exists() and not path.is_dir():
        reader = find_reader(path, name)
        return reader.members(path) if reader else [path]
    return reader_of(path, name).members(path)


def _followed(path: Path) -> Path:
    """Where a link leads that the user names: the other files of its product lie there."""
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def open_scene(path: str | Path, limits: Limits | None = None, name: str | None = None) -> Scene:
    """Open the scene at `path`, a file or a product folder; `name` is what it is called, where it was renamed.

    with open_scene("K5_20240726_HH_GTC.tif") as scene:
        pixels = scene.read((0, 0, 512, 512))          # (512, 512) in the sensor's own type

    Raises SceneMissing, SceneEmpty, SceneTruncated, SceneUnreadable, SceneIncomplete, SceneUnsafe, SceneIsProduct,
    SceneNoBackscatter.
    """
    return open_here(path, limits, name, try_to_open(path, limits, name))


def try_to_open(path: str | Path, limits: Limits | None = None, name: str | None = None) -> Decoder | None:
    """Open the scene at `path` in another process under the budget of `limits`, which decodes it from then on
    (trial.py). For whoever meets files of unknown origin. Raises as `open_scene`.

    An archive is unpacked once only, by code of our own under bounds of its own, which may take long; what was in it
    goes on trial then, by itself.
    """
    path = Path(path)
    name = name or name_of(path)
    if isinstance(find_reader(_followed(path), name), ArchivedProduct):
        return None
    return open_on_trial(path, name, limits or Limits())


def open_here(
    path: str | Path, limits: Limits | None = None, name: str | None = None, decoder: Decoder | None = None
) -> Scene:
    """As `open_scene`, in this process, and not on trial first; where it was, `decoder` has its pixels."""
    scene = _opened(path, limits, name, decoder)
    try:
        if role_of(scene.name) is Role.INCIDENCE and is_companion(scene.name):
            raise SceneNoBackscatter(f"{scene.name}: {_a_part(scene.name)}")
        refuse_what_is_no_backscatter(scene)
    except BaseException:
        scene.close()
        raise
    return scene


def _opened(
    path: str | Path, limits: Limits | None = None, name: str | None = None, decoder: Decoder | None = None
) -> Scene:
    """As `open_scene`, whatever the pixels measure."""
    name = name or name_of(Path(path))
    path = _followed(Path(path))
    source = Source(path, name, limits or Limits())
    if path.exists() and not path.is_dir():
        check_members(source, [path])  # before a byte of it is read: a pipe would be waited for
    reader = reader_of(path, source.name)
    check_members(source, reader.members(path))
    try:
        with rasters_through(decoder.wrap) if decoder else nullcontext():
            scene = reader.open(source)
    except RuntimeError as error:  # GDAL's: it reads some parts of a header late
        raise SceneUnreadable(f"{source.name}: GDAL cannot read it ({error}); send it again") from error
    except SceneError as error:
        if shown(source.name) in str(error):
            raise
        raise type(error)(f"{source.name}/{error}") from error  # of a file of the folder
    scene.name = source.name
    check_declared(source.name, source.limits, width_px=scene.width_px)
    scene.georeference.refuse_nonsense(source.name)
    return scene


def open_model_input(
    path: Path,
    channels: Sequence[Channel],
    request: Request | None = None,
    name: str | None = None,
    gim: Path | None = None,
    decoder: Decoder | None = None,
) -> ModelInput:
    """Open the scene at `path` as a model with these `channels` sees it. `gim` is its incidence-angle mask, where that
    is no part of the product.

    Files of unknown origin go through `try_to_open` first, which gives the `decoder`. Raises as `open_scene`;
    ChannelMissing, UnitMismatch; UsageError for a window outside the scene.
    """
    request = request or Request()
    scene = open_here(path, request, name, decoder)
    try:
        if gim is not None:
            scene.incidence = _incidence_in(gim, scene, request)
        return ModelInput.of(scene, channels, request)
    except BaseException:
        scene.close()
        raise


def _incidence_in(path: Path, scene: Scene, limits: Limits) -> Incidence:
    mask = _opened(path, limits)
    if (mask.width_px, mask.height_px) != (scene.width_px, scene.height_px):
        raise SceneUnreadable(
            f"{path.name}: {mask.width_px} x {mask.height_px} px, expected {scene.width_px} x {scene.height_px} px as "
            f"{scene.name}"
        )
    return Incidence(replace(mask.bands[0], unit="incidence_dn"), None, None)
