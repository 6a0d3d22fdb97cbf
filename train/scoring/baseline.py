"""Thresholds that a network has to beat: box filter and Otsu, as an analyst would set it, and one behind a Lee filter
that is set with knowledge of the truth, which no threshold on that tile can beat."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DependencyMissing

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
BOX_PX = 25
LEE_PX = (7, 15, 25, 35)
SPECKLE_QUANTILES = (0.5, 0.9)
"""Windows, and shares of them that are taken to show speckle alone, among which the best are chosen."""


def box_otsu(amplitude: Float32, box_px: int = BOX_PX) -> UInt8:
    """Amplitude (H, W) float32, nodata 0 -> mask (H, W) uint8 of LAND and WATER."""
    try:
        from scipy.ndimage import uniform_filter
    except ImportError as error:
        raise DependencyMissing("the box filter needs scipy: pip install 'sarwater[train]'") from error
    decibel = 20 * np.log10(np.maximum(uniform_filter(amplitude, box_px), 1e-3))
    valid = amplitude > 0
    if not valid.any():
        return np.full(amplitude.shape, LAND, np.uint8)
    return np.where(decibel < otsu(decibel[valid]), WATER, LAND).astype(np.uint8)


def otsu(values: npt.NDArray[np.floating], bins: int = 256) -> float:
    """The threshold with the largest variance between the classes (Otsu, IEEE Trans. SMC 9(1), 1979)."""
    counts, edges = np.histogram(values, bins)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1:-1][np.argmax(below * above * (mean_below - mean_above) ** 2)])


def lee(intensity: Float32, valid: npt.NDArray[np.bool_], window_px: int, speckle_quantile: float = 0.5) -> Float32:
    """Speckle filter of J.-S. Lee (IEEE Trans. PAMI 2(2), 1980, section IV, multiplicative noise), (H, W) float32.

    Each pixel moves towards the mean of its window, the more so the less the window varies beyond what speckle does:
    x = m + k (z - m), k = var_x / (var_x (1 + s) + s m^2), var_x = (var_z - s m^2) / (1 + s), with s the variance of
    speckle of mean 1: the given quantile of var_z / m^2 over the windows of the scene itself.
    """
    from scipy.ndimage import uniform_filter

    share = np.maximum(uniform_filter(valid.astype(np.float32), window_px), 1e-6)
    mean = uniform_filter(np.where(valid, intensity, 0), window_px) / share
    variance = np.maximum(uniform_filter(np.where(valid, intensity * intensity, 0), window_px) / share - mean**2, 0)
    power = np.maximum(mean**2, 1e-12)
    speckle = float(np.quantile((variance / power)[valid], speckle_quantile))
    texture = np.maximum(variance - speckle * power, 0) / (1 + speckle)
    gain = texture / np.maximum(texture * (1 + speckle) + speckle * power, 1e-12)
    filtered: Float32 = (mean + gain * (intensity - mean)).astype(np.float32)
    return filtered


def lee_best_threshold(amplitude: Float32, truth: UInt8) -> UInt8:
    """The mask of the window, the speckle level and the threshold with the highest IoU against `truth`.

    (H, W) uint8 of LAND and WATER. amplitude (H, W) float32, nodata 0; truth (H, W) uint8 of LAND, WATER, NODATA. A
    scene without water stays without.
    """
    valid = (amplitude > 0) & (truth != NODATA)
    best_iou, best = 0.0, np.full(amplitude.shape, LAND, np.uint8)
    if not valid.any():
        return best
    intensity = amplitude.astype(np.float32) ** 2
    for window_px, quantile in itertools.product(LEE_PX, SPECKLE_QUANTILES):
        decibel = 10 * np.log10(np.maximum(lee(intensity, amplitude > 0, window_px, quantile), 1e-3))
        threshold, iou = _best_threshold(decibel[valid], truth[valid] == WATER)
        if iou > best_iou:
            best_iou, best = iou, np.where((decibel < threshold) & (amplitude > 0), WATER, LAND).astype(np.uint8)
    return best


def _best_threshold(decibel: Float32, water: npt.NDArray[np.bool_], bins: int = 512) -> tuple[float, float]:
    """(threshold, IoU): of all thresholds between the bins of a histogram, the best where darker is water."""
    edges = np.histogram_bin_edges(decibel, bins)
    true_water = np.cumsum(np.histogram(decibel[water], edges)[0])
    false_water = np.cumsum(np.histogram(decibel[~water], edges)[0])
    iou = true_water / np.maximum(true_water[-1] + false_water, 1)
    best = int(np.argmax(iou))
    return float(edges[best + 1]), float(iou[best])
