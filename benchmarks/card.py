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

from benchmarks.accuracy_report import TITLES, dry_blocks, figure, percent, table
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DataError, UsageError
from sarwater.manifest import ModelManifest
from sarwater.models import Model, open_model, shipped_model, shipped_models

Document = Mapping[str, Any]

ETCI = (
    "One Sentinel-1 scene with labels (C band, VV and VH, Bangladesh, 2017-03-14) of the ETCI 2021 flood detection "
    "competition (NASA IMPACT, IEEE GRSS); contains modified Copernicus Sentinel data 2017. Not passed on."
)
OWNERS = {
    "WTR": "KOMPSAT-5 tiles (X band, HH, 1.1 m, Norway), published with kari_water_seg; copyright KARI. Not passed on "
    "with this project.",
    "vv": ETCI,
    "vh": ETCI,
    "SIM": "Scenes of this project's own simulator (`sarwater simulate`), with exact labels.",
}
"""By how the names of the tiles begin."""

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
- The real scenes are few: four tiles of one sensor in one region and parts of one Sentinel-1 scene. The intervals say
  how much the figures hang on parts of these; another region can lie outside of them. Score it on your own tiles first
  (`sarwater evaluate DIR`), and adapt it to them where it falls short (`sarwater finetune DIR`)."""


def to_card(model: Model, figures: Document) -> str:
    """Raises UsageError for figures of another file, DataError for training data whose owner is not known here."""
    manifest = model.manifest
    sha256 = manifest.files[model.path.name]
    if figures["model"]["sha256"] != sha256:
        raise UsageError(
            f"the figures are of a model with sha256 {figures['model']['sha256'][:12]}…, {model.path} has "
            f"{sha256[:12]}…; measure this one: python -m benchmarks.accuracy --data DIR"
        )
    parts = [
        f"# {manifest.name}: model card",
        _what(model, figures),
        "## Intended use",
        USE,
        "## Training data and their owners",
        _training(manifest),
        "## How good it is",
        _figures(figures),
        "## Limits",
        _weakest(figures) + LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _what(model: Model, figures: Document) -> str:
    manifest = model.manifest
    channels = ", ".join(f"{channel.name} [{channel.unit}]" for channel in manifest.channels)
    rows = [
        ["file", f"`{model.path.name}`, {model.path.stat().st_size / 1e6:.1f} MB, {manifest.precision}"],
        ["sha256", f"`{manifest.files[model.path.name]}`"],
        *_other_precisions(model),
        ["parameters", f"{figures['model']['parameters'] / 1e6:.1f} M"],
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


def _other_precisions(model: Model) -> list[list[str]]:
    """Where the model is the one that ships: the other files of it."""
    others = shipped_models() if model in shipped_models() else []
    return [
        [f"in {other.manifest.precision.upper()}", f"`{other.path.name}`, {other.path.stat().st_size / 1e6:.1f} MB"]
        for other in others
        if other.path.name != model.path.name
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
    for prefix, owner in OWNERS.items():
        if tile.startswith(prefix):
            return owner
    raise DataError(f"training data {tile!r}: whose it is is not known; name its owner in benchmarks/card.py")


def _figures(figures: Document) -> str:
    """Per sensor, on scenes that were not trained on."""
    heads = ["", "pooled IoU", "mean-tile IoU", "F1", "boundary F (3 px)", "-3 dB, points", "+3 dB, points"]
    rows = []
    for name, entry in figures["sets"].items():
        if "missing" in entry:
            rows.append([TITLES[name], "not measured", *[""] * 5])
            continue
        network = entry["methods"]["network"]
        changes = [f"{100 * entry['gain_db'][gain]['value']:+.2f}" for gain in ("-3", "+3")]
        scores = [figure(network[key]) for key in ("pooled_iou", "mean_tile_iou", "f1", "boundary_f")]
        rows.append([TITLES[name], *scores, *changes])
    dry = "; ".join(
        f"{TITLES[f'simulated {mode}'].removeprefix('Simulated ').split(',')[0]} "
        f"{percent(entry['methods']['network']['false_share'])}"
        for mode, entry in figures["dry"].items()
    )
    real = "".join(
        f" {name}: {percent(entry['methods']['network']['false_share'])}."
        for name, entry in dry_blocks(figures["sets"]).items()
    )
    run = figures["run"]
    quick = (
        " This was a quick run on few small scenes and the middle of the real ones: the figures are rough."
        if run["quick"]
        else ""
    )
    return (
        "On scenes it was not trained on, with 95 % intervals; `-3 dB` and `+3 dB` are the changes of pooled IoU where "
        "the calibration gain differs by so much. KOMPSAT-5 is scored by leaving one tile out: four networks of the "
        f"same recipe, each on the tile it has not seen.\n\n{table(heads, rows)}\n\nLand called water in simulated "
        f"scenes without any: {dry}.{real} Measured on {run['date']} at commit {run['commit']} by "
        f"`python -m benchmarks.accuracy`.{quick}"
    )


def _weakest(figures: Document) -> str:
    lines = []
    for name, entry in figures["sets"].items():
        iou = {kind: each["network"]["pooled_iou"]["value"] for kind, each in entry.get("types", {}).items()}
        if iou:
            worst = sorted(iou, key=lambda kind: iou[kind])[:3]
            lines.append(f"- {TITLES[name]}: weakest on {', '.join(f'{kind} ({iou[kind]:.2f})' for kind in worst)}.\n")
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
