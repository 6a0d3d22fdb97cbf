"""SAR scenes with known water, for training and tests: `python -m train.simulate --out DIR --count N`.

The land comes from `train.terrain`; here it is seen by a radar. Range is along the rows, from left or right; azimuth
along the columns, as in a geocoded scene of a polar orbit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from sarwater.errors import UsageError
from train.terrain import SCENE_TYPES, Cover, Float32, Terrain, build_terrain, fractal

MINIMUM_SIZE_PX = 64

SIGMA0_DB = {
    Cover.WATER: -20.0,
    Cover.FOREST: -8.0,
    Cover.GRASS: -10.5,
    Cover.CROP: -9.0,
    Cover.BARE: -11.5,
    Cover.WET_SOIL: -14.0,
    Cover.SAND: -16.5,
    Cover.ROCK: -7.5,
    Cover.ASPHALT: -17.5,
    Cover.BUILT: -3.0,
    Cover.REED: -5.0,
}
TEXTURE_SHAPE = {Cover.FOREST: 4.0, Cover.BUILT: 0.7, Cover.ROCK: 3.0, Cover.REED: 2.0}
"""Order of the gamma texture, and so of the K distribution; covers not named are homogeneous."""


@dataclass(frozen=True)
class Sensor:
    """What sets one product apart from another. `dn_at_0_db` is the amplitude DN of sigma0 = 1."""

    pixel_m: float
    looks: int
    dn_at_0_db: float
    noise_db: float
    epsg: int


SENSORS = {
    "k5": Sensor(pixel_m=10 / 9, looks=1, dn_at_0_db=210.0, noise_db=-26.0, epsg=32632),
    "s1": Sensor(pixel_m=10.0, looks=4, dn_at_0_db=450.0, noise_db=-24.0, epsg=32632),
}


@dataclass(frozen=True)
class SimulatedScene:
    """`amplitude` (H, W) uint16 with nodata 0, `water` (H, W) uint8 with 1 for water, and what is in it."""

    amplitude: npt.NDArray[np.uint16]
    water: npt.NDArray[np.uint8]
    pixel_m: float
    scene_type: str
    description: str


def simulate_scene(
    size: tuple[int, int], mode: str, rng: np.random.Generator, scene_type: str | None = None
) -> SimulatedScene:
    """One scene of `size` (H, W) pixels, fully determined by `rng`.

    Raises UsageError for a size below 64 px or an unknown mode or scene type.
    """
    if min(size) < MINIMUM_SIZE_PX:
        raise UsageError(f"size is {size[1]} x {size[0]} px, expected at least {MINIMUM_SIZE_PX} px each way")
    if mode not in SENSORS:
        raise UsageError(f"mode is {mode!r}, expected one of: {', '.join(SENSORS)}")
    if scene_type is None:
        scene_type = str(rng.choice(list(SCENE_TYPES)))
    if scene_type not in SCENE_TYPES:
        raise UsageError(f"scene type is {scene_type!r}, expected one of: {', '.join(SCENE_TYPES)}")
    sensor = SENSORS[mode]
    terrain = build_terrain(size, sensor.pixel_m, scene_type, rng)
    amplitude = _observe(terrain, sensor, rng)
    return SimulatedScene(
        amplitude, terrain.water.astype(np.uint8), sensor.pixel_m, scene_type, ", ".join(terrain.contents)
    )


def _observe(terrain: Terrain, sensor: Sensor, rng: np.random.Generator) -> npt.NDArray[np.uint16]:
    """The terrain as amplitude DN."""
    sigma0 = _backscatter(terrain, rng)
    incidence = np.deg2rad(rng.uniform(25, 50))
    from_left = rng.random() < 0.5
    surface = terrain.elevation_m + terrain.canopy_m
    if not from_left:
        surface = surface[:, ::-1]
    gain = _illumination(surface, sensor.pixel_m, incidence)
    sigma0 = sigma0 * (gain if from_left else gain[:, ::-1])
    noise = 10 ** (sensor.noise_db / 10)
    intensity = _single_look(sigma0, terrain, rng) if sensor.looks == 1 else _multi_look(sigma0, terrain, sensor, rng)
    if sensor.looks == 1:
        intensity += noise * rng.standard_exponential(intensity.shape, np.float32)
    else:
        intensity += noise
    calibration = 10 ** (rng.uniform(-3, 3) / 20)
    dn = np.sqrt(intensity) * (sensor.dn_at_0_db * calibration)
    return np.clip(np.rint(dn), 1, 65535).astype(np.uint16)


def _backscatter(terrain: Terrain, rng: np.random.Generator) -> Float32:
    """Mean sigma0 (H, W), linear, texture included."""
    level = np.array([SIGMA0_DB[c] for c in Cover], np.float32)
    level += rng.normal(0, 1.0, level.size).astype(np.float32)  # every scene has its own season
    sigma0_db = level[terrain.cover] + terrain.level_db
    water = terrain.water
    if water.any():
        sigma0_db[water] = (_water_db(terrain, rng, land_db=float(level[Cover.GRASS])))[water]
    sigma0 = np.exp(sigma0_db * np.float32(np.log(10) / 10))
    for cover, order in TEXTURE_SHAPE.items():
        where = terrain.cover == cover
        count = int(where.sum())
        if count:
            sigma0[where] *= rng.standard_gamma(order, count).astype(np.float32) / np.float32(order)
    return sigma0


def _water_db(terrain: Terrain, rng: np.random.Generator, land_db: float) -> Float32:
    """Sigma0 of water in dB: calm to rough, patches of wind, streaks, calm in the lee of the shore."""
    rough = rng.random() < 0.12
    base_db = land_db - rng.uniform(3, 5) if rough else rng.uniform(-24, -17)
    wind = fractal(terrain.shape, rng, rng.uniform(80, 400), 3.0, coarse=4) * rng.uniform(0.2, 1.6)
    streaks = fractal((terrain.height_px, -(-terrain.width_px // 16)), rng, 60, 2.0)
    wind = wind + rng.uniform(0, 0.7) * np.repeat(streaks, 16, axis=1)[:, : terrain.width_px]
    near = ndimage.gaussian_filter((~terrain.water[::8, ::8]).astype(np.float32), 4, mode="nearest")
    lee = np.repeat(np.repeat(near, 8, axis=0), 8, axis=1)[: terrain.height_px, : terrain.width_px]
    return (base_db + wind - rng.uniform(0, 4) * lee).astype(np.float32)


def _illumination(surface_m: Float32, pixel_m: float, incidence: float) -> Float32:
    """Brightness of each pixel from its slope, and the radar's shadow; the radar looks from the left, (H, W) linear.

    A slope towards the radar packs more ground into a range cell: the factor is sin(i) / sin(i - slope) (Ulaby, Moore
    and Fung, vol. 2, 1982; Small 2011 for its area form). Shadow: a point is hidden when one nearer to the radar
    stands higher above the ray.
    """
    slope = np.arctan(np.gradient(surface_m, pixel_m, axis=1))
    local = np.maximum(incidence - slope, np.deg2rad(4))
    gain = np.sin(incidence) / np.sin(np.minimum(local, np.pi / 2))
    gain *= (np.cos(np.minimum(local, np.pi / 2)) / np.cos(incidence)).clip(0.05, None)
    ground_m = np.arange(surface_m.shape[1], dtype=np.float32) * pixel_m
    ray = surface_m + ground_m / np.float32(np.tan(incidence))
    hidden = ray < np.maximum.accumulate(ray, axis=1) - 0.05 * pixel_m
    gain[hidden] = 0.003
    return gain.clip(0.003, 12).astype(np.float32)


def _target_field(terrain: Terrain, rng: np.random.Generator) -> npt.NDArray[np.complex64]:
    """Point targets as a complex field (H, W), before the impulse response."""
    field = np.zeros(terrain.shape, np.complex64)
    if not terrain.targets:
        return field
    row, column, amplitude, smear_px = np.array(terrain.targets).T
    copies = np.where(smear_px > 0, 24, 1)
    index = np.repeat(np.arange(row.size), copies)
    offset = rng.standard_normal(index.size) * smear_px[index]
    rows = np.rint(row[index] + offset).astype(int).clip(0, terrain.height_px - 1)
    columns = np.rint(column[index]).astype(int).clip(0, terrain.width_px - 1)
    phase = np.exp(2j * np.pi * rng.random(index.size))
    np.add.at(field, (rows, columns), (amplitude / np.sqrt(copies))[index] * phase)
    return field


def _single_look(sigma0: Float32, terrain: Terrain, rng: np.random.Generator) -> Float32:
    """Intensity of one look: circular Gaussian scatterers through a band-limited impulse response.

    The band is unweighted, so point targets show the crosses of a sinc.
    """
    noise = rng.standard_normal((2, *sigma0.shape), np.float32)
    field = np.sqrt(sigma0 / 2) * (noise[0] + 1j * noise[1]) + _target_field(terrain, rng)
    return np.abs(_band_limit(field, 0.5)) ** 2


def _band_limit(field: npt.NDArray[np.complex64], share: float) -> npt.NDArray[np.complex64]:
    """Keep the inner `share` of the spectrum on both axes; the mean intensity of noise is kept."""
    spectrum = scipy.fft.fft2(field)
    for axis, n in enumerate(field.shape):
        outside = np.abs(scipy.fft.fftfreq(n)) > share / 2
        spectrum[(outside, slice(None)) if axis == 0 else (slice(None), outside)] = 0
    return scipy.fft.ifft2(spectrum) / np.float32(share)


def _multi_look(sigma0: Float32, terrain: Terrain, sensor: Sensor, rng: np.random.Generator) -> Float32:
    """Intensity averaged over looks whose cells overlap their neighbours, as in a ground-range detected product.

    White exponential speckle through this 3 x 3 kernel has about 4.4 equivalent looks and the correlation of
    neighbours of Sentinel-1 IW GRD.
    """
    power = sigma0 * rng.standard_exponential(sigma0.shape, np.float32)
    power += np.abs(_target_field(terrain, rng)) ** 2
    kernel = np.array([0.24, 0.52, 0.24], np.float32)
    return ndimage.convolve1d(ndimage.convolve1d(power, kernel, axis=0), kernel, axis=1)
