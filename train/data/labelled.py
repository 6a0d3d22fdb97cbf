"""Labelled scenes: checked before training starts, read by window, through the same reader as at run time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from sarwater.classes import NODATA
from sarwater.errors import ChannelMissing, DataError, UsageError
from sarwater.manifest import Channel
from sarwater.progress import Progress
from sarwater.request import Request, Window
from sarwater.scenes.georeference import Georeference
from sarwater.scenes.labels import BLOCK_ROWS, Coding, Label, LabelledFiles, find_files, settle_coding, stem
from sarwater.scenes.level import Level, level_of
from sarwater.scenes.level_change import UNCHANGED, LevelChange
from sarwater.scenes.model_input import ModelInput
from sarwater.scenes.readers import open_model_input
from sarwater.scenes.valid_extent import ValidExtent

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
T = TypeVar("T")
CHANNELS = ("sar", "hh", "hv", "vh", "vv", "gim")


def channels_named(*names: str) -> tuple[Channel, ...]:
    """Amplitudes of these names, and the incidence-angle mask. Raises UsageError."""
    for name in names:
        if name not in CHANNELS:
            raise UsageError(
                f"channels {','.join(names)}: no channel {name!r}; expected some of: {', '.join(CHANNELS)}"
            )
    return tuple(Channel(name, "incidence_dn" if name == "gim" else "amplitude_dn") for name in names)


AMPLITUDE = channels_named("sar")


@dataclass(frozen=True)
class Extent:
    """A rectangle on the ground in the units of its reference system `crs` (WKT)."""

    crs: str
    west: float
    south: float
    east: float
    north: float


@dataclass(frozen=True)
class LabelledScene:
    """One image with its label. `rows` limits it to scene rows [first, last), so that one scene can be split."""

    name: str
    files: LabelledFiles
    channels: tuple[Channel, ...]
    coding: Coding
    request: Request
    width_px: int
    height_px: int
    rows: tuple[int, int]
    pixel_m: float | None
    """Pixel spacing on the ground; None where it is not known."""
    extent: Extent | None = None
    """None without a reference system, or where it is rotated."""
    valid_extent: ValidExtent | None = field(default=None, compare=False, repr=False)
    """None: no edge is cut off."""
    level: Level | None = None
    """Of an uncalibrated scene; None for calibrated ones, which are left as they are, and where hardly anything was
    measured."""
    change: LevelChange = UNCHANGED
    """What `read` does to its level."""

    def levelled(self, level_db: float | None) -> LabelledScene:
        """The same scene as a model sees it that wants uncalibrated ones at `level_db`; None: as they are."""
        if self.level is None or level_db is None:
            return replace(self, change=UNCHANGED)
        return replace(self, change=self.level.change(level_db))

    @property
    def image(self) -> Path:
        return self.files.image

    @property
    def label(self) -> Path:
        return self.files.label

    @property
    def held_out(self) -> bool:
        """Named by a val.txt."""
        return self.files.held_out

    @property
    def sar_channels(self) -> int:
        """How many of the channels, the first ones, are backscatter."""
        return sum(channel.name != "gim" for channel in self.channels)

    @property
    def rows_px(self) -> int:
        return self.rows[1] - self.rows[0]

    @property
    def area_px(self) -> int:
        return self.width_px * self.rows_px

    def read(self, x_px: int, y_px: int, width_px: int, height_px: int) -> tuple[Float32, UInt8]:
        """Window in scene pixels: raw pixels (C, height, width) float32 with nodata as 0, and the truth (height, width)
        uint8 in LAND, WATER, NODATA; NODATA wherever nothing was measured."""
        image, label = _opened(self, os.getpid())
        rows, valid = image.cropped(Window(x_px, y_px, width_px, height_px)).read_valid(0, height_px)
        pixels = rows.astype(np.float32)
        if image.sar_nodata is not None:
            sar = pixels[: self.sar_channels]
            sar[sar == image.sar_nodata] = 0
        pixels[: self.sar_channels, ~valid] = 0
        if self.change:
            pixels[: self.sar_channels] = self.change.of(pixels[: self.sar_channels])
        truth = self.coding.truth(label.read(x_px, y_px, width_px, height_px), label.nodata)
        truth[~valid] = NODATA
        return pixels, truth

    def truth(self) -> UInt8:
        """Of the rows that the scene is limited to, (rows, width) uint8 in LAND, WATER, NODATA."""
        return np.concatenate([truth for _, truth in self.strips()])

    def amplitude(self) -> Float32:
        """First channel of the same rows, (rows, width) float32, nodata 0."""
        return np.concatenate([pixels[0] for pixels, _ in self.strips()])

    def strips(self) -> Iterator[tuple[Float32, UInt8]]:
        """As `read`, over the rows that the scene is limited to, top to bottom, for what does not fit into memory."""
        first, last = self.rows
        for y in range(first, last, BLOCK_ROWS):
            yield self.read(0, y, self.width_px, min(BLOCK_ROWS, last - y))


def find_labelled(
    data: str,
    channels: Sequence[Channel] = AMPLITUDE,
    coding: Coding | None = None,
    request: Request | None = None,
    *,
    quiet: bool = False,
) -> list[LabelledScene]:
    """The labelled scenes of one data folder, list file or IMAGE:LABEL[:GIM], checked: whole, of one size with their
    labels, with label values of a known meaning.

    Raises DataError naming the file, SceneError, UsageError for channels that no data can have.
    """
    names = [channel.name for channel in channels]
    if "gim" in names[:-1] or names == ["gim"]:
        raise UsageError(f"channels {','.join(names)}: `gim` comes last, after a SAR band")
    found = find_files(data, with_gim=names[-1] == "gim")
    with Progress(f"checking {data}", "files", quiet=quiet) as progress:
        coding = settle_coding(_counted([files.label for files in found], progress, 0), coding, request)
        images = _counted(found, progress, len(found))
        scenes = [_checked(files, tuple(channels), coding, request or Request()) for files in images]
    repeated = {name for name, count in Counter(scene.name for scene in scenes).items() if count > 1}
    return [replace(scene, name=stem(scene.image)) if scene.name in repeated else scene for scene in scenes]


def _counted(items: Sequence[T], progress: Progress, done: int) -> Iterator[T]:
    """The labels are looked through, then the images, as many."""
    for number, item in enumerate(items, done):
        progress(number, 2 * len(items))
        yield item


def _checked(files: LabelledFiles, channels: tuple[Channel, ...], coding: Coding, request: Request) -> LabelledScene:
    image, request = _open_image(files, channels, request)
    with image:
        label = Label(files.label, request)
        if (label.width_px, label.height_px) != (image.width_px, image.height_px):
            raise DataError(
                f"{files.label}: {label.width_px} x {label.height_px} px, expected {image.width_px} x "
                f"{image.height_px} px as {files.image.name}"
            )
        image.look_through(BLOCK_ROWS)
        return LabelledScene(
            name=first_part(files.image),
            files=files,
            channels=channels,
            coding=coding,
            request=request,
            width_px=image.width_px,
            height_px=image.height_px,
            rows=(0, image.height_px),
            pixel_m=image.pixel_m,
            extent=_extent(image.georeference, image.width_px, image.height_px),
            valid_extent=image.valid_extent,
            level=None if image.calibrated else level_of(image),
        )


def _open_image(files: LabelledFiles, channels: tuple[Channel, ...], request: Request) -> tuple[ModelInput, Request]:
    """With the request that opens it again: in files whose bands have no names, channels are bands in their order."""
    try:
        return open_model_input(files.image, channels, request, gim=files.gim), request
    except ChannelMissing:
        count = sum(channel.name != "gim" for channel in channels)
        if request.polarisations or count < 2:
            raise
        in_order: Request = request.but(polarisations=tuple(str(number + 1) for number in range(count)))
        return open_model_input(files.image, channels, in_order, gim=files.gim), in_order


def _extent(georeference: Georeference, width_px: int, height_px: int) -> Extent | None:
    if georeference.geotransform is None or not georeference.crs_wkt:
        return None
    west, dx, skew_x, north, skew_y, dy = georeference.geotransform
    if skew_x or skew_y or dx <= 0 or dy >= 0:
        return None
    return Extent(georeference.crs_wkt, west, north + dy * height_px, west + dx * width_px, north)


@lru_cache(maxsize=64)
def _open_once(
    files: LabelledFiles, channels: tuple[Channel, ...], request: Request, process: int
) -> tuple[ModelInput, Label]:
    image = open_model_input(files.image, channels, request, gim=files.gim)
    image.bands = tuple(replace(band, trusted=True) for band in image.bands)
    return image, Label(files.label, request)


def _opened(scene: LabelledScene, process: int) -> tuple[ModelInput, Label]:
    """One per process: a handle that crossed a fork would share its file position."""
    image, label = _open_once(scene.files, scene.channels, scene.request, process)
    image.valid_extent = scene.valid_extent
    return image, label


def first_part(path: Path) -> str:
    return path.stem.split("_")[0]
