"""What a run is going to do, settled and checked before its first step: hours are not spent on what must fail."""

from __future__ import annotations

import math
import shutil
import subprocess
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from sarwater.errors import OutputError, UsageError
from sarwater.families import FAMILIES
from sarwater.manifest import sha256_of
from sarwater.scenes.labels import Coding
from train.data.augment import Augmentation
from train.data.crops import Crops, Source
from train.data.labelled import LabelledScene, channels_named, find_labelled
from train.data.split import check_apart, split_sources
from train.loop.losses import Loss
from train.loop.machine import Team, choose_device, choose_precision
from train.loop.options import FitOptions
from train.loop.runs import new_run
from train.models import Architecture, architecture

MAY_CHANGE = ("out", "resume", "workers", "device", "tensorboard", "threshold")
"""Options that leave the run log as it is, so that a resumed run may have others."""
DEFAULTS = {name: field.default for name, field in FitOptions.model_fields.items()}


@dataclass(frozen=True)
class Plan:
    options: FitOptions
    team: Team
    arch: Architecture
    device: torch.device
    precision: torch.dtype
    crops: Crops
    held_out: tuple[LabelledScene, ...]
    dropped: tuple[LabelledScene, ...]
    steps: int
    loss: Loss
    out: Path
    provenance: dict[str, Any]
    """Goes into every checkpoint: model, data, options, commit, date."""


def make_plan(options: FitOptions, team: Team) -> Plan:
    """Raises DataError, UsageError, DeviceUnavailable."""
    device = choose_device(options.device, team.local_rank)
    channels = channels_named(*options.channels.split(","))
    arch = architecture(
        options.model,
        channels,
        batch_norm=options.batch_norm,
        scales=options.scales,
    )
    _check_crop(options.crop_px, options.batch, arch)
    loss = Loss(options.loss, options.class_weights)
    sources, held_out, dropped = _sources(options, arch, quiet=not team.leads)
    augmentation = Augmentation(**{field.name: getattr(options, field.name) for field in fields(Augmentation)})
    return Plan(
        options=options,
        team=team,
        arch=arch,
        device=device,
        precision=choose_precision(options.precision, device),
        crops=Crops(sources, options.crop_px, options.seed, augmentation, options.shoreline, options.coarsest_m),
        held_out=held_out,
        dropped=dropped,
        steps=_steps(options, sources, team),
        loss=loss,
        out=options.out or new_run(arch.name),
        provenance=_provenance(options, arch, sources, held_out, team),
    )


def check_room(folder: Path, checkpoint_bytes: int, *, halfway: bool = False) -> None:
    """Raises OutputError unless best.pt, last.pt and one more being written fit on the disk of `folder`.

    last.pt holds the average, the weights and up to two moments of the optimiser, four times best.pt; with `halfway`
    what is kept beside these, five times.
    """
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    needed_bytes, free_bytes = (11 if halfway else 9) * checkpoint_bytes, shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise OutputError(
            f"{folder}: {free_bytes / 1e9:.2f} GB free, the checkpoints of this network need "
            f"{needed_bytes / 1e9:.2f} GB; free some space or choose another --out"
        )


def differing_option(now: dict[str, Any], then: dict[str, Any]) -> str | None:
    """The first option that a resumed run has other than the one it goes on with; both from a Plan's provenance."""
    for name, value in now.items():
        before = then.get(name, DEFAULTS.get(name))  # an option that is newer than the run had its default
        if name not in MAY_CHANGE and value != before:
            return f"{name} is {value}, the run began with {before}"
    return None


def _check_crop(crop_px: int, batch: int, arch: Architecture) -> None:
    if crop_px % arch.stride_px:
        fitting = max(1, round(crop_px / arch.stride_px)) * arch.stride_px
        raise UsageError(f"--crop {crop_px}: {arch.name} takes multiples of {arch.stride_px} px, such as {fitting}")
    halvings_px = FAMILIES[arch.family].stride_px
    if arch.batch_norm and batch * (crop_px // halvings_px) ** 2 < 2:
        raise UsageError(
            f"--crop {crop_px} --batch {batch}: the coarsest map of {arch.name} would be a single pixel, which has no "
            f"variance to normalise by; expected --batch 2 or --crop {2 * arch.stride_px}, or more"
        )


def _sources(
    options: FitOptions, arch: Architecture, *, quiet: bool
) -> tuple[tuple[Source, ...], tuple[LabelledScene, ...], tuple[LabelledScene, ...]]:
    """(sources to train on, scenes held out, scenes on the border of a held-out region)."""
    coding = Coding.parse(options.labels) if options.labels else None
    own, simulated = ([_weighted(item) for item in items] for items in (options.data, options.simulated))
    found = [find_labelled(name, arch.channels, coding, options.request, quiet=quiet) for name, _ in own]
    found += [find_labelled(name, arch.channels, quiet=quiet) for name, _ in simulated]
    levelled = [[scene.levelled(options.level_db) for scene in scenes] for scenes in found]
    splits = split_sources(levelled, options.holdout)
    check_apart(splits)
    sources = [Source(s.training, weight) for s, (_, weight) in zip(splits, own + simulated, strict=True) if s.training]
    held_out = [scene for split in splits for scene in split.held_out]
    dropped = [scene for split in splits for scene in split.dropped]
    return tuple(sources), tuple(held_out), tuple(dropped)


def _weighted(item: str) -> tuple[str, float]:
    """`DIR=0.6` -> ("DIR", 0.6). Raises UsageError for a weight that is no number above 0."""
    data, equals, weight = item.rpartition("=")
    if not equals or Path(item).exists():
        return item, 1.0
    try:
        number = float(weight)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise UsageError(f"--data {item}: the weight is {weight!r}, expected a number above 0")
    return data, number


def _steps(options: FitOptions, sources: tuple[Source, ...], team: Team) -> int:
    if not options.epochs:
        return options.steps
    crops = sum(source.area_px for source in sources) / options.crop_px**2
    return math.ceil(options.epochs * crops / (options.batch * team.size))


def _provenance(
    options: FitOptions,
    arch: Architecture,
    sources: tuple[Source, ...],
    held_out: tuple[LabelledScene, ...],
    team: Team,
) -> dict[str, Any]:
    chosen = options.model_dump(mode="json")
    # Where data and runs lie on this machine is nobody's business who gets the checkpoint.
    private = ("data", "simulated", "out", "init", "resume")
    return {
        "model": arch.name,
        "data": [
            {
                "tiles": [scene.name for scene in source.scenes[:20]],
                "count": len(source.scenes),
                "weight": source.weight,
            }
            for source in sources
        ],
        "held_out": [f"{scene.name} rows {scene.rows[0]}..{scene.rows[1]}" for scene in held_out],
        "init": {"name": options.init.name, "sha256": sha256_of(options.init)} if options.init else None,
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "options": {name: value for name, value in chosen.items() if name not in private} | {"processes": team.size},
    }


def commit() -> str:
    """The commit of this checkout, or "" outside of one."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short=12", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
