"""Every ONNX and engine of a model side by side on the same tiles: `python -m export.verify hrnet --data DIR`.

The reference is the network in PyTorch where torch is installed, else its fp32 ONNX graph. Fails where a gate is
missed: fp16 may cost 0.1 point of IoU, int8 0.5.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.artefacts import TILE_PX, GateMissed, Workshop, at_precision, at_tile, find_source, proof_samples
from export.progress import BuildProgress
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import ExportError, SarwaterError
from sarwater.manifest import PRECISIONS
from sarwater.models import find_model, open_model

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from export.accuracy import Accuracy
    from export.runners import Runner
    from export.samples import Sample

    Float32 = npt.NDArray[np.float32]
    UInt8 = npt.NDArray[np.uint8]

TILES = 16
ENGINE_SAMPLES = 4
TABLE_WIDTH = 140
"""In a log or a narrow terminal a line that wraps reads better than a column cut short."""


@dataclass(frozen=True)
class Files:
    """What there is of one model, fp32 first."""

    fp32: Path
    onnx: tuple[Path, ...]
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


def main(argv: Sequence[str] | None = None) -> int:
    args = _parse(argv)
    files = find_files(args.model, Workshop(tile_px=args.tile, calibration=args.calibration, say=_note))
    manifest = open_model(files.fp32).manifest
    from export.samples import labelled_samples

    tiles = labelled_samples(args.data, manifest.channels, manifest.tile_px, args.tiles)
    results = verify(files, tiles)
    report = to_report(results, manifest.name, args.data, tiles)
    if args.json:
        with replacing(args.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print_table(results, report)
    if args.picture:
        from export.picture import draw_disagreement

        others = [(row.runner.title, row.masks) for row in results[1:] if row.accuracy and row.accuracy.changed_share]
        if others:
            draw_disagreement(args.picture, tiles, (results[0].runner.title, results[0].masks), others)
        print(f"picture: {args.picture}" if others else "picture: none, no mask differs from the reference")
    failed = [result for result in results if not result.passes]
    if args.bisect or failed:
        _print_worst_layers(files, tiles[0])
    if failed and not args.no_gates:
        raise ExportError(
            f"{', '.join(result.runner.title for result in failed)}: outside the gate; the layers above add the "
            "largest errors: calibrate with scenes of your sensor (--calibration DIR)"
        )
    return 0


def find_files(model: str, workshop: Workshop) -> Files:
    """For a name, all files of that model, converted first where they are missing; for a file, that file and its fp32.

    Raises as the functions of export.artefacts.
    """
    path = Path(model)
    if path.suffix in (".onnx", ".engine"):
        manifest = open_model(path).manifest
        fp32 = path
        if manifest.engine is not None or manifest.precision != "fp32":
            fp32 = at_tile(find_model(manifest.name).path, workshop.of(manifest.tile_px))
        return Files(fp32, (), (path,)) if manifest.engine is not None else Files(fp32, (path,))
    fp32 = at_tile(find_source(model, workshop), workshop)
    with BuildProgress(f"{fp32.stem} -> fp16, int8") as progress:
        graphs = tuple(_converted(fp32, precision, workshop, progress) for precision in PRECISIONS)
    manifest = open_model(fp32).manifest
    return Files(fp32, graphs, tuple(sorted(workshop.folder.glob(f"{manifest.name}-*-{manifest.tile_px}-*.engine"))))


def _converted(fp32: Path, precision: str, workshop: Workshop, progress: BuildProgress) -> Path:
    """A conversion that was rejected is what one wants to look at here."""
    try:
        return at_precision(fp32, precision, workshop, progress)
    except GateMissed as error:
        workshop.say(str(error))
        return error.path


def verify(files: Files, tiles: Sequence[Sample]) -> list[Result]:
    """Run everything on `tiles`; the first result is the reference itself. What cannot run here says why."""
    from export.graph import read_graph
    from export.runners import backend_runner, onnxruntime_runner

    runners = []
    for path in files.onnx:
        runners += [onnxruntime_runner(read_graph(path), path.stat().st_size), backend_runner(path)]
    runners += [backend_runner(path) for path in files.engines]
    reference_runner = _reference(files.fp32)
    reference, latency_s = _run(reference_runner, tiles)
    results = [_result(reference_runner, reference, latency_s, reference, tiles, files)]
    for runner in runners:
        try:
            answers, latency_s = _run(runner, tiles)
        except SarwaterError as error:
            results.append(Result(runner, None, refused=str(error)))
        else:
            results.append(_result(runner, answers, latency_s, reference, tiles, files))
    return results


def engine_accuracy(engine: Path, fp32: Path, workshop: Workshop) -> Accuracy:
    """An engine on this GPU against its fp32 graph on the CPU, on a few tiles of its own size."""
    from export.accuracy import compare
    from export.graph import read_graph
    from export.runners import backend_runner, probabilities

    graph = read_graph(fp32)
    tiles = proof_samples(graph, workshop, graph.manifest.tile_px, ENGINE_SAMPLES)
    answers = []
    for path in (engine, fp32):
        with backend_runner(path).open() as network:
            answers.append(probabilities(network, tiles))
    return compare(answers[0], answers[1], tiles, graph.manifest.threshold)


def to_report(results: Sequence[Result], model: str, data: Path, tiles: Sequence[Sample]) -> dict[str, Any]:
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
        "data": str(data),
        "tiles": [tile.name for tile in tiles],
        "tile_px": tiles[0].pixels.shape[-1],
        "machine": _cpu_name(),
        "results": rows,
    }


def _reference(fp32: Path) -> Runner:
    from export.graph import read_graph
    from export.runners import onnxruntime_runner, torch_runner

    try:
        return torch_runner(fp32)
    except ModuleNotFoundError:
        return onnxruntime_runner(read_graph(fp32), fp32.stat().st_size)


def _run(runner: Runner, tiles: Sequence[Sample]) -> tuple[list[Float32], tuple[float, ...]]:
    from export.runners import latency_s, probabilities

    with runner.open() as network:
        answers = probabilities(network, tiles)
        return answers, tuple(latency_s(network, tiles[0])) if runner.timed else ()


def _result(
    runner: Runner,
    answers: list[Float32],
    latency_s: tuple[float, ...],
    reference: list[Float32],
    tiles: Sequence[Sample],
    files: Files,
) -> Result:
    from export.accuracy import compare, to_mask

    threshold = open_model(files.fp32).manifest.threshold
    masks = tuple(to_mask(answer, threshold) for answer in answers)
    return Result(runner, compare(answers, reference, tiles, threshold), masks, latency_s)


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
    from export.graph import read_graph

    reference = read_graph(files.fp32)
    for path in files.onnx:
        graph = read_graph(path)
        if graph.manifest.precision != "fp32":
            print(f"{path.name}: layers that add the largest relative errors, on {tile.name}")
            for layer in worst_layers(reference, graph, tile):
                print(f"  {layer.added:8.2%}  of {layer.error:8.2%}  {layer.op_type:12} {layer.name}")


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m export.verify", description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("model", metavar="MODEL", help="fcn, unet, deepunet or hrnet, with or without its variant; .pt, .onnx, .engine")
    add("--data", type=Path, required=True, metavar="DIR", help="labelled scenes: img/NAME.tif with mask/NAME*.tif")
    add("--tiles", type=int, default=TILES, metavar="N", help=f"most tiles to run (default {TILES})")
    add("--tile", type=int, default=TILE_PX, metavar="PX", help=f"tile size for a model by name (default {TILE_PX})")
    add("--calibration", type=Path, metavar="DIR", help="scenes to calibrate missing fp16 and int8 graphs with")
    add("--json", type=Path, metavar="FILE", help="write the table to FILE as well")
    add("--picture", type=Path, metavar="FILE", help="draw where masks differ, .png")
    add("--bisect", action="store_true", help="say which layers add the largest errors, though every gate is passed")
    add("--no-gates", action="store_true", help="return 0 whatever the accuracy")
    return parser.parse_args(argv)


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
