"""The model card that ships beside the model: its figures come from benchmarks/accuracy.json, none is typed by hand.

    python -m benchmarks.card [--figures benchmarks/accuracy.json] [--model MODEL.onnx]

Writes MODEL.md beside MODEL.onnx. Refuses figures that were measured on another file.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy_report import EXPLAINED, figure, made_by, main_figure, percent, table
from benchmarks.accuracy_sets import KNOWN, SIMULATED, USES
from benchmarks.bootstrap import FALSE_SHARE, MEAN_SCENE_IOU, POOLED_IOU
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DataError, UsageError
from sarwater.manifest import ModelManifest
from sarwater.models import Model, open_model, shipped_model, shipped_models

Document = Mapping[str, Any]

USE = """\
Water masks of amplitude SAR images (detected, ground range or geocoded), without calibration, from about 1 to 30 m
pixel spacing, and of calibrated backscatter, which the runtime turns into amplitude (400 DN at 0 dB); for mapping
floods and inland water where a person looks at the result. It was not made for, and must not alone decide on,
warnings, evacuation, navigation or insurance."""

LIMITS = """\
- Radar shadow, smooth sand, tarmac and wet bare soil can be as dark as water; where a product brings its incidence
  angle (GIM), the daemon marks shadow and layover instead of guessing.
- Water roughened by wind or rain and water under vegetation or in narrow streets is bright, and is missed.
- Seen in training: X band HH, C band VV and VH. L band and complex data were not.
- The real scenes are few, and their labels err, too. The intervals say how much the figures hang on parts of them;
  another region can lie outside. Score it on your own tiles first (`sarwater evaluate DIR`), and adapt it to them where
  it falls short (`sarwater finetune DIR`)."""


def to_card(model: Model, figures: Document) -> str:
    """Raises UsageError for figures of another file, DataError for training data whose owner is not known here."""
    manifest = model.manifest
    sha256 = manifest.files[model.path.name]
    measured = {each["sha256"]: name for name, each in figures["models"].items()}
    if sha256 not in measured:
        raise UsageError(
            f"the figures are of models with sha256 {', '.join(each[:12] for each in measured)}, {model.path} has "
            f"{sha256[:12]}; measure this one: python -m benchmarks.accuracy --data DIR"
        )
    parts = [
        f"# {manifest.name}: model card",
        _what(model),
        "## Intended use",
        USE,
        "## Training data and their owners",
        _training(manifest),
        "## How good it is",
        _figures(figures, measured[sha256]),
        "## Limits",
        _weakest(figures, measured[sha256]) + LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _what(model: Model) -> str:
    manifest = model.manifest
    channels = ", ".join(f"{channel.name} [{channel.unit}]" for channel in manifest.channels)
    rows = [
        ["file", f"`{model.path.name}`, {model.path.stat().st_size / 1e6:.1f} MB, {manifest.precision}"],
        ["sha256", f"`{manifest.files[model.path.name]}`"],
        *_other_precisions(model),
        ["parameters", f"{_parameters(model) / 1e6:.1f} M"],
        ["input", f"{channels}; nodata 0; preprocessing inside the graph"],
        ["output", f"probability of water; water from {manifest.threshold:g}"],
        *(
            [["pixels", f"coarser ones than {manifest.coarsest_m:g} m are upsampled to it"]]
            if manifest.coarsest_m
            else []
        ),
        ["trained", f"commit {manifest.training.get('commit', '?')}, {str(manifest.training.get('date', '?'))[:10]}"],
        ["licence", "Apache-2.0"],
    ]
    return table(["", ""], rows)


def _parameters(model: Model) -> int:
    from train.finetuning.start import open_start

    return sum(parameter.numel() for parameter in open_start(model.path).segmenter.parameters())


def _other_precisions(model: Model) -> list[list[str]]:
    """Where the model is the one that ships: the other files of it."""
    others = shipped_models() if model in shipped_models() else []
    return [
        [f"in {other.manifest.precision.upper()}", f"`{other.path.name}`, {other.path.stat().st_size / 1e6:.1f} MB"]
        for other in others
        if other.manifest.name == model.manifest.name and other.path.name != model.path.name
    ]


def _training(manifest: ModelManifest) -> str:
    rows = []
    training = manifest.training
    trained = [(training.get("data", []), ""), (training.get("earlier_data", []), " of a step before")]
    trained += [(each["data"], f" of step {each['step']}") for each in training.get("earlier", [])]
    for sources, step in trained:
        total = sum(source["weight"] for source in sources)
        for owner in dict.fromkeys(_owner(source["tiles"][0]) for source in sources):
            theirs = [source for source in sources if _owner(source["tiles"][0]) == owner]
            count, weight = (sum(source[part] for source in theirs) for part in ("count", "weight"))
            rows.append([owner, str(count), f"{weight / total:.0%}{step}"])
    held_out = ", ".join(manifest.training.get("held_out", [])) or "nothing"
    return f"{table(['data', 'images', 'share of training'], rows)}\n\nHeld out: {held_out}."


def _owner(tile: str) -> str:
    for data_set in KNOWN:
        if tile.startswith(data_set.tiles):
            return data_set.owner
    raise DataError(f"training data {tile!r}: whose it is is not known; name its owner in benchmarks/accuracy_sets.py")


def _figures(figures: Document, network: str) -> str:
    """By use, so that scenes that may have taught never stand among those that only measure."""
    run, best = figures["run"], list(next(iter(figures["sets"].values()))["methods"])[-1]
    parts = [f"With 95 % intervals; beside it the {best}, chosen in each scene by its truth."]
    for use in USES:
        sets = {name: entry for name, entry in figures["sets"].items() if entry["use"] == use}
        rows = [[f"{name}: {entry['about']}", *_row(entry, network, best)] for name, entry in sets.items()]
        heads = [
            use,
            "pooled IoU",
            "best threshold",
            "mean-scene IoU",
            "false water",
            "-10 dB, points",
            "+10 dB, points",
        ]
        parts += [EXPLAINED[use], table(heads, rows)] if rows else []
    parts.append(made_by(run))
    return "\n\n".join(parts)


def _row(entry: Document, network: str, best: str) -> list[str]:
    ours, changes = entry["methods"][network], entry["change_by_gain_db"].get(network, {})
    return [
        *(main_figure(entry, method) for method in (network, best)),
        figure(ours.get(MEAN_SCENE_IOU)),
        percent(ours.get(FALSE_SHARE)),
        *(figure(changes.get(gain), 2, 100, "+") for gain in ("-10", "+10")),
    ]


def _weakest(figures: Document, network: str) -> str:
    lines = []
    for name, entry in figures["sets"].items():
        by_type = {kind: each[network].get(POOLED_IOU) for kind, each in entry["types"].items()}
        iou = {kind: each["value"] for kind, each in by_type.items() if each}
        if entry["use"] == SIMULATED and iou:
            worst = sorted(iou, key=lambda kind: iou[kind])[:3]
            lines.append(f"- {name}: weakest on {', '.join(f'{kind} ({iou[kind]:.2f})' for kind in worst)}.\n")
    return "".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.card", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--figures", type=Path, default=Path("benchmarks/accuracy.json"), metavar="FILE.json")
    parser.add_argument("--model", type=Path, metavar="FILE.onnx", help="default: the model that ships")
    arguments = parser.parse_args(argv)
    try:
        figures = json.loads(arguments.figures.read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{arguments.figures}: not readable ({error}); run python -m benchmarks.accuracy") from error
    model = open_model(arguments.model) if arguments.model else shipped_model()
    model.manifest.verify(model.path)
    card = model.path.with_suffix(".md")
    text = to_card(model, figures)
    with replacing(card) as temporary:
        temporary.write_text(text)
    print(card)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
