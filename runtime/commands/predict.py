"""SAR scenes -> water products, for people.

python -m runtime.predict SCENE... -o DIR
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.commands.options import ALIASES, MODEL_AND_PIXELS, PRODUCT_GROUPS, SCENE_GROUPS, device_option
from runtime.commands.summary import facts_of, print_summary
from runtime.products import PRODUCTS, chosen
from runtime.products.catalogue import update_catalogue
from sarwater.command import command, given, invoke, model_option, option, record_options, run
from sarwater.errors import ConfigurationError, DeviceLost, OutputError, SarwaterError, UsageError
from sarwater.identity import mask_key, mask_name, name_of, stem_of
from sarwater.models import find_model
from sarwater.progress import Progress
from sarwater.request import Request
from sarwater.shown import shown

if TYPE_CHECKING:
    from runtime.backends import Backend

_EXAMPLES = """
sarwater predict K5_20240726_HH_GTC.tif -o products
sarwater predict K5_20240726.h5 S1A_IW_GRDH.SAFE -o products --polarisations vv
sarwater predict *.tif -o products --threshold 0.4 --products mask,polygons --minimum-area-m2 500
sarwater predict S1_RTC_VV.tif -o products --unit gamma0_linear
sarwater predict scene.tif -o products --window 4096,8192,2048,2048 --sieve-px 25
"""
_MORE = """
A SCENE is a GeoTIFF, an HDF5 or NITF file, a product folder, an ENVI pair (.hdr and pixels), BEAM-DIMAP (.dim and
.data), or a .zip, .tar or .tar.gz of one, which is unpacked in TMPDIR while it is open: docs/products.md lists the
kinds. Integers are taken for amplitude. Floats are what their band's name or unit says (Sigma0_VV_db); what says
nothing and cannot be amplitude is refused until --unit says what it is. A model of amplitudes takes backscatter, too:
1 (0 dB) becomes 400 DN. The products of a SCENE, beside each other in DIR:

""" + "\n".join(f"  {product.name:<11} SCENE{product.suffix:<16} {product.help}" for product in PRODUCTS)


@dataclass(frozen=True)
class _Task:
    """What is the same for all scenes of one call."""

    backend: Backend
    request: Request
    output: Path
    overwrite: bool


@command(
    "predict",
    "Make water masks of SAR scenes.",
    examples=_EXAMPLES,
    more=_MORE,
    exit_codes="0 every scene done, 1 some failed, 2 wrong usage, 78 settings or machine at fault, 130 interrupted "
    "(nothing left behind)",
)
@click.argument("scenes", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SCENE...")
@option(
    "-o",
    "--output",
    group="products",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for the products.",
)
@model_option(MODEL_AND_PIXELS)
@device_option()
@record_options(Request, {**PRODUCT_GROUPS, **SCENE_GROUPS}, ALIASES)
@option("--overwrite", group="products", is_flag=True, help="Replace products of other scenes, models or settings.")
@option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
def predict(
    scenes: Sequence[Path], output: Path, model: str, device: str, overwrite: bool, as_json: bool, **asked: Any
) -> int:
    request = Request(**given(asked))
    chosen(request.products)
    if output.exists() and not output.is_dir():
        raise OutputError(f"{output}: a file; expected a folder for the products")
    found = find_model(model)
    print(f"model {found.title}", file=sys.stderr)
    from runtime.backends import open_backend
    from sarwater.scenes import trial

    trial.warm()
    with Progress("opening the model"):
        backend = open_backend(found, device)
    with backend:
        task = _Task(backend, request, output, overwrite)
        outcomes = [_predict(path, task) for path in scenes]
    with suppress(OSError):  # it is made of the items, and can be made again
        update_catalogue(output)
    identity = {
        "name": found.manifest.name,
        "precision": found.manifest.precision,
        "sha256": backend.model_sha256,
        "path": str(found.path),
    }
    if as_json:
        print(json.dumps([{**outcome, "model": identity} for outcome in outcomes], indent=2))
    else:
        print_summary(outcomes, f"{found.title} on {backend.device} ({backend.name})")
    return 1 if any(outcome["outcome"] == "failed" for outcome in outcomes) else 0


def _predict(path: Path, task: _Task) -> dict[str, Any]:
    """One scene; its own faults are reported and the next scene runs, but a broken set-up ends the command."""
    try:
        return {"scene": str(path), **_products_of(path, task)}
    except (ConfigurationError, DeviceLost, UsageError):
        raise
    except SarwaterError as error:
        print(f"sarwater predict: {error}", file=sys.stderr)
        return {"scene": str(path), "outcome": "failed", "reason": error.reason, "error": str(error)}


def _products_of(path: Path, task: _Task) -> dict[str, Any]:
    """`published`; `adopted` where all that is asked for is there already; `completed` where the mask was, and its side
    products were made. Raises SarwaterError."""
    from runtime.latency import LatencyRecord, StageClock
    from runtime.pipeline import process_scene, scene_sha256
    from runtime.products.publish import discard, is_published, publish

    clock = StageClock()
    clock.mark("claimed")
    name = name_of(path)
    request, mask = task.request, task.output / mask_name(stem_of(name))
    input_sha256 = None
    with Progress(shown(name), "tiles") as progress:
        if mask.exists() and not task.overwrite:
            input_sha256 = scene_sha256(path)
            key = mask_key(input_sha256, task.backend.model_sha256, request)
            if is_published(mask, key):
                lacking, request = _lacking(task.output, stem_of(name), key, request)
                if not lacking:
                    return {"outcome": "adopted", **facts_of(task.output, stem_of(name), request)}
        staged = process_scene(
            path, task.backend, task.output, request, clock=clock, progress=progress, input_sha256=input_sha256
        )
        try:
            published = publish(staged, overwrite=task.overwrite)
        finally:
            discard(staged)
    clock.mark("visible")
    record = LatencyRecord.from_dict(staged.record)
    record.add_moments(clock.moments)
    record.outcome = {"adopted": "completed"}.get(published, published)
    return {"outcome": record.outcome, **facts_of(task.output, stem_of(name), request, record)}


def _lacking(output: Path, stem: str, key: str, request: Request) -> tuple[list[str], Request]:
    """(products that are asked for and not there as they are asked for, the request that makes them). Where there is a
    STAC item, it is made anew, of all that it describes."""
    asked = chosen(request.products)
    current = [kind for kind in PRODUCTS if kind.is_current(output / kind.file_name(stem), key, request)]
    lacking = [kind.name for kind in asked if kind not in current]
    if lacking and any(kind.sums_up for kind in current):
        asked = tuple(kind for kind in PRODUCTS if kind in asked or kind in current)
    return lacking, request.but(products=tuple(kind.name for kind in asked))


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`."""
    return invoke(predict, argv)


def cli() -> int:
    return run(predict)


if __name__ == "__main__":
    sys.exit(cli())
