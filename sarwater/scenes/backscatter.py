"""Is it backscatter: what lies beside SAR scenes, and looks like one to a network, is told by what it says of itself,
and by how its values vary (texture.py).

Names: HyP3 RTC (_ls_map, _inc_map, _dem, _area, _rgb), OPERA RTC-S1 and its static layers, JAXA mosaics (_linci, _mask,
_date), SNAP bands (localIncidenceAngle, elevation, layover_shadow_mask), CF flags.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneNoBackscatter
from sarwater.scenes.band import Band
from sarwater.scenes.raster import gdal, tags_of, text_of
from sarwater.scenes.scene import Scene
from sarwater.scenes.texture import Samples, is_speckled, why_classes, why_without_speckle
from sarwater.scenes.units import UNKNOWN_UNIT

_INTERFEROGRAM, _INDEX, _OPTICAL = "an interferogram", "an index of an optical image", "an optical image"
_KINDS = (
    (r"(?:ls|layover(?: ?(?:and)? ?shadow)?|shadow(?: ?layover)?)(?: (?:map|mask))?", "a map of layover and shadow"),
    (
        r"(?:(?:data|valid(?:ity)?|water|land|cloud|snow|quality|no ?data|layover|shadow|qa|border noise) ?)*"
        r"(?:mask|msk|flags?|validity|quality)",
        "a mask",
    ),
    (
        r"dem|dsm|dtm|srtm|hand|elevation|heights?|altitude|topography|(?:dem|cop|glo|srtm) ?\d+(?: ?m)?",
        "a map of heights",
    ),
    (
        r"(?:(?:projected|local|ellipsoid) ?)*(?:incidence(?: ?angles?)?(?: ?from ?ellipsoid)?|look ?angles?|theta"
        r"|inc(?: (?:map|angle))?|linci|lia|lin|angle)(?: map)?",
        "a map of angles",
    ),
    (r"slope|aspect", "a map of slopes"),
    (r"number ?of ?looks|nlooks|rtc anf(?: .*)?|scattering ?area|area map|date|doy", "a layer beside the backscatter"),
    (r"(?:rgb|browse|preview|quicklook|thumbnail)(?: .*)?", "a picture for looking at"),
    (r"coh(?:erence)?(?: .*)?|corr|cc|unw ?phase|wrapped ?phase|phase|los ?disp(?:lacement)?", _INTERFEROGRAM),
    (r"(?:[am]?ndwi\d?|ndvi|ndsi|ndmi|ndbi|nbr|s?avi|evi\d?|awei[a-z]*)(?: .*)?", _INDEX),
    (r"(?:(?:toa|boa|surface|sr) ?)?(?:reflectance|radiance|rrs)(?: .*)?|sr b\d+|b0[1-9]|b8a", _OPTICAL),
    (r"red|green|blue|nir|near infrared|swir ?\d*|red ?edge ?\d?|coastal aerosol|panchromatic|cirrus", _OPTICAL),
    (
        r"(?:water|flood|surface water|wm|wtr|bwtr|land ?cover|class(?:ification|es)?)(?: (?:map|extent))?",
        "a map of classes",
    ),
)
_PRODUCT = re.compile(r"_RTC\d+_[A-Z]_|^OPERA_|^[NS]\d{2}[EW]\d{3}_\d{2}_", re.IGNORECASE)
_OPTICAL_PRODUCT = re.compile(
    r"^S2[A-D]_MSI|^T\d\d[A-Z]{3}_\d{8}T\d{6}_|^L[CEOT]0\d_L[12][A-Z]{2}_|^HLS\.[LS]30\.|_Analytic(?:MS)?(?:_|\.)",
    re.IGNORECASE,
)
"""Sentinel-2, Landsat, the harmonised of both, and PlanetScope."""
_COLOURS = {"b2", "b3", "b4"}
"""Blue, green and red of Sentinel-2 and Landsat, where there is no band of that numbering before them."""
_TRAILING = re.compile(r"v?\d[\d.]*|f\d{2}d\w*")
"""Last words that say nothing: versions, and the modes of JAXA's mosaics."""
_LAST_WORDS = 6
_UNITS = re.compile(r"m|met(?:er|re)s?|ft|feet|deg(?:ree)?s?|°|rad(?:ian)?s?", re.IGNORECASE)
_FLAGS = ("flag_values", "flag_masks", "flag_meanings")
_SAMPLES, _SAMPLE_ROWS, _SAMPLE_COLUMNS = 4, 64, 256
_LARGEST_BLOCK_BYTES = 4 << 20
"""Of strips and tiles that are looked into: opening stays below 0.2 s."""


def refuse_what_is_no_backscatter(scene: Scene) -> None:
    """Raises SceneNoBackscatter with the reason."""
    if why := no_backscatter(scene):
        raise SceneNoBackscatter(
            f"{scene.name}: {why}; give the file that holds the backscatter (sigma0, gamma0, amplitude)"
        )


def no_backscatter(scene: Scene) -> str | None:
    """Why no band of `scene` is backscatter, or None. Metadata, and a look at some 64 thousand pixels."""
    rasters = [band.dataset.GetRasterBand(band.number) for band in scene.bands]
    if _is_picture(rasters):
        return "red, green and blue, three or four bytes or words per pixel: an optical image or a picture to look at"
    if _is_multispectral(rasters):
        return f"its bands are called B2, B3, B4: {_OPTICAL}"
    reasons = [_said(raster, band) for raster, band in zip(rasters, scene.bands, strict=True)]
    if all(reasons):
        return reasons[0]
    says_backscatter = any(_says_backscatter(raster) for raster in rasters)
    if any(reasons) or (says_backscatter and len(rasters) > 1):
        return None
    if scene.format not in ("GeoTIFF", "ENVI", "BEAM-DIMAP"):
        return None  # the product says what it is
    samples = list(_samples(scene.bands[0], scene))
    if says_backscatter:
        return _seen(scene.bands[0], samples, why_classes)
    if why := _said_by_name(scene.name, len(rasters)):
        # Of a product with a naming convention the name will do; anybody may call a scene `internal_mask.tif`.
        unlike = samples and (_is_ratio(why, samples) or not is_speckled(samples, scene.declared_nodata))
        known = _PRODUCT.search(scene.name) or _OPTICAL_PRODUCT.search(scene.name) or _is_pair(scene.name, why)
        return why if known or unlike else None
    if len(rasters) > 1:
        return None
    return _seen(scene.bands[0], samples, lambda values: why_without_speckle(values, scene.declared_nodata))


def _is_picture(rasters: list[Any]) -> bool:
    colours = [raster.GetColorInterpretation() for raster in rasters]
    return (
        len(rasters) in (3, 4)
        and colours[:3] == [gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand]
        and all(raster.DataType in (gdal.GDT_Byte, gdal.GDT_UInt16) for raster in rasters)
        and not any(_says_backscatter(raster) for raster in rasters)
    )


def _is_multispectral(rasters: list[Any]) -> bool:
    names = {text_of(raster.GetDescription()).lower() for raster in rasters}
    return names >= _COLOURS and "b1" not in names


def _said(raster: Any, band: Band) -> str | None:
    """Why a band is none by what it says of itself."""
    tags = {key.lower(): value for key, value in tags_of(raster).items()}
    if _is_coloured(raster):
        return "its values are indices of a colour table: a map of classes"
    if raster.GetCategoryNames() or any(key in tags for key in _FLAGS):
        return "its values have names, as flags and classes have: a mask or a map of classes"
    # GDAL gives the unit of heights in a compound CRS to every band.
    said = "" if _has_heights(band.dataset) else text_of(raster.GetUnitType())
    unit = said or tags.get("units", "") or tags.get("unit", "")
    names = (text_of(raster.GetDescription()), tags.get("long_name", ""), tags.get("standard_name", ""))
    return beside_backscatter(names, "" if _says_backscatter(raster) else unit)


def beside_backscatter(names: Iterable[str], unit: str) -> str | None:
    """Why a band of these names and this unit is none; None where they do not say."""
    for text in names:
        if kind := _kind_of(_words(text)):
            return f"its band is called {text!r}: {kind}"
    if _UNITS.fullmatch(unit.strip()):
        return f"its values are in {unit.strip()}: heights, angles or distances"
    return None


def _has_heights(dataset: Any) -> bool:
    reference = dataset.GetSpatialRef()
    return reference is not None and bool(reference.IsCompound())


def _is_coloured(raster: Any) -> bool:
    """A palette, but for a grey ramp, which pictures of amplitude have."""
    table = raster.GetColorTable()
    if table is None:
        return False
    entries = (table.GetColorEntry(index)[:3] for index in range(table.GetCount()))
    return not all(red == green == blue == index for index, (red, green, blue) in enumerate(entries))


def _says_backscatter(raster: Any) -> bool:
    text = " ".join((text_of(raster.GetDescription()), *tags_of(raster).values())).replace("_", " ")
    return bool(
        re.search(
            r"(?<![a-z])(?:[hv]{2}|(?:sigma|gamma|beta)[ -]?(?:0|n[oa]ught)|amplitude|intensity)(?![a-z])", text, re.I
        )
    )


def _said_by_name(name: str, bands: int) -> str | None:
    """The last words of a name, of any file: `..._ls_map.tif`, `dem.tif`; `area` only of a product that has it."""
    if _OPTICAL_PRODUCT.search(name):
        return f"called {name!r}: {_OPTICAL}{_RENAME}"
    words = _words(re.sub(r"(?:\.(?:tiff?|img|hdr|dat|bin))+$", "", name, flags=re.IGNORECASE)).split()
    while len(words) > 1 and _TRAILING.fullmatch(words[-1]):
        words.pop()
    if bands == 1 and words and words[-1] == "area" and _PRODUCT.search(name):
        return f"called {name!r}: a layer beside the backscatter"
    for count in range(min(_LAST_WORDS, len(words)), 0, -1):
        if kind := _kind_of(" ".join(words[-count:])):
            return f"called {name!r}: {kind}{_RENAME}"
    return None


_RENAME = " (a scene of backscatter by that name has to be renamed)"


def _kind_of(words: str) -> str | None:
    return next((kind for pattern, kind in _KINDS if re.fullmatch(pattern, words)), None)


def _words(text: str) -> str:
    """`localIncidenceAngle`, `inc_map` -> `local incidence angle`, `inc map`."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z]$)", " ", text)
    return " ".join(re.split(r"[\s_.()\[\]-]+", apart.lower())).strip()


def _seen(band: Band, samples: list[npt.NDArray[Any]], look: Callable[[Samples], str | None]) -> str | None:
    """Why a band that says nothing of its unit is none by its values."""
    if band.unit not in ("amplitude_dn", UNKNOWN_UNIT) or band.scaled or band.quadrature is not None:
        return None
    if not samples or samples[0].dtype.kind == "c":
        return None
    return look(samples)


def _is_pair(name: str, why: str) -> bool:
    """Whether what is called coherence has two days in its name."""
    return _INTERFEROGRAM in why and len(set(re.findall(r"(?<!\d)(?:19|20)\d{6}(?!\d)", name))) > 1


def _is_ratio(why: str, samples: list[npt.NDArray[Any]]) -> bool:
    """Whether what is called coherence, or an index, lies between -1 and 1 as these do, however rough it is."""
    if not any(kind in why for kind in (_INTERFEROGRAM, _INDEX)) or samples[0].dtype.kind != "f":
        return False
    return all(bool((abs(sample[np.isfinite(sample)]) <= 1).all()) for sample in samples)


def _samples(band: Band, scene: Scene) -> Iterator[npt.NDArray[Any]]:
    """A few windows across the scene, (64, 256) or less each; none of a small scene, or of one in huge blocks."""
    raster = band.dataset.GetRasterBand(band.number)
    block_columns, block_rows = raster.GetBlockSize()
    if block_columns * block_rows * band.stored_dtype.itemsize > _LARGEST_BLOCK_BYTES:
        return
    height, width = min(_SAMPLE_ROWS, scene.height_px), min(_SAMPLE_COLUMNS, scene.width_px)
    if height < _SAMPLE_ROWS or width < _SAMPLE_ROWS:
        return
    for number in range(_SAMPLES):
        share = (number + 0.5) / _SAMPLES
        x, y = int((scene.width_px - width) * share), int((scene.height_px - height) * share)
        try:
            yield raster.ReadAsArray(x, y, width, height)
        except RuntimeError:
            return  # damage is for the reading to say, with the rows
