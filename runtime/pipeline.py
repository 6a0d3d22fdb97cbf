"""Scene -> products: the one place where the flow is written down.

    reader thread      decode strips of rows                     (scene.strips)
    this thread        gather, infer, blend, threshold           (backend)
    writer thread      encode finished rows                      (products)
    hash thread        hash the input, where nobody has          (identity)

At most one strip waits before the network and one after it, so memory does not grow with the scene's height.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol

from runtime.backends.base import Backend, FinishedRows, RunCounters
from runtime.downsampled import DownsampledRows
from runtime.latency import LatencyRecord, StageClock
from runtime.products import Product, chosen
from runtime.products.base import Making, last_words
from runtime.products.mask import WaterMask
from runtime.products.publish import StagedProducts, make_staging_folder
from runtime.products.sieve import Sieve
from runtime.tally import Tally
from sarwater import __version__
from sarwater.atomic import fsync_file, make_folder
from sarwater.classes import NODATA, SHADOW
from sarwater.errors import OutputError
from sarwater.identity import input_sha256, mask_key, mask_name, name_of, stem_of
from sarwater.manifest import ModelManifest, sha256_of
from sarwater.request import Request
from sarwater.scenes.level import check_level
from sarwater.scenes.model_input import Bool, ModelInput, Pixels, See
from sarwater.scenes.readers import members, open_model_input, try_to_open
from sarwater.scenes.sidecars import left_out, refuse_without_mask
from sarwater.shown import shown
from sarwater.tags import (
    GEOREFERENCE_TAG,
    INPUT_TAG,
    MASK_KEY_TAG,
    MODEL_SHA256_TAG,
    MODEL_TAG,
    THRESHOLD_TAG,
    VERSION_TAG,
    setting_tag,
)
from sarwater.upsampling import upsampling_factor

WIDEST_UPSAMPLED_PX = 40_000
"""Memory grows with the width; no scene of coarse pixels is as wide as this, but a wrong georeference may make it."""
Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all), from the thread that called the pipeline."""


@dataclass(frozen=True)
class Origin:
    """What a mask is made of, and by what."""

    input_sha256: str
    manifest: ModelManifest
    model_sha256: str

    def threshold(self, request: Request) -> float:
        """Probability from which a pixel is water: the one asked for, else the model's."""
        return self.manifest.threshold if request.threshold is None else request.threshold


class Sink(Protocol):
    """Takes a scene's finished rows from north to south, and its pixels where it `sees` them: products do."""

    @property
    def sees(self) -> bool: ...

    def see(self, row: int, rows: Pixels, valid: Bool | None) -> None: ...

    def write(self, finished: FinishedRows) -> None: ...


def process_scene(
    path: Path,
    backend: Backend,
    out_dir: Path,
    request: Request | None = None,
    *,
    name: str | None = None,
    clock: StageClock | None = None,
    progress: Progress | None = None,
    input_sha256: str | None = None,
    stem: str | None = None,
    record: LatencyRecord | None = None,
    sidecars: Sequence[str] = (),
) -> StagedProducts:
    """Make the products of the scene at `path`: complete and durable, but in a hidden staging folder in `out_dir`.

    `runtime.products.publish.publish` makes them visible. On any error nothing is left behind. `name` is what the scene
    is called, where it was renamed; `input_sha256` saves hashing it again, which otherwise goes on beside the network;
    `stem` is the products' name, by default the scene's; `record` is what is known of it already; `sidecars` are names
    of files that would say where it lies, and lay beside it before it was moved.

    Raises SceneError (the input is at fault), OutputError (the disk is), UsageError (a window outside the scene, an
    unknown product) and what the backend raises.
    """
    request, clock = request or Request(), clock or StageClock()
    chosen(request.products)  # an unknown one is refused before anything is opened
    with open_for(backend, path, request, name) as scene:
        clock.mark("validated")
        if not scene.scene.masked:
            refuse_without_mask(sidecars, scene.name)
        if sidecars and not scene.georeference.known:
            scene.scene.notes += (left_out(sidecars, scene.name),)
        record = record or LatencyRecord(input=shown(scene.name), input_bytes=input_bytes(path, scene.name))
        known = input_sha256

        def feed(products: Sequence[Attempt]) -> Origin:
            with hashing(lambda: known or scene_sha256(path, scene.name)) as hashed:
                run_network(products, scene, backend, request, clock, record, progress)
                return Origin(hashed(), backend.manifest, backend.model_sha256)

        return stage_products(feed, scene, request, out_dir, stem or stem_of(scene.name), clock, record)


def stage_products(
    feed: Callable[[Sequence[Attempt]], Origin],
    scene: ModelInput,
    request: Request,
    out_dir: Path,
    stem: str,
    clock: StageClock,
    record: LatencyRecord,
) -> StagedProducts:
    """Make the products of whatever `feed` writes to them. Raises as `process_scene`."""
    kinds = chosen(request.products)
    with _staging_folder(out_dir, stem) as (folder, owner), ExitStack() as stack:
        made = [Attempt(kind, folder / kind.file_name(stem), scene, request, stack) for kind in kinds]
        origin = feed(made)
        record.key = mask_key(origin.input_sha256, origin.model_sha256, request)
        tags = _tags(record.key, origin, request, scene)
        _finish(made, tags, origin.manifest, record, clock, folder / mask_name(stem))
        names = [one.product.path.name for one in made if one.product is not None]
        names.sort(key=mask_name(stem).__eq__)  # the mask is last to become visible
        for file in names:
            fsync_file(folder / file)
        clock.mark("synced")
        record.add_moments(clock.moments)
        return StagedProducts(str(folder), tuple(names), record.key, record.to_dict(), owner)


class Attempt:
    """A product in the making. A side product that cannot be made (a place that no projection knows, say) is left out
    with a note; the mask, and a disk at fault, end the scene."""

    def __init__(self, kind: type[Product], path: Path, scene: ModelInput, request: Request, stack: ExitStack) -> None:
        self.product: Product | None = None
        self.note: str | None = None
        self._kind, self._path = kind, path
        with self._guard():
            self.product = stack.enter_context(closing(kind(path, scene, request)))

    @property
    def sees(self) -> bool:
        return self._kind.sees

    @property
    def name(self) -> str:
        return self._kind.name

    def give(self, seen: Any) -> None:
        """Hand over what another product of this kind and scene has seen."""
        if self.product is not None:
            self.product.seen = seen

    def see(self, row: int, rows: Pixels, valid: Bool | None) -> None:
        self._guarded(lambda product: product.see(row, rows, valid))

    def write(self, finished: FinishedRows) -> None:
        self._guarded(lambda product: product.write(finished))

    def finish(self, making: Making) -> None:
        self._guarded(lambda product: product.finish(making))

    def _guarded(self, step: Callable[[Product], None]) -> None:
        if self.product is not None:
            with self._guard():
                step(self.product)

    @contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except (RuntimeError, ValueError, ArithmeticError) as error:
            if self._kind is WaterMask:
                raise
            if self.product is not None:
                self.product.close()
            self.product = None
            self._path.unlink(missing_ok=True)
            self.note = f"{self._kind.name} could not be made: {last_words(error)}"


@contextmanager
def hashing(sha256: Callable[[], str]) -> Iterator[Callable[[], str]]:
    """Gives the input's sha256 when asked. At some 400 MB/s a large scene takes seconds, and only the end needs it."""
    with ThreadPoolExecutor(1, "hash") as pool:
        yield pool.submit(sha256).result


def scene_sha256(path: Path, name: str | None = None) -> str:
    """The identity of the scene at `path`. A link that is named itself is followed, one inside of a folder never.

    Raises as `sarwater.scenes.readers.members` and `sarwater.identity.input_sha256`.
    """
    root = path.resolve()
    return input_sha256(root, members(root, name or name_of(path)))


def input_bytes(path: Path, name: str) -> int:
    return sum(member.stat().st_size for member in members(path, name))


def run_network(
    sinks: Sequence[Sink],
    scene: ModelInput,
    backend: Backend,
    request: Request,
    clock: StageClock,
    record: LatencyRecord,
    progress: Progress | None,
) -> None:
    """Run the scene through the network, and the rows of its mask to every sink. Fills `record`."""
    sieve = Sieve(request.sieve_px, scene.height_px) if request.sieve_px else None
    seeing = [sink.see for sink in sinks if sink.sees]
    tally = Tally(scene.georeference, scene.width_px)

    def see(row: int, rows: Pixels, valid: Bool | None) -> None:
        for show in seeing:
            show(row, rows, valid)

    def write(finished: FinishedRows) -> None:
        with clock.stage("write"):
            hidden = scene.shadow(finished.row, len(finished.mask))
            if hidden is not None:
                hidden &= finished.mask != NODATA
                finished.mask[hidden], finished.confidence[hidden] = SHADOW, NODATA
            parts = list(sieve.push(finished)) if sieve else [finished]
            for part in parts:
                tally.add(part.row, part.mask)
        for part in parts:
            for own, sink in zip(threads, sinks, strict=True):
                own.submit(write_to, sink, part)

    def write_to(sink: Sink, part: FinishedRows) -> None:
        with clock.stage("write"):
            sink.write(part)

    with ExitStack() as stack:
        # One for each product: polygons take as long as all others together.
        threads = [stack.enter_context(_WriterThread()) for _ in sinks]
        writer = stack.enter_context(_WriterThread())
        for finished in infer_scene(scene, backend, request, clock, record, progress, see if seeing else None):
            writer.submit(write, finished)
    record.land_px, record.water_px = tally.land_px, tally.water_px
    record.shadow_px, record.nodata_px = tally.shadow_px, tally.nodata_px
    record.water_km2, record.notes = tally.water_km2, list(scene.notes)


def _finish(
    made: Sequence[Attempt],
    tags: Mapping[str, str],
    manifest: ModelManifest,
    record: LatencyRecord,
    clock: StageClock,
    mask: Path,
) -> None:
    """All at once: some wait for the disk, some for the processor. Then what sums them up."""

    def making() -> Making:
        return Making(tags, manifest, record, tuple(one.product for one in made if one.product is not None))

    first = [one for one in made if one.product is not None and not one.product.sums_up]
    last = [one for one in made if one.product is not None and one.product.sums_up]
    with clock.stage("write"), ThreadPoolExecutor(len(made), "finish") as pool:
        for done in [pool.submit(one.finish, making()) for one in first]:
            done.result()
    record.notes += [one.note for one in made if one.note]
    record.mask_sha256 = sha256_of(mask)
    clock.mark("written")
    record.write_s = clock.seconds("write")
    record.add_moments(clock.moments)
    for one in last:
        one.finish(making())
        record.notes += [one.note] if one.note else []


def open_for(backend: Backend, path: Path, request: Request, name: str | None = None) -> ModelInput:
    """Open a scene as the backend's model is to see it: on trial first, in a process that decodes its pixels, too.

    Raises as `open_model_input` and `shown_to`.
    """
    decoder = try_to_open(path, request, name)
    scene = open_model_input(path, backend.manifest.channels, request, name, decoder=decoder)
    return shown_to(backend, scene, request)


def shown_to(backend: Backend, scene: ModelInput, request: Request) -> ModelInput:
    """The same scene, upsampled to the pixel spacing that the backend's model knows, its level checked.

    Raises SceneOffLevel where the request says so, SceneUnreadable; the scene is closed then.
    """
    try:
        check_level(scene, request, backend.manifest.level_db)
    except BaseException:
        scene.close()
        raise
    factor = upsampling_factor(scene.pixel_m, backend.manifest.coarsest_m)
    scene.upsampling_factor = request.upsampling_factor or min(factor, max(1, WIDEST_UPSAMPLED_PX // scene.width_px))
    return scene


def infer_scene(
    scene: ModelInput,
    backend: Backend,
    request: Request | None = None,
    clock: StageClock | None = None,
    record: LatencyRecord | None = None,
    progress: Progress | None = None,
    see: See | None = None,
) -> Iterator[FinishedRows]:
    """The scene's finished rows from north to south; the next strip is decoded while this one is inferred.

    Fills `record` with what the run was and took; `see` gets every row of pixels as it is read.
    """
    request, clock, record = request or Request(), clock or StageClock(), record or LatencyRecord()
    factor = scene.upsampling_factor
    plan = backend.plan(factor * scene.height_px, factor * scene.width_px)
    run = backend.begin(plan, scene.strips_nodata, request.threshold, scene.gains)
    counters = run.counters
    if progress:
        run.on_tile = lambda: progress(counters.tiles + counters.tiles_skipped, plan.tiles)
    strips = scene.strips(plan, see)
    threshold = backend.manifest.threshold if request.threshold is None else request.threshold
    reduced = DownsampledRows(factor, threshold, scene.width_px) if factor > 1 else None

    def read() -> tuple[Pixels, Bool | None]:
        with clock.stage("read"):
            return next(strips)

    with ThreadPoolExecutor(1, "reader") as reader:
        strip = reader.submit(read)
        for left in range(len(plan.rows) - 1, -1, -1):
            rows, valid = strip.result()
            if left:
                strip = reader.submit(read)
            clock.mark("first_tile")
            finished = run.push(rows, valid)
            if reduced:
                finished = reduced.push(finished)
            if finished.mask.size:
                yield finished
    clock.mark("last_tile")
    _note_run(record, scene, backend, run.counters, clock)


def _note_run(
    record: LatencyRecord, scene: ModelInput, backend: Backend, counters: RunCounters, clock: StageClock
) -> None:
    seconds = counters.seconds
    record.width_px, record.height_px, record.dtype = scene.width_px, scene.height_px, str(scene.dtype)
    record.upsampling_factor = scene.upsampling_factor
    record.tiles, record.tiles_skipped = counters.tiles, counters.tiles_skipped
    record.backend, record.device, record.engine_sha256 = backend.name, backend.device, backend.model_sha256
    record.model, record.precision = backend.manifest.name, backend.manifest.precision
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
def _staging_folder(out_dir: Path, stem: str) -> Iterator[tuple[Path, BinaryIO]]:
    """A hidden folder in `out_dir`, so that publishing is a rename within one file system; removed on any error."""
    try:
        if not out_dir.is_dir():
            make_folder(out_dir)
        folder, owner = make_staging_folder(out_dir, stem)
    except OSError as error:
        raise OutputError(
            f"{out_dir}: cannot be written ({error.strerror}); expected a folder with free space"
        ) from error
    try:
        yield folder, owner
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()
        raise OutputError(
            f"{out_dir}: cannot be written ({error.strerror}); free disk space or fix permissions"
        ) from error
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        owner.close()
        raise


def _tags(key: str, origin: Origin, request: Request, scene: ModelInput) -> dict[str, str]:
    """What every product says of its making. Nothing here may differ between two runs with one key."""
    tags = {
        MASK_KEY_TAG: key,
        INPUT_TAG: origin.input_sha256,
        MODEL_TAG: origin.manifest.name,
        MODEL_SHA256_TAG: origin.model_sha256,
        THRESHOLD_TAG: f"{origin.threshold(request):g}",
        VERSION_TAG: __version__,
    }
    if scene.upsampling_factor > 1:
        tags[setting_tag("upsampling_factor")] = str(scene.upsampling_factor)
    if request.level is not None:
        tags[setting_tag("level")] = request.level
    if request.sieve_px:
        tags[setting_tag("sieve_px")] = str(request.sieve_px)
    if not scene.georeference.known:
        tags[GEOREFERENCE_TAG] = "none: rows and columns only"
    return tags
