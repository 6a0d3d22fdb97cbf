"""What is in an ONNX file or an engine: `python -m export.inspect MODEL`.

Precision per layer, inputs and outputs, sizes, hashes, provenance, where it runs, and the model card that lies beside
it. Nothing is executed: an engine is described by its manifest and the layer list that was saved with it.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, ClassVar

import click

from sarwater.command import command, invoke, option, run
from sarwater.errors import HashMismatch
from sarwater.manifest import ModelManifest, manifest_path
from sarwater.models import find_model, looks_like_path, open_model

if TYPE_CHECKING:
    import onnx
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.markdown import Markdown

QUANTISED = ("QuantizeLinear", "DequantizeLinear")
NAMED_TILES = 3
_TITLES = {"coarsest_m": "coarsest pixels, m", "recipe": "exported with", "outcome": "exported as"}


@command(
    "inspect",
    "Show what is in an ONNX file or an engine; nothing is executed.",
    examples="""
    sarwater inspect hrnet
    sarwater inspect engines/my-lakes.engine --layers
    sarwater inspect hrnet-int8 --json | jq .accuracy
    """,
)
@click.argument("model", metavar="MODEL")
@option("--json", "as_json", is_flag=True, help="everything, as JSON")
@option("--layers", is_flag=True, help="list every layer with its precision")
def inspect_command(model: str, as_json: bool, layers: bool) -> int:
    path = Path(model) if looks_like_path(model) else find_model(model).path
    report = inspect(path)
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        print(f"model {report['model']}, {report['precision']}, sha256 {report['sha256'][:12]}… ({path})")
        _print(report, layers)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(inspect_command, argv)


def inspect(path: Path) -> dict[str, Any]:
    """Everything known of the file at `path`, as JSON-ready values.

    Raises ModelNotFound, ManifestInvalid, HashMismatch (an engine), ExportError (not a graph of ours).
    """
    if not path.is_file() or path.suffix == ".pt":
        open_model(path)  # says what is there in place of a model file
    if path.suffix == ".onnx":
        from export.graph import read_graph

        graph = read_graph(path)
        manifest, sha256, layers = graph.manifest, graph.sha256, onnx_layers(graph.proto)
        parameters = sum(_count(item.dims) for item in graph.proto.graph.initializer)
        more: dict[str, Any] = {"opset": manifest.opset, "parameters": parameters}
    else:
        manifest = ModelManifest.read(manifest_path(path))
        sha256 = manifest.verify(path)
        layers, more = _saved_layers(path), {}
    engine = manifest.engine
    batch = "N" if engine is None else f"1..{engine.max_batch}"
    return {
        "file": str(path),
        "size_bytes": path.stat().st_size,
        "sha256": sha256,
        "model": manifest.name,
        "precision": manifest.precision,
        "input": {"sar": f"float32 ({batch}, {len(manifest.channels)}, {manifest.tile_px}, {manifest.tile_px})"},
        "output": {"water": f"float32 ({batch}, 1, {manifest.tile_px}, {manifest.tile_px})"},
        "channels": [f"{channel.name} [{channel.unit}]" for channel in manifest.channels],
        "overlap_px": manifest.overlap_px,
        "threshold": manifest.threshold,
        "coarsest_m": manifest.coarsest_m,
        **more,
        "runs_on": _devices(manifest),
        "accuracy": dict(engine.accuracy) if engine else manifest.recipe.get("outcome", {}).get("accuracy", {}),
        "training": dict(manifest.training),
        "recipe": {name: value for name, value in manifest.recipe.items() if name != "outcome"},
        "outcome": {k: v for k, v in manifest.recipe.get("outcome", {}).items() if k != "accuracy"},
        "layers_by_precision": dict(Counter(layer["precision"] for layer in layers)),
        "layers": layers,
        "card": _card(path, sha256),
    }


def onnx_layers(proto: onnx.ModelProto) -> list[dict[str, str]]:
    """Name, operator and precision of every layer, in order; quantise and dequantise are no layers of their own.

    A layer that reads dequantised values is int8, whatever type carries its result.
    """
    from onnx import TensorProto

    from export.graph import infer_shapes

    names = {TensorProto.FLOAT: "fp32", TensorProto.FLOAT16: "fp16", TensorProto.INT64: "int64"}
    typed = infer_shapes(proto).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*typed.value_info, *typed.output)}
    dequantised = {node.output[0] for node in typed.node if node.op_type == "DequantizeLinear"}
    layers = []
    for node in typed.node:
        if node.op_type not in QUANTISED:
            kind = types.get(node.output[0], TensorProto.UNDEFINED)
            precision = (
                "int8" if dequantised.intersection(node.input) else names.get(kind, TensorProto.DataType.Name(kind))
            )
            layers.append({"name": node.name, "type": node.op_type, "precision": precision})
    return layers


def _saved_layers(engine: Path) -> list[dict[str, str]]:
    """The layers that the builder wrote beside the engine; none where that file did not come along."""
    try:
        saved = json.loads(engine.with_suffix(".layers.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise HashMismatch(f"{engine.with_suffix('.layers.json')}: not readable ({error}); build it again") from error
    return [_saved_layer(layer) for layer in saved]


def _saved_layer(layer: Any) -> dict[str, str]:
    """TensorRT's inspector writes `Name`, `LayerType` and `Outputs`; a plan built without a GPU has our own fields."""
    if "output_type" in layer:
        short = {"float": "fp32", "half": "fp16"}
        return {
            "name": layer["name"],
            "type": layer["type"],
            "precision": short.get(layer["output_type"], layer["output_type"]),
        }
    # `Format/Datatype` in TensorRT 10, `DataType` in 11.
    kinds = [str(text) for output in layer["Outputs"] for name, text in output.items() if "datatype" in name.lower()]
    return {"name": layer["Name"], "type": layer["LayerType"], "precision": ", ".join(kinds) or "?"}


def _devices(manifest: ModelManifest) -> str:
    engine = manifest.engine
    if engine is None:
        return "any CPU (OpenVINO, ONNX Runtime); source of engines for TensorRT from 10.3 and TensorRT-RTX"
    library = f"{engine.flavor} {engine.library_version}"
    return f"{engine.gpu_name}, compute capability {engine.compute_capability}, with {library}"


def _card(path: Path, sha256: str) -> str | None:
    """The model card beside the file, in Markdown; None where there is none."""
    try:
        text = path.with_suffix(".md").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return text if sha256 in text else f"**This card is of another file: its sha256 differs.**\n\n{text}"


def _count(dims: Sequence[int]) -> int:
    count = 1
    for dim in dims:
        count *= dim
    return count


def _markdown(text: str) -> Markdown:
    """As rich draws it, with tables whose cells are folded: it cuts words that are wider than their column."""
    from rich.markdown import Markdown, TableElement

    class Folded(TableElement):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            for table in super().__rich_console__(console, options):
                for column in getattr(table, "columns", ()):
                    column.overflow = "fold"
                yield table

    class Card(Markdown):
        elements: ClassVar = {**Markdown.elements, "table_open": Folded}

    return Card(text)


def _print(report: dict[str, Any], every_layer: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a hash is there to be copied
    for name, value in report.items():
        if name not in ("layers", "card") and value not in (None, {}):
            table.add_row(_TITLES.get(name, name.replace("_", " ")), _readable(name, value))
    console.print(table)
    if report["card"]:
        console.print(_markdown(report["card"]))
    if every_layer:
        layers = Table(box=None, header_style="bold")
        for heading in ("precision", "type", "name"):
            layers.add_column(heading)
        for layer in report["layers"]:
            layers.add_row(layer["precision"], layer["type"], layer["name"])
        console.print(layers)


def _readable(name: str, value: Any) -> str:
    """For people: hundreds of tile names and every option of the training are in the JSON."""
    if name == "size_bytes":
        return f"{value / 1e6:.2f} MB"
    if name == "options":
        return f"{len(value)}, shown by --json"
    if isinstance(value, dict):
        if value.keys() >= {"tiles", "count", "weight"}:
            names = ", ".join(value["tiles"][:NAMED_TILES]) + (", ..." if value["count"] > NAMED_TILES else "")
            return f"{value['count']}: {names} (weight {value['weight']:.6g})"
        return "\n".join(_labelled(key, _readable(key, item)) for key, item in value.items()) or "-"
    if isinstance(value, list):
        separator = "\n" if any(isinstance(item, dict) for item in value) else ", "
        return separator.join(_readable("", item) for item in value) or "-"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _labelled(key: str, text: str) -> str:
    return f"{key}:\n{indent(text, '  ')}" if "\n" in text else f"{key}: {text}"


def cli() -> int:
    return run(inspect_command)


if __name__ == "__main__":
    sys.exit(cli())
