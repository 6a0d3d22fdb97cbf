"""What `sarwater predict` says at its end: how much water, what to know about it, and where the time went."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.products import chosen
from sarwater.errors import OutputError
from sarwater.identity import mask_name
from sarwater.request import Request
from sarwater.shown import shown

if TYPE_CHECKING:
    from runtime.latency import LatencyRecord

_COUNTS = ("land_px", "water_px", "shadow_px", "nodata_px", "water_km2")
_STAGES = ("open", "first rows", "network", "finish", "sync", "publish")


def facts_of(output: Path, stem: str, request: Request, record: LatencyRecord | None = None) -> dict[str, Any]:
    """JSON values about the products of one scene; without a record, they were made earlier and are looked into.

    `water_percent` is the share of the pixels that were measured. What is not known is None.
    """
    from runtime.tally import tally_of

    mask, kinds = output / mask_name(stem), chosen(request.products)
    try:
        source = record or tally_of(mask)
    except RuntimeError as error:
        raise OutputError(f"{mask}: cannot be read ({error}); make it again with --overwrite") from None
    counts = {name: getattr(source, name) for name in _COUNTS}
    measured_px = counts["land_px"] + counts["water_px"] + counts["shadow_px"]
    item = output / f"{stem}_water.json"
    files = [output / kind.file_name(stem) for kind in sorted(kinds, key=_mask_last)]
    facts: dict[str, Any] = {
        "products": [str(file) for file in files if file.exists()],
        **counts,
        "water_percent": 100 * counts["water_px"] / measured_px if measured_px else None,
        "polygons": _polygons(output, stem, request),
        "notes": list(record.notes) if record else _notes_in(item),
    }
    if record is not None:
        facts |= {"latency": record.to_dict(), "stages_s": record.stages_s}
    return facts


def print_summary(outcomes: Sequence[dict[str, Any]], model: str) -> None:
    """Plain lines of any width: nothing is cut, on a terminal or in a pipe."""
    for outcome in outcomes:
        print("\n".join(map(shown, _lines(outcome))))
    print(f"model: {model}")
    timed = [outcome for outcome in outcomes if "stages_s" in outcome]
    if timed:
        print("\n".join(["", *_time_table(timed)]))


def _lines(outcome: dict[str, Any]) -> Iterator[str]:
    if outcome["outcome"] == "failed":
        yield f"{outcome['scene']}: failed: {outcome['reason']}"
        return
    all_px = sum(outcome[name] for name in _COUNTS[:4])
    yield f"{outcome['scene']}: {_OUTCOMES.get(outcome['outcome'], outcome['outcome'])}"
    yield f"  water     {', '.join(_water(outcome))}"
    for name, key in (("shadow", "shadow_px"), ("no data", "nodata_px")):
        if outcome[key]:
            yield f"  {name:<9} {100 * outcome[key] / all_px:.2f} % of the scene"
    for note in outcome["notes"]:
        yield f"  note      {note}"
    for number, product in enumerate(outcome["products"]):
        yield f"  {'' if number else 'products':<9} {product}"


_OUTCOMES = {
    "adopted": "adopted: all of it was there already",
    "completed": "completed: the mask was there already, the other products were made",
}


def _water(outcome: dict[str, Any]) -> Iterator[str]:
    if outcome["water_percent"] is None:
        yield "nothing was measured"
        return
    yield f"{outcome['water_percent']:.2f} % of what was measured"
    if outcome["water_km2"] is not None:
        yield f"{_figures(outcome['water_km2'])} km2"
    if outcome["polygons"] is not None:
        yield f"{outcome['polygons']:,} polygon{'s' * (outcome['polygons'] != 1)}"


def _figures(value: float) -> str:
    """Four significant figures, never in powers of ten."""
    digits = 3 - math.floor(math.log10(value)) if value else 0
    return f"{value:,.{max(0, digits)}f}"


def _time_table(outcomes: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Columns that add up to the total: the time from one moment of a scene to the next."""
    yield "seconds from one step to the next; reading and writing go on beside `network`"
    widths = [max(len(name), 6) for name in _STAGES]
    titles = (f"{name:>{width}}" for name, width in zip(_STAGES, widths, strict=True))
    yield " ".join([*titles, f"{'total':>7}", f"{'Mpx':>6}", "scene"])
    for outcome in outcomes:
        # Moments are rounded, not the time between them: so the columns add up to the total.
        moment_s, cells = 0.0, []
        for name, width in zip(_STAGES, widths, strict=True):
            before_s, moment_s = moment_s, moment_s + outcome["stages_s"].get(name, 0.0)
            cells.append(f"{round(moment_s, 2) - round(before_s, 2):>{width}.2f}")
        pixels = outcome["latency"]["width_px"] * outcome["latency"]["height_px"]
        cells += [f"{round(moment_s, 2):>7.2f}", f"{pixels / 1e6:>6.1f}", Path(outcome["scene"]).name]
        yield " ".join(cells)


def _mask_last(kind: Any) -> bool:
    return bool(kind.name == "mask")


def _polygons(output: Path, stem: str, request: Request) -> int | None:
    """How many were made; None where none are asked for."""
    from runtime.products.polygons import WaterPolygons, count_polygons

    if WaterPolygons in chosen(request.products):
        with contextlib.suppress(sqlite3.Error):
            return count_polygons(output / WaterPolygons.file_name(stem))
    return None


def _notes_in(item: Path) -> list[str]:
    from runtime.products.stac import read_item

    notes: list[str] = read_item(item).get("properties", {}).get("sarwater:notes", [])
    return notes
