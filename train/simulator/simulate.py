"""SAR scenes with known water, for training and tests: `sarwater simulate -o DIR`.

Writes DIR/img, DIR/mask and DIR/gim as in the KOMPSAT-5 data set. `shapes` draws, `terrain` builds the land, `scenery`
says what each scene type is made of, `radar` looks at it.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
import numpy as np
import numpy.typing as npt
from pydantic import Field, field_validator

from sarwater.atomic import replacing
from sarwater.command import command, given, invoke, option, record_options, run
from sarwater.dependencies import require
from sarwater.errors import OutputError, UsageError
from sarwater.progress import Progress
from sarwater.record import Record

if TYPE_CHECKING:
    from train.simulator.shapes import Rng

SMALLEST_PX = 64
EPSG = {"k5": 32632, "s1": 32633}
"""Reference system by mode: two folders of simulated scenes share no ground, so both can be split by region."""


class Simulation(Record):
    """A folder of simulated scenes."""

    count: int = Field(10, ge=1)
    """How many scenes."""
    size: str = "1024"
    """PX or WIDTHxHEIGHT."""
    seed: int = Field(0, ge=0)
    """The same seed gives the same bytes."""
    mode: Literal["k5", "s1"] = "k5"
    """k5: single-look X band at 1.1 m; s1: multi-look C band at 10 m."""
    average: int = Field(1, ge=1)
    """Write means of N x N pixels; the size is that of the means."""
    type: str | None = None
    """One scene type in place of all in turn, such as lakes or airport."""

    @field_validator("size", mode="before")
    @classmethod
    def _size(cls, size: Any) -> str:
        if not re.fullmatch(r"\d+(x\d+)?", str(size)):
            raise ValueError("expected PX or WIDTHxHEIGHT, as 1024 or 2048x1024")
        return str(size)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of a scene, pixels."""
        width, _, height = self.size.partition("x")
        return int(height or width), int(width)


@dataclass(frozen=True)
class SimulatedScene:
    """One scene and its truth, all (H, W)."""

    amplitude: npt.NDArray[np.uint16]
    """DN; 0 is nodata."""
    water: npt.NDArray[np.uint8]
    """1 water, 0 land; 0 also where the amplitude is nodata."""
    incidence: npt.NDArray[np.uint8]
    """Local incidence angle in quarters of a degree."""
    pixel_m: float
    scene_type: str
    description: str


def simulate_scene(
    size: tuple[int, int],
    mode: str,
    rng: Rng,
    scene_type: str | None = None,
    pixel_m: float | None = None,
) -> SimulatedScene:
    """One scene of `size` (H, W) pixels, fully determined by `rng`; without a type, any but equally likely.

    `mode` is `k5` (single look, X band) or `s1` (multi-look, C band); `pixel_m` replaces its own pixel spacing.
    Raises UsageError for a size below 64 px, a spacing that is not positive, an unknown mode or scene type.
    """
    from train.simulator.radar import SENSORS, observe
    from train.simulator.scenery import SCENE_TYPES, build_terrain

    if min(size) < SMALLEST_PX:
        raise UsageError(f"size is {size[1]} x {size[0]} px, expected at least {SMALLEST_PX} px each way")
    if mode not in SENSORS:
        raise UsageError(f"mode is {mode!r}, expected one of: {', '.join(SENSORS)}")
    if scene_type is None:
        scene_type = str(rng.choice(list(SCENE_TYPES)))
    if scene_type not in SCENE_TYPES:
        raise UsageError(f"scene type is {scene_type!r}, expected one of: {', '.join(SCENE_TYPES)}")
    sensor = SENSORS[mode]
    if pixel_m is not None:
        if not pixel_m > 0:
            raise UsageError(f"pixel spacing is {pixel_m} m, expected more than 0")
        sensor = replace(sensor, pixel_m=pixel_m)
    terrain = build_terrain(size, sensor.pixel_m, scene_type, rng)
    seen = observe(terrain, sensor, rng)
    water = (terrain.water & (seen.amplitude > 0)).astype(np.uint8)
    return SimulatedScene(
        seen.amplitude, water, seen.incidence, sensor.pixel_m, scene_type, ", ".join(terrain.contents)
    )


def averaged(scene: SimulatedScene, factor: int) -> SimulatedScene:
    """Means of `factor` x `factor` pixels: of the valid amplitudes.

    Water is what mostly is, nodata what is for the greater part. Rows and columns that do not fill a pixel are cut off.
    """
    height, width = (side // factor for side in scene.water.shape)

    def mean(plane: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
        blocks = plane[: height * factor, : width * factor].reshape(height, factor, width, factor)
        return blocks.mean(axis=(1, 3), dtype=np.float64)

    valid = mean(scene.amplitude > 0)
    amplitude = np.where(valid >= 0.5, mean(scene.amplitude) / np.maximum(valid, 0.5), 0)
    water = (2 * mean(scene.water) >= valid) & (amplitude > 0)
    return replace(
        scene,
        amplitude=np.rint(amplitude).astype(np.uint16),
        water=water.astype(np.uint8),
        incidence=np.rint(mean(scene.incidence)).astype(np.uint8),
        pixel_m=scene.pixel_m * factor,
    )


def write_scene(folder: Path, seed: int, index: int, mode: str, scene: SimulatedScene) -> None:
    """Image, label and incidence angle as deflated GeoTIFFs, each there whole or not at all. Raises OutputError."""
    name = f"SIM{index:05d}"
    west_m, north_m = _corner_m(seed, index, scene)
    geotransform = (west_m, scene.pixel_m, 0.0, north_m, 0.0, -scene.pixel_m)
    files = {
        folder / "img" / f"{name}_{mode}.tif": (scene.amplitude, 0),
        folder / "mask" / f"{name}_{mode}_label.tif": (scene.water * np.uint8(255), None),
        folder / "gim" / f"{name}_GIM_{mode}.tif": (scene.incidence, None),
    }
    for path, (pixels, nodata) in files.items():
        try:
            with replacing(path) as temporary:
                _write_geotiff(temporary, pixels, EPSG[mode], geotransform, nodata)
        except (OSError, RuntimeError) as error:
            raise OutputError(
                f"{path}: cannot be written ({error}); free some space or choose another --out"
            ) from error


def _corner_m(seed: int, index: int, scene: SimulatedScene) -> tuple[float, float]:
    """Easting and northing of the upper left corner: a column of scenes with gaps from north to south for each seed."""
    height_m, width_m = (1.25 * length * scene.pixel_m for length in scene.water.shape)
    columns = max(1, int(600_000 // width_m))
    return 200_000 + seed % columns * width_m, 9_000_000 - (index - 1) * height_m


def _write_geotiff(
    path: Path, pixels: npt.NDArray[np.generic], epsg: int, geotransform: tuple[float, ...], nodata: float | None
) -> None:
    from osgeo import gdal, gdal_array, osr

    gdal.UseExceptions()
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    height, width = pixels.shape
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(pixels.dtype)
    options = ["TILED=YES", "COMPRESS=DEFLATE", "PREDICTOR=2"]
    dataset = gdal.GetDriverByName("GTiff").Create(str(path), width, height, 1, kind, options)
    dataset.SetProjection(reference.ExportToWkt())
    dataset.SetGeoTransform(geotransform)
    if nodata is not None:
        dataset.GetRasterBand(1).SetNoDataValue(nodata)
    dataset.WriteArray(pixels)
    dataset.FlushCache()


def write_scenes(folder: Path, simulation: Simulation) -> float:
    """Fill `folder`; returns the share of water. Raises UsageError, OutputError, DependencyMissing without scipy."""
    require("scipy", "the simulator", "pip install 'sarwater[train]'")
    from train.simulator.scenery import SCENE_TYPES

    types = list(SCENE_TYPES)
    height, width = simulation.shape
    water_px = 0
    with Progress(f"simulating {folder.name}", "scenes") as progress:
        for index in range(1, simulation.count + 1):
            progress(index - 1, simulation.count)
            # Each scene has a stream of random numbers of its own: scene 7 is the same, however many are made.
            rng = np.random.default_rng((simulation.seed, index))
            scene_type = simulation.type or types[(index - 1) % len(types)]
            seen_px = (height * simulation.average, width * simulation.average)
            scene = averaged(simulate_scene(seen_px, simulation.mode, rng, scene_type), simulation.average)
            write_scene(folder, simulation.seed, index, simulation.mode, scene)
            water_px += int(scene.water.sum())
    return water_px / (simulation.count * width * height)


def write_whole(folder: Path, simulation: Simulation) -> None:
    """`write_scenes`, unless `folder` is there: it is there whole or not at all."""
    if folder.is_dir():
        return
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    write_scenes(unfinished, simulation)
    unfinished.rename(folder)


@command(
    "simulate",
    "Make SAR scenes with known water: labelled data for training and tests.",
    examples="""
    sarwater simulate -o scenes --count 50 --size 1024 --seed 1
    sarwater simulate -o seas --mode s1 --type open-water --size 2048x1024
    """,
)
@option("-o", "--output", "--out", "output", type=click.Path(path_type=Path), required=True, metavar="DIR",
        help="folder for img/, mask/ and gim/", group="output")  # fmt: skip
@record_options(Simulation, {"scenes": ("count", "size", "seed", "mode", "type", "average")})
def simulate(output: Path, **options: Any) -> int:
    simulation = Simulation(**given(options))
    height, width = simulation.shape
    share = write_scenes(output, simulation)
    print(f"{simulation.count} scenes of {width} x {height} px in {output}, {share:.1%} water")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    return invoke(simulate, argv)


def cli() -> int:
    return run(simulate)


if __name__ == "__main__":
    sys.exit(cli())
