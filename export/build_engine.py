"""A model -> a TensorRT or TensorRT-RTX engine: `python -m export.build_engine hrnet`.

Writes, under engines/, the fp32 ONNX, the ONNX of the wanted precision, the plan and a manifest beside each, and
measures each against fp32. What has not changed is not made again.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.artefacts import (
    GateMissed,
    Progress,
    Workshop,
    at_precision,
    at_tile,
    check_space,
    find_source,
    is_made,
    summary,
    written,
)
from export.options import CONVERSION, MODELS, workshop_of, workshop_options
from export.plan import FLAVOR_CHOICES, PlanOptions, build_plan, choose_library
from sarwater.atomic import replacing
from sarwater.command import command, invoke, option, run
from sarwater.errors import OutputError, UsageError
from sarwater.manifest import PRECISIONS, Engine, ModelManifest, manifest_path
from sarwater.models import ENGINES, Model
from sarwater.progress import Progress as Display
from sarwater.tensorrt_library import FLAVOURS, PORTABLE, Library, is_for

if TYPE_CHECKING:
    from export.accuracy import Accuracy
    from export.graph import Graph

ENGINE_SAMPLES: int | None = None
"""To prove an engine with; None for one of every kind of simulated scene."""
ENGINE_GROUP = "engine"
_CAPABILITY = re.compile(r"\d+\.\d+")


@dataclass(frozen=True)
class BuildOptions:
    """One build. The command line only fills this in."""

    model: str
    """The name of a model that ships, a training run or its checkpoint (.pt), or an ONNX file."""
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


@command(
    "build-engine",
    "Build a TensorRT or TensorRT-RTX engine of a model, and what it is made from: its ONNX files.",
    examples="""
    sarwater build-engine hrnet
    sarwater build-engine runs/unet-w16/latest --precision int8 --calibration MY_SCENES
    sarwater build-engine --from-onnx my-lakes.onnx --flavor rtx --compute-capability 8.6,8.9
    """,
    more=MODELS,
)
@click.argument("words", nargs=-1, metavar="[MODEL]")
@option("--from-onnx", metavar="FILE", help="build from this ONNX file alone: no checkpoint, no torch")
@option(
    "-o", "--output", type=click.Path(path_type=Path), default=ENGINES, metavar="DIR", help="folder [default: engines]"
)
@option(
    "--precision",
    type=click.Choice(PRECISIONS),
    group=CONVERSION,
    help="default: fp16, or what an ONNX file already is",
)
@option("--force", is_flag=True, help="build again though nothing changed")
@option(
    "--flavor",
    "--flavour",
    type=click.Choice(list(FLAVOR_CHOICES)),
    default="auto",
    group=ENGINE_GROUP,
    help="default: tensorrt if it is here with a GPU, else rtx",
)
@option(
    "--max-batch",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    metavar="N",
    group=ENGINE_GROUP,
    help="most tiles per call",
)
@option(
    "--opt-batch",
    type=int,
    metavar="N",
    group=ENGINE_GROUP,
    help="tiles per call to tune for [default: half of --max-batch]",
)
@option(
    "--workspace",
    type=float,
    metavar="GiB",
    group=ENGINE_GROUP,
    help="most scratch memory a layer may use [default: all]",
)
@option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    group=ENGINE_GROUP,
    help="rtx: only these GPUs, several by commas or spaces [default: all that it serves, from 8.0 on]",
)
@option(
    "--dla",
    type=int,
    metavar="N",
    group=ENGINE_GROUP,
    help="tensorrt: this DLA core of a Jetson, and its GPU for what a DLA cannot",
)
@option(
    "--version-compatible",
    is_flag=True,
    group=ENGINE_GROUP,
    help="an engine that later releases of the library run too",
)
@workshop_options
def build_engine_command(
    words: tuple[str, ...],
    from_onnx: str | None,
    output: Path,
    precision: str | None,
    force: bool,
    flavor: str,
    max_batch: int,
    opt_batch: int | None,
    workspace: float | None,
    capabilities: tuple[str, ...],
    dla: int | None,
    version_compatible: bool,
    **options: Any,
) -> int:
    models, capabilities = _told_apart(words, capabilities)
    if len(models) + (from_onnx is not None) != 1:
        raise UsageError(f"{' '.join(models) or 'no model'}: expected one MODEL, or --from-onnx FILE")
    if not 1 <= (opt_batch or 1) <= max_batch:
        raise UsageError(f"--opt-batch {opt_batch}: expected 1 to --max-batch ({max_batch})")
    build = BuildOptions(
        model=from_onnx or models[0],
        workshop=dataclasses.replace(workshop_of(folder=output, **options), force=force),
        precision=precision,
        flavor=flavor,
        max_batch=max_batch,
        opt_batch=opt_batch or max(1, max_batch // 2),
        workspace_bytes=None if workspace is None else int(workspace * 2**30),
        compute_capabilities=capabilities,
        dla_core=dla,
        version_compatible=version_compatible,
        from_onnx=from_onnx is not None,
    )
    with Display(f"{build.model} -> engine") as display:
        path, manifest = build_engine(build, display.phase)
    engine = manifest.engine
    assert engine is not None
    print(
        f"{Model(path, manifest).title}: tile {manifest.tile_px} px, batch 1 to {engine.max_batch}, "
        f"{engine.flavor} {engine.library_version}, for {engine.gpu_name}; {path.stat().st_size / 1e6:.1f} MB; "
        + ("its accuracy was measured on this GPU" if "iou" in engine.accuracy else "its graph's accuracy was measured")
    )
    return 0


def _told_apart(words: tuple[str, ...], given: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    """(models, compute capabilities): `--compute-capability 8.6 8.9` goes on with what looks like one."""
    more = [word for word in words if given and _CAPABILITY.fullmatch(word)]
    listed = [part for text in (*given, *more) for part in text.replace(",", " ").split()]
    return [word for word in words if word not in more], tuple(listed)


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(build_engine_command, argv)


def build_engine(options: BuildOptions, progress: Progress = lambda *event: None) -> tuple[Path, ModelManifest]:
    """Make (or recognise) every file up to the engine; returns its path and manifest.

    Raises ModelUnknown, ModelNotFound, CheckpointInvalid, ExportError, DependencyMissing, DeviceUnavailable,
    OutputError, UsageError.
    """
    workshop = options.workshop
    progress("reading the model", 0, 1)
    source = at_tile(find_source(options.model, workshop, from_onnx=options.from_onnx), workshop)
    library = choose_library(options.flavor, options.compute_capabilities)
    workshop.say(f"{library.flavor} {library.version}, {library.gpu.name if library.gpu else 'no GPU here'}")
    source = written(source, workshop)
    already = source.manifest.precision
    precision = options.precision or ("fp16" if already == "fp32" else already)
    return _build(at_precision(source, precision, workshop, progress), source, library, options, progress)


def _build(
    graph: Graph, fp32: Graph, library: Library, options: BuildOptions, progress: Progress
) -> tuple[Path, ModelManifest]:
    from export.graph import write_model

    workshop = options.workshop
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
        "source": graph.sha256,
        "options": {**dataclasses.asdict(plan_options), "timing_cache": None},
        "library": f"{library.flavor} {library.version}",
        "target": f"{engine.gpu_name} ({engine.compute_capability})",
    }
    if manifest := is_made(path, recipe, workshop):
        workshop.say(f"{path} is up to date; --force builds it again")
        return path, manifest
    check_space(path, 4 * graph.size_bytes)
    started = time.monotonic()
    plan, layers = build_plan(library, graph.proto.SerializeToString(), plan_options, progress)
    workshop.say(f"built in {time.monotonic() - started:.1f} s")
    outcome = graph.manifest.recipe.get("outcome", {})
    figures = {f"graph_{name}": value for name, value in outcome.get("accuracy", {}).items()}
    manifest = dataclasses.replace(graph.manifest, files={}, engine=engine, recipe=json.loads(json.dumps(recipe)))
    accuracy = None
    if library.gpu is not None:
        accuracy = _accuracy_here(plan, manifest, fp32, workshop, progress)
        workshop.say(f"{path.name} on this GPU: {summary(accuracy)}")
        figures |= accuracy.to_dict()
    manifest = dataclasses.replace(manifest, engine=dataclasses.replace(engine, accuracy=figures))
    if accuracy is not None and workshop.gates and not accuracy.passes(manifest.precision):
        target = path.with_name(path.name + ".rejected")
        write_model(plan, manifest, target)
        for stale in (path, manifest_path(path), path.with_suffix(".layers.json")):  # it was never proven here
            stale.unlink(missing_ok=True)
        raise GateMissed(
            target,
            f"IoU falls by {100 * accuracy.iou_loss:.2f} points on this GPU, though its graph passed; find the layer "
            f"with `polygraphy run {fp32.path} --trt --onnxrt --trt-outputs mark all --onnx-outputs mark all`",
        )
    try:
        with replacing(path.with_suffix(".layers.json")) as temporary:
            temporary.write_text(json.dumps(layers, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free some space") from error
    return path, write_model(plan, manifest, path)


def _accuracy_here(
    plan: bytes, manifest: ModelManifest, fp32: Graph, workshop: Workshop, progress: Progress
) -> Accuracy:
    """An engine on this GPU against its fp32 graph on the CPU, on samples of its own tile size."""
    from export import runners
    from export.accuracy import compare
    from export.artefacts import proof_samples
    from export.samples import scene_types

    assert fp32.path is not None
    progress("measuring on this GPU", 0, 2)
    samples = proof_samples(fp32, workshop, fp32.manifest.tile_px, ENGINE_SAMPLES or len(scene_types()))
    with runners.plan_network(plan, manifest) as network:
        found = runners.probabilities(network, samples)
    progress("measuring on the CPU", 1, 2)
    with runners.backend_runner(fp32.path).open() as network:
        reference = runners.probabilities(network, samples)
    return compare(found, reference, samples, fp32.manifest.threshold)


def _describe(library: Library, options: BuildOptions) -> Engine:
    if not library.is_rtx:
        assert library.gpu is not None
        gpu_name, capability = library.gpu.name, library.gpu.compute_capability
    else:
        capability = ", ".join(options.compute_capabilities) or PORTABLE
        served = options.compute_capabilities or [it for it in library.compute_capabilities if is_for(PORTABLE, it)]
        gpu_name = "RTX GPUs of compute capability " + ", ".join(served)
    return Engine(library.flavor, library.version, gpu_name, capability, options.max_batch, options.opt_batch)


def _target(engine: Engine) -> str:
    flavor = FLAVOURS[engine.flavor].short
    if engine.compute_capability == PORTABLE:
        return flavor
    return flavor + "-sm" + engine.compute_capability.replace(".", "").replace(", ", "-sm")


def cli() -> int:
    return run(build_engine_command)


if __name__ == "__main__":
    sys.exit(cli())
