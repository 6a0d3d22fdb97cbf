"""A model -> a TensorRT or TensorRT-RTX engine: `python -m export.build_engine hrnet`.

Writes, under engines/, the fp32 ONNX, the ONNX of the wanted precision, the plan and a manifest beside each. What has
not changed is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.plan import PORTABLE, Library, PlanOptions, build_plan, choose_library
from export.progress import BuildProgress
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import OutputError, SarwaterError, UsageError
from sarwater.manifest import PRECISIONS, Engine, ModelManifest, manifest_path, sha256_of
from sarwater.models import ENGINES, looks_like_path, newest_checkpoint, resolve_onnx

if TYPE_CHECKING:
    pass

TILE_PX = 1024
CALIBRATION_TILE_PX = 256
FLAVOR_CHOICES = ("auto", "tensorrt", "rtx")


@dataclass(frozen=True)
class BuildOptions:
    """One build. The command line only fills this in."""

    model: str
    """A family, a family and variant, a checkpoint (.pt) or an ONNX file."""
    precision: str = "fp16"
    flavor: str = "auto"
    tile_px: int = TILE_PX
    max_batch: int = 8
    opt_batch: int = 4
    workspace_bytes: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    dla_core: int | None = None
    version_compatible: bool = False
    from_onnx: bool = False
    """`model` is an ONNX file: no checkpoint is looked for, no torch needed."""
    force: bool = False
    engines: Path = ENGINES


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    path, manifest = build_engine(options)
    engine = manifest.engine
    assert engine is not None
    print(
        f"{path}: {manifest.name}, {manifest.precision}, tile {manifest.tile_px} px, batch 1 to {engine.max_batch}, "
        f"{engine.flavor} {engine.library_version}, for {engine.gpu_name}; {path.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def build_engine(options: BuildOptions) -> tuple[Path, ModelManifest]:
    """Make (or recognise) every file up to the engine; returns its path and manifest.

    Raises ModelNotFound, CheckpointInvalid, ExportError, DependencyMissing, DeviceUnavailable, OutputError, UsageError.
    """
    library = choose_library(options.flavor)
    _say(f"{library.flavor} {library.version}, " + (f"{library.gpu.name}" if library.gpu else "no GPU here"))
    source = find_source(options)
    fp32_or_given = at_tile(source, options)
    onnx_path = at_precision(fp32_or_given, options)
    return _build(onnx_path, library, options)


def find_source(options: BuildOptions) -> Path:
    """The ONNX file that MODEL means; a checkpoint is exported first. Says which one it took."""
    if options.from_onnx or options.model.endswith(".onnx"):
        return _took(options.model, Path(options.model))
    checkpoint = Path(options.model) if looks_like_path(options.model) else newest_checkpoint(options.model)
    if checkpoint is None:
        return _took(options.model, resolve_onnx(options.model, options.engines).path)
    from export.to_onnx import export_checkpoint

    _took(options.model, checkpoint)
    path, _ = export_checkpoint(checkpoint, options.engines, options.tile_px)
    return path


def at_tile(source: Path, options: BuildOptions) -> Path:
    """The fp32 (or already converted) ONNX at the wanted tile size, under engines/."""
    from export.graph import read_graph, with_tile, write_graph

    graph = read_graph(source)
    path = options.engines / f"{_stem(graph.manifest, graph.manifest.precision, options.tile_px)}.onnx"
    if path.resolve() == source.resolve():
        return path
    recipe = {"source": sha256_of(source), "tile_px": options.tile_px}
    if not options.force and _is_made(path, recipe):
        return path
    graph = with_tile(graph, options.tile_px)
    write_graph(dataclasses.replace(graph, manifest=dataclasses.replace(graph.manifest, recipe=recipe)), path)
    _say(f"wrote {path}")
    return path


def at_precision(source: Path, options: BuildOptions) -> Path:
    """The ONNX of the wanted precision, made from the one at `source`."""
    from export.calibration import speckle_tiles
    from export.graph import read_graph, write_graph

    graph = read_graph(source)
    if graph.manifest.precision == options.precision:
        return source
    if graph.manifest.precision != "fp32":
        raise UsageError(
            f"{source} is {graph.manifest.precision} and cannot become {options.precision}; give the fp32 ONNX file, "
            f"or --precision {graph.manifest.precision}"
        )
    from export.precision import library_versions, to_fp16

    path = options.engines / f"{_stem(graph.manifest, options.precision, options.tile_px)}.onnx"
    recipe = {"source": sha256_of(source), "precision": options.precision, "libraries": library_versions()}
    if not options.force and _is_made(path, recipe):
        return path
    _say(f"converting to {options.precision}")
    tiles = speckle_tiles(graph.manifest.channels, 8, CALIBRATION_TILE_PX)
    write_graph(to_fp16(graph, tiles, recipe), path)
    _say(f"wrote {path}")
    return path


def _build(onnx_path: Path, library: Library, options: BuildOptions) -> tuple[Path, ModelManifest]:
    from export.graph import read_graph, write_manifest

    graph = read_graph(onnx_path)
    plan_options = PlanOptions(
        tile_px=options.tile_px,
        channels=graph.channels,
        max_batch=options.max_batch,
        opt_batch=options.opt_batch,
        workspace_bytes=options.workspace_bytes,
        compute_capabilities=options.compute_capabilities,
        dla_core=options.dla_core,
        version_compatible=options.version_compatible,
    )
    engine = _describe(library, options)
    path = (
        options.engines / f"{_stem(graph.manifest, graph.manifest.precision, options.tile_px)}-{_target(engine)}.engine"
    )
    recipe = {
        "source": sha256_of(onnx_path),
        "options": dataclasses.asdict(plan_options),
        "engine": dataclasses.asdict(engine),
    }
    if not options.force and (made := _is_made(path, recipe)):
        _say(f"{path} is up to date; --force builds it again")
        return path, made
    started = time.monotonic()
    with BuildProgress(f"building {path.name}") as progress:
        plan, layers = build_plan(library, graph.proto.SerializeToString(), plan_options, progress)
    _say(f"built in {time.monotonic() - started:.1f} s")
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(plan)
        with replacing(path.with_suffix(".layers.json")) as temporary:
            temporary.write_text(json.dumps(layers, indent=1), encoding="utf-8")
        manifest = dataclasses.replace(
            graph.manifest, files={path.name: sha256_of(path)}, engine=engine, recipe=json.loads(json.dumps(recipe))
        )
        write_manifest(manifest, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free some space") from error
    return path, manifest


def _describe(library: Library, options: BuildOptions) -> Engine:
    if library.flavor == "tensorrt":
        assert library.gpu is not None
        gpu_name, capability = library.gpu.name, library.gpu.compute_capability
    else:
        capability = ", ".join(options.compute_capabilities) or PORTABLE
        gpu_name = "RTX GPUs of compute capability " + (capability if options.compute_capabilities else "8.0 and up")
    return Engine(library.flavor, library.version, gpu_name, capability, options.max_batch, options.opt_batch)


def _is_made(path: Path, recipe: dict[str, Any]) -> ModelManifest | None:
    """The manifest of the file at `path`, if it is whole and was made by just this recipe."""
    try:
        manifest = ModelManifest.read(manifest_path(path))
        if dict(manifest.recipe) != json.loads(json.dumps(recipe)):
            return None
        manifest.verify(path)
    except (SarwaterError, OSError):
        return None
    return manifest


def _stem(manifest: ModelManifest, precision: str, tile_px: int) -> str:
    return f"{manifest.name}-{precision}-{tile_px}"


def _target(engine: Engine) -> str:
    flavor = "rtx" if engine.flavor == "tensorrt-rtx" else "trt"
    if engine.compute_capability == PORTABLE:
        return flavor
    return flavor + "-sm" + engine.compute_capability.replace(".", "").replace(", ", "-sm")


def _took(model: str, path: Path) -> Path:
    _say(f"{model}: {path}")
    return path


def _say(text: str) -> None:
    print(text, flush=True)


def _parse(argv: Sequence[str] | None) -> BuildOptions:
    parser = argparse.ArgumentParser(prog="python -m export.build_engine", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help="fcn, unet, deepunet or hrnet, with or without its variant; .pt; .onnx",
    )
    add("--precision", choices=PRECISIONS, default="fp16", help="default: fp16")
    add("--flavor", choices=FLAVOR_CHOICES, default="auto", help="default: tensorrt if it is here with a GPU, else rtx")
    add("--tile", type=int, default=TILE_PX, metavar="PX", help=f"tile size, a multiple of 32 (default {TILE_PX})")
    add("--max-batch", type=int, default=8, metavar="N", help="most tiles per call (default 8)")
    add("--opt-batch", type=int, metavar="N", help="tiles per call to tune for (default: half of --max-batch)")
    add("--workspace", type=float, metavar="GiB", help="most scratch memory a layer may use (default: all)")
    add(
        "--compute-capability", nargs="+", default=(), metavar="X.Y", help="rtx: only these GPUs (default: from 8.0 on)"
    )
    add("--dla", type=int, metavar="N", help="tensorrt: this DLA core of a Jetson, and its GPU for what a DLA cannot")
    add("--version-compatible", action="store_true", help="an engine that later releases of the library run too")
    add("--from-onnx", metavar="FILE", help="build from this ONNX file alone: no checkpoint, no torch")
    add("--force", action="store_true", help="build again though nothing changed")
    args = parser.parse_args(argv)
    if (args.model is None) == (args.from_onnx is None):
        parser.error("give MODEL or --from-onnx FILE")
    if args.max_batch < 1 or not 1 <= (args.opt_batch or 1) <= args.max_batch:
        parser.error("expected 1 <= --opt-batch <= --max-batch")
    return BuildOptions(
        model=args.from_onnx or args.model,
        precision=args.precision,
        flavor=args.flavor,
        tile_px=args.tile,
        max_batch=args.max_batch,
        opt_batch=args.opt_batch or max(1, args.max_batch // 2),
        workspace_bytes=None if args.workspace is None else int(args.workspace * 2**30),
        compute_capabilities=tuple(args.compute_capability),
        dla_core=args.dla,
        version_compatible=args.version_compatible,
        from_onnx=args.from_onnx is not None,
        force=args.force,
    )


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
