"""The options that the commands of export share, and the Workshop that they fill in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from export.artefacts import TILE_PX, Workshop
from export.samples import Reading
from sarwater.command import given, option, record_options
from sarwater.models import ENGINES
from sarwater.request import Limits, Request

MODELS = """
MODEL is one of
  hrnet                          the model of that family that ships
  runs/hrnet-w18-small/latest    a training run, or its checkpoint (.pt)
  my-lakes.onnx                  an ONNX file of ours
"""
CONVERSION = "precision"
SCENES = "scenes that are read"


def workshop_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--tile-px, --calibration, --labels, --no-gates, what says how scenes are read, and their limits."""
    tile = option(
        "--tile-px",
        "--tile",
        type=int,
        default=TILE_PX,
        show_default=True,
        metavar="PX",
        help="tile size, a multiple of 32",
    )
    calibration = option(
        "--calibration",
        type=click.Path(path_type=Path),
        metavar="DIR",
        group=CONVERSION,
        help="scenes to calibrate with; with labels (img/, mask/), for the gates too [default: simulated]",
    )
    gates = option("--no-gates", is_flag=True, group=CONVERSION, help="accept whatever accuracy it costs")
    labels = option(
        "--labels", metavar="CODING", group=SCENES, help="what label values mean, as land=1,water=2,ignore=0"
    )
    records = record_options(
        Request,
        {
            SCENES: ("unit", "scale", "offset", "calibration_constant_db", "nodata", "polarisations"),
            "limits of a scene": tuple(Limits.model_fields),
        },
        {"polarisations": ("--polarisation",)},
    )
    for decorate in (records, labels, gates, calibration, tile):
        command = decorate(command)
    return command


def reading_of(labels: str | None, options: dict[str, Any]) -> Reading:
    from sarwater.scenes.labels import Coding

    return Reading(Request(**given(options)), Coding.parse(labels) if labels else None)


def workshop_of(
    tile_px: int,
    calibration: Path | None,
    no_gates: bool,
    labels: str | None,
    folder: Path | None = None,
    **request: Any,
) -> Workshop:
    """Raises SettingInvalid, UsageError."""
    return Workshop(
        folder=folder or ENGINES,
        tile_px=tile_px,
        calibration=calibration,
        gates=not no_gates,
        reading=reading_of(labels, request),
    )
