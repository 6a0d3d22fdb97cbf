"""How good the masks are, beside thresholds and other networks, on scenes that the networks have not seen.

    python -m benchmarks.accuracy --data DIR [--folds DIR] [--peer NAME=CHECKPOINT]... [-o FILE.md]

DIR holds k5/ and etci/. Measures, each with 95 % intervals (benchmarks.bootstrap says how): K5 leave-one-tile-out with
the folds of recipes/hrnet-w18-small, the held-out rows of the ETCI scene, and simulated scenes of every type; false
water on scenes without any; the same scenes 3 dB brighter and darker, and at 2 and 4 times the pixel spacing. Beside
the network stand the two thresholds of train.scoring.baseline. Peers are trained at equal budget by

    python -m benchmarks.families --data DIR

Writes the report, its figures as JSON beside it, and pictures of what fails. Masks are kept under --cache, so that a
second run computes only what has changed. What is missing (a fold, the data) is reported as not measured, or, with
--keep, kept from the report that is there if that is of the same training, with its date and the file of then; the
peers, too.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from benchmarks import accuracy_sets as sets
from benchmarks.accuracy_networks import Network, load_network
from benchmarks.accuracy_pictures import draw_worst
from benchmarks.accuracy_report import to_markdown
from benchmarks.accuracy_sets import Sample, UInt8
from benchmarks.bootstrap import BLOCK_PX, RESAMPLES, SEED, Counts, count
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import UsageError
from train.finetuning.start import start_path
from train.loop.plan import commit
from train.scoring.baseline import BOX_PX, box_otsu, lee_best_threshold

OTSU = f"box {BOX_PX} + Otsu"
LEE = "Lee + best threshold (knows the truth)"
GAINS_DB = (-3, 3)
SPACINGS = (2, 4)
Method = Callable[[Sample], UInt8]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    side_px: int = 384
    per_type: int = 3
    dry: int = 12
    resamples: int = RESAMPLES
    pictures: int = 6
    real_px: int | None = None
    """Side of the middle part of real scenes that is looked at; None: all of them."""


QUICK = Sizes(side_px=128, per_type=1, dry=1, resamples=100, pictures=2, real_px=256)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, ready for JSON. Raises DataError, ModelNotFound and CheckpointInvalid for files that are there and
    cannot be used."""
    sizes, cache = (QUICK if arguments.quick else Sizes()), arguments.cache
    network = load_network(start_path(arguments.model), cache)
    peers = {name: load_network(path, cache) for name, path in arguments.peer}
    k5 = [sample.middle(sizes.real_px) for sample in _samples(sets.kompsat, arguments.data / "k5")]
    etci = [sample.middle(sizes.real_px) for sample in _samples(sets.sentinel, arguments.data / "etci")]
    simulated = sets.simulated(sizes.side_px, sizes.per_type, cache)
    dry = sets.simulated(sizes.side_px, sizes.dry, cache, dry=True)
    every = {"k5": k5, "etci": etci, **{f"simulated {mode}": samples for mode, samples in simulated.items()}}
    folds = _folds(k5, arguments.folds, cache)
    measured: dict[str, Any] = {}
    for name, samples in every.items():
        print(f"measuring {name}", file=sys.stderr, flush=True)
        if not samples:
            measured[name] = {"missing": f"no {arguments.data / name}"}
        elif name == "k5" and not folds:
            measured[name] = {"missing": f"no folds in {arguments.folds}"}
        elif name == "k5":
            measured[name] = _measured(samples, lambda sample: folds[sample.name].mask(sample), sizes)
        else:
            measured[name] = _measured(samples, network.mask, sizes)
    return {
        "model": network.description,
        "folds": next(iter(folds.values())).description if folds else None,
        "run": _about_the_run(sizes),
        "sets": measured,
        "dry": {mode: _dry_scenes(each, _methods(network.mask), sizes) for mode, each in dry.items()},
        "peers": _peers(peers, every, sizes),
        "pictures": draw_worst(simulated, k5 if folds else [], network, folds, arguments, sizes.pictures),
    }


def _folds(k5: Sequence[Sample], folder: Path, cache: Path) -> dict[str, Network]:
    """For each tile the network that was not trained on it; none at all where one is missing."""
    paths = {sample.name: folder / f"refined-without-{sample.name}" / "last.pt" for sample in k5}
    if not all(path.is_file() for path in paths.values()):
        return {}
    return {name: load_network(path, cache) for name, path in paths.items()}


def _samples(read: Callable[[Path], list[Sample]], folder: Path) -> list[Sample]:
    return read(folder) if folder.is_dir() else []


def _methods(mask: Method) -> dict[str, Method]:
    return {
        "network": mask,
        OTSU: lambda sample: box_otsu(sample.amplitude),
        LEE: lambda sample: lee_best_threshold(sample.amplitude, sample.truth),
    }


def _measured(samples: Sequence[Sample], mask: Method, sizes: Sizes) -> dict[str, Any]:
    """Every method on the set as it is, tile by tile and by scene type, and the network at other gains and spacings."""
    methods = _methods(mask)
    counts = {name: _counts(samples, method) for name, method in methods.items()}
    kinds = list(dict.fromkeys(sample.kind for sample in samples if sample.kind))
    gains, spacings = {}, {}
    for gain_db in GAINS_DB:
        changed = _counts([sample.at_gain(gain_db) for sample in samples], mask)
        gains[f"{gain_db:+d}"] = counts["network"].change_of_iou(changed, sizes.resamples).to_dict()
    for factor in SPACINGS:
        coarser = [sample.coarser(factor) for sample in samples]
        spacings[str(factor)] = _figures(coarser, methods, sizes)["methods"]
    return {
        **_figures(samples, counts, sizes),
        "tiles": _tile_by_tile(samples, counts) if not kinds else [],
        "label_limits": sets.label_limits(samples) if not kinds else {},
        "dry_blocks": _dry_blocks(counts, sizes) if not kinds else {},
        "types": {
            kind: _figures([s for s in samples if s.kind == kind], _part(counts, samples, kind), sizes)["methods"]
            for kind in kinds
        },
        "gain_db": gains,
        "spacing": spacings,
    }


def _dry_scenes(samples: Sequence[Sample], methods: Mapping[str, Method], sizes: Sizes) -> dict[str, Any]:
    """False water on scenes without any: of all, and of each, for few scenes have most of it."""
    counts = {name: _counts(samples, method) for name, method in methods.items()}
    by_scene = {name: each.false_shares().tolist() for name, each in counts.items()}
    return {**_figures(samples, counts, sizes), "by_scene": by_scene}


def _dry_blocks(counts: Mapping[str, Counts], sizes: Sizes) -> dict[str, Any]:
    """False water on the parts of real scenes where the labels have none."""
    dry = {name: each.dry() for name, each in counts.items()}
    blocks = sum(len(tile) for tile in next(iter(dry.values())).tiles)
    if not blocks:
        return {}
    figures = {
        name: {"false_share": each.figures(sizes.resamples)["false_share"].to_dict()} for name, each in dry.items()
    }
    return {"blocks": blocks, "methods": figures}


def _counts(samples: Sequence[Sample], method: Method) -> Counts:
    """A simulated scene is one block, for such scenes are drawn whole."""
    blocks_px = [max(sample.truth.shape) if sample.kind else BLOCK_PX for sample in samples]
    return Counts(tuple(count(method(s), s.truth, px) for s, px in zip(samples, blocks_px, strict=True)))


def _part(counts: Mapping[str, Counts], samples: Sequence[Sample], kind: str) -> dict[str, Counts]:
    return {
        name: Counts(tuple(tile for tile, s in zip(each.tiles, samples, strict=True) if s.kind == kind))
        for name, each in counts.items()
    }


def _figures(samples: Sequence[Sample], methods: Mapping[str, Method | Counts], sizes: Sizes) -> dict[str, Any]:
    counts = {name: m if isinstance(m, Counts) else _counts(samples, m) for name, m in methods.items()}
    figures = {name: each.figures(sizes.resamples) for name, each in counts.items()}
    return {
        "scenes": len(samples),
        "pixels": sum(sample.truth.size for sample in samples),
        "resampled": "scenes" if samples[0].kind else f"blocks of {BLOCK_PX} px",
        "methods": {name: {key: value.to_dict() for key, value in each.items()} for name, each in figures.items()},
    }


def _tile_by_tile(samples: Sequence[Sample], counts: Mapping[str, Counts]) -> list[dict[str, Any]]:
    rows = []
    for index, sample in enumerate(samples):
        figures = {name: Counts((each.tiles[index],)).figures(1) for name, each in counts.items()}
        rows.append({"name": sample.name, **{name: each["pooled_iou"].value for name, each in figures.items()}})
    return rows


def _peers(peers: Mapping[str, Network], data: Mapping[str, list[Sample]], sizes: Sizes) -> list[dict[str, Any]]:
    """Each on what none of them was trained on."""
    unseen = {
        name: [s for s in samples if s.kind or all(network.held_out(s.name) for network in peers.values())]
        for name, samples in data.items()
    }
    return [
        {
            "name": name,
            **network.description,
            "sets": {
                key: {"tiles": [s.name for s in samples][:4], **_figures(samples, {"network": network.mask}, sizes)}
                for key, samples in unseen.items()
                if samples
            },
        }
        for name, network in peers.items()
    ]


def _keep(figures: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Take from an earlier report what this run could not measure, and say when that was and of which file: the sets
    where it is of the same model, for weights that were trained once may have been exported twice; the peers, which
    have nothing to do with the model, where the scenes have the same seeds and size; the report says whether the
    simulator was another one."""
    run = {**{key: before["run"][key] for key in ("date", "commit")}, "sha256": before["model"]["sha256"]}
    if _same_training(before["model"], figures["model"]):
        for name, entry in figures["sets"].items():
            if "missing" in entry and "missing" not in before["sets"][name]:
                figures["sets"][name] = {"kept_from": run, **before["sets"][name]}
                if name == "k5":
                    figures["folds"] = before["folds"]
    scenes = ("scene_seeds", "scene_px", "quick")
    if not figures["peers"] and all(before["run"][key] == figures["run"][key] for key in scenes):
        of_then = {**run, "simulator": before["run"].get("simulator")}
        figures["peers"] = [{"kept_from": of_then, **peer} for peer in before["peers"]]


def _same_training(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    keys = ("commit", "date", "steps")
    trained = one["date"] and [one[key] for key in keys] == [other[key] for key in keys]
    return bool(trained or one["sha256"] == other["sha256"])


def _about_the_run(sizes: Sizes) -> dict[str, Any]:
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "resamples": sizes.resamples,
        "resampling_seed": SEED,
        "scene_seeds": [sets.TEST_SEED, sets.DRY_SEED],
        "scene_px": sizes.side_px,
        "simulator": sets.simulator_digest(),
        "quick": sizes is QUICK,
    }


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name and equals and path):
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME=CHECKPOINT, as unet=runs/families/unet/last.pt")
    return name, Path(path)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="the folder with k5/ and etci/")
    add("--folds", type=Path, default=Path("runs/hrnet-w18-small/recipe"), metavar="DIR", help="default: %(default)s")
    add("--model", metavar="MODEL", help="a checkpoint, an fp32 .onnx or a family; default: as shipped")
    add("--peer", type=_named_path, action="append", default=[], metavar="NAME=CHECKPOINT")
    add("-o", "--output", type=Path, default=Path("benchmarks/accuracy.md"), metavar="FILE.md")
    add("--pictures", type=Path, default=Path("docs/accuracy"), metavar="DIR", help="default: %(default)s")
    add("--cache", type=Path, default=Path("runs/accuracy"), metavar="DIR", help="default: %(default)s")
    add("--keep", action="store_true", help="keep the sets of the last report that cannot be measured")
    add("--quick", action="store_true", help="few small scenes: to see that it works")
    arguments = parser.parse_args(argv)
    if not arguments.data.is_dir():
        raise UsageError(f"--data {arguments.data}: no such folder; expected one with k5/ and etci/")
    before = arguments.output.with_suffix(".json")
    figures = measure(arguments)
    if arguments.keep and before.is_file():
        _keep(figures, json.loads(before.read_text()))
    with replacing(before) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n")
    with replacing(arguments.output) as temporary:
        temporary.write_text(to_markdown(figures, arguments.output.parent))
    print(f"{arguments.output}, {before}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
