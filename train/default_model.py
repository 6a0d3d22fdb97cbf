"""How the model that ships is made: one command, fixed seeds.

    python -m train.default_model --data DIR [--out runs/default]

DIR holds k5/ (img, mask) and etci/ (vv.tif, flood_label.tif). In order, each step skipped where its result is there:

1. simulate   scenes with known water, X-band single-look and C-band multi-look
2. base       train on the simulation and the Sentinel-1 scene (its lowest 15 % of rows held out)
3. further    the base trained on, on other simulated scenes
4. folds      all K5 tiles but one, once for each tile: the honest figure
     gated    those weights as they are, answering at two resolutions: only the gate between the answers learns
     adapted  those weights trained on, at one resolution
     refined  the adapted ones trained on, at both
     without-TILE   the mean of the weights of gated and refined
5. final      the same with all of them

Every step ends after a fixed number of updates, never at the one where a held-out tile scored best.
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
MORE_SIMULATIONS = {
    "k5-more": (300, 11, None, 0.3),
    "s1-more": (150, 12, None, 0.25),
    "k5-dry-more": (90, 13, "dry", 0.12),
    "s1-dry-more": (60, 14, "dry", 0.08),
}
"""Scenes that the base has not seen."""
SCENE_PX = 768
ETCI_WEIGHT = 0.6
ETCI_HELD_OUT = "vv@15"
"""The rows of the ETCI scene that no network trains on."""
K5_WEIGHT = 1.5
BASE_STEPS = 3600
FURTHER_STEPS = 2400
ADAPT_STEPS = 400
GATE_STEPS = 150
REFINE_STEPS = 300
COARSE_WEIGHTS = {"k5": 0.3, "s1": 0.25, "k5-dry": 0.15, "s1-dry": 0.1}
"""Of the simulations, where there are two resolutions; those of the real scenes:"""
COARSE_ETCI_WEIGHT = 1.0
COARSE_K5_WEIGHT = 1.2
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

    def further(self) -> FitOptions:
        base = self.base()
        return replace(
            base,
            data=self.mixture({name: weight for name, (*_, weight) in MORE_SIMULATIONS.items()}, ETCI_WEIGHT),
            out=self.out / "further",
            init=base.out / "last.pt",
            steps=FURTHER_STEPS,
            learning_rate=1.5e-3,
            evaluate_every=1200,
            seed=1,  # other crops of the Sentinel-1 scene, too
        )

    def adapted(self, name: str, holdout: tuple[str, ...]) -> FitOptions:
        """To the K5 tiles but `holdout`; the rest of the base's data stays in, so that it is not forgotten."""
        base = self.base()
        return replace(
            base,
            data=(*base.data, f"{self.k5}={K5_WEIGHT}"),
            out=self.out / "adapted" / name,
            holdout=(*base.holdout, *holdout),
            init=self.further().out / "last.pt",
            steps=ADAPT_STEPS,
            learning_rate=1e-3,
            ema=0.99,  # of a short run the average has to forget where it began
            evaluate_every=ADAPT_STEPS,
        )

    def gated(self, name: str, holdout: tuple[str, ...]) -> FitOptions:
        """Weights that have seen no K5 tile, so here the gate learns how the two answers fare on unseen scenes."""
        base = self.base()
        return replace(
            base,
            data=self._coarse_mixture(),
            out=self.out / "gated" / name,
            holdout=(*base.holdout, *holdout),
            init=self.further().out / "last.pt",
            coarse=True,
            gate_only=True,
            crop_px=SCENE_PX,  # as wide as can be: what is dark in its surroundings depends on how wide they are
            batch=2,
            shoreline=0.0,  # land as common as in scenes: there the coarse answer goes wrong
            steps=GATE_STEPS,
            learning_rate=1e-2,
            warmup_steps=20,
            ema=0.97,
            evaluate_every=50,
        )

    def refined(self, name: str, holdout: tuple[str, ...]) -> FitOptions:
        """From one resolution to two, on crops that show more of a scene, as the windows at run time do."""
        adapted = self.adapted(name, holdout)
        return replace(
            adapted,
            data=self._coarse_mixture(),
            out=self.out / "refined" / name,
            init=adapted.out / "last.pt",
            coarse=True,
            frozen_norm=True,  # four crops have statistics of their own, and the two resolutions have two kinds
            crop_px=384,
            batch=4,
            steps=REFINE_STEPS,
            learning_rate=4e-4,
            warmup_steps=30,
            ema=0.98,
            evaluate_every=100,
        )

    def _coarse_mixture(self) -> tuple[str, ...]:
        return (*self.mixture(COARSE_WEIGHTS, COARSE_ETCI_WEIGHT), f"{self.k5}={COARSE_K5_WEIGHT}")


def make(recipe: Recipe) -> Path:
    """Run what is missing; return the final checkpoint. Raises as the simulator and `fit` do."""
    from train.tiles import find_tiles

    for name, (count, seed, kind, _) in (SIMULATIONS | MORE_SIMULATIONS).items():
        _simulate(Path(recipe.simulation(name)), name.partition("-")[0], count, seed, kind)
    _fit(recipe.base())
    _fit(recipe.further())
    k5 = find_tiles(recipe.k5)
    for tile in k5:
        _averaged(recipe, f"without-{tile.name}", (tile.name,))
    final = _averaged(recipe, "final", ())
    return _with_scores(recipe, final, _leave_one_out(recipe, [tile.name for tile in k5]))


def _simulate(folder: Path, mode: str, count: int, seed: int, kind: str | None) -> None:
    if folder.is_dir():
        return
    from train.simulate import main as simulate

    size = ["--count", str(count), "--size", str(SCENE_PX), "--seed", str(seed), "--mode", mode]
    simulate(["--out", str(folder), *size, *(["--type", kind] if kind else [])])


def _averaged(recipe: Recipe, name: str, holdout: tuple[str, ...]) -> Path:
    """What never saw a K5 tile finds unseen ones' fields to be land, what did finds their shadows to be: the mean of
    both weights does both."""
    from train.checkpoint import halfway, load_checkpoint, save_checkpoint

    gated = load_checkpoint(_fit(recipe.gated(name, holdout)))
    _fit(recipe.adapted(name, holdout))
    refined = load_checkpoint(_fit(recipe.refined(name, holdout)))
    earlier = load_checkpoint(recipe.further().out / "last.pt").training["data"]
    training = {**refined.training, "earlier_data": earlier, "averaged_with": "the base with a gate", "metrics": {}}
    path = recipe.out / name / "last.pt"
    path.parent.mkdir(parents=True, exist_ok=True)
    save_checkpoint(path, replace(halfway(gated, refined), training=training))
    return path


def _fit(options: FitOptions) -> Path:
    from train.checkpoint import load_checkpoint
    from train.fit import fit

    last = options.out / "last.pt"
    if not last.is_file() or load_checkpoint(last).training["step"] < options.steps:
        print(f"{options.out.name}: {options.steps} steps", flush=True)
        fit(replace(options, resume=last.is_file()))
    return last


def _with_scores(recipe: Recipe, final: Path, leave_one_out: dict[str, Any]) -> Path:
    """The final checkpoint with what the folds say of it."""
    from train.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(final)
    metrics = {**checkpoint.training["metrics"], "k5_leave_one_out": leave_one_out}
    path = recipe.out / "model.pt"
    save_checkpoint(path, replace(checkpoint, training={**checkpoint.training, "metrics": metrics}))
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
