"""Score a model, as the runtime runs it, against labelled scenes.

    python -m runtime.evaluate DATA_DIR [--model MODEL] [--json FILE]

DATA_DIR holds img/ and mask/; NAME.tif is paired with the mask whose name begins with NAME.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from runtime.predict import add_scene_options, options_of
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DataError
from sarwater.metrics import LAND, NODATA, WATER, Confusion, confusion, mean_tile_iou, pooled_iou
from sarwater.models import resolve_onnx

if TYPE_CHECKING:
    from runtime.backends import Backend
    from runtime.job import SceneOptions

UInt8 = npt.NDArray[np.uint8]
_SUFFIXES = (".tif", ".tiff")


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    from runtime.backends import open_backend

    options, model = options_of(arguments), resolve_onnx(arguments.model)
    pairs = pair_files(arguments.data)
    print(f"model {model.manifest.name} ({model.path})", file=sys.stderr)
    with open_backend(model, arguments.device) as backend:
        scores = {image.stem: score(image, mask, backend, options) for image, mask in pairs}
    report = {
        "model": model.manifest.name,
        "model_sha256": backend.model_sha256,
        "backend": backend.name,
        "pooled_iou": pooled_iou(scores.values()),
        "mean_tile_iou": mean_tile_iou(scores.values()),
        "tiles": [_tile(name, counts) for name, counts in scores.items()],
    }
    if arguments.json:
        with replacing(arguments.json) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    _print_table(report)
    return 0


def pair_files(data: Path) -> list[tuple[Path, Path]]:
    """(image, mask) of every image in `data`/img, by name. Raises DataError where a folder or mask is missing."""
    for folder in (data / "img", data / "mask"):
        if not folder.is_dir():
            raise DataError(f"{folder}: no such folder; expected {data} to hold img/ and mask/")
    images, masks = (_rasters(data / name) for name in ("img", "mask"))
    if not images:
        raise DataError(f"{data / 'img'}: holds no GeoTIFF; expected NAME.tif, with NAME*.tif in mask/")
    return [(image, _mask_of(image, masks)) for image in images]


def _mask_of(image: Path, masks: Sequence[Path]) -> Path:
    exact = [mask for mask in masks if mask.stem == image.stem]
    found = exact or [mask for mask in masks if mask.stem.startswith(image.stem)]
    if len(found) != 1:
        names = ", ".join(mask.name for mask in found) or "none"
        raise DataError(
            f"{image.name}: has {len(found)} masks ({names}), expected one named {image.stem}*.tif in mask/"
        )
    return found[0]


def score(image: Path, mask: Path, backend: Backend, options: SceneOptions) -> Confusion:
    """Run `image` through the pipeline and count against `mask`. Raises SceneError, DataError for differing sizes."""
    from runtime.pipeline import infer_scene, open_for

    with open_for(backend, image, options) as scene:
        predicted = np.concatenate([finished.mask for finished in infer_scene(scene, backend, options)])
    truth = read_label(mask)
    if truth.shape != predicted.shape:
        raise DataError(f"{mask.name}: {truth.shape[1]} x {truth.shape[0]} px, expected the size of {image.name}")
    return confusion(predicted, truth)


def read_label(path: Path) -> UInt8:
    """(H, W) uint8 LAND, WATER or NODATA. Raises SceneError where the file cannot be read.

    In a label file 0 is land, declared nodata is left out, all else is water.
    """
    from runtime.formats.geotiff import open_geotiff
    from runtime.job import SceneLimits, Window

    product = open_geotiff(path, SceneLimits())
    values = product.layers[0].read(Window(0, 0, product.width_px, product.height_px))
    label = np.where(values == 0, LAND, WATER).astype(np.uint8)
    if product.declared_nodata is not None:
        label[values == product.declared_nodata] = NODATA
    return label


def _rasters(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and path.name[0] != ".")


def _tile(name: str, counts: Confusion) -> dict[str, Any]:
    return {
        "name": name,
        "iou": counts.iou,
        "tile_iou": counts.tile_iou,
        "f1": counts.f1,
        "precision": counts.precision,
        "recall": counts.recall,
    }


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for heading in ("tile", "IoU", "F1", "precision", "recall"):
        table.add_column(heading, justify="left" if heading == "tile" else "right")
    for tile in report["tiles"]:
        table.add_row(tile["name"], *(f"{tile[name]:.3f}" for name in ("iou", "f1", "precision", "recall")))
    console = Console()
    console.print(table)
    console.print(f"pooled IoU {report['pooled_iou']:.4f}   mean-tile IoU {report['mean_tile_iou']:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-evaluate",
        description="Score a model, as the runtime runs it, against labelled scenes.",
        epilog="DATA_DIR/img/NAME.tif is paired with DATA_DIR/mask/NAME*.tif: 0 is land, all else is water.",
    )
    parser.add_argument("data", type=Path, metavar="DATA_DIR", help="folder that holds img/ and mask/")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the scores to FILE")
    add_scene_options(parser)
    return parser


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
