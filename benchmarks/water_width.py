"""How wide water is at each of its pixels, by the distance to land."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]
EDGES_PX = (3, 6, 12, 25)
WIDTHS = ("up to 3 px", "3-6 px", "6-12 px", "12-25 px", "over 25 px")


def width_classes(water: Bool, land: Bool) -> UInt8:
    """water, land (H, W) -> (H, W) uint8: 0 where there is no water, else 1 + the index in WIDTHS.

    The width is the diameter of the largest disc that covers the pixel and holds no land (Hildebrand and Rüegsegger,
    J. Microscopy 185, 1997), 2 d - 1 for a disc whose centre lies d pixels from land: an even width counts as the odd
    one below it. What is neither water nor land bounds no water, nor does the edge of the scene.
    """
    from scipy.ndimage import distance_transform_edt

    classes = water.astype(np.uint8)
    if not land.any():
        return classes * np.uint8(len(WIDTHS))
    depth = distance_transform_edt(~land)
    for edge_px in EDGES_PX:
        radius_px = (edge_px + 1) / 2
        centres = depth > radius_px
        if not centres.any():
            break
        classes += water & (distance_transform_edt(~centres) <= radius_px)
    return classes
