"""The steps of export: model -> fp32 graph at a tile -> graph of a precision. Each takes and returns a Graph.

Files are read once at the start; each result is written once, when it is finished. Its manifest holds its recipe: what
it was made from, the options, the libraries; a file whose recipe has not changed is not made again. A converted graph
is measured against the fp32 one; one that misses its gate is written under a `.rejected` name only, where nothing takes
it for a model.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.samples import Reading
from sarwater.errors import ExportError, OutputError, SarwaterError, UsageError
from sarwater.manifest import ModelManifest, manifest_path
from sarwater.models import ENGINES, Model, checkpoint_path, find_model, looks_like_path

if TYPE_CHECKING:
    from export.accuracy import Accuracy
    from export.graph import Graph
    from export.samples import Sample

TILE_PX = 1024
PROOF_PX = 512
PROOF_SAMPLES: int | None = None
"""None for every kind of simulated scene as every sensor sees it."""
PROBE_SAMPLES = 32
FOLDER_SAMPLES = 32
"""Of a folder of the user's, where no number is wanted."""

Progress = Callable[[str, int, int], None]
"""Called with (phase, steps done, steps)."""


class GateMissed(ExportError):
    """A model costs more accuracy than it may; it is kept at `path`, whose name ends in `.rejected`."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


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
    say: Callable[[str], None] = note
    overlap_px: int | None = None
    """None: the model's own, or what suits the tile."""
    reading: Reading = field(default_factory=Reading)

    def of(self, tile_px: int) -> Workshop:
        return dataclasses.replace(self, tile_px=tile_px)

    def path(self, manifest: ModelManifest, precision: str, suffix: str = ".onnx") -> Path:
        return self.folder / f"{manifest.name}-{precision}-{self.tile_px}{suffix}"


def find_source(model: str, workshop: Workshop, *, from_onnx: bool = False) -> Graph:
    """The graph that MODEL means: of the model of a family that ships, of an ONNX file, or of a checkpoint, which is
    exported in memory. Says which one it took.

    Raises ModelUnknown, ModelNotFound, CheckpointInvalid, DependencyMissing (a checkpoint, but no torch), and as
    export.graph.read_graph.
    """
    path = Path(model) if from_onnx or looks_like_path(model) else find_model(model).path
    if not from_onnx and path.suffix != ".onnx":
        if path.suffix == ".engine":
            raise UsageError(
                f"{path}: an engine, of which nothing else can be made; give the ONNX file it was built from"
            )
        from export.to_onnx import checkpoint_graph

        path = checkpoint_path(path)
        graph = checkpoint_graph(path, workshop.tile_px, workshop.overlap_px)
        digest = graph.manifest.recipe["checkpoint"]
        workshop.say(f"model {graph.manifest.name}, checkpoint, sha256 {digest[:12]}… ({path})")
        return graph
    from export.graph import read_graph

    graph = read_graph(path)
    workshop.say(f"model {Model(path, graph.manifest).title}")
    return graph


def at_tile(graph: Graph, workshop: Workshop) -> Graph:
    """The same network for the wanted tile size and overlap, in memory. Raises as export.graph.with_tile."""
    from export.graph import with_tile

    manifest = graph.manifest
    overlap_px = manifest.overlap_px if workshop.overlap_px is None else workshop.overlap_px
    if (manifest.tile_px, manifest.overlap_px) == (workshop.tile_px, overlap_px):
        return graph
    recipe = {"source": graph.sha256, "tile_px": workshop.tile_px}
    if workshop.overlap_px is None:
        return with_tile(graph, workshop.tile_px).with_manifest(recipe=recipe)
    recipe["overlap_px"] = overlap_px
    return with_tile(graph, workshop.tile_px).with_manifest(recipe=recipe, overlap_px=overlap_px)


def written(graph: Graph, workshop: Workshop, path: Path | None = None) -> Graph:
    """The graph as a file, at `path` or under its name in the workshop's folder; one that is there already stays."""
    from export.graph import read_graph, write_graph

    path = path or workshop.path(graph.manifest, graph.manifest.precision)
    if graph.path is not None and path.exists() and path.samefile(graph.path):
        return graph
    graph = graph.with_manifest()
    check_space(path, 2 * graph.size_bytes)
    sha256 = graph.sha256
    if not workshop.force:
        try:
            there = ModelManifest.read(manifest_path(path))
            if there.files == {path.name: sha256}:
                return read_graph(path)
        except (SarwaterError, OSError):
            pass
    graph = write_graph(graph, path)
    workshop.say(f"wrote {path}")
    return graph


def at_precision(
    graph: Graph, precision: str, workshop: Workshop, progress: Progress, path: Path | None = None
) -> Graph:
    """The graph of the wanted precision, converted from the fp32 one, measured against it and written.

    Raises UsageError where `graph` is neither fp32 nor of that precision, GateMissed, DependencyMissing, OutputError.
    """
    if graph.manifest.precision == precision:
        return graph
    if graph.manifest.precision != "fp32":
        raise UsageError(
            f"{graph.path} is {graph.manifest.precision} and cannot become {precision}; give the fp32 ONNX file, or "
            f"--precision {graph.manifest.precision}"
        )
    from export.accuracy import Accuracy
    from export.graph import read_graph, write_graph
    from export.precision import METHOD, library_versions

    path = path or workshop.path(graph.manifest, precision)
    reading = workshop.reading
    recipe = {
        "source": graph.sha256,
        "precision": precision,
        "tiles": _folder_digest(workshop.calibration),
        "method": METHOD,
        "libraries": library_versions(),
    }
    if asked := reading.asked():
        recipe["reading"] = asked
    if is_made(path, recipe, workshop):
        converted = read_graph(path)
    else:
        check_space(path, 3 * graph.size_bytes)
        workshop.say(f"converting to {precision}")
        converted = _convert(graph, precision, recipe, workshop, progress)
    accuracy = Accuracy(**converted.manifest.recipe["outcome"]["accuracy"])
    if workshop.gates and not accuracy.passes(precision):
        complaint = _complaint(graph, converted, accuracy, proof_samples(graph, workshop, PROOF_PX, 1)[0])
        raise GateMissed(rejected(converted, path), complaint)
    if converted.path is None:
        converted = write_graph(converted, path)
        workshop.say(f"wrote {path}: {summary(accuracy)}")
    return converted


def rejected(graph: Graph, path: Path) -> Path:
    """Write a graph where nothing takes it for a model, and let none like it lie at `path`; returns the new path."""
    from export.graph import write_graph

    target = path.with_name(path.name + ".rejected")
    write_graph(graph, target)
    if graph.path is not None:
        for file in (path, manifest_path(path)):
            file.unlink(missing_ok=True)
    return target


def proof_samples(graph: Graph, workshop: Workshop, side_px: int, count: int | None) -> list[Sample]:
    """Labelled samples for the gates, at most `count`: of the calibration folder where it has labels, else simulated,
    of which None means every kind."""
    from export.samples import labelled_samples, simulated_samples

    folder, channels = workshop.calibration, graph.manifest.channels
    if folder is not None and (folder / "mask").is_dir():
        return labelled_samples(folder, channels, side_px, count or FOLDER_SAMPLES, workshop.reading)
    return simulated_samples(channels, side_px, count)


def is_made(path: Path, recipe: Mapping[str, Any], workshop: Workshop) -> ModelManifest | None:
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


def _convert(graph: Graph, precision: str, recipe: dict[str, Any], workshop: Workshop, progress: Progress) -> Graph:
    from export.accuracy import compare
    from export.calibration import TILE_PX as CALIBRATION_PX
    from export.calibration import calibration_tiles
    from export.graph import with_tile
    from export.precision import packed, to_fp16, to_int8
    from export.runners import onnxruntime_runner, probabilities

    progress("scenes to calibrate and prove with", 0, 1)
    calibration = calibration_tiles(graph.manifest.channels, workshop.calibration, reading=workshop.reading)
    samples = proof_samples(graph, workshop, PROOF_PX, PROOF_SAMPLES)
    if precision == "fp16":
        progress("float16", 0, 1)
        converted = to_fp16(graph, calibration, recipe)
    else:
        probes = proof_samples(graph, workshop, CALIBRATION_PX, PROBE_SAMPLES)
        converted = packed(to_int8(graph, calibration, probes, recipe, progress))
    answers = []
    for done, each in enumerate((graph, converted)):
        progress("measuring", done, 2)
        with onnxruntime_runner(with_tile(each, PROOF_PX)).open() as network:
            answers.append(probabilities(network, samples))
    accuracy = compare(answers[1], answers[0], samples, graph.manifest.threshold)
    outcome = {**converted.manifest.recipe.get("outcome", {}), "accuracy": accuracy.to_dict()}
    return converted.with_manifest(recipe={**recipe, "outcome": outcome})


def _complaint(reference: Graph, converted: Graph, accuracy: Accuracy, sample: Sample) -> str:
    from export.bisect import worst_layers
    from sarwater.metrics import LARGEST_IOU_LOSS

    precision = converted.manifest.precision
    layers = ", ".join(f"{layer.name} ({layer.added:.1%})" for layer in worst_layers(reference, converted, sample))
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
