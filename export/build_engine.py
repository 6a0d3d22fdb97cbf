"""A model -> a TensorRT or TensorRT-RTX engine: `python -m export.build_engine hrnet`.

Writes, under engines/, the fp32 ONNX, the ONNX of the wanted precision, the plan and a manifest beside each, and
measures each against fp32. What has not changed is not made again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from export.artefacts import (
    TILE_PX,
    GateMissed,
    Workshop,
    at_precision,
    at_tile,
    check_space,
    find_source,
    made,
    rejected,
    summary,
)
from export.plan import PORTABLE, Library, PlanOptions, build_plan, choose_library
from export.progress import BuildProgress
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import OutputError
from sarwater.manifest import PRECISIONS, Engine, ModelManifest, sha256_of
from sarwater.models import open_model

FLAVOR_CHOICES = ("auto", "tensorrt", "rtx")


@dataclass(frozen=True)
class BuildOptions:
    """One build. The command line only fills this in."""

    model: str
    """A family, a family and variant, a checkpoint (.pt) or an ONNX file."""
    workshop: Workshop
    precision: str | None = None
    """None: that of the ONNX file where it is not fp32, else fp16."""
    flavor: str = "auto"
    max_batch: int = 8
    opt_batch: int = 4
    workspace_bytes: int | None = None
    compute_capabilities: tuple[str, ...] = ()
    dla_core: int | None = None
    version_compatible: bool = False
    from_onnx: bool = False
    """`model` is an ONNX file: no checkpoint is looked for, no torch needed."""


def main(argv: Sequence[str] | None = None) -> int:
    options = _parse(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped from outside, it cleans up as after Ctrl-C
    path, manifest = build_engine(options)
    engine = manifest.engine
    assert engine is not None
    print(
        f"{path}: {manifest.name}, {manifest.precision}, tile {manifest.tile_px} px, batch 1 to {engine.max_batch}, "
        f"{engine.flavor} {engine.library_version}, for {engine.gpu_name}; {path.stat().st_size / 1e6:.1f} MB; "
        + ("its accuracy was measured on this GPU" if "iou" in engine.accuracy else "its graph's accuracy was measured")
    )
    return 0


def build_engine(options: BuildOptions) -> tuple[Path, ModelManifest]:
    """Make (or recognise) every file up to the engine; returns its path and manifest.

    Raises ModelNotFound, CheckpointInvalid, ExportError, DependencyMissing, DeviceUnavailable, OutputError, UsageError.
    """
    library = choose_library(options.flavor)
    workshop = options.workshop
    workshop.say(f"{library.flavor} {library.version}, {library.gpu.name if library.gpu else 'no GPU here'}")
    source = at_tile(find_source(options.model, workshop, from_onnx=options.from_onnx), workshop)
    already = open_model(source).manifest.precision
    precision = options.precision or ("fp16" if already == "fp32" else already)
    with BuildProgress(f"{source.stem} -> {precision}") as progress:
        onnx_path = at_precision(source, precision, workshop, progress)
    return _build(onnx_path, source, library, options)


def _build(onnx_path: Path, fp32_path: Path, library: Library, options: BuildOptions) -> tuple[Path, ModelManifest]:
    from export.graph import read_graph, write_manifest

    graph, workshop = read_graph(onnx_path), options.workshop
    plan_options = PlanOptions(
        tile_px=workshop.tile_px,
        channels=graph.channels,
        max_batch=options.max_batch,
        opt_batch=options.opt_batch,
        workspace_bytes=options.workspace_bytes,
        compute_capabilities=options.compute_capabilities,
        dla_core=options.dla_core,
        version_compatible=options.version_compatible,
        timing_cache=workshop.folder / ".timing",
    )
    engine = _describe(library, options)
    path = workshop.path(graph.manifest, graph.manifest.precision, f"-{_target(engine)}.engine")
    recipe = {
        "source": sha256_of(onnx_path),
        "options": {**dataclasses.asdict(plan_options), "timing_cache": None},
        "library": f"{library.flavor} {library.version}",
        "target": f"{engine.gpu_name} ({engine.compute_capability})",
    }
    if manifest := made(path, recipe, workshop):
        workshop.say(f"{path} is up to date; --force builds it again")
        return path, manifest
    check_space(path, 4 * onnx_path.stat().st_size)
    started = time.monotonic()
    with BuildProgress(f"building {path.name}") as progress:
        plan, layers = build_plan(library, graph.proto.SerializeToString(), plan_options, progress)
    workshop.say(f"built in {time.monotonic() - started:.1f} s")
    outcome = graph.manifest.recipe.get("outcome", {})
    accuracy = {f"graph_{name}": value for name, value in outcome.get("accuracy", {}).items()}
    manifest = dataclasses.replace(
        graph.manifest,
        files={},
        engine=dataclasses.replace(engine, accuracy=accuracy),
        recipe=json.loads(json.dumps(recipe)),
    )
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(plan)
        with replacing(path.with_suffix(".layers.json")) as temporary:
            temporary.write_text(json.dumps(layers, indent=1) + "\n", encoding="utf-8")
        manifest = dataclasses.replace(manifest, files={path.name: sha256_of(path)})
        write_manifest(manifest, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free some space") from error
    if library.gpu is not None:
        return path, _proven(path, manifest, fp32_path, workshop)
    return path, manifest


def _proven(path: Path, manifest: ModelManifest, fp32_path: Path, workshop: Workshop) -> ModelManifest:
    """Run the new engine on this GPU against the fp32 graph on the CPU; keep the figures in its manifest.

    Raises ExportError, and renames the engine to `.rejected`, where it misses its gate.
    """
    from export.graph import write_manifest
    from export.verify import engine_accuracy

    accuracy = engine_accuracy(path, fp32_path, workshop)
    workshop.say(f"{path.name} on this GPU: {summary(accuracy)}")
    assert manifest.engine is not None
    engine = dataclasses.replace(manifest.engine, accuracy={**manifest.engine.accuracy, **accuracy.to_dict()})
    manifest = dataclasses.replace(manifest, engine=engine)
    write_manifest(manifest, path)
    if workshop.gates and not accuracy.passes(manifest.precision):
        raise GateMissed(
            rejected(path, manifest),
            f"IoU falls by {100 * accuracy.iou_loss:.2f} points on this GPU, though its graph passed; find the "
            f"layer with `polygraphy run {fp32_path} --trt --onnxrt --trt-outputs mark all --onnx-outputs mark all`",
        )
    return manifest


def _describe(library: Library, options: BuildOptions) -> Engine:
    if library.flavor == "tensorrt":
        assert library.gpu is not None
        gpu_name, capability = library.gpu.name, library.gpu.compute_capability
    else:
        capability = ", ".join(options.compute_capabilities) or PORTABLE
        gpu_name = "RTX GPUs of compute capability " + (capability if options.compute_capabilities else "8.0 and up")
    return Engine(library.flavor, library.version, gpu_name, capability, options.max_batch, options.opt_batch)


def _target(engine: Engine) -> str:
    flavor = "rtx" if engine.flavor == "tensorrt-rtx" else "trt"
    if engine.compute_capability == PORTABLE:
        return flavor
    return flavor + "-sm" + engine.compute_capability.replace(".", "").replace(", ", "-sm")


def _parse(argv: Sequence[str] | None) -> BuildOptions:
    parser = argparse.ArgumentParser(prog="python -m export.build_engine", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add(
        "model",
        nargs="?",
        metavar="MODEL",
        help="fcn, unet, deepunet or hrnet, with or without its variant; .pt; .onnx",
    )
    add("--precision", choices=PRECISIONS, help="default: fp16, or what an ONNX file already is")
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
    add("--calibration", type=Path, metavar="DIR", help="scenes to calibrate with; with labels, for the gates too")
    add("--no-gates", action="store_true", help="keep an engine whatever accuracy it costs")
    add("--force", action="store_true", help="build again though nothing changed")
    args = parser.parse_args(argv)
    if (args.model is None) == (args.from_onnx is None):
        parser.error("give MODEL or --from-onnx FILE")
    if args.max_batch < 1 or not 1 <= (args.opt_batch or 1) <= args.max_batch:
        parser.error("expected 1 <= --opt-batch <= --max-batch")
    return BuildOptions(
        model=args.from_onnx or args.model,
        workshop=Workshop(tile_px=args.tile, calibration=args.calibration, gates=not args.no_gates, force=args.force),
        precision=args.precision,
        flavor=args.flavor,
        max_batch=args.max_batch,
        opt_batch=args.opt_batch or max(1, args.max_batch // 2),
        workspace_bytes=None if args.workspace is None else int(args.workspace * 2**30),
        compute_capabilities=tuple(args.compute_capability),
        dla_core=args.dla,
        version_compatible=args.version_compatible,
        from_onnx=args.from_onnx is not None,
    )


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
