"""Every ONNX and engine of a model side by side on the same tiles: `python -m export.verify hrnet --data DIR`.

The reference is the network in PyTorch where torch is installed, else its fp32 ONNX graph. Fails where a gate is
missed: fp16 may cost 0.1 point of IoU, int8 0.5.
"""

from __future__ import annotations

import contextlib
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from export.artefacts import GateMissed, Progress, Workshop, at_precision, at_tile, find_source, written
from export.options import MODELS, workshop_of, workshop_options
from sarwater.atomic import replacing
from sarwater.command import command, invoke, option, run
from sarwater.errors import DependencyMissing, ExportError, ModelNotFound, SarwaterError, UsageError
from sarwater.manifest import PRECISIONS, ModelManifest
from sarwater.models import ENGINES, Model, open_model, shipped_model
from sarwater.progress import Progress as Display

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.accuracy import Accuracy
    from export.graph import Graph
    from export.runners import Runner
    from export.samples import Sample

    Float32 = npt.NDArray[np.float32]
    UInt8 = npt.NDArray[np.uint8]

SAMPLES = 16
TABLE_WIDTH = 140
"""In a log or a narrow terminal a line that wraps reads better than a column cut short."""


@dataclass(frozen=True)
class Files:
    """What there is of one model, fp32 first."""

    fp32: Graph
    graphs: tuple[Graph, ...]
    engines: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Result:
    """One row of the table."""

    runner: Runner
    accuracy: Accuracy | None
    """None where this machine cannot run it."""
    masks: tuple[UInt8, ...] = ()
    latency_s: tuple[float, ...] = ()
    refused: str = ""

    @property
    def passes(self) -> bool:
        return self.accuracy is None or self.accuracy.passes(self.runner.precision)


@command(
    "verify",
    "Run every precision of a model on the same labelled scenes, side by side, and check its gate.",
    examples="""
    sarwater verify hrnet --data MY_LABELLED_SCENES
    sarwater verify engines/my-lakes.engine --data img.tif:label.tif --labels land=1,water=2,ignore=0
    sarwater verify hrnet --data DIR --json table.json --picture differences.png
    """,
    more=MODELS + "  my-lakes.engine                an engine, compared with the fp32 ONNX that it comes from\n",
)
@click.argument("model", metavar="MODEL")
@option(
    "--data", required=True, metavar="DIR", help="labelled scenes: a folder with img/ and mask/, a list, or IMAGE:LABEL"
)
@option(
    "--samples",
    "--tiles",
    "limit",
    type=click.IntRange(1),
    default=SAMPLES,
    show_default=True,
    metavar="N",
    help="most tiles to run",
)
@option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=ENGINES,
    metavar="DIR",
    help="folder of the model's files [default: engines]",
)
@option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="write the table to FILE as well")
@option("--picture", type=click.Path(path_type=Path), metavar="FILE", help="draw where masks differ, .png")
@option("--bisect", is_flag=True, help="say which layers add the largest errors, though every gate is passed")
@workshop_options
def verify_command(
    model: str,
    data: str,
    limit: int,
    output: Path,
    json_file: Path | None,
    picture: Path | None,
    bisect: bool,
    **options: Any,
) -> int:
    workshop = workshop_of(folder=output, **options)
    with Display(f"verifying {model}") as display:
        display.phase("reading the model", 0, 1)
        files = find_files(model, workshop, display.phase)
        from export.samples import labelled_samples

        manifest = files.fp32.manifest
        samples = labelled_samples(data, manifest.channels, manifest.tile_px, limit, workshop.reading)
        results = verify(files, samples, display.phase)
    report = to_report(results, manifest.name, data, samples)
    if json_file:
        with replacing(json_file) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print_table(results, report)
    if picture:
        from export.picture import draw_disagreement

        others = [(row.runner.title, row.masks) for row in results[1:] if row.accuracy and row.accuracy.changed_share]
        if others:
            draw_disagreement(picture, samples, (results[0].runner.title, results[0].masks), others)
        print(f"picture: {picture}" if others else "picture: none, no mask differs from the reference")
    failed = [result for result in results if not result.passes]
    if bisect or failed:
        _print_worst_layers(files, samples[0])
    if failed and workshop.gates:
        raise ExportError(
            f"{', '.join(result.runner.title for result in failed)}: outside the gate; the layers above add the "
            "largest errors: calibrate with scenes of your sensor (--calibration DIR)"
        )
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(verify_command, argv)


def find_files(model: str, workshop: Workshop, progress: Progress = lambda *event: None) -> Files:
    """For a name, a checkpoint or an fp32 file, all files of that model, converted first where they are missing; for
    another file, that file and its fp32.

    Raises as the functions of export.artefacts.
    """
    path = Path(model)
    if path.suffix in (".onnx", ".engine"):
        given = open_model(path)
        if given.manifest.engine is not None or given.manifest.precision != "fp32":
            return _files_of(given, workshop)
        workshop = workshop.of(given.manifest.tile_px)
    fp32 = written(at_tile(find_source(model, workshop), workshop), workshop)
    graphs = tuple(_converted(fp32, precision, workshop, progress) for precision in PRECISIONS)
    sources = {graph.sha256 for graph in graphs}
    manifest = fp32.manifest
    engines = []
    for engine in sorted(workshop.folder.glob(f"{manifest.name}-*-{manifest.tile_px}-*.engine")):
        # Another model's may have the same name.
        if open_model(engine).manifest.recipe.get("source", fp32.sha256) in sources:
            engines.append(engine)
        else:
            workshop.say(f"{engine}: left out, not built from a graph above")
    return Files(fp32, graphs, tuple(engines))


def _files_of(model: Model, workshop: Workshop) -> Files:
    from export.graph import read_graph

    workshop.say(f"model {model.title}")
    fp32 = _fp32_of(model, workshop)
    return Files(fp32, (), (model.path,)) if model.manifest.engine else Files(fp32, (read_graph(model.path),))


def _fp32_of(model: Model, workshop: Workshop) -> Graph:
    """The fp32 graph that a file comes from: by the hashes in recipes, else the one that says that it was trained just
    so; beside the file, in the workshop's folder, or the one that ships. Raises UsageError where there is none."""
    from export.graph import read_graph

    near = []
    for folder in {model.path.parent.resolve(), workshop.folder.resolve()}:
        for path in sorted(folder.glob("*.onnx")):
            with contextlib.suppress(SarwaterError):
                near.append(open_model(path))
    with contextlib.suppress(ModelNotFound):
        near.append(shipped_model("fp32", model.manifest.name))
    by_hash = {digest: each for each in near for digest in each.manifest.files.values()}
    found: Model | None = model
    while found is not None and (found.manifest.engine is not None or found.manifest.precision != "fp32"):
        found = by_hash.get(found.manifest.recipe.get("source", ""))
    if found is None:
        found = next((each for each in near if _same_training(each.manifest, model.manifest)), None)
    if found is None:
        raise UsageError(
            f"{model.path}: the fp32 ONNX file that it comes from is neither beside it nor in {workshop.folder}; copy "
            "it there, or give the model's checkpoint"
        )
    workshop.say(f"compared with {found.title}")
    workshop = workshop.of(model.manifest.tile_px)
    return written(at_tile(read_graph(found.path), workshop), workshop)


def _same_training(fp32: ModelManifest, other: ModelManifest) -> bool:
    return (
        fp32.precision == "fp32"
        and bool(fp32.training)
        and (fp32.name, fp32.training, fp32.threshold) == (other.name, other.training, other.threshold)
    )


def _converted(fp32: Graph, precision: str, workshop: Workshop, progress: Progress) -> Graph:
    """A conversion that was rejected is what one wants to look at here."""
    from export.graph import read_graph

    try:
        return at_precision(fp32, precision, workshop, progress)
    except GateMissed as error:
        workshop.say(str(error))
        return read_graph(error.path)


def verify(files: Files, samples: Sequence[Sample], progress: Progress = lambda *event: None) -> list[Result]:
    """Run everything on `samples`; the first result is the reference itself. What cannot run here says why."""
    from export.runners import backend_runner, onnxruntime_runner

    runners = []
    for graph in files.graphs:
        assert graph.path is not None
        runners += [onnxruntime_runner(graph), backend_runner(graph.path)]
    runners += [backend_runner(path) for path in files.engines]
    threshold = files.fp32.manifest.threshold
    reference_runner = _reference(files.fp32)
    progress(reference_runner.title, 0, 1 + len(runners))
    reference, latency_s = _run(reference_runner, samples)
    results = [_result(reference_runner, reference, latency_s, reference, samples, threshold)]
    for done, runner in enumerate(runners, start=1):
        progress(runner.title, done, 1 + len(runners))
        try:
            answers, latency_s = _run(runner, samples)
        except SarwaterError as error:
            results.append(Result(runner, None, refused=str(error)))
        else:
            results.append(_result(runner, answers, latency_s, reference, samples, threshold))
    return results


def to_report(results: Sequence[Result], model: str, data: str, samples: Sequence[Sample]) -> dict[str, Any]:
    """The table as JSON: shares and IoU between 0 and 1, seconds, bytes."""
    rows = []
    for result in results:
        row: dict[str, Any] = {
            "name": result.runner.name,
            "runs_on": result.runner.runs_on,
            "precision": result.runner.precision,
            "size_bytes": result.runner.size_bytes,
            "passes": result.passes,
        }
        if result.accuracy is None:
            row["refused"] = result.refused
        else:
            row |= result.accuracy.to_dict()
        if result.latency_s:
            row["latency_s"] = {"median": sorted(result.latency_s)[len(result.latency_s) // 2]}
            row["latency_s"] |= {"min": min(result.latency_s), "max": max(result.latency_s)}
            row["latency_s"] |= {"samples": len(result.latency_s), "warm_up": 1, "batch": 1}
        rows.append(row)
    return {
        "model": model,
        "data": data,
        "tiles": [sample.name for sample in samples],
        "tile_px": samples[0].pixels.shape[-1],
        "machine": _cpu_name(),
        "results": rows,
    }


def _reference(fp32: Graph) -> Runner:
    from export.runners import onnxruntime_runner, torch_runner

    try:
        return torch_runner(fp32)
    except DependencyMissing:
        return onnxruntime_runner(fp32)


def _run(runner: Runner, samples: Sequence[Sample]) -> tuple[list[Float32], tuple[float, ...]]:
    from export.runners import latency_s, probabilities

    with runner.open() as network:
        answers = probabilities(network, samples)
        return answers, tuple(latency_s(network, samples[0])) if runner.timed else ()


def _result(
    runner: Runner,
    answers: list[Float32],
    latency_s: tuple[float, ...],
    reference: list[Float32],
    samples: Sequence[Sample],
    threshold: float,
) -> Result:
    from export.accuracy import compare, to_mask

    masks = tuple(to_mask(answer, threshold) for answer in answers)
    return Result(runner, compare(answers, reference, samples, threshold), masks, latency_s)


def _print_table(results: Sequence[Result], report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", title=None)
    for index, heading in enumerate(
        ("", "runs on", "max error", "mean error", "changed", "IoU", "ΔIoU", "F1", "ΔF1", "ms/tile", "MB", "gate")
    ):
        table.add_column(heading, justify="left" if index < 2 else "right", no_wrap=index > 1)
    for result in results:
        size = f"{result.runner.size_bytes / 1e6:.1f}"
        if result.accuracy is None:
            table.add_row(result.runner.name, result.runner.runs_on, *[""] * 8, size, "not run")
            continue
        found = result.accuracy
        median_s = sorted(result.latency_s)[len(result.latency_s) // 2] if result.latency_s else None
        table.add_row(
            result.runner.name,
            result.runner.runs_on,
            f"{found.max_error:.1e}",
            f"{found.mean_error:.1e}",
            f"{100 * found.changed_share:.3f} %",
            f"{100 * found.iou:.2f}",
            f"{0 - 100 * found.iou_loss:+.3f}",
            f"{100 * found.f1:.2f}",
            f"{0 - 100 * found.f1_loss:+.3f}",
            "" if median_s is None else f"{1000 * median_s:.0f}",
            size,
            "passed" if result.passes else "FAILED",
        )
    console = Console()
    console.width = max(console.width, TABLE_WIDTH)
    console.print(table)
    samples = max(len(result.latency_s) for result in results)
    console.print(
        f"{report['model']}, {len(report['tiles'])} tiles of {report['tile_px']} px from {report['data']}; pooled IoU "
        f"and F1 in percent; batch 1 on {report['machine']}, median of {samples}",
        highlight=False,
    )
    for result in results:
        if result.refused:
            console.print(f"{result.runner.title}: {result.refused}", highlight=False)


def _print_worst_layers(files: Files, sample: Sample) -> None:
    from export.bisect import worst_layers

    for graph in files.graphs:
        if graph.manifest.precision != "fp32" and graph.path is not None:
            print(f"{graph.path.name}: layers that add the largest relative errors, on {sample.name}")
            for layer in worst_layers(files.fp32, graph, sample):
                print(f"  {layer.added:8.2%}  of {layer.error:8.2%}  {layer.op_type:12} {layer.name}")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def cli() -> int:
    return run(verify_command)


if __name__ == "__main__":
    sys.exit(cli())
