"""SAR scenes with known water, for training and tests.

    python -m train.simulator.simulate --out DIR --count N --size PX --seed S [--mode k5|s1] [--average N] [--edition 1|2]

writes DIR/img, DIR/mask and DIR/gim as in the KOMPSAT-5 data set. `train.simulator.shapes` draws, `train.simulator.terrain` builds the
land, `train.simulator.scenery` says what each scene type is made of, `train.simulator.radar` looks at it.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DependencyMissing, OutputError, UsageError

if TYPE_CHECKING:
    from train.simulator.shapes import Rng

SMALLEST_PX = 64
EPSG = {"k5": 32632, "s1": 32633}
"""Reference system by mode: two folders of simulated scenes share no ground, so both can be split by region."""


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
    edition: int | None = None,
) -> SimulatedScene:
    """One scene of `size` (H, W) pixels, fully determined by `rng`; without a type, any but equally likely.

    `mode` is `k5` (single look, X band) or `s1` (multi-look, C band); `pixel_m` replaces its own pixel spacing;
    `edition` is that of the simulator, by default the latest.
    Raises UsageError for a size below 64 px, a spacing that is not positive, an unknown mode, scene type or edition.
    """
    from train.simulator.radar import SENSORS, observe
    from train.simulator.scenery import SCENE_TYPES, build_terrain
    from train.simulator.terrain import EDITIONS, LATEST_EDITION

    if min(size) < SMALLEST_PX:
        raise UsageError(f"size is {size[1]} x {size[0]} px, expected at least {SMALLEST_PX} px each way")
    if mode not in SENSORS:
        raise UsageError(f"mode is {mode!r}, expected one of: {', '.join(SENSORS)}")
    if scene_type is None:
        scene_type = str(rng.choice(list(SCENE_TYPES)))
    if scene_type not in SCENE_TYPES:
        raise UsageError(f"scene type is {scene_type!r}, expected one of: {', '.join(SCENE_TYPES)}")
    edition = LATEST_EDITION if edition is None else edition
    if edition not in EDITIONS:
        raise UsageError(f"edition of the simulator is {edition}, expected one of: {', '.join(map(str, EDITIONS))}")
    sensor = SENSORS[mode]
    if pixel_m is not None:
        if not pixel_m > 0:
            raise UsageError(f"pixel spacing is {pixel_m} m, expected more than 0")
        sensor = replace(sensor, pixel_m=pixel_m)
    terrain = build_terrain(size, sensor.pixel_m, scene_type, rng, edition)
    seen = observe(terrain, sensor, rng)
    water = (terrain.water & (seen.amplitude > 0)).astype(np.uint8)
    return SimulatedScene(
        seen.amplitude, water, seen.incidence, sensor.pixel_m, scene_type, ", ".join(terrain.contents)
    )


def averaged(scene: SimulatedScene, factor: int) -> SimulatedScene:
    """Means of `factor` x `factor` pixels: of the valid amplitudes, as the coarse answer of a network sees them.

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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-simulate",
        description="Simulate SAR scenes with known water: the same seed gives the same bytes.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for img/, mask/ and gim/")
    parser.add_argument("--count", type=int, default=10, metavar="N", help="how many scenes (default: %(default)s)")
    parser.add_argument("--size", default="1024", metavar="PX", help="PX or WIDTHxHEIGHT (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="default: %(default)s")
    parser.add_argument(
        "--mode",
        choices=tuple(EPSG),
        default="k5",
        help="k5: single-look X band at 1.1 m; s1: multi-look C band at 10 m (default: %(default)s)",
    )
    parser.add_argument(
        "--average", type=int, default=1, metavar="N", help="write means of N x N pixels; --size is that of the means"
    )
    parser.add_argument(
        "--edition", type=int, metavar="N", help="as an earlier simulator made them (default: the latest, 2)"
    )
    parser.add_argument("--type", metavar="TYPE", help="one scene type instead of all in turn, e.g. lakes or airport")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    size = re.fullmatch(r"(\d+)(?:x(\d+))?", arguments.size)
    if size is None:
        raise UsageError(f"--size {arguments.size}: expected PX or WIDTHxHEIGHT, as 1024 or 2048x1024")
    if arguments.count < 1:
        raise UsageError(f"--count {arguments.count}: expected at least 1")
    if arguments.seed < 0:
        raise UsageError(f"--seed {arguments.seed}: expected 0 or more")
    if arguments.average < 1:
        raise UsageError(f"--average {arguments.average}: expected at least 1")
    width, height = int(size[1]), int(size[2] or size[1])
    try:
        from rich.console import Console
        from rich.progress import track

        from train.simulator.scenery import SCENE_TYPES
    except ImportError as error:
        raise DependencyMissing(f"the simulator needs {error.name}: pip install 'sarwater[train]'") from error
    types = list(SCENE_TYPES)
    water_px = 0
    for index in track(range(1, arguments.count + 1), "simulating", console=Console(stderr=True), transient=True):
        # Each scene has a stream of random numbers of its own: scene 7 is the same, however many are made.
        rng = np.random.default_rng((arguments.seed, index))
        scene_type = arguments.type or types[(index - 1) % len(types)]
        seen_px = (height * arguments.average, width * arguments.average)
        scene = simulate_scene(seen_px, arguments.mode, rng, scene_type, edition=arguments.edition)
        scene = averaged(scene, arguments.average)
        write_scene(arguments.out, arguments.seed, index, arguments.mode, scene)
        water_px += int(scene.water.sum())
    share = water_px / (arguments.count * width * height)
    print(f"{arguments.count} scenes of {width} x {height} px in {arguments.out}, {share:.1%} water")
    return 0


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
