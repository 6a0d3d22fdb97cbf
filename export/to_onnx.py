"""Checkpoint -> fp32 ONNX, preprocessing inside the graph: `python -m export.to_onnx hrnet` or a checkpoint file.

The initialisers keep the official tensor names and BatchNorm is not
folded, so that the ONNX file is a checkpoint too: `export.from_onnx` gives back exactly what went in.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
import numpy as np
import numpy.typing as npt

from export.artefacts import TILE_PX, at_precision, at_tile, find_source, written
from export.from_onnx import segmenter_of
from export.options import CONVERSION, MODELS, workshop_of, workshop_options
from sarwater.command import command as declare
from sarwater.command import invoke, option, run
from sarwater.dependencies import EXPORT_INSTALL, require
from sarwater.errors import ExportError, UsageError
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, PRECISIONS, ModelManifest, sha256_of
from sarwater.models import ENGINES, Model
from sarwater.progress import Progress

if TYPE_CHECKING:
    import onnx

    from export.graph import Graph
    from train.models import Segmenter
    from train.models.checkpoint import Checkpoint

OPSET = 17
OVERLAP_PX = 48
TRACE_TILE_PX = 256
"""Tracing at a small size costs a moment, at 1024 px seconds; every size in the graph follows from the input's."""
TORCH_INSTALL = f"{EXPORT_INSTALL}; an ONNX file exported elsewhere needs it not: --from-onnx FILE"


@declare(
    "export",
    "Make an ONNX file of a checkpoint, or of another ONNX file for another tile size or precision.",
    examples="""
    sarwater export runs/hrnet-w18-small/latest
    sarwater export runs/hrnet-w18-small/latest --precision int8 --calibration MY_SCENES
    sarwater export hrnet --tile-px 512 -o small.onnx
    """,
    more=MODELS,
)
@click.argument("model", metavar="MODEL")
@option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=ENGINES,
    metavar="PATH",
    help="an .onnx file, or a folder for NAME-PRECISION-TILE.onnx [default: engines]",
)
@option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    group=CONVERSION,
    help="what it computes in",
)
@option(
    "--overlap-px",
    "--overlap",
    type=int,
    metavar="PX",
    help=f"blended overlap [default: {OVERLAP_PX}, at most a third of the tile]",
)
@option("--force", is_flag=True, help="make it again though nothing changed")
@workshop_options
def export_command(
    model: str, output: Path, precision: str, overlap_px: int | None, force: bool, **options: Any
) -> int:
    file = output if output.suffix == ".onnx" else None
    workshop = workshop_of(folder=output.parent if file else output, **options)
    workshop = replace(workshop, overlap_px=overlap_px, force=force)
    with Progress(f"{model} -> {precision}") as progress:
        graph = at_tile(find_source(model, workshop), workshop)
        graph = at_precision(graph, precision, workshop, progress.phase, file)
        graph = written(graph, workshop, file)
    manifest, title = graph.manifest, Model(cast(Path, graph.path), graph.manifest).title
    print(f"{title}: tile {manifest.tile_px} px, opset {manifest.opset}, {graph.size_bytes / 1e6:.1f} MB")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(export_command, argv)


def checkpoint_graph(path: Path, tile_px: int = TILE_PX, overlap_px: int | None = None) -> Graph:
    """The fp32 graph of a checkpoint, in memory.

    Raises DependencyMissing without torch, CheckpointInvalid, ExportError, ManifestInvalid for an impossible tile or
    overlap.
    """
    require("torch", f"{path}: exporting a checkpoint", TORCH_INSTALL)
    from train.models.checkpoint import load_checkpoint

    if overlap_px is None:
        overlap_px = min(OVERLAP_PX, tile_px // 3 // 2 * 2)
    return to_graph(load_checkpoint(path), tile_px, overlap_px, {"checkpoint": sha256_of(path)})


def export_checkpoint(
    checkpoint_path: Path, output: Path, tile_px: int = TILE_PX, overlap_px: int | None = None
) -> tuple[Path, ModelManifest]:
    """Write the fp32 ONNX of a checkpoint and its manifest; the same checkpoint gives the same bytes.

    output: an .onnx file, or the folder for `<family>-<variant>-fp32-<tile>.onnx`.

    Raises as `checkpoint_graph`, and OutputError.
    """
    from export.graph import write_graph

    graph = checkpoint_graph(checkpoint_path, tile_px, overlap_px)
    path = output if output.suffix == ".onnx" else output / f"{graph.manifest.name}-fp32-{tile_px}.onnx"
    return path, write_graph(graph, path).manifest


def to_graph(checkpoint: Checkpoint, tile_px: int, overlap_px: int, recipe: dict[str, Any]) -> Graph:
    """The network as a checked graph: raw pixels (N, C, T, T) float32 -> probability (N, 1, T, T) float32."""
    from export.graph import Graph, check_contract, described, set_architecture, with_tile

    architecture = checkpoint.architecture
    segmenter = checkpoint.segmenter()
    if tile_px % (stride_px := architecture.stride_px):
        raise UsageError(f"--tile-px {tile_px}: {architecture.name} takes multiples of {stride_px} px")
    manifest = ModelManifest(
        family=architecture.family,
        variant=architecture.variant,
        channels=architecture.channels,
        tile_px=TRACE_TILE_PX,
        overlap_px=0,
        threshold=checkpoint.threshold,
        precision="fp32",
        opset=OPSET,
        files={},
        coarsest_m=checkpoint.coarsest_m,
        level_db=checkpoint.level_db,
        training=checkpoint.training,
        recipe=recipe,
    )
    proto = _simplified(_with_official_names(_trace(segmenter)))
    _check_tensors(proto, segmenter)
    set_architecture(proto, architecture.to_dict())
    graph = with_tile(Graph(proto, manifest), tile_px)
    check_contract(graph.proto, architecture.name)
    return described(Graph(graph.proto, replace(graph.manifest, overlap_px=overlap_px)))


def torch_network(graph: Graph) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The network in PyTorch, with the weights of an fp32 graph: (N, C, T, T) raw pixels -> (N, 1, T, T) float32.

    Raises as `segmenter_of`.
    """
    segmenter = segmenter_of(graph)
    import torch

    def network(tiles: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return cast("npt.NDArray[np.float32]", segmenter(torch.from_numpy(tiles)).numpy())

    return network


def _trace(segmenter: Segmenter) -> onnx.ModelProto:
    """Export through TorchScript: one node per layer, named by its path (`/net/stage2/stage2.0/...`), in a tenth of
    the time that torch.export takes, which also leaves shape arithmetic behind."""
    import onnx
    import torch

    sample = torch.zeros(1, len(segmenter.arch.channels), TRACE_TILE_PX, TRACE_TILE_PX)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        file = Path(folder) / "traced.onnx"
        warnings.simplefilter("ignore")  # the exporter announces its successor
        torch.onnx.export(
            segmenter,
            (sample,),
            str(file),
            dynamo=False,
            opset_version=OPSET,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            dynamic_axes={INPUT_NAME: {0: "N"}, OUTPUT_NAME: {0: "N"}},
            do_constant_folding=False,
            training=torch.onnx.TrainingMode.PRESERVE,  # evaluation mode would fold BatchNorm into the convolutions
        )
        return onnx.load(file)


def _with_official_names(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Take the wrapper's `net.` off the name of every tensor, and give each tensor its own copy of its values:
    the exporter stores equal tensors once and reaches them through Identity nodes."""
    import onnx

    stored = {item.name: item for item in proto.graph.initializer}
    aliases = [node for node in proto.graph.node if node.op_type == "Identity" and node.input[0] in stored]
    for node in aliases:
        copy = onnx.TensorProto()
        copy.CopyFrom(stored[node.input[0]])
        copy.name = node.output[0]
        proto.graph.initializer.append(copy)
        proto.graph.node.remove(node)
    for item in proto.graph.initializer:
        item.name = item.name.removeprefix("net.")
    for node in proto.graph.node:
        node.input[:] = [name.removeprefix("net.") for name in node.input]
    return proto


def _simplified(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Fold the constants that tracing leaves behind, and nothing that holds a trained tensor."""
    import onnxslim
    from onnxslim.core.pattern.registry import DEFAULT_FUSION_PATTERNS

    fusions = [name for name in DEFAULT_FUSION_PATTERNS if name.startswith("Fusion")]
    simplified: onnx.ModelProto = onnxslim.slim(
        proto, skip_fusion_patterns=fusions, skip_optimizations=["weight_tying"]
    )
    return simplified


def _check_tensors(proto: onnx.ModelProto, segmenter: Segmenter) -> None:
    import onnx

    stored = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    for name, tensor in segmenter.net.state_dict().items():
        if not name.endswith("num_batches_tracked") and not (name in stored and np.array_equal(stored[name], tensor)):
            raise ExportError(
                f"{segmenter.arch.name}: the tensor {name} did not survive the export unchanged; this torch and "
                "onnxslim are not a pair that works (see the versions in pyproject.toml)"
            )


def cli() -> int:
    return run(export_command)


if __name__ == "__main__":
    sys.exit(cli())
