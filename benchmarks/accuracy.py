"""How good the masks of a model are, beside thresholds, on scenes with known water.

    python -m benchmarks.accuracy --data DIR [--model MODEL]... [--sets NAME,NAME] [-o FILE.md]

Every folder of DIR that has img/ and mask/ is a set (benchmarks.accuracy_sets says what each is and what it may be used
for), and so are simulated scenes of every type. Measured are the models as `sarwater predict` runs them, by default the
one that ships in each of its precisions; beside them stand the threshold of Otsu and the best one that a scene has,
chosen by its truth. Every figure has a 95 % interval (benchmarks.bootstrap says how). Writes the report, its figures as
JSON beside it, and pictures of what fails.

What was measured is kept under --cache: a run that was ended goes on, and a second one measures what has changed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.accuracy_methods import BestThreshold, Method, Network, Otsu, counts_of
from benchmarks.accuracy_pictures import draw_worst
from benchmarks.accuracy_report import to_markdown
from benchmarks.accuracy_sets import SIMULATED, Scenes, open_sets
from benchmarks.bootstrap import FALSE_SHARE, POOLED_IOU, Counts, Figure
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import UsageError
from sarwater.models import DEFAULT_MODEL, find_model
from sarwater.progress import Progress
from train.loop.plan import commit

MODELS = (DEFAULT_MODEL, f"{DEFAULT_MODEL}-int8")
GAINS_DB = (-10, -3, 3, 10)
RESAMPLES = 2000
Results = dict[str, dict[str, dict[int, Counts]]]
"""By set, method and gain in decibels."""


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All figures, ready for JSON. Raises UsageError, ModelNotFound, and DataError and SceneError for files that are
    there and cannot be used."""
    networks = _networks(arguments.model or MODELS)
    everything: list[Method] = [*networks, Otsu(), BestThreshold()]
    sets = open_sets(arguments.data, arguments.sets, arguments.cache, quick=arguments.quick)
    results: Results = {name: {method.name: {} for method in everything} for name in sets}
    for gain_db in (0,) if arguments.no_gain else (0, *GAINS_DB):
        methods: Sequence[Method] = networks if gain_db else everything
        for name, scenes in sets.items():
            for method, counts in zip(methods, _count(scenes, methods, gain_db, arguments.cache), strict=True):
                results[name][method.name][gain_db] = counts
    options = ["--quick"] * arguments.quick + [f"--sets {','.join(arguments.sets)}"] * bool(arguments.sets)
    today = datetime.now(timezone.utc).strftime("%Y-%m-%d")
    return {
        "run": {"date": today, "commit": commit(), "options": options, "resamples": RESAMPLES},
        "models": {network.name: network.description for network in networks},
        "sets": {name: _figures(scenes, results[name]) for name, scenes in sets.items()},
        "picture": draw_worst(sets, networks[0], results, arguments.pictures, arguments.cache),
    }


def _networks(models: Sequence[str]) -> list[Network]:
    """Named by their files, without folders. Raises UsageError for two of one name, ModelUnknown, ModelNotFound."""
    networks = [Network(model.path.stem, model) for model in map(find_model, models)]
    if len({network.name for network in networks}) < len(networks):
        raise UsageError(f"--model {', '.join(models)}: two files of one name; rename one, for names head the columns")
    return networks


def _count(scenes: Scenes, methods: Sequence[Method], gain_db: int, cache: Path) -> list[Counts]:
    """Of each method."""
    with Progress(f"measuring {scenes.data_set.name} at {gain_db:+d} dB", "scenes") as progress:
        rows = []
        for number, sample in enumerate(scenes):
            progress(number, len(scenes))
            rows.append([counts_of(sample, method, gain_db, cache) for method in methods])
    simulated = scenes.data_set.use == SIMULATED
    return [Counts(column, independent=simulated) for column in zip(*rows, strict=True)]


def _figures(scenes: Scenes, results: Mapping[str, Mapping[int, Counts]]) -> dict[str, Any]:
    """Of one set: every method on it as it is, by scene type where it is simulated, and the networks at other gains."""
    methods = {method: _documented(by_gain[0].figures(RESAMPLES)) for method, by_gain in results.items()}
    main = POOLED_IOU if POOLED_IOU in next(iter(methods.values())) else FALSE_SHARE
    kinds = dict.fromkeys(filter(None, scenes.kinds))
    changes = {
        method: {
            f"{gain_db:+d}": by_gain[0].change(by_gain[gain_db], main, RESAMPLES) for gain_db in by_gain if gain_db
        }
        for method, by_gain in results.items()
    }
    return {
        **asdict(scenes.data_set),
        "scenes": len(scenes),
        "pixels": scenes.pixels,
        "main": main,
        "methods": methods,
        "change_by_gain_db": {method: _documented(each) for method, each in changes.items() if each},
        "types": {
            kind: {
                method: _documented(by_gain[0].part([each == kind for each in scenes.kinds]).figures(RESAMPLES))
                for method, by_gain in results.items()
            }
            for kind in kinds
        },
        "refused": {
            f"{method} at {gain_db:+d} dB": counts.refused
            for method, by_gain in results.items()
            for gain_db, counts in by_gain.items()
            if counts.refused
        },
    }


def _documented(figures: Mapping[str, Figure]) -> dict[str, dict[str, float]]:
    return {name: {key: round(value, 6) for key, value in asdict(each).items()} for name, each in figures.items()}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.accuracy", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="a folder of sets: NAME/img and NAME/mask")
    add("--model", action="append", metavar="MODEL", help=f"name or file, a column each; default: {', '.join(MODELS)}")
    add("--sets", type=lambda text: tuple(filter(None, text.split(","))), default=(), metavar="NAME,NAME")
    add("--no-gain", action="store_true", help="only the gain that scenes have: a fifth of the time")
    add("--quick", action="store_true", help="two scenes of each set, small simulated ones: to see that it works")
    add("-o", "--output", type=Path, default=Path("benchmarks/accuracy.md"), metavar="FILE.md")
    add("--pictures", type=Path, default=Path("docs/accuracy"), metavar="DIR", help="default: %(default)s")
    add("--cache", type=Path, default=Path("runs/accuracy"), metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    if not arguments.data.is_dir():
        raise UsageError(f"--data {arguments.data}: no such folder; expected one of sets, with {arguments.data}/k5/img")
    figures = measure(arguments)
    page = arguments.output
    texts = {page.with_suffix(".json"): json.dumps(figures, indent=1) + "\n", page: to_markdown(figures, page.parent)}
    for path, text in texts.items():
        with replacing(path) as temporary:
            temporary.write_text(text)
    print(*texts)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
