"""What products of the KOMPSAT-5 and COSMO-SkyMed family share, whatever carries them: levels, calibration, incidence.

Levels: L1A SCS (complex), L1B DGM (ground range), L1C GEC, L1D GTC (geocoded; GTC with an incidence-angle mask, GIM).
Source of the attribute names: GDAL's hdf5imagedataset.cpp and SNAP's K5HDF, K5GeoTiff and Kompsat5Calibrator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.request import Window
from sarwater.scenes.band import Band, Incidence
from sarwater.scenes.names import time_in

Float32 = npt.NDArray[np.float32]

MISSIONS = {"KMPS": "KOMPSAT-5", "CSK": "COSMO-SkyMed", "CSG": "COSMO-SkyMed 2"}
LEVELS = {"SCS": "L1A", "DGM": "L1B", "GEC": "L1C", "GTC": "L1D", "WEC": "L1C", "WTC": "L1D", "DSM": "L1B"}
_WIDE_SWATH = ("WEC", "WTC")
_NO_SINE = ("GEC_B", "GTC_B")


def incidence_of(dataset: Any, known: Mapping[str, Any]) -> Incidence:
    scale, offset = known.get("RescalingFactor"), known.get("Offset")
    numbers = isinstance(scale, float) and isinstance(offset, float)
    return Incidence(Band(dataset, 1, "incidence_dn"), scale if numbers else None, offset if numbers else None)


@dataclass(frozen=True)
class Sigma0:
    """sigma0 = C / (column spacing * line spacing) * rescaling^2 * DN^2 [* |sin theta|], SNAP's Kompsat5Calibrator.

    `angles_deg` is the incidence angle at the near and far edge, `incidence` the mask that tells it per pixel; both
    None where the product is already projected (GEC_B, GTC_B) and the sine does not apply.
    """

    factor: float
    width_px: int
    angles_deg: tuple[float, float] | None = None
    incidence: Incidence | None = None

    def __call__(self, amplitude: Float32, window: Window) -> Float32:
        """(H, W) float32 amplitude of `window` -> sigma0, linear."""
        power = amplitude.astype(np.float64) ** 2 * self.factor
        if self.incidence is not None:
            power *= np.abs(np.sin(np.radians(self.incidence.angle_deg(window))))
        elif self.angles_deg is not None:
            columns = (np.arange(window.width_px) + window.x_px + 0.5) / self.width_px
            near, far = self.angles_deg
            power *= np.abs(np.sin(np.radians(near + (far - near) * columns)))
        return power.astype(np.float32)


def calibration_of(known: Mapping[str, Any], incidence: Incidence | None, width_px: int) -> Sigma0 | None:
    """None where the product does not say enough, or is wide swath, for which no calibration is published."""
    product_type = str(known.get("ProductType", ""))
    try:
        constant, rescaling = float(known["CalibrationConstant"]), float(known["RescalingFactor"])
        cell_m2 = float(known["ColumnSpacing"]) * float(known["LineSpacing"])
    except (KeyError, TypeError, ValueError):
        return None
    if product_type[:3] in _WIDE_SWATH or min(constant, rescaling, cell_m2) <= 0:
        return None
    constant = 1 / constant if constant > 1 else constant
    factor = constant / cell_m2 * rescaling**2
    if product_type in _NO_SINE:
        return Sigma0(factor, width_px)
    if incidence is not None and incidence.scale is not None:
        return Sigma0(factor, width_px, incidence=incidence)
    near, far = known.get("NearIncidenceAngle"), known.get("FarIncidenceAngle")
    if not isinstance(near, float) or not isinstance(far, float):
        return None
    return Sigma0(factor, width_px, angles_deg=(near, far))


def cosmo_calibration_of(known: Mapping[str, Any], width_px: int) -> Sigma0 | None:
    """sigma0 = R^(2 e) * sin(theta) / (F^2 * K) * DN^2 of COSMO-SkyMed, both generations: R and e the reference slant
    range and its exponent, theta the reference incidence angle, F the rescaling factor, K the calibration constant.

    Each of the first two only where the product was compensated for it, K where it was not. None where the product does
    not say all of that. Source: COSMO-SkyMed Image Calibration (ASI), SNAP's CosmoSkymedCalibrator.
    """
    try:
        factor = 1 / float(known["RescalingFactor"]) ** 2
        if known["RangeSpreadingLossCompensationGeometry"] != "NONE":
            factor *= float(known["ReferenceSlantRange"]) ** (2 * float(known["ReferenceSlantRangeExponent"]))
        if known["IncidenceAngleCompensationGeometry"] != "NONE":
            factor *= np.sin(np.radians(float(known["ReferenceIncidenceAngle"])))
        compensated = known["CalibrationConstantCompensationFlag"]
        if compensated not in (0, 1) or str(known["ProductType"]) == "SCS_U":
            return None
        factor /= 1.0 if compensated else float(known["CalibrationConstant"])
    except (KeyError, TypeError, ValueError, ArithmeticError):
        return None
    return Sigma0(float(factor), width_px) if np.isfinite(factor) and factor > 0 else None


def sensing_time(known: Mapping[str, Any], name: str) -> str | None:
    """`SceneSensingStartUTC`, or the time in the product's name."""
    stated = str(known.get("SceneSensingStartUTC") or known.get("DownlinkStartUTC") or "")
    return time_in(stated) or time_in(name)
