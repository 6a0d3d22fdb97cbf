"""What a product says of its pixels: the unit, and how stored values become it.

Said by the band (unit type, name, tags, GDAL's scale and offset), else by the tags of the file, else by a name that
follows a convention. Every attribute is looked up by itself, so a band may say `dB` and the file `gamma0`.

    physical value = stored value * scale + offset

A calibration constant K of a product in DN is a scale, too: sigma0_dB = 20 log10 DN + K makes DN * 10^(K / 20) the root
of sigma0, `sigma0_amplitude`.

Sources of the names: OPERA RTC-S1 (PROCESSING_INFORMATION_OUTPUT_BACKSCATTER_*_CONVENTION), HyP3 RTC naming convention,
SNAP band names (Sigma0_VV_db), Capella (scale_factor, radiometry in TIFFTAG_IMAGEDESCRIPTION), ICEYE
(CALIBRATION_FACTOR, iceye:calibration_factor in ICEYE_PROPERTIES), Umbra (SigmaZeroSFPoly of its SICD), JAXA (PALSAR:
20 log10 DN - 83 dB, and 32 dB less for complex pixels).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sarwater.scenes.formula import DECIBELS, constant_db_in, linear_in
from sarwater.scenes.names import plain, statements
from sarwater.scenes.raster import dtype_of, tags_of, text_of
from sarwater.scenes.units import unit_of

JAXA_CONSTANT_DB = -83.0
JAXA_COMPLEX_DB = -32.0

_QUANTITY = re.compile(r"(?:(sigma|gamma|beta)[\s-]*(?:0|zero|n[oa]ught)|([σγβ])\s*[0⁰º°])(?![0-9])", re.IGNORECASE)
_GREEK = {"σ": "sigma", "γ": "gamma", "β": "beta"}
_AMPLITUDE = re.compile(r"amplitude|(?<![a-z])(?:sqrt|square root)(?![a-z])", re.IGNORECASE)
_LINEAR = re.compile(r"(?<![a-z])(?:linear|power|intensity)(?![a-z])", re.IGNORECASE)
_TIMES = re.compile(r"(?:[x×*]|times)\s*(10{1,4})(?!\d)|(?<![\d.])(0\.0*1)\s*[x×*]?\s*d[b]", re.IGNORECASE)

_TELLING = re.compile(
    r"unit|quantity|radiometr|output_?backscatter_(?:norm|expr)|backscatter|^scale$|^name$|long_?name|standard_?name"
    r"|description|measurement|^calibration$|conver(?:ted|sion)_to",
    re.IGNORECASE,
)
_MISLEADING = re.compile(r"input|equation|noise|nes[z0]|algorithm|reference|software|imagedescription", re.IGNORECASE)
_HYP3 = re.compile(r"_RTC\d+_[A-Z]_([gs])([pad])[uw][nf][ec][dm]_|_RT\d+_\d{8}T\d{6}_[A-Z]_([gs])([pa])[nf][_.]")
_OPERA = re.compile(r"^OPERA_L2_RTC-S1_")
_JAXA = re.compile(
    r"^(?:IMG|LED)-[HV]{2}-AL(?:OS2|PSR)|^[NS]\d{2}[EW]\d{3}_\d{2}_sl_[HV]{2}_|(?<![A-Z])ALOS2\d{9}", re.I
)
_FOR_PEOPLE = re.compile(r"description|comment|remark|note|abstract|summary|formula|equation", re.IGNORECASE)
_LONGEST_TEXT = 4000
_SCALES = {"p": "linear", "a": "amplitude", "d": "db"}


@dataclass(frozen=True)
class Radiometry:
    """`unit` of `stored * scale + offset`; `source` says who says so, in plain words."""

    unit: str
    scale: float = 1.0
    offset: float = 0.0
    source: str = ""


@dataclass(frozen=True)
class BandFacts:
    """What GDAL tells of a band, without its pixels."""

    dtype: np.dtype[Any]
    unit_type: str = ""
    description: str = ""
    tags: Mapping[str, str] | None = None
    scale: float | None = None
    offset: float | None = None

    @classmethod
    def of(cls, raster: Any) -> BandFacts:
        """Of GDAL's band."""
        return cls(
            dtype_of(raster),
            text_of(raster.GetUnitType()),
            text_of(raster.GetDescription()),
            tags_of(raster),
            raster.GetScale(),
            raster.GetOffset(),
        )


def radiometry_of(band: BandFacts, file_tags: Mapping[str, str], name: str) -> Radiometry:
    """What the pixels are. What is silent, or contradicts the pixels' type, is what its type is taken for."""
    own = " | ".join((band.unit_type, band.description, *_telling(band.tags or {})))
    texts = {"the band": own, "a tag of the file": " | ".join(_telling(file_tags)), "the file's name": _said_by(name)}
    quantity, by_quantity = _first(texts, _quantity_in)
    kind, by_kind = _first(texts, _kind_in)
    scale, offset = _scale_of(band, file_tags)
    times, by_times = _first(texts, _times_in)
    if (scale, offset) == (1.0, 0.0) and times and kind == "db":
        scale, by_kind = times, by_times
    unscaled = (scale, offset) == (1.0, 0.0)
    if band.dtype.kind in "iu" and unscaled and (in_words := _in_words(band, file_tags)):
        return in_words
    squares = quantity in ("intensity", None) and kind == "linear" and _holds_squares(band.dtype, by_kind)
    integers = band.dtype.kind in "iu" and unscaled and kind != "db" and not squares  # DN, whatever made them
    silent = quantity is None and (kind == "amplitude" or (kind is None and (band.dtype.kind == "c" or not unscaled)))
    if (integers or silent) and (calibrated := _calibrated(band, file_tags, name, scale, offset)):
        return calibrated
    if integers:
        return Radiometry(unit_of(band.dtype))
    if squares and quantity is None and band.dtype.kind in "iu" and unscaled:
        return Radiometry("intensity_linear", source=by_kind)
    if kind is None and quantity is None:
        by = "" if unscaled else "the band"
        return Radiometry(unit_of(band.dtype if unscaled else np.dtype(np.float32)), scale, offset, by)
    if quantity == "intensity":
        kind = "db" if kind == "db" else "linear"
    if quantity is None and kind == "amplitude":
        return Radiometry("amplitude_dn", scale, offset, by_kind)
    return Radiometry(f"{quantity or 'sigma0'}_{kind or 'linear'}", scale, offset, by_kind or by_quantity)


def _in_words(band: BandFacts, file_tags: Mapping[str, str]) -> Radiometry | None:
    """What a text for people says of how integers become backscatter; None where none does."""
    texts = {"the band's description": band.description}
    for tags in (band.tags or {}, file_tags):
        texts |= {f"the tag {key}": value for key, value in tags.items() if _FOR_PEOPLE.search(key)}
    for who, text in texts.items():
        if len(text) > _LONGEST_TEXT or text.startswith("{"):
            continue
        quantity = _quantity_in(text) or _quantity_in(band.description) or "sigma0"
        if quantity != "intensity" and (constant_db := constant_db_in(text)) is not None:
            return Radiometry(f"{quantity}_amplitude", 10 ** (constant_db / 20), source=who)
        if linear := linear_in(text):
            return Radiometry(f"{quantity}_db", *linear, source=who)
    return None


def _holds_squares(dtype: np.dtype[Any], said_by: str) -> bool:
    """Whether integers that are called intensity, or power, are squares of DN: 32 bits hold them, 8 never do."""
    return dtype.itemsize >= 4 or (dtype.itemsize == 2 and said_by == "the band")


def _calibrated(
    band: BandFacts, file_tags: Mapping[str, str], name: str, scale: float, offset: float
) -> Radiometry | None:
    """Amplitudes `stored * scale + offset` with the calibration constant that the product states; None where it states
    none."""
    tags = {**file_tags, **(band.tags or {})}
    stated = {plain(key): (key, value) for key, value in statements(tags)}
    quantity = _quantity_in(str(stated.get("radiometry", ""))) or "sigma0"
    calibrated = "none" not in str(stated.get("calibration", "")).lower()
    linear = stated.get("amplitudemappingfunction", ("", "linear"))[1] == "linear"
    for word, (key, value) in stated.items():
        factor = _amplitude_factor(word, value)
        if factor is not None and calibrated and linear:
            beta = "beta0" if word == "calfactor" else quantity
            return Radiometry(f"{beta}_amplitude", factor * scale, factor * offset, f"the tag {key}")
    if _JAXA.search(name):
        constant = JAXA_CONSTANT_DB + (JAXA_COMPLEX_DB if band.dtype.kind == "c" else 0)
        factor = 10 ** (constant / 20)
        return Radiometry("sigma0_amplitude", factor * scale, factor * offset, f"JAXA's constant of {constant:.0f} dB")
    return None


def _amplitude_factor(key: str, value: object) -> float | None:
    """What DN are multiplied with to be the root of sigma0; None for a tag that states no constant.

    A negative number is one in decibels: as a factor it would make no sense.
    """
    try:
        number = float(str(value))
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    plain = key.removesuffix("db")
    if plain in ("calibrationfactor", "calibrationconstant", "absolutecalibrationconstant") and (
        key != plain or number < 0
    ):
        return 10 ** (number / 20)
    if number <= 0:
        return None
    if key in ("calibrationfactor", "calfactor", "sigmazerosf", "sigmazerosfpoly", "sigmazeroscalefactor"):
        return math.sqrt(number)
    return number if key == "imagescalefactor" else None


def _telling(tags: Mapping[str, str]) -> list[str]:
    """The values of the tags that are about unit and quantity, and of nothing else: a `decibel conversion equation` or
    the noise of a product in power are no unit."""
    return [
        value
        for key, value in sorted(tags.items())
        if _TELLING.search(key) and not _MISLEADING.search(key) and len(value) < 200
    ]


def _said_by(name: str) -> str:
    """What a name says that follows a convention, or names both quantity and scale (`gamma0_db`)."""
    if found := _HYP3.search(name):
        quantity, scale = (found[1] or found[3], found[2] or found[4])
        return f"{'gamma0' if quantity == 'g' else 'sigma0'} {_SCALES[scale]}"
    if _OPERA.match(name):
        return "gamma0 linear"
    words = name.replace("_", " ").replace("-", " ")
    return words if _quantity_in(words) and _kind_in(words) else ""


def _first(texts: Mapping[str, str], look: Any) -> tuple[Any, str]:
    return next(((found, who) for who, text in texts.items() if (found := look(text)) is not None), (None, ""))


def _quantity_in(text: str) -> str | None:
    found = _QUANTITY.search(text.replace("_", " "))
    if not found:  # `linear backscatter intensity` beside `gamma0` is gamma0
        return "intensity" if "intensity" in text.lower() else None
    return (found[1] or _GREEK[found[2].lower()]).lower() + "0"


def _kind_in(text: str) -> str | None:
    text = text.replace("_", " ")
    for kind, pattern in (("db", DECIBELS), ("amplitude", _AMPLITUDE), ("linear", _LINEAR)):
        if pattern.search(text):
            return kind
    return None


def _times_in(text: str) -> float | None:
    found = _TIMES.search(text.replace("_", " "))
    if not found:
        return None
    return 1 / int(found[1]) if found[1] else float(found[2])


def _scale_of(band: BandFacts, file_tags: Mapping[str, str]) -> tuple[float, float]:
    """GDAL's own, else the tags `scale_factor` and `add_offset` (or `scale`, `offset`) of the band or of the file."""
    if band.scale not in (None, 1.0) or band.offset not in (None, 0.0):
        return _number(band.scale, 1.0), _number(band.offset, 0.0)
    tags = {plain(key): value for key, value in (*file_tags.items(), *(band.tags or {}).items())}
    prefix = plain(band.description)
    scale, offset = (
        next((tags[key] for key in (prefix + word, *words) if key in tags), None)
        for word, words in (("scalefactor", ("scalefactor", "scale")), ("addoffset", ("addoffset", "offset")))
    )
    return _number(scale, 1.0) or 1.0, _number(offset, 0.0)


def _number(value: object, default: float) -> float:
    try:
        number = float(str(value))
    except ValueError:
        return default
    return number if math.isfinite(number) else default
