"""The threshold between two kinds of values."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


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
