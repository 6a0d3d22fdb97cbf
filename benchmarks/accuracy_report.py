"""The figures of benchmarks.accuracy as a page of Markdown."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.bootstrap import BLOCK_PX

FIGURES = {"pooled_iou": "pooled IoU", "mean_tile_iou": "mean-tile IoU", "f1": "F1", "boundary_f": "boundary F (3 px)"}
TITLES = {
    "k5": "KOMPSAT-5, leave-one-tile-out",
    "etci": "Sentinel-1, held-out rows",
    "simulated k5": "Simulated X band, single look, about 1 m",
    "simulated s1": "Simulated C band, multi-look, about 10 m",
}
ABOUT = {
    "k5": "Each tile is answered by a network that was trained on all the others, by the recipe of the model that "
    "ships (`sarwater fit --recipe hrnet-w18-small --holdout TILE`), at a fixed number of steps.",
    "etci": "The lowest 15 % of the rows of the ETCI 2021 scene (Bangladesh), never trained on, against the given "
    "labels, which miss some dark fields and wetland. The pixels are an 8-bit stretch, not calibrated amplitude, and "
    "about 30 m wide.",
    "simulated k5": "Scenes of every type, from seeds that are used for nothing else.",
    "simulated s1": "Scenes of every type, from seeds that are used for nothing else.",
}
FEW_FALSE = 0.001
"""What a scene without water may be called water of."""
Document = Mapping[str, Any]


def to_markdown(figures: Document, folder: Path) -> str:
    """`folder` is where the page will lie: pictures are linked relative to it."""
    parts = [_head(figures)]
    for name, title in TITLES.items():
        parts += [f"## {title}", _set(figures["sets"][name], ABOUT[name])]
    parts += ["## Scenes without any water", _dry(figures)]
    parts += ["## Another gain, another pixel spacing", _robustness(figures["sets"])]
    parts += [
        "## The four families at equal training budget",
        _peers(figures["peers"], figures["run"].get("simulator")),
    ]
    parts += ["## What it fails at", _failures(figures["pictures"], folder)]
    parts += ["## How the intervals are made", _method(figures["run"])]
    return "\n\n".join(parts) + "\n"


def figure(entry: Document, digits: int = 3) -> str:
    """`0.924 [0.901, 0.943]`."""
    return f"{entry['value']:.{digits}f} [{entry['low']:.{digits}f}, {entry['high']:.{digits}f}]"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _head(figures: Document) -> str:
    model, run, folds = figures["model"], figures["run"], figures["folds"]
    of_folds = f"Folds: commit {folds['commit']}, {folds['steps']} steps." if folds else "No folds were there."
    return (
        "# Accuracy\n\n"
        "Made by `python -m benchmarks.accuracy`; every figure is in the JSON beside this page. Brackets are 95 % "
        "intervals.\n\n"
        f"Model: {model['network']}, `{model['file']}`, sha256 `{model['sha256'][:16]}`, trained at commit "
        f"{model['commit'] or 'unknown'}. {of_folds} Measured on {run['date']} at commit {run['commit']}, Python "
        f"{run['python']}, PyTorch {run['torch']}, fp32."
        + (
            "\n\n**A quick run: few small scenes, of real ones the middle 256 px; the figures are rough.**"
            if run["quick"]
            else ""
        )
    )


def _set(entry: Document, about: str) -> str:
    if "missing" in entry:
        return f"Not measured: {entry['missing']}."
    heads = ["", *FIGURES.values()]
    rows = [[name, *(figure(method[key]) for key in FIGURES)] for name, method in entry["methods"].items()]
    parts = [f"{about} {entry['scenes']} scene(s), {entry['pixels'] / 1e6:.1f} Mpx; {entry['resampled']} resampled."]
    if kept := entry.get("kept_from"):
        parts[0] += f" Measured on {kept['date']} at commit {kept['commit']}, of sha256 `{kept['sha256'][:16]}`."
    parts.append(table(heads, rows))
    if limits := entry.get("label_limits"):
        drawn = ", ".join(f"{name} {iou:.3f}" for name, iou in limits.items())
        parts.append(f"How far the outlines of the labels allow: their own IoU when drawn {drawn}.")
    methods = list(entry["methods"])
    if entry["types"]:
        by_type = [
            [kind, *(figure(each[name]["pooled_iou"]) for name in methods)] for kind, each in entry["types"].items()
        ]
        parts.append(table(["pooled IoU by scene type", *methods], by_type))
    if len(entry["tiles"]) > 1:
        tiles = [[tile["name"], *(f"{tile[name]:.3f}" for name in methods)] for tile in entry["tiles"]]
        parts.append(table(["IoU by tile", *methods], tiles))
    return "\n\n".join(parts)


def _dry(figures: Document) -> str:
    """A threshold that knows there is no water finds none, and is left out."""
    simulated = {
        f"{TITLES[f'simulated {mode}']} ({each['scenes']} scenes)": each for mode, each in figures["dry"].items()
    }
    entries = dry_blocks(figures["sets"]) | simulated
    methods = list(next(iter(entries.values()))["methods"])[:2]
    rows = [
        [name, *(percent(entry["methods"][method]["false_share"]) for method in methods)]
        for name, entry in entries.items()
    ]
    return f"{table(['share of the land that is called water', *methods], rows)}\n\n{_dry_scenes(figures, methods)}"


def _dry_scenes(figures: Document, methods: Sequence[str]) -> str:
    """How many scenes are as dry as they should be: few have most of what is false."""
    heads = [f"simulated scenes with less than {100 * FEW_FALSE:.1f} % of false water; the median; the worst", *methods]
    rows = []
    for mode, entry in figures["dry"].items():
        cells = []
        for method in methods:
            shares = entry["by_scene"][method]
            few = sum(share < FEW_FALSE for share in shares)
            cells.append(f"{few} of {len(shares)}; {100 * median(shares):.3f} %; {100 * max(shares):.1f} %")
        rows.append([TITLES[f"simulated {mode}"], *cells])
    return table(heads, rows)


def dry_blocks(measured: Mapping[str, Document]) -> dict[str, Document]:
    """By what they are: the parts of real scenes without water by their labels."""
    entries = {name: entry.get("dry_blocks") for name, entry in measured.items()}
    return {
        f"{TITLES[name]}: the {entry['blocks']} blocks of {BLOCK_PX} px without water by the labels": entry
        for name, entry in entries.items()
        if entry
    }


def percent(entry: Document) -> str:
    return f"{100 * entry['value']:.3f} % [{100 * entry['low']:.3f}, {100 * entry['high']:.3f}]"


def _robustness(measured: Mapping[str, Document]) -> str:
    there = {name: entry for name, entry in measured.items() if "missing" not in entry}
    if not there:
        return "Not measured."
    gains = list(next(iter(there.values()))["gain_db"])
    spacings = list(next(iter(there.values()))["spacing"])
    changes = [
        [TITLES[name], *(figure(_points(entry["gain_db"][gain]), 2) for gain in gains)] for name, entry in there.items()
    ]
    coarser = []
    for name, entry in there.items():
        at = [entry["methods"], *(entry["spacing"][factor] for factor in spacings)]
        # A threshold that knows the truth says how much there is to be found in pixels so wide.
        rows = {"network": TITLES[name], list(entry["methods"])[-1]: "by that threshold"}
        coarser += [
            [label, *(figure(each[method]["pooled_iou"]) if method in each else "" for each in at)]
            for method, label in rows.items()
        ]
    return "\n\n".join(
        [
            table(["change of pooled IoU, points", *(f"{gain} dB" for gain in gains)], changes),
            "Intervals are of the difference on the same resamples. At a coarser spacing, power is averaged and a "
            "pixel is water where most of it is; what is coarser than the model knows is upsampled, as at run time. "
            "Beside the network, the Lee-filtered threshold that knows the truth:",
            table(["pooled IoU of the network", "as it is", *(f"{f} x the spacing" for f in spacings)], coarser),
        ]
    )


def _points(entry: Document) -> dict[str, float]:
    return {key: 100 * value for key, value in entry.items()}


def _peers(peers: Sequence[Document], simulator: str | None) -> str:
    if not peers:
        return (
            "Not measured: `python -m benchmarks.families --data DIR` trains them and prints the `--peer` options to "
            "give."
        )
    names = list(peers[0]["sets"])
    rows = [
        [peer["name"], f"{peer['parameters'] / 1e6:.1f} M", f"{peer['pixels_seen'] / 1e6:.0f} M"]
        + [figure(peer["sets"][name]["methods"]["network"]["pooled_iou"]) for name in names]
        for peer in peers
    ]
    heads = ["", "parameters", "pixels seen in training", *(TITLES[name] for name in names)]
    budgets = {peer["pixels_seen"] for peer in peers}
    equal = "Each has seen as many pixels" if len(budgets) == 1 else "**The budgets differ**, see the table"
    k5 = f"; KOMPSAT-5 is {', '.join(peers[0]['sets']['k5']['tiles'])}" if "k5" in names else ""
    kept = peers[0].get("kept_from")
    measured = f" Measured on {kept['date']} at commit {kept['commit']}." if kept else ""
    if kept and kept.get("simulator") != simulator:
        measured += " **The simulated scenes are those of then, not the ones above: the simulator has changed since.**"
    return (
        f"{equal}, from the same data{k5}, which none of them was trained on.{measured} Pooled IoU:\n\n"
        f"{table(heads, rows)}"
    )


def _failures(pictures: Document, folder: Path) -> str:
    rows = [
        [scene["scene"], f"{scene['iou']:.3f}"]
        + [f"{100 * scene[key]:.2f} %" for key in ("water", "false_water", "missed_water")]
        for scene in pictures["scenes"]
    ]
    link = os.path.relpath(pictures["worst"], folder)
    heads = ["scene", "IoU", "water", "of the scene: false water", "missed water"]
    return (
        "The simulated scenes with the lowest IoU (on land where a scene has no water). The real tiles may not be "
        "passed on; their picture is written to the cache folder.\n\n"
        f"{table(heads, rows)}\n\n![scene, truth, mask and errors of the worst scenes]({link})"
    )


def _method(run: Document) -> str:
    return (
        "Neighbouring pixels err together, so pixels are not drawn one by one. On the real scenes, blocks of 256 x "
        "256 px are drawn with replacement within each tile, as many as it has: the interval says how much a figure "
        "hangs on parts of these tiles, not how another region would score. Simulated scenes are independent of each "
        f"other and are drawn whole. {run['resamples']} resamples, percentiles 2.5 to 97.5. Simulated scenes are "
        f"{run['scene_px']} px wide, seeds {' and '.join(map(str, run['scene_seeds']))}. The Lee-filtered threshold is "
        "the best of all thresholds, four windows and two speckle levels for each tile by its own truth: on that tile "
        "no threshold behind that filter does better."
    )
