"""Predictions from Python: `sarwater.predict`, `sarwater.open_model`, and what they return.

It stands on the runtime and is imported when one of the two is first used.
"""

from __future__ import annotations

import copy
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends import Backend, open_backend
from runtime.kept_rows import KeptRows
from runtime.latency import LatencyRecord, StageClock
from runtime.pipeline import (
    Attempt,
    Origin,
    hashing,
    input_bytes,
    open_for,
    run_network,
    scene_sha256,
    shown_to,
    stage_products,
)
from runtime.products import PRODUCTS, chosen
from runtime.products.base import Making
from runtime.products.catalogue import update_catalogue
from runtime.products.polygons import WaterPolygons, read_polygons
from runtime.products.publish import discard, publish
from runtime.products.quicklook import Quicklook
from sarwater.errors import SettingInvalid, UsageError
from sarwater.identity import stem_of
from sarwater.manifest import ModelManifest
from sarwater.models import DEFAULT_MODEL, Model, find_model
from sarwater.record import unknown
from sarwater.request import REQUEST_FIELDS, Request
from sarwater.scenes.array import array_sha256, is_array, listed_names, scene_of_array
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.model_input import ModelInput
from sarwater.scratch import scratch_folder
from sarwater.shown import shown

UInt8 = npt.NDArray[np.uint8]
ArrayOrPath = Any
"""A path (str or PathLike), or (H, W) or (C, H, W) numbers: a numpy array, a memory map, whatever is sliced alike."""
Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all)."""

_ARRAY_OPTIONS = ("georeference", "channels")
_OPTIONS = ("threshold", "name", *_ARRAY_OPTIONS, "progress")
"""Of a prediction by an open model, beside the fields of a request."""


def predict(
    scene: ArrayOrPath,
    *,
    model: str | Path | Model | OpenModel = DEFAULT_MODEL,
    device: str = "auto",
    threshold: float | None = None,
    name: str | None = None,
    georeference: Georeference | tuple[Any, Any] | None = None,
    channels: str | Sequence[str] = (),
    progress: Progress | None = None,
    **request: Any,
) -> Prediction:
    """Where the water is in a scene: a file, a product folder, or an array.

    result = sarwater.predict("K5_20240726_HH_GTC.tif", threshold=0.4, sieve_px=25)
    result.mask                      # (H, W) uint8: 0 land, 1 water, 2 radar shadow or layover, 255 no data
    result.write("products")

    scene         a path, or (H, W) or (C, H, W) numbers; rows are taken in strips
    model         a model that ships, by name; a file; or what `open_model` gives, which is quicker for many scenes
    device        auto, cpu, gpu, torch or fake; only where `model` is not open yet
    threshold     probability from which a pixel is water, by default the model's
    name          what the scene is called, which products are named after; by default its file's name, or `array`
    georeference  of an array: a Georeference, or (transform, crs) as `Georeference.of_affine` takes them
    channels      of an array: what its planes are, such as ("vv", "vh") or "vv,vh"
    progress      called with (tiles done, tiles in all)
    request       any field of `sarwater.Request`: unit, nodata, window, polarisations, sieve_px, minimum_area_m2, ...

    Raises the errors of `sarwater.errors`: UsageError for what cannot be asked, SceneError where the input is at fault,
    ConfigurationError where the machine is.
    """
    _check(scene, request, ("model", "device", *_OPTIONS))
    with nullcontext(model) if isinstance(model, OpenModel) else OpenModel(model, device) as opened:
        return opened.predict(
            scene,
            threshold=threshold,
            name=name,
            georeference=georeference,
            channels=channels,
            progress=progress,
            **request,
        )


def open_model(model: str | Path | Model = DEFAULT_MODEL, device: str = "auto") -> OpenModel:
    """Open a model once, for many scenes.

    with sarwater.open_model("hrnet") as model:
        for path in paths:
            model.predict(path).write("products")

    Raises ModelUnknown, ModelNotFound, HashMismatch, ManifestInvalid, DependencyMissing, DeviceUnavailable.
    """
    return OpenModel(model, device)


class OpenModel:
    """A model that is open on a device. A context manager: leaving it frees the device.

    Threads may share it; their scenes wait for each other.
    """

    def __init__(self, model: str | Path | Model = DEFAULT_MODEL, device: str = "auto") -> None:
        found = model if isinstance(model, Model) else find_model(model)
        self._backend: Backend | None = open_backend(found, device)
        self._lock = threading.Lock()
        self.manifest: ModelManifest = self._backend.manifest
        self.sha256: str = self._backend.model_sha256
        self.title: str = found.title
        """Name, precision, the first digits of the hash, and the file."""

    def predict(
        self,
        scene: ArrayOrPath,
        *,
        threshold: float | None = None,
        name: str | None = None,
        georeference: Georeference | tuple[Any, Any] | None = None,
        channels: str | Sequence[str] = (),
        progress: Progress | None = None,
        **request: Any,
    ) -> Prediction:
        """As `sarwater.predict`, with this model."""
        clock = StageClock()
        clock.mark("claimed")
        _check(scene, request, _OPTIONS)
        asked = Request(**({} if threshold is None else {"threshold": threshold}), **request)
        chosen(asked.products)
        with self._lock:
            if self._backend is None:
                raise UsageError("the model was closed; open it again, and predict inside of its `with`")
            if is_array(scene):
                placed = _georeference(georeference)
                opened, sha256, size_bytes = _array_input(scene, name, placed, channels, self._backend, asked)
            elif georeference is not None or channels:
                raise UsageError("georeference and channels are of an array; a file or a folder says its own")
            else:
                opened, sha256, size_bytes = _path_input(Path(scene), name, self._backend, asked)
            with opened:
                return _prediction(opened, self._backend, asked, sha256, size_bytes, clock, progress)

    def close(self) -> None:
        """Free the device; predictions that were made stay good."""
        with self._lock:
            backend, self._backend = self._backend, None
        if backend is not None:
            backend.close()

    def __enter__(self) -> OpenModel:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<OpenModel {self.title}{'' if self._backend else ', closed'}>"


class Prediction:
    """What a model says of a scene. It needs neither the scene nor the model any more.

    Masks of more than 64 million pixels lie in a temporary file and are read as they are looked at.
    """

    mask: UInt8
    """(H, W) uint8, not writable: 0 land, 1 water, 2 radar shadow or layover, 255 no data (`sarwater.classes`)."""
    confidence: UInt8
    """(H, W) uint8, not writable: probability of water in percent; 255 no data."""
    georeference: Georeference
    """Where the mask lies: geotransform and CRS, or control points, or neither."""
    record: LatencyRecord
    """What was run and found: `model`, `precision`, `engine_sha256`; `land_px`, `water_px`, `shadow_px`, `nodata_px`,
    `water_km2`; `notes` in plain words; where the time went."""

    def __init__(
        self,
        scene: ModelInput,
        request: Request,
        origin: Origin,
        rows: KeptRows,
        seen: dict[str, Any],
        record: LatencyRecord,
    ) -> None:
        self.mask, self.confidence = rows.mask, rows.confidence
        self.georeference = scene.georeference
        self.record = record
        self._scene, self._request, self._origin, self._rows, self._seen = scene, request, origin, rows, seen

    @cached_property
    def polygons(self) -> list[dict[str, Any]]:
        """The water bodies as GeoJSON features, coordinates in the scene's own CRS (`georeference.crs`), or in columns
        and negative rows where it has none. Properties: `area_m2` and `perimeter_m` along the pixels' edges (None
        without a georeference), `mean_confidence` in percent, `pixels`, and `cut`, 1 where a body of a million corners
        was cut in parts.

        geopandas.GeoDataFrame.from_features(result.polygons, crs=result.georeference.crs)
        """
        with scratch_folder() as folder:
            path = folder / WaterPolygons.file_name("scene")
            with closing(WaterPolygons(path, self._scene, self._request)) as product:
                self._rows.replay([product])
                product.finish(Making({}, self._origin.manifest, self.record, (product,)))
            return read_polygons(path)

    def plot(self) -> Any:
        """The scene in decibels with the water's outline, north up, with scale bar and legend: a PIL image, which
        notebooks show, `.show()` opens and `.save("picture.png")` keeps. Needs nothing beyond what sarwater needs."""
        product = Quicklook(Path(Quicklook.file_name(stem_of(self._scene.name))), self._scene, self._request)
        product.seen = self._seen[product.name]
        self._rows.replay([product])
        return product.sheet(self.record)

    def write(
        self, folder: str | Path, products: Sequence[str] | str | None = None, overwrite: bool = False
    ) -> dict[str, Path]:
        """Write the files that `sarwater predict` writes, whole or not at all, the mask last: product name -> file.

        `products` are those asked for in `predict`, by default all; the mask always is. A mask of the same scene, model
        and settings that is there already stays, and the others are put beside it.

        Raises OutputError for a mask of anything else, unless `overwrite`; SettingInvalid for an unknown product.
        """
        request = self._request if products is None else self._request.but(products=products)
        stem, record = stem_of(self._scene.name), copy.deepcopy(self.record)
        record.total_s = None
        staged = stage_products(self._feed, self._scene, request, Path(folder), stem, StageClock(), record)
        try:
            publish(staged, overwrite=overwrite)
        finally:
            discard(staged)
        with suppress(OSError):  # it is made of the items, and can be made again
            update_catalogue(Path(folder))
        files = {kind.name: Path(folder, kind.file_name(stem)) for kind in chosen(request.products)}
        return {name: path for name, path in files.items() if path.name in staged.names}

    def _feed(self, attempts: Sequence[Attempt]) -> Origin:
        for attempt in attempts:
            if attempt.sees:
                attempt.give(self._seen[attempt.name])
        self._rows.replay(attempts)
        return self._origin

    def __repr__(self) -> str:
        record = self.record
        measured_px = (record.land_px or 0) + (record.water_px or 0) + (record.shadow_px or 0)
        share = f"{100 * (record.water_px or 0) / measured_px:.2f} % water" if measured_px else "no data"
        area = "" if record.water_km2 is None else f", {record.water_km2:.4g} km2"
        height_px, width_px = self.mask.shape
        return f"<Prediction {self._scene.name}: {width_px} x {height_px} px, {share}{area}, {record.model}>"


def _prediction(
    scene: ModelInput,
    backend: Backend,
    request: Request,
    sha256: Callable[[], str],
    size_bytes: int,
    clock: StageClock,
    progress: Progress | None,
) -> Prediction:
    clock.mark("validated")
    record = LatencyRecord(input=shown(scene.name), input_bytes=size_bytes)
    rows = KeptRows(scene.height_px, scene.width_px)
    seeing = [kind(Path(kind.file_name("scene")), scene, request) for kind in PRODUCTS if kind.sees]
    with hashing(sha256) as hashed:
        run_network([rows, *seeing], scene, backend, request, clock, record, progress)
        origin = Origin(hashed(), backend.manifest, backend.model_sha256)
    rows.freeze()
    record.add_moments(clock.moments)
    record.total_s = round(time.monotonic() - clock.moments["claimed"].monotonic_s, 6)
    return Prediction(scene, request, origin, rows, {product.name: product.seen for product in seeing}, record)


def _path_input(
    path: Path, name: str | None, backend: Backend, request: Request
) -> tuple[ModelInput, Callable[[], str], int]:
    scene = open_for(backend, path, request, name)
    return scene, lambda: scene_sha256(path, scene.name), input_bytes(path, scene.name)


def _array_input(
    array: Any,
    name: str | None,
    georeference: Georeference | None,
    channels: str | Sequence[str],
    backend: Backend,
    request: Request,
) -> tuple[ModelInput, Callable[[], str], int]:
    name = name or "array"
    opened = scene_of_array(array, name=name, georeference=georeference, channels=channels)
    scene = shown_to(backend, ModelInput.of(opened, backend.manifest.channels, request), request)
    size_bytes = int(np.prod(array.shape, dtype=np.int64)) * np.dtype(array.dtype).itemsize
    return scene, lambda: array_sha256(array, georeference, listed_names(channels)), size_bytes


def _georeference(given: Georeference | tuple[Any, Any] | None) -> Georeference | None:
    if given is None or isinstance(given, Georeference):
        return given
    try:
        transform, crs = given
    except (TypeError, ValueError):
        raise UsageError(f"georeference {given!r}: expected a Georeference, or (transform, crs)") from None
    return Georeference.of_affine(transform, crs)


def _check(scene: ArrayOrPath, request: dict[str, Any], options: Sequence[str]) -> None:
    """What is no scene, and keywords that nobody knows, before a model is opened."""
    if not isinstance(scene, str | os.PathLike) and not is_array(scene):
        raise UsageError(f"{type(scene).__name__} is no scene; expected a path, or an array of (H, W) or (C, H, W)")
    for key in request:
        if key not in REQUEST_FIELDS:
            raise SettingInvalid(unknown(key, (*options, *REQUEST_FIELDS)), key)
