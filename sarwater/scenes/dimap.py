"""What a BEAM-DIMAP header of SNAP (.dim) says: bands, place, time. It names files; where they lie is not its to say.

value = stored * SCALING_FACTOR + SCALING_OFFSET, and ten to the power of that where LOG10_SCALED.
Source: DimapProductConstants, DimapHeaderWriter and AbstractMetadata of SNAP (https://github.com/senbox-org/snap-engine).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from sarwater.scenes.backscatter import beside_backscatter
from sarwater.scenes.names import time_in
from sarwater.scenes.radiometry import BandFacts
from sarwater.scenes.xml import file_named, parse_xml, read_xml

_NO_BACKSCATTER = ("phase", "abs_phase", "coherence", "bit", "class", "radians", "meters", "degrees")
"""SNAP's units of what is none."""
_GRIDS = ("latitude", "longitude")

_LONG = ("MDElem", "Original_Product_Metadata")
"""All that the sensor's own product said, again: megabytes."""


@dataclass(frozen=True)
class DimapBand:
    """One band, as the header describes it."""

    name: str
    header: str
    """File name of its ENVI header; "" where it is not stored."""
    unit: str = ""
    description: str = ""
    scale: float = 1.0
    offset: float = 0.0
    log10: bool = False
    nodata: float | None = None
    """Stored value; None where none is used."""
    coded: bool = False
    """Whether its values are flags or classes."""

    @classmethod
    def of(cls, info: ElementTree.Element, headers: dict[str, str]) -> DimapBand:
        texts = {item.tag: (item.text or "").strip() for item in info}
        name = texts.get("BAND_NAME", "")
        own = headers.get(texts.get("BAND_INDEX", "")) or file_named(f"{name}.hdr")
        computed = texts.get("VIRTUAL_BAND", "").lower() == "true" or bool(texts.get("EXPRESSION"))
        uses_nodata = texts.get("NO_DATA_VALUE_USED", "").lower() == "true"
        return cls(
            name=name,
            header="" if computed else own,
            unit=texts.get("PHYSICAL_UNIT", ""),
            description=texts.get("BAND_DESCRIPTION", ""),
            scale=number_in(texts.get("SCALING_FACTOR"), 1.0),
            offset=number_in(texts.get("SCALING_OFFSET"), 0.0),
            log10=texts.get("LOG10_SCALED", "").lower() == "true",
            nodata=number_in(texts.get("NO_DATA_VALUE"), 0.0) if uses_nodata else None,
            coded=bool(texts.get("FLAG_CODING_NAME") or texts.get("INDEX_CODING_NAME")),
        )

    @property
    def is_backscatter(self) -> bool:
        beside = beside_backscatter((self.name,), self.unit) is not None
        return not (beside or self.coded or self.unit.lower() in _NO_BACKSCATTER)

    def facts(self, stored: BandFacts) -> BandFacts:
        """What `stored`, the file, tells, with what the header says of it."""
        tags = {"description": self.description}
        return BandFacts(stored.dtype, self.unit, self.name, tags, self.scale, self.offset)


@dataclass(frozen=True)
class Dimap:
    root: ElementTree.Element

    @classmethod
    def read(cls, path: Path) -> Dimap:
        """Raises SceneUnreadable, SceneUnsafe."""
        return cls(read_xml(path, without=_LONG))

    @classmethod
    def parse(cls, text: bytes, name: str) -> Dimap:
        """Of the header in the file called `name`. Raises SceneUnreadable, SceneUnsafe."""
        return cls(parse_xml(text, f"{name}: its header of SNAP", without=_LONG))

    @property
    def bands(self) -> list[DimapBand]:
        headers = self.headers
        return [DimapBand.of(info, headers) for info in self.root.findall("Image_Interpretation/Spectral_Band_Info")]

    @property
    def stored(self) -> list[DimapBand]:
        """Those that SNAP does not compute from others."""
        return [band for band in self.bands if band.header]

    @property
    def headers(self) -> dict[str, str]:
        """File names of the bands' ENVI headers, by BAND_INDEX: of all that are stored."""
        return {
            (item.findtext("BAND_INDEX") or "").strip(): name
            for item in self.root.findall("Data_Access/Data_File")
            if (name := _header_in(item.find("DATA_FILE_PATH")))
        }

    @property
    def grid_headers(self) -> list[str]:
        """File names of the headers of latitude and longitude, where nothing else says where the product lies."""
        if self.transform is not None:
            return []
        places = self.root.findall("Data_Access/Tie_Point_Grid_File/TIE_POINT_GRID_FILE_PATH")
        return [name for name in map(_header_in, places) if Path(name).stem.lower() in _GRIDS]

    @property
    def grid_spacing(self) -> tuple[float, float, float, float] | None:
        """Column of the first tie point, columns between them, the same of rows; None without a grid of latitudes."""
        for info in self.root.findall("Tie_Point_Grids/Tie_Point_Grid_Info"):
            if (info.findtext("TIE_POINT_GRID_NAME") or "").strip().lower() == _GRIDS[0]:
                left, top = (number_in(info.findtext(name), 0.0) for name in ("OFFSET_X", "OFFSET_Y"))
                across, down = (number_in(info.findtext(name), 1.0) for name in ("STEP_X", "STEP_Y"))
                return left, across, top, down
        return None

    @property
    def transform(self) -> tuple[float, ...] | None:
        """GDAL's six numbers; None where the header has none, or nonsense."""
        numbers = (self.root.findtext("Geoposition/IMAGE_TO_MODEL_TRANSFORM") or "").split(",")
        try:
            width, skew, shear, height, left, top = map(float, numbers)
        except ValueError:
            return None
        return left, width, shear, top, skew, height

    @property
    def crs_wkt(self) -> str:
        return (self.root.findtext("Coordinate_Reference_System/WKT") or "").strip()

    @property
    def start(self) -> str | None:
        """When sensing began, as ISO 8601."""
        stated = self.root.findtext("Production/PRODUCT_SCENE_RASTER_START_TIME") or ""
        name = self.root.findtext("Dataset_Id/DATASET_NAME") or ""
        return next(filter(None, map(time_in, (stated, self.abstracted("first_line_time"), name))), None)

    def abstracted(self, name: str) -> str:
        """An attribute of SNAP's Abstracted_Metadata; "" where it is not there."""
        return next((text for key, text in self._abstracted() if key == name), "")

    def _abstracted(self) -> Iterator[tuple[str | None, str]]:
        for group in self.root.iter("MDElem"):
            if group.get("name") == "Abstracted_Metadata":
                yield from ((item.get("name"), (item.text or "").strip()) for item in group.findall("MDATTR"))


def _header_in(reference: ElementTree.Element | None) -> str:
    """SNAP refers to the header; some refer to the pixels."""
    name = file_named(reference.get("href")) if reference is not None else ""
    return str(Path(name).with_suffix(".hdr")) if name else ""


def number_in(text: str | None, default: float) -> float:
    try:
        return float(text or "")
    except ValueError:
        return default
