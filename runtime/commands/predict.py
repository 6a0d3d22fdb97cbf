"""SAR scenes -> water products, for people.

python -m runtime.predict SCENE... -o DIR
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.products import PRODUCTS
from sarwater.command import run_command
from sarwater.errors import ConfigurationError, DeviceLost, SarwaterError, UsageError
from sarwater.identity import mask_key, mask_name, stem_of
from sarwater.models import find_model
from sarwater.request import REQUEST_FIELDS, Request
from sarwater.scenes.units import SCENE_UNITS

if TYPE_CHECKING:
    from runtime.backends import Backend
    from runtime.pipeline import Progress

DEFAULT_MODEL = "hrnet"

_EPILOG = """\
examples:
  sarwater-predict K5_20240726_HH_GTC.tif -o products
  sarwater-predict K5_20240726.h5 S1A_IW_GRDH.SAFE -o products --polarisation vv
  sarwater-predict *.tif -o products --model unet --threshold 0.4 --products mask,polygons --minimum-area 500
  sarwater-predict S1_RTC_VV.tif -o products --unit gamma0_linear
  sarwater-predict scene.tif -o products --window 4096,8192,2048,2048 --sieve 25

A SCENE is a GeoTIFF, a KOMPSAT-5 or COSMO-SkyMed HDF5 file, or a product folder (KOMPSAT-5 with _Aux.xml and GIM,
Sentinel-1 GRD SAFE). Integers are taken for amplitude. Floats are what their band's name or unit says (Sigma0_VV_db);
what says nothing and cannot be amplitude is refused until --unit says what it is. A model of amplitudes takes
backscatter, too: 1 (0 dB) becomes 400 DN. The products of a SCENE, beside each other in DIR:

  mask        SCENE_water.tif        0 land, 1 water, 2 radar shadow or layover, 255 no data; cloud-optimised GeoTIFF
  confidence  SCENE_confidence.tif   probability of water in percent, 255 no data
  polygons    SCENE_water.gpkg       water bodies with their area in m2
  quicklook   SCENE_quicklook.png    the scene in decibels with water overlaid, north up
  stac        SCENE_water.json       STAC item: what was run, on what, and where the time went

exit codes: 0 every scene done, 1 some failed, 2 wrong usage, 78 set-up is broken, 130 interrupted (nothing left behind)
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from runtime.backends import open_backend

    request = request_of(arguments)
    model = find_model(arguments.model)
    print(f"model {model.title}", file=sys.stderr)
    with open_backend(model, arguments.device) as backend:
        outcomes = [_predict(path, backend, request, arguments) for path in arguments.scenes]
    if arguments.json:
        print(json.dumps(outcomes, indent=2))
    else:
        _print_table(outcomes)
    return 1 if any(outcome["outcome"] == "failed" for outcome in outcomes) else 0


def add_scene_options(parser: argparse.ArgumentParser) -> None:
    """The options that `options_of` reads; shared by every command that runs scenes."""
    group = parser.add_argument_group("model and pixels")
    group.add_argument(
        "--model", default=DEFAULT_MODEL, help="an .onnx or .engine file, or a model name (default: %(default)s)"
    )
    group.add_argument("--device", default="auto", help="auto, cpu, gpu or fake (default: %(default)s)")
    group.add_argument(
        "--threshold", type=float, metavar="P", help="probability from which a pixel is water (default: the model's)"
    )
    group.add_argument("--polarisation", metavar="NAMES", help="channels to use, as vv or vv,vh, or as band numbers")
    group.add_argument("--unit", help=f"unit of the pixels, where the scene does not say it: {', '.join(SCENE_UNITS)}")
    group.add_argument(
        "--upsampling-factor",
        "--enlarge",
        type=int,
        metavar="N",
        help="show the network each pixel N times along each axis, 1 to 4 (default: as often as brings a coarser scene "
        "to the pixel spacing that the model knows)",
    )
    group.add_argument(
        "--nodata",
        type=float,
        metavar="VALUE",
        help="the one pixel value without a measurement (default: the scene's, else 0; and zeros that reach in from "
        "the left or right edge)",
    )


def request_of(arguments: argparse.Namespace) -> Request:
    """Request from parsed arguments; raises SettingInvalid."""
    given = vars(arguments)
    names = {
        "polarisations": "polarisation",
        "upsampling_factor": "upsampling_factor",
        "sieve_px": "sieve",
        "minimum_area_m2": "minimum_area",
        "simplify_m": "simplify",
    }
    chosen = {field: given.get(names.get(field, field)) for field in REQUEST_FIELDS}
    return Request(**{field: value for field, value in chosen.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-predict",
        description="Make water masks of SAR scenes.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenes", nargs="+", type=Path, metavar="SCENE", help="GeoTIFF of SAR amplitude or backscatter")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for the products")
    add_scene_options(parser)
    group = parser.add_argument_group("products")
    group.add_argument(
        "--products",
        default=",".join(product.name for product in PRODUCTS),
        metavar="LIST",
        help="what to make (default: %(default)s)",
    )
    group.add_argument(
        "--window", metavar="X,Y,W,H", help="only this part, in pixels from the scene's upper left corner"
    )
    group.add_argument("--sieve", type=int, metavar="PIXELS", help="minimum mapping unit of the mask (default: none)")
    group.add_argument("--minimum-area", type=float, metavar="M2", help="smallest water body that gets a polygon")
    group.add_argument(
        "--simplify", type=float, metavar="M", help="tolerance of the polygons' outlines (default: exact)"
    )
    group.add_argument("--overwrite", action="store_true", help="replace products of other scenes, models or settings")
    group.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def _predict(path: Path, backend: Backend, request: Request, arguments: argparse.Namespace) -> dict[str, Any]:
    """One scene; its own faults are reported and the next scene runs, but a broken set-up ends the command."""
    try:
        return {"scene": str(path), **_products_of(path, backend, request, arguments)}
    except (ConfigurationError, DeviceLost, UsageError):
        raise
    except SarwaterError as error:
        print(f"sarwater-predict: {error}", file=sys.stderr)
        return {"scene": str(path), "outcome": "failed", "reason": error.reason, "error": str(error)}


def _products_of(path: Path, backend: Backend, request: Request, arguments: argparse.Namespace) -> dict[str, Any]:
    from runtime.latency import LatencyRecord, StageClock
    from runtime.pipeline import process_scene, scene_sha256
    from runtime.products.publish import discard, is_published, publish

    clock = StageClock()
    mask = arguments.output / mask_name(stem_of(path.name))
    input_sha256 = scene_sha256(path) if mask.exists() and not arguments.overwrite else None
    if input_sha256 and is_published(mask, mask_key(input_sha256, backend.model_sha256, request)):
        return {"outcome": "adopted", "products": [str(mask)]}
    with _progress(path.name, quiet=arguments.json) as progress:
        staged = process_scene(
            path, backend, arguments.output, request, clock=clock, progress=progress, input_sha256=input_sha256
        )
    try:
        outcome = publish(staged, overwrite=arguments.overwrite)
    finally:
        discard(staged)
    clock.mark("visible")
    record = LatencyRecord.from_dict(staged.record)
    record.add_moments(clock.moments)
    record.outcome = outcome
    return {"outcome": outcome, "products": [str(path) for path in staged.paths], "latency": record.to_dict()}


@contextmanager
def _progress(name: str, quiet: bool) -> Iterator[Progress | None]:
    """A bar on stderr where a person watches."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        Task,
        TextColumn,
        TimeRemainingColumn,
    )

    class _Speed(ProgressColumn):
        def render(self, task: Task) -> str:
            return f"{task.speed:.1f} tiles/s" if task.speed else ""

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _print_table(outcomes: Sequence[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("scene", "outcome", "Mpx", "tiles", "skipped", "read s", "network s", "write s", "total s"):
        table.add_column(heading, justify="left" if heading in ("scene", "outcome") else "right")
    for outcome in outcomes:
        latency = outcome.get("latency", {})
        figures = [latency.get(name) for name in ("read_s", "infer_s", "write_s", "total_s")]
        pixels = (latency.get("width_px") or 0) * (latency.get("height_px") or 0)
        table.add_row(
            Path(outcome["scene"]).name,
            outcome.get("reason", outcome["outcome"]),
            f"{pixels / 1e6:.1f}" if pixels else "",
            str(latency.get("tiles", "")),
            str(latency.get("tiles_skipped", "")),
            *("" if figure is None else f"{figure:.2f}" for figure in figures),
        )
    Console().print(table)
    for outcome in outcomes:
        for product in outcome.get("products", ()):
            print(product)


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
