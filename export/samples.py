"""Samples to calibrate and to prove with: squares of pixels, cut from scenes in a folder or simulated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sarwater.classes import LAND, NODATA, WATER
from sarwater.dependencies import require
from sarwater.errors import DataError
from sarwater.golden import in_units
from sarwater.manifest import Channel
from sarwater.request import Limits, Request
from sarwater.tiling import Span, TilePlan, reflect_indices

if TYPE_CHECKING:
    from sarwater.scenes.labels import Coding
    from sarwater.scenes.model_input import ModelInput

Float32 = npt.NDArray[np.float32]
Item = TypeVar("Item")
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """A square of pixels with its truth."""

    name: str
    pixels: Float32
    """(C, T, T) float32 raw pixels, nodata as 0."""
    truth: UInt8
    """(T, T) LAND, WATER, NODATA."""


@dataclass(frozen=True)
class Reading:
    """How scenes and labels in folders are read."""

    request: Request = field(default_factory=Request)
    """Unit, nodata, polarisations."""
    coding: Coding | None = None
    """What label values mean; None where they leave no doubt."""

    def asked(self) -> dict[str, Any]:
        """What somebody asked for that changes pixels, as JSON values; empty for nothing."""
        asked = self.request.model_dump(mode="json", exclude_defaults=True, exclude=set(Limits.model_fields))
        return asked | ({"labels": str(self.coding)} if self.coding else {})


def labelled_samples(
    data: str | Path, channels: Sequence[Channel], tile_px: int, limit: int, reading: Reading | None = None
) -> list[Sample]:
    """At most `limit` samples, spread evenly over the images of labelled data (sarwater/scenes/labels.py).

    No pixel of a scene is in two of them; one that a scene is too small for is mirrored, with NODATA as its truth.
    Raises DataError, and SceneError for an image that cannot be read.
    """
    from sarwater.scenes.labels import Label, find_files, settle_coding
    from sarwater.scenes.readers import open_model_input

    reading = reading or Reading()
    with_gim = (Path(data) / "gim").is_dir() and any(channel.name == "gim" for channel in channels)
    pairs = find_files(str(data), with_gim)
    coding = settle_coding((pair.label for pair in pairs), reading.coding, reading.request)
    samples: list[Sample] = []
    chosen = _spread(pairs, limit)
    for pair in chosen:
        image, mask = pair.image, pair.label
        opened = Label(mask, reading.request)
        label = coding.truth(opened.read(0, 0, opened.width_px, opened.height_px), opened.nodata)
        with open_model_input(image, channels, reading.request, gim=pair.gim) as scene:
            if label.shape != (scene.height_px, scene.width_px):
                raise DataError(f"{mask}: {label.shape[1]} x {label.shape[0]} px, expected the size of {image.name}")
            for row, column, pixels, valid in _windows(scene, tile_px, -(-limit // len(chosen))):
                truth = np.full((tile_px, tile_px), NODATA, np.uint8)
                core = label[row.lo : row.hi, column.lo : column.hi]
                rows = slice(row.lo - row.start, row.hi - row.start)
                columns = slice(column.lo - column.start, column.hi - column.start)
                truth[rows, columns] = np.where(valid[rows, columns], core, NODATA)
                samples.append(Sample(f"{image.stem}+{column.lo}+{row.lo}", pixels, truth))
    if not samples:
        raise DataError(f"{data}: its scenes are all nodata; expected scenes with valid pixels")
    return samples[:limit]


def folder_pixels(
    folder: Path, channels: Sequence[Channel], tile_px: int, limit: int, reading: Reading | None = None
) -> list[Float32]:
    """At most `limit` squares (C, T, T), without labels, from the scenes in `folder` or its img/. Raises DataError."""
    from sarwater.scenes.labels import images_in
    from sarwater.scenes.readers import open_model_input

    images = folder / "img" if (folder / "img").is_dir() else folder
    paths = _spread(images_in(images), limit)
    request = reading.request if reading else None
    found: list[Float32] = []
    for path in paths:
        with open_model_input(path, channels, request) as scene:
            found += [pixels for _, _, pixels, _ in _windows(scene, tile_px, -(-limit // len(paths)))]
    if not found:
        raise DataError(f"{images}: no scene with valid pixels; expected GeoTIFF or HDF5 scenes")
    return found


def simulated_samples(
    channels: Sequence[Channel], tile_px: int, count: int | None = None, seed: int = 0
) -> list[Sample]:
    """Simulated scenes, one sample each: without a `count` every kind of scene as every sensor sees it, else that many
    in turn. Every third has a slanted nodata edge as at a scene's rim.

    Where the channels do not tell the sensor, single-look X band and multi-look C band take turns. The same arguments
    give the same pixels. Raises DependencyMissing without scipy.
    """
    kinds = scene_types()
    named = {channel.name for channel in channels}
    modes = ["s1"] if named & {"vv", "vh"} else ["k5"] if named & {"hh", "hv"} else ["k5", "s1"]
    samples = []
    for index in range(len(kinds) * len(modes) if count is None else count):
        kind = kinds[(index + seed) % len(kinds)]
        # Each kind as each sensor sees it, once all have had their turn, whether the number of kinds is even or odd.
        mode = modes[(index % len(kinds) + index // len(kinds)) % len(modes)]
        amplitude, water, dn_at_0_db = simulated(kind, mode, tile_px, [seed, index])
        pixels = in_units(amplitude, dn_at_0_db, channels)
        truth = np.where(water, WATER, LAND).astype(np.uint8)
        if index % 3 == 2:
            row, column = np.ogrid[:tile_px, :tile_px]
            outside = row + column // 4 < tile_px // 4
            pixels[:, outside] = 0
            truth[outside] = NODATA
        samples.append(Sample(f"simulated-{kind}-{mode}-{index}", pixels, truth))
    return samples


def simulated(
    kind: str, sensor: str, side_px: int, seed: Sequence[int]
) -> tuple[Float32, npt.NDArray[np.bool_], float]:
    """(T, T) amplitude DN, where its water is, and the DN of sigma0 of 1."""
    from train.simulator.radar import SENSORS
    from train.simulator.simulate import simulate_scene

    scene = simulate_scene((side_px, side_px), sensor, np.random.default_rng(seed), kind)
    return scene.amplitude.astype(np.float32), scene.water == 1, SENSORS[sensor].dn_at_0_db


def scene_types() -> list[str]:
    """Every kind of scene that the simulator makes. Raises DependencyMissing without scipy."""
    require("scipy.ndimage", "simulating scenes", "`pip install scipy`; or give real scenes with --calibration DIR")
    from train.simulator.scenery import SCENE_TYPES

    return list(SCENE_TYPES)


def _spread(items: Sequence[Item], limit: int) -> list[Item]:
    """At most `limit` of them, evenly."""
    return [items[index] for index in np.linspace(0, len(items) - 1, min(limit, len(items))).astype(int)]


def _windows(
    scene: ModelInput, tile_px: int, limit: int
) -> Iterator[tuple[Span, Span, Float32, npt.NDArray[np.bool_]]]:
    """(row span, column span, pixels (C, T, T), valid (T, T)) of at most `limit` windows spread evenly over a scene;
    those without a valid pixel are left out."""
    plan = TilePlan(scene.height_px, scene.width_px, tile_px, overlap_px=0)
    picked = set(np.linspace(0, plan.tiles - 1, min(limit, plan.tiles)).astype(int).tolist())
    for row_index, row in enumerate(plan.rows):
        columns = [
            column for index, column in enumerate(plan.columns) if row_index * len(plan.columns) + index in picked
        ]
        if not columns:
            continue
        rows, valid = scene.read_valid(row.start, min(tile_px, scene.height_px))
        down = reflect_indices(0, tile_px, rows.shape[1])
        for column in columns:
            across = reflect_indices(column.start, tile_px, scene.width_px)
            inside = valid[np.ix_(down, across)]
            if inside.any():
                pixels = rows[:, down[:, None], across].astype(np.float32)
                pixels[:, ~inside] = 0
                yield row, column, pixels, inside
