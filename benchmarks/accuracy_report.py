"""The figures of benchmarks.accuracy as a page of Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy_sets import DEVELOPMENT, SIMULATED, TEACH, TEST_SEED, UNLISTED, USES
from benchmarks.bootstrap import BLOCK_PX, FALSE_SHARE, LEAST_SCENES, MEAN_SCENE_IOU, POOLED_IOU
from benchmarks.water_width import WIDTHS

HEADINGS = {
    DEVELOPMENT: "Real sets that only measure",
    SIMULATED: "Simulated scenes",
    TEACH: "Real sets that may teach",
    UNLISTED: "Sets that this project does not list",
}
EXPLAINED = {
    DEVELOPMENT: "Nothing is learned from them. Threshold, recipe and the end of training are chosen on them, so that "
    "they flatter a little, too.",
    SIMULATED: "Of seeds that are used for nothing else: the same simulator teaches, with other seeds.",
    TEACH: "**Training may use these very scenes: their figures flatter, and say nothing of scenes that are new.** "
    "They tell what was learned.",
    UNLISTED: "Whether a network has learned from them is not known here.",
}
WORST = """\
The simulated scenes with the lowest IoU (on land where a scene has no water), of the first model. Real scenes may not
be passed on; their picture is written to the cache folder."""
METHOD = f"""\
The networks are run on files as `sarwater predict` runs them, with their own threshold. Pooled IoU adds up the pixels
of all scenes; where all is water it is the recall, and where nothing is, the share of land that is called water stands
in its place. Mean-scene IoU takes a scene without water on land. Pixels whose label says that they are not known are
left out. Water is as wide as the largest disc without land that covers the pixel.

Otsu's threshold is of decibels of a 25 x 25 px mean of the amplitude. The best threshold is that of a 5 x 5 px mean
with the highest IoU in each scene, which only its truth tells: no threshold of such means does better there. Pooled, it
may fall behind Otsu's: where a scene has little water, much false water may win that scene. Gains are changed in copies
in float32 with the same tags: DN are multiplied, decibels added to.

Neighbouring pixels err together, so pixels are not drawn one by one. Simulated scenes, real ones of up to {BLOCK_PX} px
and sets of {LEAST_SCENES} scenes and more are resampled by scenes; of others blocks of {BLOCK_PX} x {BLOCK_PX} px are
drawn within each scene, and the interval says how much a figure hangs on parts of these scenes, not how another region
would score. {{resamples}} resamples, percentiles 2.5 to 97.5. Simulated scenes have the seed {TEST_SEED}."""
Document = Mapping[str, Any]


def to_markdown(figures: Document, folder: Path) -> str:
    """`folder` is where the page will lie: the picture is linked relative to it."""
    parts = [_head(figures)]
    for use in USES:
        if sets := {name: entry for name, entry in figures["sets"].items() if entry["use"] == use}:
            parts += [f"## {HEADINGS[use]}", EXPLAINED[use], *_group(sets)]
    if figures["picture"]:
        link = os.path.relpath(figures["picture"], folder)
        parts += ["## What it fails at", f"{WORST}\n\n![scene, truth, mask and errors of the worst scenes]({link})"]
    parts += ["## How it is measured", METHOD.format(resamples=figures["run"]["resamples"])]
    return "\n\n".join(parts) + "\n"


def main_figure(entry: Document, method: str) -> str:
    """The figure that a set is judged by, in words and numbers: IoU, or land called water where there is no water."""
    if entry["main"] == FALSE_SHARE:
        return f"{percent(entry['methods'][method].get(FALSE_SHARE))} called water"
    return figure(entry["methods"][method].get(POOLED_IOU))


def figure(entry: Document | None, digits: int = 3, times: float = 1, sign: str = "") -> str:
    """`0.924 [0.901, 0.943]`, of a figure `times` a factor; a dash where there is none."""
    if entry is None:
        return "-"
    value, low, high = (times * entry[key] for key in ("value", "low", "high"))
    return f"{value:{sign}.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def percent(entry: Document | None) -> str:
    return (
        "-" if entry is None else f"{100 * entry['value']:.2f} % [{100 * entry['low']:.2f}, {100 * entry['high']:.2f}]"
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(figures: Document) -> str:
    models = [
        [name, each["model"], each["precision"], f"`{each['sha256'][:16]}`", f"{each['commit']}, {each['date'][:10]}"]
        for name, each in figures["models"].items()
    ]
    return (
        f"# Accuracy\n\n{made_by(figures['run'])} Brackets are 95 % intervals; the JSON beside this page has one for "
        f"every figure.\n\n{table(['', 'model', 'precision', 'sha256', 'trained'], models)}"
    )


def made_by(run: Document) -> str:
    command = " ".join(["python -m benchmarks.accuracy --data DIR", *run["options"]])
    rough = " **A quick run, of few small scenes: the figures are rough.**" if "--quick" in run["options"] else ""
    return f"Made by `{command}` on {run['date']} at commit {run['commit']}.{rough}"


def _group(sets: Mapping[str, Document]) -> list[str]:
    """Tables of sets of one use."""
    methods = list(next(iter(sets.values()))["methods"])
    about = [[name, e["use"], e["about"], str(e["scenes"]), f"{e['pixels'] / 1e6:.1f}"] for name, e in sets.items()]
    shown = {
        "pooled IoU": main_figure,
        "mean-scene IoU": lambda entry, method: figure(entry["methods"][method].get(MEAN_SCENE_IOU)),
        "false water, of the land": lambda entry, method: percent(entry["methods"][method].get(FALSE_SHARE)),
    }
    parts = [
        table(["set", "use", "what it is", "scenes", "Mpx"], about),
        *(
            table(
                [title, *methods],
                [[name, *(show(entry, method) for method in methods)] for name, entry in sets.items()],
            )
            for title, show in shown.items()
        ),
        *(_by_type(name, entry, methods) for name, entry in sets.items() if entry["types"]),
        _by_width(sets, methods[0], methods[-1]),
        _by_gain(sets),
        *(f"Refused, which counts as land: {name}, {e['refused']}." for name, e in sets.items() if e["refused"]),
    ]
    return [part for part in parts if part]


def _by_type(name: str, entry: Document, methods: Sequence[str]) -> str:
    """Types without water are judged by land that is called water."""
    rows = []
    for kind, by_method in entry["types"].items():
        main = POOLED_IOU if POOLED_IOU in by_method[methods[0]] else FALSE_SHARE
        rows.append([kind, *(main_figure({"main": main, "methods": by_method}, method) for method in methods)])
    return table([f"{name}: pooled IoU by type", *methods], rows)


def _by_width(sets: Mapping[str, Document], network: str, best: str) -> str:
    rows = []
    for name, entry in sets.items():
        ours, other = (entry["methods"][method] for method in (network, best))
        if any(width in ours for width in WIDTHS):
            cells = (f"{ours[w]['value']:.2f} ({other[w]['value']:.2f})" if w in ours else "-" for w in WIDTHS)
            rows.append([name, *cells])
    return table([f"recall of {network} ({best}) where water is wide", *WIDTHS], rows) if rows else ""


def _by_gain(sets: Mapping[str, Document]) -> str:
    rows = [
        [name, network, *(figure(change, 2, 100, "+") for change in changes.values())]
        for name, entry in sets.items()
        for network, changes in entry["change_by_gain_db"].items()
    ]
    gains = [gain for entry in sets.values() for changes in entry["change_by_gain_db"].values() for gain in changes]
    heads = ["change in points where scenes are brighter by", "", *(f"{gain} dB" for gain in dict.fromkeys(gains))]
    return table(heads, rows) if rows else ""
