"""The four families, trained at an equal budget for benchmarks.accuracy.

    python -m benchmarks.families --data DIR [--steps 400] [--crop 256] [--out runs/families]

Every network sees the same number of pixels of the same data in the same order: as many steps of as many crops of one
size, with one seed and one augmentation. Only the learning rate is its family's own, from the default recipes. DIR
holds k5/ and etci/; one K5 tile and the lowest rows of the ETCI scene are held out from all of them. Hours on a CPU,
minutes on a GPU; a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.accuracy_sets import ETCI_HELD_OUT
from sarwater.command import run_command
from train.fit import fit
from train.loop.options import FitOptions, options_of
from train.models.checkpoint import load_checkpoint
from train.simulator.simulate import EPSG, Simulation, write_whole

NETWORKS = ("fcn-vgg16", "unet-w32", "deepunet", "hrnet-w18-small")
HELD_OUT = "WTR00003"
SCENES, SCENE_PX, SEEDS = 56, 512, {"k5": 11, "s1": 12}
K5_WEIGHT, ETCI_WEIGHT, SIMULATED_WEIGHT = 1.5, 0.6, 0.25


def options_for(network: str, data: Path, out: Path, steps: int, crop_px: int, held_out: str) -> FitOptions:
    """The same for every network, but for the learning rate of its default recipe."""
    etci = f"{data / 'etci' / 'vv.tif'}:{data / 'etci' / 'flood_label.tif'}"
    sources = [f"{data / 'k5'}={K5_WEIGHT}", f"{etci}={ETCI_WEIGHT}"]
    sources += [f"{out / f'simulation-{mode}'}={SIMULATED_WEIGHT}" for mode in EPSG]
    recipe = options_of({"model": network, "data": tuple(sources)})
    changed: FitOptions = recipe.but(
        holdout=(held_out, ETCI_HELD_OUT),
        steps=steps,
        batch=4,
        crop_px=crop_px,
        evaluate_every=steps,
        tensorboard=False,
        out=out / network,
    )
    return changed


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.families", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the folder with k5/ and etci/")
    parser.add_argument("--steps", type=int, default=400, help="of 4 crops; default: %(default)s")
    parser.add_argument("--crop", type=int, default=256, metavar="PX", help="their side; default: %(default)s")
    parser.add_argument(
        "--networks", nargs="+", default=NETWORKS, metavar="NAME", help=f"default: {' '.join(NETWORKS)}"
    )
    parser.add_argument("--holdout", default=HELD_OUT, metavar="TILE", help="K5 tile; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("runs/families"), metavar="DIR", help="default: %(default)s")
    arguments = parser.parse_args(argv)
    for mode, seed in SEEDS.items():
        scenes = Simulation(count=SCENES, size=str(SCENE_PX), seed=seed, mode=mode)
        write_whole(arguments.out / f"simulation-{mode}", scenes)
    for network in arguments.networks:
        options = options_for(
            network, arguments.data, arguments.out, arguments.steps, arguments.crop, arguments.holdout
        )
        last = arguments.out / network / "last.pt"
        if not last.is_file() or load_checkpoint(last).training["step"] < arguments.steps:
            fit(options.but(resume=last.is_file()))
    peers = " ".join(f"--peer {network}={arguments.out / network / 'last.pt'}" for network in arguments.networks)
    print(f"python -m benchmarks.accuracy --data {arguments.data} {peers}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
