"""How the model that ships is made: one command, fixed seeds.

    python -m train.default_model --data DIR [--out runs/default] [--begin-with WEIGHTS.onnx] [--jobs N]

DIR holds k5/ (img, mask) and etci/ (vv.tif, vh.tif, flood_label.tif). In order, each step skipped where its result is
there:

1. simulate   scenes with known water, X-band single-look and C-band multi-look
2. base       train on the simulation and the Sentinel-1 scene (its lowest 15 % of rows held out)
3. wider      the base trained on, on crops that show more of a scene
4. further    that trained on with more of the Sentinel-1 scene, three times
5. folds      all K5 tiles but one, once for each tile: the honest figure
     gated    those weights as they are, answering at two resolutions: only the gate between the answers learns
     without-TILE   all of that trained on, and the mean of its weights before and after
6. final      the same with all of them
7. levelled   that learns how far scenes of several looks lie off their usual level; K5 tiles have a single one, so the
              folds are as good without
8. level-answered  that learned on, from the answer first of all, twice

Every step ends after a fixed number of updates, never at the one where a held-out tile scored best. Up to the folds no
weight has seen a K5 tile. `--begin-with docs/default-model/before-kompsat-5.onnx` takes the weights that the first four
steps left in place of them. `--jobs 2` simulates two folders at once, and learns the folds beside the final network and
its level.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sarwater.command import run_command
from sarwater.errors import DependencyMissing, UsageError
from sarwater.models import open_model
from train.default_recipe import MODEL, Recipe
from train.loop.options import FitOptions


def make(recipe: Recipe, jobs: int = 1) -> Path:
    """Run what is missing, `jobs` processes at once; return the final checkpoint.

    Raises as the simulator and `fit` do.
    """
    from train.data.labelled import find_labelled

    _run([partial(_simulate, folder, arguments) for folder, arguments in recipe.simulations().items()], jobs)
    if recipe.begin_with is None:
        _fit_in_turn((recipe.base(), recipe.wider(), *recipe.further()))
    k5 = find_labelled(recipe.k5)
    refined = recipe.refined("final")
    level = (recipe.levelled(), *recipe.level_answered())
    chains = [(recipe.gated("final"), refined, *level)]  # the longest first
    for tile in k5:
        fold, unseen = f"without-{tile.name}", (tile.name,)
        chains.append((recipe.gated(fold, unseen), recipe.refined(fold, unseen)))
    _run([partial(_fit_in_turn, chain) for chain in chains], jobs)
    return _with_scores(recipe, _fit(refined), _fit(level[-1]), _leave_one_out(recipe, [tile.name for tile in k5]))


def _run(tasks: Sequence[Callable[[], None]], jobs: int) -> None:
    """All of them; with more than one job in processes that share the cores. Raises what the first to fail raised."""
    if jobs == 1:
        for task in tasks:
            task()
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    # Not forked: a process in which PyTorch has run its threads cannot be.
    with ProcessPoolExecutor(jobs, get_context("spawn"), _take_threads, (threads,)) as pool:
        futures = [pool.submit(task) for task in tasks]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for error in filter(None, (future.exception() for future in done)):
            print(f"{error}\nno further step begins; those that run go on to their end", file=sys.stderr, flush=True)
            pool.shutdown(cancel_futures=True)
            raise error


def _take_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)


def _simulate(folder: Path, arguments: Sequence[str]) -> None:
    if folder.is_dir():
        return
    from train.simulator.simulate import main as simulate

    unfinished = folder.with_name(f"{folder.name}.unfinished")  # what was killed is not taken for whole
    shutil.rmtree(unfinished, ignore_errors=True)
    simulate(["--out", str(unfinished), *arguments])
    unfinished.rename(folder)


def _fit_in_turn(runs: Sequence[FitOptions]) -> None:
    for run in runs:
        _fit(run)


def _fit(options: FitOptions) -> Path:
    from train.fit import fit
    from train.models.checkpoint import load_checkpoint

    last = options.out / "last.pt"
    if not last.is_file() or load_checkpoint(last).training["step"] < options.steps:
        print(f"{options.out.name}: {options.steps} steps", flush=True)
        fit(replace(options, resume=last.is_file()))
    return last


def _with_scores(recipe: Recipe, final: Path, levelled: Path, leave_one_out: dict[str, Any]) -> Path:
    """The network that knows the level, with what was said of the ones before, and what the folds say of it."""
    from train.models.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(levelled)
    training = load_checkpoint(final).training
    training["earlier_data"] = _earlier_data(recipe)
    training["metrics"] = {**checkpoint.training["metrics"], "k5_leave_one_out": leave_one_out}
    training["level"] = {key: checkpoint.training[key] for key in ("data", "held_out", "commit", "date", "options")}
    path = recipe.out / "model.pt"
    save_checkpoint(path, replace(checkpoint, training=training, resume=None))
    return path


def _earlier_data(recipe: Recipe) -> list[dict[str, Any]]:
    """What the weights were trained on that the K5 tiles are shown to."""
    from train.models.checkpoint import load_checkpoint

    if recipe.begin_with is None:
        training = load_checkpoint(_fit(recipe.further()[-1])).training
    else:
        training = open_model(recipe.begin_with).manifest.training
    return list(training["data"])


def _leave_one_out(recipe: Recipe, names: list[str]) -> dict[str, Any]:
    """Score every fold on the tile it has not seen; print and keep the pooled figure."""
    from train.data.labelled import find_labelled
    from train.models.checkpoint import load_checkpoint
    from train.scoring.predict import water_mask
    from train.scoring.scores import Scores, score_tile

    tiles = {tile.name: tile for tile in find_labelled(recipe.k5)}
    scored = []
    for name in names:
        fold = load_checkpoint(recipe.out / f"without-{name}" / "last.pt")
        mask = water_mask(fold.segmenter(), tiles[name], fold.threshold, fold.coarsest_m)
        scored.append(score_tile(name, mask, tiles[name].truth()))
    scores = Scores(tuple(scored))
    (recipe.out / "leave_one_out.json").write_text(json.dumps(scores.to_dict(), indent=2) + "\n")
    for tile in scores.tiles:
        print(f"{tile.name}  IoU {tile.confusion.iou:.4f}")
    print(f"leave-one-tile-out: pooled IoU {scores.pooled_iou:.4f}, mean-tile IoU {scores.mean_tile_iou:.4f}")
    return {
        "pooled_iou": scores.pooled_iou,
        "mean_tile_iou": scores.mean_tile_iou,
        "tiles": {tile.name: tile.confusion.iou for tile in scores.tiles},
    }


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m train.default_model", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder with k5/ and etci/")
    parser.add_argument("--out", type=Path, default=Path("runs/default"), help="default: %(default)s")
    parser.add_argument(
        "--begin-with",
        type=Path,
        metavar="ONNX",
        help="weights that have seen no K5 tile, instead of steps 2 to 4: docs/default-model/before-kompsat-5.onnx",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="processes at once where steps do not need each other; 2 on two cores (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    if arguments.jobs < 1:
        raise UsageError(f"--jobs {arguments.jobs}: expected at least 1")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise DependencyMissing("training needs torch: pip install 'sarwater[train]'") from error
    if arguments.begin_with is not None:
        open_model(arguments.begin_with)  # hours before its first use
    final = make(Recipe(arguments.data, arguments.out, arguments.begin_with), arguments.jobs)
    print(f"ship it with: python -m export.to_onnx {final} -o engines/{MODEL}.onnx (INT8: docs/default-model)")
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
