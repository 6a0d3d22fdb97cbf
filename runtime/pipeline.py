"""Scene -> products: the one place where the flow is written down.

    reader thread      decode row bands                          (scene.bands)
    this thread        gather, infer, blend, threshold           (backend)
    writer thread      encode finished rows                      (products)
    hash thread        name the input, where nobody has          (formats)

At most one band waits before the network and one after it, so memory does not grow with the scene's height.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.backends.base import Backend, FinishedRows
from runtime.enlarged import ReducedRows
from runtime.formats import hash_input, input_bytes
from runtime.job import SceneOptions, Window, job_key, mask_name, product_stem
from runtime.latency import LatencyRecord, StageClock
from runtime.products.polygons import WaterPolygons
from runtime.products.publish import INPUT_TAG, JOB_KEY_TAG, StagedProducts
from runtime.products.quicklook import Quicklook
from runtime.products.rasters import Confidence, Product, WaterMask
from runtime.products.sieve import Sieve
from runtime.products.stac import stac_item
from runtime.scene import SHADOW, Bool, Pixels, Scene, See, open_scene
from sarwater import __version__
from sarwater.atomic import fsync_file, make_folder
from sarwater.enlargement import enlargement
from sarwater.errors import OutputError
from sarwater.manifest import sha256_of
from sarwater.metrics import NODATA

__all__ = ["SceneOptions", "Window", "infer_scene", "job_key", "mask_name", "open_for", "process_scene", "product_stem"]

WIDEST_ENLARGED_PX = 40_000
"""Memory grows with the width; no swath of coarse pixels is as wide as this, but a wrong georeference may make it."""
Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all), from the thread that called the pipeline."""


def process_scene(
    path: Path,
    backend: Backend,
    out_dir: Path,
    options: SceneOptions | None = None,
    *,
    clock: StageClock | None = None,
    progress: Progress | None = None,
    input_sha256: str | None = None,
    stem: str | None = None,
    record: LatencyRecord | None = None,
) -> StagedProducts:
    """Make the products of the scene at `path`: complete and durable, but in a hidden staging folder in `out_dir`.

    `runtime.products.publish.publish` makes them visible. On any error nothing is left behind. `input_sha256` saves
    hashing the input again, which otherwise goes on beside the network; `stem` is the products' name, by default the
    scene's; `record` is what is known of it already.

    Raises SceneError (the input is at fault), OutputError (the disk is), UsageError (a window outside the scene) and
    what the backend raises.
    """
    options, clock = options or SceneOptions(), clock or StageClock()
    stem = stem or product_stem(path)
    with open_for(backend, path, options) as scene, _hashing(path, input_sha256) as hashed:
        clock.mark("validated")
        record = record or LatencyRecord(input=path.name, input_bytes=input_bytes(path))
        with _staging_folder(out_dir, stem) as folder, ExitStack() as stack:
            products: list[Product] = []
            for product in _products(folder, stem, scene, options):
                products.append(stack.enter_context(closing(product)))
            _infer(products, scene, backend, options, clock, record, progress)
            input_sha256 = hashed()
            record.key = job_key(input_sha256, backend.model_sha256, options)
            tags = _tags(record.key, input_sha256, backend, options, scene)
            _finish(products, tags, clock)
            record.mask_sha256 = sha256_of(folder / mask_name(stem))
            clock.mark("written")
            record.write_s = clock.seconds("write")
            record.add_moments(clock.moments)
            names = [product.path.name for product in products]
            if "stac" in options.products:
                item = stac_item(stem, scene, backend.manifest, products, tags, record)
                names.insert(0, f"{stem}_water.json")
                (folder / names[0]).write_text(json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            for name in names:
                fsync_file(folder / name)
            clock.mark("synced")
            record.add_moments(clock.moments)
            return StagedProducts(str(folder), tuple(names), record.key, record.to_dict())


@contextmanager
def _hashing(path: Path, known: str | None) -> Iterator[Callable[[], str]]:
    """Gives the input's sha256 when asked. At some 400 MB/s a large scene takes seconds, and only the end needs it."""
    if known:
        yield lambda: known
        return
    with ThreadPoolExecutor(1, "hash") as pool:
        yield pool.submit(hash_input, path).result


def _products(folder: Path, stem: str, scene: Scene, options: SceneOptions) -> Iterator[Product]:
    """The files asked for, in the order in which they become visible: the mask last."""
    if "confidence" in options.products:
        yield Confidence(folder / f"{stem}_confidence.tif", scene)
    if "polygons" in options.products:
        yield WaterPolygons(folder / f"{stem}_water.gpkg", scene, options.minimum_area_m2, options.simplify_m)
    if "quicklook" in options.products:
        yield Quicklook(folder / f"{stem}_quicklook.png", scene, stem)
    yield WaterMask(folder / mask_name(stem), scene)


def _infer(
    products: Sequence[Product],
    scene: Scene,
    backend: Backend,
    options: SceneOptions,
    clock: StageClock,
    record: LatencyRecord,
    progress: Progress | None,
) -> None:
    """Run the scene through the network and its rows to every product."""
    sieve = Sieve(options.sieve_px, scene.height_px) if options.sieve_px else None
    see = next((product.see for product in products if isinstance(product, Quicklook)), None)

    def write(finished: FinishedRows) -> None:
        with clock.stage("write"):
            hidden = scene.shadow(finished.row, len(finished.mask))
            if hidden is not None:
                hidden &= finished.mask != NODATA
                finished.mask[hidden], finished.confidence[hidden] = SHADOW, NODATA
            for part in sieve.push(finished) if sieve else (finished,):
                for product in products:
                    product.write(part)

    with _WriterThread() as writer:
        for finished in infer_scene(scene, backend, options, clock, record, progress, see):
            writer.submit(write, finished)


def _finish(products: Sequence[Product], tags: Mapping[str, str], clock: StageClock) -> None:
    """All at once: some wait for the disk, some for the processor."""
    with clock.stage("write"), ThreadPoolExecutor(len(products), "finish") as pool:
        for done in [pool.submit(product.finish, tags) for product in products]:
            done.result()


def open_for(backend: Backend, path: Path, options: SceneOptions) -> Scene:
    """Open a scene for the backend's model, enlarged to what it knows; raises as open_scene does."""
    scene = open_scene(path, backend.manifest.channels, options)
    copies = enlargement(scene.pixel_m, backend.manifest.coarsest_m)
    scene.enlarged_by = options.enlarge or min(copies, max(1, WIDEST_ENLARGED_PX // scene.width_px))
    return scene


def infer_scene(
    scene: Scene,
    backend: Backend,
    options: SceneOptions | None = None,
    clock: StageClock | None = None,
    record: LatencyRecord | None = None,
    progress: Progress | None = None,
    see: See | None = None,
) -> Iterator[FinishedRows]:
    """The scene's finished rows from north to south; the next band is decoded while this one is inferred.

    Fills `record` with what the run was and took; `see` gets every row of pixels as it is read.
    """
    options, clock, record = options or SceneOptions(), clock or StageClock(), record or LatencyRecord()
    copies = scene.enlarged_by
    plan = backend.plan(copies * scene.height_px, copies * scene.width_px)
    run = backend.begin(plan, scene.nodata, options.threshold)
    counters = run.counters
    if progress:
        run.on_tile = lambda: progress(counters.tiles + counters.tiles_skipped, plan.tiles)
    bands = scene.bands(plan, see)
    reduced = ReducedRows(copies, _threshold(backend, options), scene.width_px) if copies > 1 else None

    def read() -> tuple[Pixels, Bool | None]:
        with clock.stage("read"):
            return next(bands)

    with ThreadPoolExecutor(1, "reader") as reader:
        band = reader.submit(read)
        for left in range(len(plan.rows) - 1, -1, -1):
            rows, valid = band.result()
            if left:
                band = reader.submit(read)
            clock.mark("first_tile")
            finished = run.push(rows, valid)
            if reduced:
                finished = reduced.push(finished)
            if finished.mask.size:
                yield finished
    clock.mark("last_tile")
    seconds = counters.seconds
    record.width_px, record.height_px, record.dtype = scene.width_px, scene.height_px, str(scene.dtype)
    record.enlarged_by = copies
    record.tiles, record.tiles_skipped = counters.tiles, counters.tiles_skipped
    record.backend, record.device, record.engine_sha256 = backend.name, backend.device, backend.model_sha256
    record.read_s = clock.seconds("read")
    record.h2d_s, record.infer_s, record.d2h_s = (seconds.get(stage) for stage in ("h2d", "infer", "d2h"))
    record.post_s = seconds.get("gather", 0.0) + seconds.get("blend", 0.0)


class _WriterThread:
    """Runs submitted writes in order in one thread; at most one waits. Errors surface at the next call or the end."""

    def __enter__(self) -> _WriterThread:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[Future[None]] = deque()
        return self

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        self._waiting.append(self._pool.submit(write, *arguments))
        if len(self._waiting) > 1:
            self._waiting.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._waiting:
                future.result()


@contextmanager
def _staging_folder(out_dir: Path, stem: str) -> Iterator[Path]:
    """A hidden folder in `out_dir`, so that publishing is a rename within one file system; removed on any error."""
    try:
        if not out_dir.is_dir():
            make_folder(out_dir)
        folder = Path(tempfile.mkdtemp(prefix=f".{stem}.", suffix=".tmp", dir=out_dir))
    except OSError as error:
        raise OutputError(
            f"{out_dir}: cannot be written ({error.strerror}); expected a folder with free space"
        ) from error
    try:
        yield folder
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OutputError(
            f"{out_dir}: cannot be written ({error.strerror}); free disk space or fix permissions"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _threshold(backend: Backend, options: SceneOptions) -> float:
    """Probability from which a pixel is water: the one asked for, else the model's."""
    return backend.manifest.threshold if options.threshold is None else options.threshold


def _tags(key: str, input_sha256: str, backend: Backend, options: SceneOptions, scene: Scene) -> dict[str, str]:
    """What every product says of its making. Nothing here may differ between two runs of one job."""
    tags = {
        JOB_KEY_TAG: key,
        INPUT_TAG: input_sha256,
        "SARWATER_MODEL": backend.manifest.name,
        "SARWATER_MODEL_SHA256": backend.model_sha256,
        "SARWATER_THRESHOLD": f"{_threshold(backend, options):g}",
        "SARWATER_VERSION": __version__,
    }
    if scene.enlarged_by > 1:
        tags["SARWATER_ENLARGED_BY"] = str(scene.enlarged_by)
    if options.sieve_px:
        tags["SARWATER_MINIMUM_MAPPING_UNIT_PX"] = str(options.sieve_px)
    if not scene.georeference.known:
        tags["SARWATER_GEOREFERENCE"] = "none: rows and columns only"
    return tags
