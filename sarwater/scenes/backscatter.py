"""Is it backscatter: what lies beside SAR scenes, and looks like one to a network, is told by what it says of itself,
and by how its values vary.

Names: HyP3 RTC (_ls_map, _inc_map, _dem, _area, _rgb), OPERA RTC-S1 and its static layers, JAXA mosaics (_linci, _mask,
_date), SNAP bands (localIncidenceAngle, elevation, layover_shadow_mask), CF flags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sarwater.errors import SceneNoBackscatter
from sarwater.scenes.band import Band
from sarwater.scenes.raster import gdal, tags_of, text_of
from sarwater.scenes.scene import Scene
from sarwater.scenes.units import UNKNOWN_UNIT

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
    (r"coh(?:erence)?|corr|unw ?phase|wrapped ?phase|phase|los ?disp(?:lacement)?", "an interferogram"),
    (
        r"(?:water|flood|surface water|wm|wtr|bwtr|land ?cover|class(?:ification|es)?)(?: (?:map|extent))?",
        "a map of classes",
    ),
)
_PRODUCT = re.compile(r"_RTC\d+_[A-Z]_|^OPERA_|^[NS]\d{2}[EW]\d{3}_\d{2}_", re.IGNORECASE)
_TRAILING = re.compile(r"v?\d[\d.]*|f\d{2}d\w*")
"""Last words that say nothing: versions, and the modes of JAXA's mosaics."""
_LAST_WORDS = 6
_UNITS = re.compile(r"m|met(?:er|re)s?|ft|feet|deg(?:ree)?s?|°|rad(?:ian)?s?", re.IGNORECASE)
_FLAGS = ("flag_values", "flag_masks", "flag_meanings")
_CODES_UP_TO, _CODES = 31, 12
"""Masks and classes hold few numbers, and small ones beside their fill."""
_PATCHY = 0.8
"""Share of neighbours that are equal: of classes nearly all, of speckle hardly any."""
_SMOOTH = 0.02
"""Standard deviation over mean in blocks of 16 px: speckle has 0.1 after some 30 looks, heights and angles far less."""
_SPECKLED = 0.08
_SAMPLES, _SAMPLE_ROWS, _SAMPLE_COLUMNS, _BLOCK = 4, 64, 256, 16
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
        return "three or four bytes per pixel in red, green and blue: an optical image or a picture for looking at"
    reasons = [_said(raster, band) for raster, band in zip(rasters, scene.bands, strict=True)]
    if all(reasons):
        return reasons[0]
    if any(reasons) or any(_says_backscatter(raster) for raster in rasters):
        return None
    if scene.format not in ("GeoTIFF", "ENVI", "BEAM-DIMAP"):
        return None  # the product says what it is
    samples = list(_samples(scene.bands[0], scene))
    if why := _said_by_name(scene.name, len(rasters)):
        # Of a product with a naming convention the name will do; anybody may call a scene `internal_mask.tif`.
        return why if _PRODUCT.search(scene.name) or (samples and not _speckled(samples, scene)) else None
    return _seen(scene.bands[0], scene, samples) if len(rasters) == 1 else None


def _is_picture(rasters: list[Any]) -> bool:
    colours = [raster.GetColorInterpretation() for raster in rasters]
    return (
        len(rasters) in (3, 4)
        and colours[:3] == [gdal.GCI_RedBand, gdal.GCI_GreenBand, gdal.GCI_BlueBand]
        and all(raster.DataType == gdal.GDT_Byte for raster in rasters)
        and not any(_says_backscatter(raster) for raster in rasters)
    )


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


def _seen(band: Band, scene: Scene, samples: list[npt.NDArray[Any]]) -> str | None:
    """Why a band that says nothing is none by its values."""
    if band.unit not in ("amplitude_dn", UNKNOWN_UNIT) or band.scaled or band.quadrature is not None:
        return None
    if not samples or samples[0].dtype.kind == "c":
        return None
    values = np.concatenate([sample.ravel() for sample in samples])
    fill = ~np.isfinite(values) if values.dtype.kind == "f" else np.zeros(values.shape, bool)
    if scene.declared_nodata is not None:
        fill |= values == scene.declared_nodata
    return _classes(values, samples) or _surface(samples, values[~fill], scene.declared_nodata)


def _speckled(samples: list[npt.NDArray[Any]], scene: Scene) -> bool:
    """Whether amplitude or power varies as backscatter does; decibels, which are negative, are taken to."""
    measured = np.concatenate([sample.ravel() for sample in samples])
    if measured.dtype.kind == "c" or np.median(measured) < 0:
        return True
    spread = np.concatenate([_spreads(sample, scene.declared_nodata) for sample in samples])
    equal = np.mean([np.mean(sample[:, 1:] == sample[:, :-1]) for sample in samples])
    return bool(spread.size and np.median(spread) > _SPECKLED and equal < _PATCHY)


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


def _classes(values: npt.NDArray[Any], samples: list[npt.NDArray[Any]]) -> str | None:
    if values.dtype.kind not in "iu":
        return None
    numbers = np.unique(values)
    largest = np.iinfo(values.dtype).max
    codes = (numbers >= 0) & (numbers <= _CODES_UP_TO) | np.isin(numbers, (127, 128, 254, 255, -1, largest))
    coded = numbers[numbers != 0]
    one = coded.size == 1 and coded[0] not in (1, 255, largest)  # flat, not coded
    begun = 1 in numbers or (0 in numbers and numbers[-1] in (255, largest))  # codes are counted from 0 or 1
    if not 2 <= numbers.size <= _CODES or not codes.all() or one or not begun:
        return None
    equal = np.mean([np.mean(sample[:, 1:] == sample[:, :-1]) for sample in samples])
    if equal < _PATCHY:
        return None
    shown = ", ".join(str(number) for number in numbers)
    return f"its values are {shown} in patches, without speckle: a mask or a map of classes"


def _surface(samples: list[npt.NDArray[Any]], measured: npt.NDArray[Any], nodata: float | None) -> str | None:
    """Heights and angles change little from pixel to pixel, and everywhere."""
    if not measured.size or np.median(measured) <= 0:
        return None
    spreads = [_spreads(sample, nodata) for sample in samples]
    spread = np.concatenate(spreads)
    if spread.size < 8 or np.median(spread) >= _SMOOTH or np.count_nonzero(spread) * 2 < spread.size:
        return None
    return "its values change as smoothly as heights or angles do, without speckle"


def _spreads(sample: npt.NDArray[Any], nodata: float | None) -> npt.NDArray[np.float64]:
    """Standard deviation over mean of each whole block of 16 px that is measured throughout."""
    rows, columns = (size // _BLOCK for size in sample.shape)
    blocks = sample[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    blocks = blocks.reshape(rows, _BLOCK, columns, _BLOCK).swapaxes(1, 2).reshape(rows * columns, -1)
    whole = np.isfinite(blocks).all(axis=1) & (blocks > 0).all(axis=1)
    if nodata is not None:
        whole &= (blocks != nodata).all(axis=1)
    blocks = blocks[whole]
    spreads: npt.NDArray[np.float64] = blocks.std(axis=1) / blocks.mean(axis=1) if len(blocks) else np.empty(0)
    return spreads
