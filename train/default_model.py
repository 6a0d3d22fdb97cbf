"""How the model that ships is made: one command, fixed seeds.

    python -m train.default_model --data DIR [--out runs/default]

DIR holds k5/ (img, mask) and etci/ (vv.tif, flood_label.tif). In order, each step skipped where its result is there:

1. simulate   scenes with known water, X-band single-look and C-band multi-look
2. base       train on the simulation and the Sentinel-1 scene (its lowest 15 % of rows held out)
3. folds      from the base, adapt to all K5 tiles but one, once for each tile: the honest figure; then refine: the
              same at both resolutions, on larger crops
4. final      from the base, adapt and refine on all of them

Every fold and the final model are taken after the same fixed number of steps, never at the step where a held-out tile
scored best.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sarwater.command import run_command
from sarwater.errors import DependencyMissing

if TYPE_CHECKING:
    from train.options import FitOptions

MODEL = "hrnet-w18-small"
SIMULATIONS = {
    "k5": (120, 1, None, 0.3),
    "s1": (84, 2, None, 0.25),
    "k5-dry": (36, 3, "dry", 0.1),
    "s1-dry": (24, 4, "dry", 0.07),
}
"""Simulator mode: scenes, seed, type (None: all in turn), weight. Dry ones again, because a false alarm costs trust."""
SCENE_PX = 768
ETCI_WEIGHT = 0.6
ETCI_HELD_OUT = "vv@15"
"""The rows of the ETCI scene that no network trains on."""
K5_WEIGHT = 1.5
BASE_STEPS = 3600
ADAPT_STEPS = 400
REFINE_STEPS = 300
REFINE_CROP_PX = 384
REFINE_WEIGHTS = {"k5": 0.3, "s1": 0.25, "k5-dry": 0.15, "s1-dry": 0.1}
REFINE_ETCI_WEIGHT = 1.0
REFINE_K5_WEIGHT = 1.2
THRESHOLD = 0.65
"""Crops are drawn for shorelines and hold more water than scenes do, so the network expects too much of it."""


@dataclass(frozen=True)
class Recipe:
    """Where the data is and where the results go."""

    data: Path
    out: Path

    @property
    def k5(self) -> str:
        return str(self.data / "k5")

    @property
    def etci(self) -> str:
        return f"{self.data / 'etci' / 'vv.tif'}:{self.data / 'etci' / 'flood_label.tif'}"

    def simulation(self, name: str) -> str:
        return str(self.out / f"simulation-{name}")

    def mixture(self, weights: dict[str, float], etci_weight: float) -> tuple[str, ...]:
        """Everything but the K5 tiles."""
        simulated = [f"{self.simulation(name)}={weight}" for name, weight in weights.items()]
        return (*simulated, f"{self.etci}={etci_weight}")

    def base(self) -> FitOptions:
        from train.options import FitOptions

        return FitOptions(
            model=MODEL,
            data=self.mixture({name: weight for name, (*_, weight) in SIMULATIONS.items()}, ETCI_WEIGHT),
            out=self.out / "base",
            holdout=(ETCI_HELD_OUT,),
            contrast=True,
            gain_db=4.0,
            steps=BASE_STEPS,
            learning_rate=2e-3,
            ema=0.995,
            threshold=THRESHOLD,
            evaluate_every=600,
        )

    def adapted(self, name: str, holdout: tuple[str, ...]) -> FitOptions:
        """From the base to the K5 tiles but `holdout`; the rest of the data stays in, so that it is not forgotten."""
        base = self.base()
        return replace(
            base,
            data=(*base.data, f"{self.k5}={K5_WEIGHT}"),
            out=self.out / "adapted" / name,
            holdout=(*base.holdout, *holdout),
            init=base.out / "last.pt",
            steps=ADAPT_STEPS,
            learning_rate=1e-3,
            ema=0.99,  # of a short run the average has to forget where it began
            evaluate_every=ADAPT_STEPS,
        )

    def refined(self, name: str, holdout: tuple[str, ...]) -> FitOptions:
        """From one resolution to two, on crops that show nearly as much as the windows at run time."""
        adapted = self.adapted(name, holdout)
        return replace(
            adapted,
            data=(*self.mixture(REFINE_WEIGHTS, REFINE_ETCI_WEIGHT), f"{self.k5}={REFINE_K5_WEIGHT}"),
            out=self.out / name,
            init=adapted.out / "last.pt",
            coarse=True,
            frozen_norm=True,  # four crops have statistics of their own, and the two resolutions have two kinds
            crop_px=REFINE_CROP_PX,
            batch=4,
            steps=REFINE_STEPS,
            learning_rate=4e-4,
            warmup_steps=30,
            ema=0.98,
            evaluate_every=100,
        )


def make(recipe: Recipe) -> Path:
    """Run what is missing; return the final checkpoint. Raises as the simulator and `fit` do."""
    from train.tiles import find_tiles

    for name, (count, seed, kind, _) in SIMULATIONS.items():
        _simulate(Path(recipe.simulation(name)), name.partition("-")[0], count, seed, kind)
    _fit(recipe.base())
    k5 = find_tiles(recipe.k5)
    for tile in k5:
        _fit_both(recipe, f"without-{tile.name}", (tile.name,))
    final = _fit_both(recipe, "final", ())
    return _with_scores(recipe, final, _leave_one_out(recipe, [tile.name for tile in k5]))


def _simulate(folder: Path, mode: str, count: int, seed: int, kind: str | None) -> None:
    if folder.is_dir():
        return
    from train.simulate import main as simulate

    size = ["--count", str(count), "--size", str(SCENE_PX), "--seed", str(seed), "--mode", mode]
    simulate(["--out", str(folder), *size, *(["--type", kind] if kind else [])])


def _fit_both(recipe: Recipe, name: str, holdout: tuple[str, ...]) -> Path:
    _fit(recipe.adapted(name, holdout))
    return _fit(recipe.refined(name, holdout))


def _fit(options: FitOptions) -> Path:
    from train.checkpoint import load_checkpoint
    from train.fit import fit

    last = options.out / "last.pt"
    if not last.is_file() or load_checkpoint(last).training["step"] < options.steps:
        print(f"{options.out.name}: {options.steps} steps", flush=True)
        fit(replace(options, resume=last.is_file()))
    return last


def _with_scores(recipe: Recipe, final: Path, leave_one_out: dict[str, Any]) -> Path:
    """The final checkpoint without its optimiser, and with what the folds say of it."""
    from train.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(final)
    metrics = {**checkpoint.training["metrics"], "k5_leave_one_out": leave_one_out}
    path = recipe.out / "model.pt"
    save_checkpoint(path, replace(checkpoint, resume=None, training={**checkpoint.training, "metrics": metrics}))
    return path


def _leave_one_out(recipe: Recipe, names: list[str]) -> dict[str, Any]:
    """Score every fold on the tile it has not seen; print and keep the pooled figure."""
    from train.checkpoint import load_checkpoint
    from train.predict import water_mask
    from train.scores import Scores, score_tile
    from train.tiles import find_tiles

    tiles = {tile.name: tile for tile in find_tiles(recipe.k5)}
    scored = []
    for name in names:
        fold = load_checkpoint(recipe.out / f"without-{name}" / "last.pt")
        mask = water_mask(fold.segmenter(), tiles[name], fold.threshold)
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
    arguments = parser.parse_args(argv)
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise DependencyMissing("training needs torch: pip install 'sarwater[train]'") from error
    final = make(Recipe(arguments.data, arguments.out))
    print(f"ship it with: python -m export.to_onnx {final} -o engines/{MODEL}.onnx")
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
