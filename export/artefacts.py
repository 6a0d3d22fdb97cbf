"""The files that export makes, each from the one before: checkpoint -> fp32 ONNX -> ONNX of a precision.

Every file's manifest holds its recipe: what it was made from, the options, the libraries. A file whose recipe has not
changed is not made again. A converted graph is measured against the fp32 one; one that misses its gate is kept under a
`.rejected` name, where nothing takes it for a model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarwater.errors import ExportError, OutputError, SarwaterError, UsageError
from sarwater.manifest import ModelManifest, manifest_path, sha256_of
from sarwater.models import ENGINES, checkpoint_path, find_model, looks_like_path

if TYPE_CHECKING:
    from export.accuracy import Accuracy
    from export.graph import Graph
    from export.samples import Sample

TILE_PX = 1024
PROOF_PX = 512
PROOF_SAMPLES = 13
"""One of every kind of simulated scene."""
PROBE_SAMPLES = 32

Progress = Callable[[str, int, int], None]


class GateMissed(ExportError):
    """A file costs more accuracy than it may; it is kept at `path`, whose name ends in `.rejected`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


@dataclass(frozen=True)
class Workshop:
    """Where files are made, and how. The commands only fill this in."""

    folder: Path = ENGINES
    tile_px: int = TILE_PX
    calibration: Path | None = None
    """A folder of scenes for calibration, and with labels (img/, mask/) for the gates; None: the simulator."""
    gates: bool = True
    """Refuse a conversion that costs more accuracy than its precision may."""
    force: bool = False
    """Make files again though their recipe has not changed."""
    say: Callable[[str], None] = print

    def of(self, tile_px: int) -> Workshop:
        return dataclasses.replace(self, tile_px=tile_px)

    def path(self, manifest: ModelManifest, precision: str, suffix: str = ".onnx") -> Path:
        return self.folder / f"{manifest.name}-{precision}-{self.tile_px}{suffix}"


def find_source(model: str, workshop: Workshop, *, from_onnx: bool = False) -> Path:
    """The ONNX file that MODEL means; a checkpoint is exported first. Says which one it took.

    Raises ModelNotFound, CheckpointInvalid, DependencyMissing (a checkpoint, but no torch).
    """
    if from_onnx or model.endswith(".onnx"):
        source = Path(model)
    else:
        if not looks_like_path(model):
            source = find_model(model).path
        else:
            from export.to_onnx import export_checkpoint

            checkpoint = checkpoint_path(Path(model))

            workshop.say(f"{model}: {checkpoint}")
            return export_checkpoint(checkpoint, workshop.folder, workshop.tile_px)[0]
    workshop.say(f"{model}: {source}")
    return source


def at_tile(source: Path, workshop: Workshop) -> Path:
    """The same graph for the wanted tile size, in the workshop's folder. Raises as export.graph.read_graph."""
    from export.graph import read_graph, with_tile, write_graph

    graph = read_graph(source)
    path = workshop.path(graph.manifest, graph.manifest.precision)
    if path.resolve() == source.resolve():
        return path
    recipe = {"source": sha256_of(source), "tile_px": workshop.tile_px}
    if made(path, recipe, workshop) is None:
        check_space(path, 2 * source.stat().st_size)
        retiled = with_tile(graph, workshop.tile_px)
        write_graph(dataclasses.replace(retiled, manifest=dataclasses.replace(retiled.manifest, recipe=recipe)), path)
        workshop.say(f"wrote {path}")
    return path


def at_precision(source: Path, precision: str, workshop: Workshop, progress: Progress) -> Path:
    """The ONNX of the wanted precision, converted from the fp32 one at `source` and measured against it.

    Raises UsageError where `source` is neither fp32 nor of that precision, GateMissed, DependencyMissing, OutputError.
    """
    from export.graph import read_graph, write_graph

    graph = read_graph(source)
    if graph.manifest.precision == precision:
        return source
    if graph.manifest.precision != "fp32":
        raise UsageError(
            f"{source} is {graph.manifest.precision} and cannot become {precision}; give the fp32 ONNX file, or "
            f"--precision {graph.manifest.precision}"
        )
    from export.accuracy import Accuracy
    from export.precision import METHOD, library_versions

    path = workshop.path(graph.manifest, precision)
    recipe = {
        "source": sha256_of(source),
        "precision": precision,
        "tiles": _folder_digest(workshop.calibration),
        "method": METHOD,
        "libraries": library_versions(),
    }
    manifest = made(path, recipe, workshop)
    if manifest is None:
        check_space(path, 3 * source.stat().st_size)
        workshop.say(f"converting to {precision}")
        converted, accuracy = _convert(graph, precision, recipe, workshop, progress)
        manifest = write_graph(converted, path)
        workshop.say(f"wrote {path}: {summary(accuracy)}")
    accuracy = Accuracy(**manifest.recipe["outcome"]["accuracy"])
    if workshop.gates and not accuracy.passes(precision):
        tiles = proof_samples(graph, workshop, PROOF_PX, 1)
        complaint = _complaint(graph, read_graph(path), accuracy, tiles[0])
        raise GateMissed(rejected(path, manifest), complaint)
    return path


def rejected(path: Path, manifest: ModelManifest) -> Path:
    """Rename a file and its manifest so that nothing takes it for a model; returns the new path."""
    from export.graph import write_manifest

    target = path.with_name(path.name + ".rejected")
    write_manifest(dataclasses.replace(manifest, files={target.name: manifest.files[path.name]}), target)
    path.rename(target)
    manifest_path(path).unlink()
    return target


def proof_samples(graph: Graph, workshop: Workshop, tile_px: int, count: int) -> list[Sample]:
    """At most `count` labelled tiles for the gates: of the calibration folder where it has labels, else simulated."""
    from export.samples import labelled_samples, simulated_samples

    folder = workshop.calibration
    if folder is not None and (folder / "mask").is_dir():
        return labelled_samples(folder, graph.manifest.channels, tile_px, count)
    return simulated_samples(graph.manifest.channels, tile_px, count)


def made(path: Path, recipe: Mapping[str, Any], workshop: Workshop) -> ModelManifest | None:
    """The manifest of the file at `path`, if it is whole and was made by just this recipe."""
    if workshop.force:
        return None
    try:
        manifest = ModelManifest.read(manifest_path(path))
        found = {name: value for name, value in manifest.recipe.items() if name != "outcome"}
        if found != json.loads(json.dumps(recipe)):
            return None
        manifest.verify(path)
    except (SarwaterError, OSError):
        return None
    return manifest


def check_space(path: Path, needed_bytes: int) -> None:
    """Raises OutputError where the disk has no room for what will be written at `path`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free_bytes = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written ({error.strerror}); choose another folder") from error
    if free_bytes < needed_bytes:
        raise OutputError(
            f"{path.parent}: {free_bytes / 1e6:.0f} MB free, {path.name} needs about {needed_bytes / 1e6:.0f} MB; "
            "free some space"
        )
    if not os.access(path.parent, os.W_OK):
        raise OutputError(f"{path.parent}: not writable for this user; choose another folder, or change its owner")


def summary(accuracy: Accuracy) -> str:
    return (
        f"IoU {0 - 100 * accuracy.iou_loss:+.3f} points against fp32, {100 * accuracy.changed_share:.3f} % of pixels "
        f"change, probability off by at most {accuracy.max_error:.4f}"
    )


def _convert(
    graph: Graph, precision: str, recipe: dict[str, Any], workshop: Workshop, progress: Progress
) -> tuple[Graph, Accuracy]:
    from export.accuracy import compare
    from export.calibration import TILE_PX as CALIBRATION_TILE_PX
    from export.calibration import calibration_tiles
    from export.graph import with_tile
    from export.precision import packed, to_fp16, to_int8
    from export.runners import onnxruntime_runner, probabilities

    calibration = calibration_tiles(graph.manifest.channels, workshop.calibration)
    tiles = proof_samples(graph, workshop, PROOF_PX, PROOF_SAMPLES)
    if precision == "fp16":
        progress("float16", 0, 1)
        converted = to_fp16(graph, calibration, recipe)
    else:
        probes = proof_samples(graph, workshop, CALIBRATION_TILE_PX, PROBE_SAMPLES)
        converted = packed(to_int8(graph, calibration, probes, recipe, progress))
    answers = []
    for done, each in enumerate((graph, converted)):
        progress("measuring", done, 2)
        with onnxruntime_runner(with_tile(each, PROOF_PX), 0).open() as network:
            answers.append(probabilities(network, tiles))
    accuracy = compare(answers[1], answers[0], tiles, graph.manifest.threshold)
    outcome = {**converted.manifest.recipe.get("outcome", {}), "accuracy": accuracy.to_dict()}
    manifest = dataclasses.replace(converted.manifest, recipe={**recipe, "outcome": outcome})
    return dataclasses.replace(converted, manifest=manifest), accuracy


def _complaint(reference: Graph, converted: Graph, accuracy: Accuracy, sample: Sample) -> str:
    from export.accuracy import LARGEST_IOU_LOSS
    from export.bisect import worst_layers

    precision = converted.manifest.precision
    layers = ", ".join(f"{layer.name} ({layer.added:.1%})" for layer in worst_layers(reference, converted, tile))
    return (
        f"{precision} misses its gate: IoU falls by {100 * accuracy.iou_loss:.2f} points, allowed are "
        f"{100 * LARGEST_IOU_LOSS[precision]:.2f}; the layers that add the largest relative errors: {layers}; "
        "give --calibration DIR with scenes of your sensor, or --no-gates to accept it"
    )


def _folder_digest(folder: Path | None) -> str:
    """Changes when a file in the folder does; `simulated` for none."""
    if folder is None:
        return "simulated"
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    entries = [f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("\n".join(entries).encode()).hexdigest()
