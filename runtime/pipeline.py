"""Scene -> products: the one place where the flow is written down.

    reader thread      decode row bands                          (scene.bands)
    this thread        gather, infer, blend, threshold           (backend)
    writer thread      encode finished rows                      (products)

At most one band waits before the network and two after it, so memory does not grow with the scene's height.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import unicodedata
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from runtime.backends.base import Backend, FinishedRows
from runtime.latency import LatencyRecord, StageClock
from runtime.product import SceneLimits, Window
from runtime.products import MASK_COLOURS, CogWriter
from runtime.publish import JOB_KEY_TAG, StagedProducts
from runtime.scene import Scene, hash_input, open_scene
from runtime.stac import stac_item
from sarwater import __version__
from sarwater.atomic import fsync_file
from sarwater.errors import OutputError, UsageError
from sarwater.manifest import sha256_of
from sarwater.tiling import TilePlan

PRODUCTS = ("mask", "stac")
_MAX_STEM_BYTES = 120

Progress = Callable[[int, int], None]
"""Called with (tiles done, tiles in all), from the thread that called the pipeline."""


@dataclass(frozen=True)
class SceneOptions:
    """What is made of a scene, and how. Everything here but `limits` changes the products, so it is in the job key."""

    products: tuple[str, ...] = PRODUCTS
    """Out of PRODUCTS; the mask is always made."""
    threshold: float | None = None
    """Probability from which a pixel is water; None takes the model's."""
    window: Window | None = None
    """Part of the scene to work on; None takes all of it."""
    polarisations: tuple[str, ...] = ()
    """What feeds the model's `sar` channels, by name (`vv`) or band number (`2`); empty takes the obvious ones."""
    nodata: float | None = None
    """Pixel value that means nothing was measured; None takes what the scene says."""
    limits: SceneLimits = field(default_factory=SceneLimits)

    def __post_init__(self) -> None:
        """Raises UsageError."""
        if unknown := [name for name in self.products if name not in PRODUCTS]:
            raise UsageError(f"product {unknown[0]!r} is unknown; expected some of: {','.join(PRODUCTS)}")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise UsageError(f"threshold {self.threshold}: expected a probability between 0 and 1")

    def sha256(self) -> str:
        """The configuration's part of the job key."""
        document = asdict(self)
        del document["limits"]
        document["software"] = __version__
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def job_key(input_sha256: str, model_sha256: str, options: SceneOptions) -> str:
    """The identity of a job: one visible mask per key, whatever happens."""
    return hashlib.sha256(f"{input_sha256}\n{model_sha256}\n{options.sha256()}\n".encode()).hexdigest()


def product_stem(path: Path) -> str:
    """The start of every product's name: the scene's own, reduced to letters, digits, `_`, `-` and `.`."""
    name = unicodedata.normalize("NFC", path.stem)
    cleaned = re.sub(r"[^\w.-]+", "_", name).lstrip(".-")
    return cleaned.encode()[:_MAX_STEM_BYTES].decode(errors="ignore") or "scene"


def mask_name(stem: str) -> str:
    return f"{stem}_water.tif"


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

    `runtime.publish.publish` makes them visible. On any error nothing is left behind. `input_sha256` saves hashing
    the input again; `stem` is the products' name, by default the scene's; `record` is what is known of it already.

    Raises SceneError (the input is at fault), OutputError (the disk is), UsageError (a window outside the scene) and
    what the backend raises.
    """
    options, clock = options or SceneOptions(), clock or StageClock()
    stem = stem or product_stem(path)
    with open_for(backend, path, options) as scene:
        input_sha256 = input_sha256 or hash_input(path)
        clock.mark("validated")
        key = job_key(input_sha256, backend.model_sha256, options)
        record = record or LatencyRecord(input=path.name, input_bytes=path.stat().st_size)
        record.key = key
        tags = _tags(key, input_sha256, backend, options)
        with _staging_folder(out_dir, stem) as folder:
            mask_path = folder / mask_name(stem)
            with closing(CogWriter(mask_path, scene, tags, colours=MASK_COLOURS)) as mask:
                write = _timed(clock, "write", mask.write)
                with _WriterThread() as writer:
                    for finished in infer_scene(scene, backend, options, clock, record, progress):
                        writer.submit(write, finished.row, finished.mask)
                with clock.stage("write"):
                    mask.finish()
            record.mask_sha256 = sha256_of(mask_path)
            clock.mark("written")
            record.write_s = clock.seconds("write")
            record.add_moments(clock.moments)
            names = [mask_path.name]
            if "stac" in options.products:
                item = stac_item(stem, scene, {"water": mask_path}, tags, record)
                (folder / f"{stem}_water.json").write_text(
                    json.dumps(item, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
                )
                names.insert(0, f"{stem}_water.json")
            for name in names:
                fsync_file(folder / name)
            clock.mark("synced")
            record.add_moments(clock.moments)
            return StagedProducts(str(folder), tuple(names), key, record.to_dict())


def open_for(backend: Backend, path: Path, options: SceneOptions) -> Scene:
    """Open a scene for the backend's model; raises as open_scene does."""
    return open_scene(
        path,
        backend.manifest.channels,
        polarisations=options.polarisations,
        window=options.window,
        nodata=options.nodata,
        limits=options.limits,
    )


def infer_scene(
    scene: Scene,
    backend: Backend,
    options: SceneOptions | None = None,
    clock: StageClock | None = None,
    record: LatencyRecord | None = None,
    progress: Progress | None = None,
) -> Iterator[FinishedRows]:
    """The scene's finished rows from north to south; the next band is decoded while this one is inferred.

    Fills `record` with what the run was and took.
    """
    options, clock, record = options or SceneOptions(), clock or StageClock(), record or LatencyRecord()
    plan = TilePlan(scene.height_px, scene.width_px, backend.manifest.tile_px, backend.manifest.overlap_px)
    run = backend.begin(plan, scene.nodata, options.threshold)
    counters = run.counters
    if progress:
        run.on_tile = lambda: progress(counters.tiles + counters.tiles_skipped, plan.tiles)
    bands = scene.bands(plan)
    read = _timed(clock, "read", next)
    with ThreadPoolExecutor(1, "reader") as reader:
        band = reader.submit(read, bands)
        for left in range(len(plan.rows) - 1, -1, -1):
            rows, valid = band.result()
            if left:
                band = reader.submit(read, bands)
            clock.mark("first_tile")
            finished = run.push(rows, valid)
            if finished.mask.size:
                yield finished
    clock.mark("last_tile")
    seconds = counters.seconds
    record.width_px, record.height_px, record.dtype = scene.width_px, scene.height_px, str(scene.dtype)
    record.tiles, record.tiles_skipped = counters.tiles, counters.tiles_skipped
    record.backend, record.device, record.engine_sha256 = backend.name, backend.device, backend.model_sha256
    record.read_s = clock.seconds("read")
    record.h2d_s, record.infer_s, record.d2h_s = (seconds.get(stage) for stage in ("h2d", "infer", "d2h"))
    record.post_s = seconds.get("gather", 0.0) + seconds.get("blend", 0.0)


class _WriterThread:
    """Runs submitted writes in order in one thread; at most two wait. An error surfaces at the next call or the end."""

    def __enter__(self) -> _WriterThread:
        self._pool = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[Future[None]] = deque()
        return self

    def submit(self, write: Callable[..., None], *arguments: Any) -> None:
        self._waiting.append(self._pool.submit(write, *arguments))
        if len(self._waiting) > 2:
            self._waiting.popleft().result()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            for future in self._waiting:
                future.result()


def _timed(clock: StageClock, stage: str, step: Callable[..., Any]) -> Callable[..., Any]:
    def timed(*arguments: Any) -> Any:
        with clock.stage(stage):
            return step(*arguments)

    return timed


@contextmanager
def _staging_folder(out_dir: Path, stem: str) -> Iterator[Path]:
    """A hidden folder in `out_dir`, so that publishing is a rename within one file system; removed on any error."""
    try:
        out_dir.mkdir(parents=True, exist_ok=True)
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


def _tags(key: str, input_sha256: str, backend: Backend, options: SceneOptions) -> dict[str, str]:
    threshold = backend.manifest.threshold if options.threshold is None else options.threshold
    return {
        JOB_KEY_TAG: key,
        "SARWATER_INPUT_SHA256": input_sha256,
        "SARWATER_MODEL": backend.manifest.name,
        "SARWATER_MODEL_SHA256": backend.model_sha256,
        "SARWATER_THRESHOLD": f"{threshold:g}",
        "SARWATER_VERSION": __version__,
    }
