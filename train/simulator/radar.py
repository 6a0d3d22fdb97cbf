"""Terrain seen by a radar: backscatter, slopes and shadow, speckle, point targets, amplitude DN.

Range runs along the rows, from left or right; azimuth along the columns, as in a geocoded scene of a polar orbit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy import ndimage

from train.simulator.shapes import Float32, Mask, Rng, enlarge, fractal, shrink
from train.simulator.terrain import Cover, Terrain

Complex64 = npt.NDArray[np.complex64]

SIGMA0_DB = {
    Cover.WATER: 0.0,  # see _water_db
    Cover.FOREST: -10.5,
    Cover.GRASS: -11.5,
    Cover.CROP: -11.0,
    Cover.BARE: -12.5,
    Cover.WET_SOIL: -13.5,
    Cover.SAND: -15.5,
    Cover.ROCK: -9.5,
    Cover.ASPHALT: -16.5,
    Cover.BUILT: -7.0,
    Cover.REED: -7.0,
}
"""Typical means for X band HH and C band VV at 30 to 45 degrees (Ulaby and Dobson 1989, Handbook of radar scattering
statistics for terrain), a few dB between seasons."""

TEXTURE_ORDER = {Cover.FOREST: 5.0, Cover.BUILT: 0.6, Cover.ROCK: 3.0, Cover.REED: 2.0}
"""Order of the gamma texture, and so of the K distribution; covers not named are homogeneous."""


@dataclass(frozen=True)
class Sensor:
    """What sets one product apart from another."""

    pixel_m: float
    single_look: bool
    dn_at_0_db: float
    """Amplitude DN of sigma0 = 1 before the random calibration gain."""
    noise_db: float
    """Noise-equivalent sigma0, ambiguities included."""
    land_db: float
    """Added to SIGMA0_DB."""
    water_db: tuple[float, float]
    """Range of mean sigma0 of water from calm to fresh wind."""
    incidence_deg: tuple[float, float]


SENSORS = {
    "k5": Sensor(
        pixel_m=10 / 9,
        single_look=True,
        dn_at_0_db=300.0,
        noise_db=-13.5,
        land_db=1.2,
        water_db=(-18, -12.5),
        incidence_deg=(25, 50),
    ),
    "s1": Sensor(
        pixel_m=10.0,
        single_look=False,
        dn_at_0_db=450.0,
        noise_db=-23.0,
        land_db=1.0,
        water_db=(-24, -17),
        incidence_deg=(30, 46),
    ),
}
NOISE_KNEE_DB = -8.5
"""Where the noise suppression of the KOMPSAT-5 product sets in; it was fitted to the published tiles with the exponents
in `suppress_noise`. It explains why their amplitude varies by 0.67 of its mean on bright land but by 1.1 on dark
water, along one and the same curve for both, where plain speckle varies by 0.52 everywhere."""
BAND = 0.56
"""Share of the sampled band that the single-look impulse response fills, on both axes."""
SUPPRESSED_SHARE = 0.75
PLAIN_NOISE_DB = -21.0
PLAIN_WATER_DB = (-23, -14)
"""Noise of single-look products without that suppression, and water in them, which the noise does not hide: TerraSAR-X
has a noise-equivalent sigma0 of -19 to -26 dB."""


@dataclass(frozen=True)
class Observation:
    """`amplitude` (H, W) uint16 DN, 0 is nodata; `incidence` (H, W) uint8, local incidence in quarters of a degree."""

    amplitude: npt.NDArray[np.uint16]
    incidence: npt.NDArray[np.uint8]


def observe(terrain: Terrain, sensor: Sensor, rng: Rng) -> Observation:
    """One acquisition of the terrain."""
    incidence = float(np.deg2rad(rng.uniform(*sensor.incidence_deg)))
    look = slice(None, None, 1 if rng.random() < 0.5 else -1)
    surface_m = (terrain.elevation_m + terrain.canopy_m)[:, look]
    # Some scenes are plain detected images, as other X-band processors make them.
    suppressed = sensor.single_look and rng.random() < SUPPRESSED_SHARE
    if sensor.single_look and not suppressed:
        sensor = replace(sensor, noise_db=PLAIN_NOISE_DB, water_db=PLAIN_WATER_DB)
    sigma0 = _backscatter(terrain, sensor, rng)
    sigma0 *= illumination(surface_m, terrain.pixel_m, incidence)[:, look]
    targets = _target_field(terrain, rng)
    if sensor.single_look:
        intensity = single_look(sigma0 + _power(sensor.noise_db), targets, rng)
        if suppressed:
            suppress_noise(intensity, NOISE_KNEE_DB + rng.uniform(-0.7, 0.7))
    else:
        intensity = multi_look(sigma0 + _power(sensor.noise_db), targets, rng)
    gain = sensor.dn_at_0_db * 10 ** (rng.uniform(-3, 3) / 20)
    amplitude = np.clip(np.rint(np.sqrt(intensity) * gain), 1, 65535).astype(np.uint16)
    amplitude[_outside_valid_extent(terrain.shape, rng)] = 0
    return Observation(amplitude, _incidence_mask(terrain, incidence, look))


def _power(level_db: float) -> np.float32:
    return np.float32(10 ** (level_db / 10))


def _backscatter(terrain: Terrain, sensor: Sensor, rng: Rng) -> Float32:
    """Sigma0 (H, W), linear, with the texture of each cover."""
    level_db = np.array([SIGMA0_DB[cover] for cover in Cover], np.float32)
    level_db += sensor.land_db + rng.normal(0, 1.0, level_db.size).astype(np.float32)  # each scene has its season
    sigma0_db = level_db[terrain.cover] + terrain.level_db
    water = terrain.water
    if water.any():
        sigma0_db[water] = _water_db(water, sensor, rng, land_db=float(level_db[Cover.GRASS]))[water]
    sigma0 = np.exp(sigma0_db * np.float32(np.log(10) / 10))
    for cover, order in TEXTURE_ORDER.items():
        where = terrain.cover == cover
        count = int(np.count_nonzero(where))
        sigma0[where] *= rng.standard_gamma(order, count, np.float32) / np.float32(order)
    return sigma0


def _water_db(water: Mask, sensor: Sensor, rng: Rng, land_db: float) -> Float32:
    """Sigma0 of water in dB: calm to rough, gusts, wind streaks, calm in the lee of the shore."""
    height, width = water.shape
    rough = rng.random() < 0.08
    base_db = land_db - rng.uniform(3.5, 6) if rough else rng.uniform(*sensor.water_db)
    gusts = fractal(water.shape, rng, rng.uniform(80, 400), 3.0, coarse=4) * np.float32(rng.uniform(0.2, 1.6))
    streaks = fractal((height, width // 16 + 1), rng, 60, 2.0) * np.float32(rng.uniform(0, 0.6))
    near_shore = ndimage.gaussian_filter(1 - shrink(water, 8).astype(np.float32), 4, mode="nearest")
    lee = enlarge(near_shore, 8, water.shape) * np.float32(rng.uniform(0, 4))
    return np.float32(base_db) + gusts + np.repeat(streaks, 16, axis=1)[:, :width] - lee


def illumination(surface_m: Float32, pixel_m: float, incidence: float) -> Float32:
    """Brightness of each pixel from its slope, 0.002 in the radar's shadow; (H, W) float32, 1 on flat ground.

    The radar looks from the left at `incidence` (radians). A slope that faces it packs more ground into a range cell,
    sin(i) / sin(local), and is seen at a steeper angle, cos(local) / cos(i) (Ulaby, Moore and Fung 1982, vol. 2); where
    the slope is steeper than the ray the echo lays over, which a geocoded image shows as a bright strip. A point is in
    shadow when one nearer to the radar stands above its ray.
    """
    slope = np.arctan(np.gradient(surface_m, np.float32(pixel_m), axis=1))
    local = np.clip(incidence - slope, np.deg2rad(5), np.deg2rad(88))
    gain = np.sin(incidence) / np.sin(local) * np.cos(local) / np.cos(incidence)
    ground_m = np.arange(surface_m.shape[1], dtype=np.float32) * np.float32(pixel_m)
    ray_m = surface_m + ground_m / np.float32(np.tan(incidence))
    hidden = ray_m < np.maximum.accumulate(ray_m, axis=1) - np.float32(0.05 * pixel_m)
    gain[hidden] = 0.002
    return gain.astype(np.float32, copy=False)


def _target_field(terrain: Terrain, rng: Rng) -> Complex64 | None:
    """Point targets (H, W) complex before the impulse response; those that move spread along azimuth."""
    if not terrain.targets:
        return None
    targets = np.concatenate(terrain.targets)
    # What stood where a river was laid later is gone; what moves on the water is not.
    drowned = terrain.water[tuple(targets[:, :2].astype(np.intp).T)] & (targets[:, 3] == 0)
    row, column, level_db, smear_px = targets[~drowned].T
    copies = np.where(smear_px > 0, 24, 1)
    target = np.repeat(np.arange(row.size), copies)
    rows = np.rint(row[target] + rng.standard_normal(target.size) * smear_px[target]).astype(np.intp)
    columns = np.rint(column[target]).astype(np.intp)
    echo = np.sqrt(10 ** (level_db / 10) / copies)[target] * np.exp(2j * np.pi * rng.random(target.size))
    inside = (rows >= 0) & (rows < terrain.height_px) & (columns >= 0) & (columns < terrain.width_px)
    field = np.zeros(terrain.shape, np.complex64)
    np.add.at(field, (rows[inside], columns[inside]), echo[inside].astype(np.complex64))
    return field


def single_look(mean: Float32, targets: Complex64 | None, rng: Rng) -> Float32:
    """Intensity (H, W) of one look: circular Gaussian scatterers through a band-limited impulse response.

    The posting of the KOMPSAT-5 tiles is about half of their resolution, so half of the band is empty. The weighting
    inside it is light: bright targets keep the cross of their sidelobes.
    """
    noise = rng.standard_normal((*mean.shape, 2), np.float32).view(np.complex64)[..., 0]
    field = noise * np.sqrt(mean / 2)
    if targets is not None:
        field += targets
    spectrum = scipy.fft.fft2(field, overwrite_x=True)
    spectrum *= _band(mean.shape[0])[:, None]
    spectrum *= _band(mean.shape[1])
    field = scipy.fft.ifft2(spectrum, overwrite_x=True)
    return field.real**2 + field.imag**2


def _band(length: int) -> Float32:
    """Weights (length,) of an axis of the spectrum; white noise keeps its power."""
    frequency = scipy.fft.fftfreq(length) / BAND
    weights = np.where(np.abs(frequency) < 0.5, 0.75 + 0.25 * np.cos(2 * np.pi * frequency), 0)
    return (weights / np.sqrt(np.mean(weights**2))).astype(np.float32)


def suppress_noise(intensity: Float32, knee_db: float) -> None:
    """Attenuate what is weak in its neighbourhood, in place: amplitude gain q / (1 + q), q = (local mean / knee)^2."""
    local = ndimage.gaussian_filter(intensity, 1.1, truncate=2.5)
    ratio = (local / _power(knee_db)) ** 2
    intensity *= (ratio / (1 + ratio)) ** 2


def multi_look(mean: Float32, targets: Complex64 | None, rng: Rng) -> Float32:
    """Intensity (H, W) averaged over looks whose cells overlap their neighbours, as in a ground-range product.

    White exponential speckle through the kernel (a, 1 - 2a, a) in both axes: a = 0.18 gives 4.4 equivalent looks, as
    Sentinel-1 IW GRD; some scenes are smoother, as after resampling or averaging.
    """
    power = mean * rng.standard_exponential(mean.shape, np.float32)
    if targets is not None:
        power += targets.real**2 + targets.imag**2
    smoother = rng.random() < 0.25
    side = rng.uniform(0.22, 0.33) if smoother else rng.uniform(0.16, 0.20)
    kernel = np.array([side, 1 - 2 * side, side], np.float32)
    for axis in (0, 1):
        power = ndimage.convolve1d(power, kernel, axis=axis, mode="nearest")
    return power


def _outside_valid_extent(shape: tuple[int, int], rng: Rng) -> Mask:
    """Nodata (H, W) beyond a slanting edge of the valid extent, in one scene of ten."""
    if rng.random() > 0.1:
        return np.zeros(shape, bool)
    angle = np.deg2rad(rng.choice([0, 90, 180, 270]) + rng.uniform(-15, 15))
    y, x = np.ogrid[: shape[0], : shape[1]]
    along = (x - shape[1] / 2) * np.cos(angle) + (y - shape[0] / 2) * np.sin(angle)
    return along > rng.uniform(0.15, 0.5) * min(shape)


def _incidence_mask(terrain: Terrain, incidence: float, look: slice) -> npt.NDArray[np.uint8]:
    """Local incidence of the bare ground (H, W) uint8, quarters of a degree, as smooth as a coarse elevation model."""
    ground_m = ndimage.gaussian_filter(shrink(terrain.elevation_m, 8), 4, mode="nearest")[:, look]
    slope = np.arctan(np.gradient(ground_m, np.float32(8 * terrain.pixel_m), axis=1))[:, look]
    quarters = np.rad2deg(incidence - enlarge(slope.astype(np.float32), 8, terrain.shape)) * 4
    return np.clip(np.rint(quarters), 1, 255).astype(np.uint8)
