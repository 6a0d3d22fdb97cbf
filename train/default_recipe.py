"""The numbers of the recipe of the model that ships: what each step trains on, from where, for how long.

`train.default_model` runs them and says what the steps are for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from train.loop.options import FitOptions


@dataclass(frozen=True)
class Simulation:
    """A folder of simulated scenes."""

    mode: str
    count: int
    seed: int
    scene_type: str | None = None
    """None: all in turn."""
    edition: int = 1
    """Of the simulator: the first one has no scarps."""


@dataclass(frozen=True)
class LevelRun:
    """One of those that learn the level from the answer."""

    steps: int
    seed: int
    weights: dict[str, float]
    """Of the folders of simulated scenes. Their order counts: crops are drawn from the sources in it."""
    learning_rate: float = 1e-3
    halfway: bool = False


MODEL = "hrnet-w18-small"
SIMULATIONS = {
    "k5": Simulation("k5", 300, 11),
    "s1": Simulation("s1", 150, 12),
    "k5-dry": Simulation("k5", 120, 13, "dry"),
    "s1-dry": Simulation("s1", 60, 14, "dry"),
    "k5-sea": Simulation("k5", 60, 21, "open-water"),
    "s1-sea": Simulation("s1", 60, 22, "open-water"),
    "s1-later": Simulation("s1", 150, 12, edition=2),
    "s1-sea-many": Simulation("s1", 900, 25, "open-water", edition=2),
    "s1-dry-many": Simulation("s1", 900, 26, "dry", edition=2),
}
"""Dry ones again, because a false alarm costs trust; seas again, because crops are drawn for shorelines and hardly ever
show a whole crop of water. Many more of both where the level is learned: of 36 seas it was learned by heart, and unseen
ones were taken for dark land."""
BASE_WEIGHTS = {"k5": 0.35, "s1": 0.25, "k5-dry": 0.15, "s1-dry": 0.1, "k5-sea": 0.06, "s1-sea": 0.06}
SCENE_PX = 768
ETCI_WEIGHT = 0.8
ETCI_HELD_OUT = "vv@15"
"""The rows of the ETCI scene that no network trains on."""
CROSS_POLARISED_HELD_OUT = "vh@15"
CROSS_POLARISED_SHARE = 0.25
"""Of the weight of the ETCI scene: its VH beside its VV, as one more kind of image of the same ground."""
BASE_STEPS = 3000
WIDER_STEPS = 1200
FURTHER = ((1200, 1.6, 2), (1300, 1.6, 6), (900, 2.0, 7))
"""Steps, weight of the ETCI scene, seed. In each the rate rises and falls again (warm restarts, Loshchilov and Hutter
2017): of the one real scene the narrow rivers are learned last, and at a low rate."""
GATE_STEPS = 600
"""In 150 it does not yet leave the fine answer aside on a sensor that the weights have not seen."""
LEVEL_STEPS = 1200
GATE_WEIGHTS = {"k5": 0.1, "s1": 0.25, "k5-dry": 0.2, "s1-dry": 0.1, "k5-sea": 0.05, "s1-sea": 0.1}
"""Where the gate is learned. Few single looks are simulated ones: on the kind of scene that the weights were trained on
the fine answer is always good, and what is to be learned is how it fares on a sensor that they have never seen."""
GATE_ETCI_WEIGHT = 1.0
GATE_K5_WEIGHT = 2.4
REFINE_STEPS = 300
REFINE_WEIGHTS = {"k5": 0.3, "k5-dry": 0.2, "s1": 0.25, "s1-dry": 0.1, "k5-sea": 0.05, "s1-sea": 0.1}
"""Where all weights see the K5 tiles, too."""
REFINE_ETCI_WEIGHT = 1.4
REFINE_K5_WEIGHT = 1.2
LEVEL_WEIGHTS = {"s1-later": 0.5, "s1-dry-many": 0.6, "s1-sea-many": 0.8}
"""Of scenes of several looks there: seas and dry land often, for those are what a wrong level costs."""
LEVEL_ETCI_WEIGHT = 1.5
LEVEL_ANSWER = (
    LevelRun(900, 21, LEVEL_WEIGHTS | {"s1-dry-many": 1.3, "s1-sea-many": 2.0}),
    LevelRun(900, 22, LEVEL_WEIGHTS | {"s1-dry-many": 1.3, "s1-sea-many": 2.4}, learning_rate=8e-4, halfway=True),
)
"""More seas save seas whose calibration is 3 dB too bright and make seas of bare plains; more plains then take that
back, and leave most of what was gained."""
COARSEST_M = 30.0
"""Pixel spacing of the ETCI scene: its swath, 250 km wide, has 8,830 of them."""
THRESHOLD = 0.75
"""Crops are drawn for shorelines and hold more water than scenes do, so the network expects too much of it."""


@dataclass(frozen=True)
class Recipe:
    """Where the data is and where the results go."""

    data: Path
    out: Path
    begin_with: Path | None = None
    """Weights that have seen no K5 tile, an ONNX file of ours, instead of the steps up to there."""

    @property
    def k5(self) -> str:
        return str(self.data / "k5")

    def etci(self, band: str) -> str:
        return f"{self.data / 'etci' / band}.tif:{self.data / 'etci' / 'flood_label.tif'}"

    def simulation(self, name: str) -> str:
        return str(self.out / f"simulation-{name}")

    def simulations(self) -> dict[Path, list[str]]:
        """Every folder of simulated scenes, and the arguments of train.simulator.simulate that fill it."""
        found = {}
        for name, scenes in SIMULATIONS.items():
            size = ["--count", str(scenes.count), "--size", str(SCENE_PX), "--seed", str(scenes.seed)]
            kind = ["--mode", scenes.mode, "--edition", str(scenes.edition)]
            kind += ["--type", scenes.scene_type] if scenes.scene_type else []
            found[Path(self.simulation(name))] = [*size, *kind]
        return found

    def simulated(self, weights: dict[str, float]) -> tuple[str, ...]:
        return tuple(f"{self.simulation(name)}={weight}" for name, weight in weights.items())

    def mixture(self, weights: dict[str, float], etci_weight: float) -> tuple[str, ...]:
        """Everything but the K5 tiles; both polarisations of the ETCI scene have the same labels."""
        cross = CROSS_POLARISED_SHARE * etci_weight
        etci = {"vv": etci_weight - cross, "vh": cross}
        return (*self.simulated(weights), *(f"{self.etci(band)}={weight:g}" for band, weight in etci.items()))

    def base(self) -> FitOptions:
        return FitOptions(
            model=MODEL,
            data=self.mixture(BASE_WEIGHTS, ETCI_WEIGHT),
            out=self.out / "base",
            holdout=(ETCI_HELD_OUT, CROSS_POLARISED_HELD_OUT),
            contrast=True,
            gain_db=4.0,
            steps=BASE_STEPS,
            learning_rate=2e-3,
            ema=0.995,
            threshold=THRESHOLD,
            coarsest_m=COARSEST_M,
            evaluate_every=600,
        )

    def wider(self) -> FitOptions:
        """On crops that show more of a scene: what is a sea and what a bare plain is told from further away."""
        base = self.base()
        return replace(
            base,
            out=self.out / "wider",
            init=_last(base),
            crop_px=512,
            batch=4,
            steps=WIDER_STEPS,
            learning_rate=1.2e-3,
            ema=0.99,
            evaluate_every=400,
            seed=1,
        )

    def further(self) -> list[FitOptions]:
        """More of the Sentinel-1 scene, one run after the other, each from the weights of the one before."""
        before, runs = self.wider(), []
        for number, (steps, etci_weight, seed) in enumerate(FURTHER, 1):
            before = replace(
                before,
                data=self.mixture(BASE_WEIGHTS, etci_weight),
                out=self.out / f"further-{number}",
                init=_last(before),
                crop_px=384,
                batch=6,
                steps=steps,
                evaluate_every=steps,
                seed=seed,
            )
            runs.append(before)
        return runs

    def gated(self, name: str, holdout: tuple[str, ...] = ()) -> FitOptions:
        """Weights that have seen no K5 tile, so here the gate learns how the two answers fare on an unseen sensor."""
        base = self.base()
        return replace(
            base,
            data=(*self.mixture(GATE_WEIGHTS, GATE_ETCI_WEIGHT), f"{self.k5}={GATE_K5_WEIGHT}"),
            out=self.out / "gated" / name,
            holdout=(*base.holdout, *holdout),
            init=self.begin_with or _last(self.further()[-1]),
            coarse=True,
            part="gate",
            crop_px=SCENE_PX,  # as wide as can be: what is dark in its surroundings depends on how wide they are
            batch=2,
            shoreline=0.0,  # land as common as in scenes: there the coarse answer goes wrong
            steps=GATE_STEPS,
            learning_rate=1e-2,
            warmup_steps=20,
            ema=0.99,
            evaluate_every=GATE_STEPS,
        )

    def refined(self, name: str, holdout: tuple[str, ...] = ()) -> FitOptions:
        """What never saw a K5 tile takes valleys for rivers, what did forgets other lands: halfway does both."""
        gated = self.gated(name, holdout)
        return replace(
            gated,
            data=(*self.mixture(REFINE_WEIGHTS, REFINE_ETCI_WEIGHT), f"{self.k5}={REFINE_K5_WEIGHT}"),
            out=self.out / name,
            init=_last(gated),
            part="all",
            halfway=True,
            frozen_norm=True,  # four crops have statistics of their own, and the two resolutions have two kinds
            crop_px=384,
            batch=4,
            shoreline=self.base().shoreline,
            steps=REFINE_STEPS,
            learning_rate=4e-4,
            warmup_steps=30,
            ema=0.98,
            evaluate_every=REFINE_STEPS,
        )

    def levelled(self) -> FitOptions:
        """Of scenes of several looks the level is estimated: all but that stays as it is, and single looks do."""
        base = self.base()
        return replace(
            base,
            data=self._level_data(LEVEL_WEIGHTS),
            holdout=(ETCI_HELD_OUT,),
            out=self.out / "levelled",
            init=_last(self.refined("final")),
            coarse=True,
            level_control=True,
            part="level",
            gain_db=4.5,  # calibrations are off by 3, and lands differ by some more
            crop_px=384,  # a level that can be told from little is told from more as well
            shoreline=0.0,  # seas and dry land as common as can be: there the level is hard to tell
            steps=LEVEL_STEPS,
            warmup_steps=20,
            ema=0.98,
            evaluate_every=600,
            seed=4,
        )

    def level_answered(self) -> list[FitOptions]:
        """Begun anew: Adam measures steps by the gradients before, and those of decibels are far larger. In one run,
        what the answer has to say of seas is hardly learned."""
        before, runs = self.levelled(), []
        for number, run in enumerate(LEVEL_ANSWER, 1):
            before = replace(
                before,
                data=self._level_data(run.weights),
                out=self.out / f"level-answered-{number}",
                init=_last(before),
                steps=run.steps,
                learning_rate=run.learning_rate,
                halfway=run.halfway,
                evaluate_every=run.steps,
                seed=run.seed,
            )
            runs.append(before)
        return runs

    def _level_data(self, weights: dict[str, float]) -> tuple[str, ...]:
        """VH is brighter than VV by 3 dB in the ETCI images, which is what is to be told: so of VV alone."""
        return (*self.simulated(weights), f"{self.etci('vv')}={LEVEL_ETCI_WEIGHT}")


def _last(run: FitOptions) -> Path:
    """The weights that a run ends with."""
    assert run.out is not None
    return run.out / "last.pt"
