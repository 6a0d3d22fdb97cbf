"""Checkpoint -> fp32 ONNX, preprocessing inside the graph: `python -m export.to_onnx hrnet` or a checkpoint file.

The only file of export that imports torch. The initialisers keep the official tensor names and BatchNorm is not
folded, so that the ONNX file is a checkpoint too: `segmenter_from_onnx` gives back exactly what went in.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from sarwater.command import run_command
from sarwater.errors import DependencyMissing, ExportError, ModelNotFound, UsageError
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, ModelManifest, sha256_of
from sarwater.models import ENGINES, checkpoint_path, find_model, looks_like_path

if TYPE_CHECKING:
    import onnx

    from export.graph import Graph
    from train.models import Segmenter
    from train.models.checkpoint import Checkpoint

OPSET = 17
TILE_PX = 1024
OVERLAP_PX = 48
TRACE_TILE_PX = 256
"""Tracing at a small size costs a moment, at 1024 px seconds; every size in the graph follows from the input's."""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m export.to_onnx", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("model", metavar="MODEL", help="a checkpoint (.pt), or a family: its newest checkpoint under runs/")
    add("-o", "--output", type=Path, default=ENGINES, metavar="FILE", help="default: engines/<name>-fp32-<tile>.onnx")
    add("--tile", type=int, default=TILE_PX, metavar="PX", help=f"tile size, a multiple of 32 (default {TILE_PX})")
    add("--overlap", type=int, metavar="PX", help=f"blended overlap (default {OVERLAP_PX}, at most a third)")
    args = parser.parse_args(argv)
    checkpoint = find_checkpoint(args.model)
    print(f"{args.model}: {checkpoint}")
    path, manifest = export_checkpoint(checkpoint, args.output, args.tile, args.overlap)
    print(
        f"{path}: {manifest.name}, fp32, tile {manifest.tile_px} px, opset {manifest.opset}, "
        f"{path.stat().st_size / 1e6:.1f} MB"
    )
    return 0


def find_checkpoint(name_or_path: str) -> Path:
    """The checkpoint that MODEL means. Raises ModelNotFound: a name is the model that ships, which is an ONNX file."""
    if looks_like_path(name_or_path):
        return checkpoint_path(Path(name_or_path))
    shipped = find_model(name_or_path)
    raise ModelNotFound(
        f"{name_or_path}: the model that ships, {shipped.path}, is an ONNX file already; give a checkpoint, as "
        f"runs/{shipped.manifest.name}/latest, or build an engine of it: `sarwater build-engine {name_or_path}`"
    )


def export_checkpoint(
    checkpoint_path: Path, output: Path, tile_px: int = TILE_PX, overlap_px: int | None = None
) -> tuple[Path, ModelManifest]:
    """Write the fp32 ONNX of a checkpoint and its manifest; the same checkpoint gives the same bytes.

    output: an .onnx file, or the folder for `<family>-<variant>-fp32-<tile>.onnx`.

    Raises DependencyMissing without torch, CheckpointInvalid, ExportError, ManifestInvalid for an impossible tile
    or overlap, OutputError.
    """
    try:
        from train.models.checkpoint import load_checkpoint
    except ModuleNotFoundError as error:
        raise DependencyMissing(
            f"{checkpoint_path}: a checkpoint needs {error.name} to be exported (`pip install 'sarwater[export]'`); an "
            "ONNX file exported elsewhere needs neither: --from-onnx FILE"
        ) from error
    from export.graph import write_graph

    if overlap_px is None:
        overlap_px = min(OVERLAP_PX, tile_px // 3 // 2 * 2)
    graph = to_graph(load_checkpoint(checkpoint_path), tile_px, overlap_px, {"checkpoint": sha256_of(checkpoint_path)})
    manifest = graph.manifest
    path = output if output.suffix == ".onnx" else output / f"{manifest.name}-fp32-{tile_px}.onnx"
    return path, write_graph(graph, path)


def to_graph(checkpoint: Checkpoint, tile_px: int, overlap_px: int, recipe: dict[str, Any]) -> Graph:
    """The network as a checked graph: raw pixels (N, C, T, T) float32 -> probability (N, 1, T, T) float32."""
    from export.graph import Graph, check_contract, described, set_architecture, with_tile

    architecture = checkpoint.architecture
    segmenter = checkpoint.segmenter()
    if tile_px % (stride_px := architecture.stride_px):
        raise UsageError(f"--tile {tile_px}: {architecture.name} takes multiples of {stride_px} px")
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
        training=checkpoint.training,
        recipe=recipe,
    )
    proto = _simplified(_with_official_names(_trace(segmenter)))
    _check_tensors(proto, segmenter)
    set_architecture(proto, architecture.to_dict())
    graph = with_tile(Graph(proto, manifest), tile_px)
    check_contract(graph.proto, architecture.name)
    return described(Graph(graph.proto, replace(graph.manifest, overlap_px=overlap_px)))


def segmenter_from_onnx(path: Path) -> Segmenter:
    """The network of an fp32 ONNX file of ours, in evaluation mode, its tensors bit for bit as in the checkpoint.

    BatchNorm's step counters, which no graph has, are 0. Raises as `export.graph.read_graph`, and ExportError for a
    file whose BatchNorm is folded or that is not fp32.
    """
    import onnx
    import torch

    from export.graph import architecture_in, read_graph
    from train.models import Architecture, Segmenter

    graph = read_graph(path)
    manifest = graph.manifest
    document = architecture_in(graph.proto)
    if not document:
        raise ExportError(f"{path}: does not say which network it holds; export it again with this version")
    segmenter = Segmenter(Architecture.from_dict(document))
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in graph.proto.graph.initializer}
    expected = segmenter.net.state_dict()
    counters = {name for name in expected if name.endswith("num_batches_tracked")}
    missing = sorted(expected.keys() - stored.keys() - counters)
    if manifest.precision != "fp32" or missing:
        raise ExportError(
            f"{path}: {manifest.precision}, without the tensor {missing[0] if missing else '?'} of {manifest.name}; "
            "weights come back only from an fp32 file that export.to_onnx wrote"
        )
    tensors = {name: torch.tensor(stored.get(name, np.zeros((), np.int64))) for name in expected}
    segmenter.net.load_state_dict(tensors)
    return segmenter.eval()


def torch_network(path: Path) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """The network in PyTorch, with the weights of an fp32 ONNX file: (N, C, T, T) raw pixels -> (N, 1, T, T) float32.

    Raises as `segmenter_from_onnx`.
    """
    import torch

    segmenter = segmenter_from_onnx(path)

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
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
