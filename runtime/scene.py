"""A SAR scene as the network sees it: channels in the manifest's order, row bands, nodata, georeference.

with open_scene(path, manifest.channels) as scene:
    plan = TilePlan(scene.height_px, scene.width_px, manifest.tile_px, manifest.overlap_px)
    for rows, valid in scene.bands(plan):
        ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

from runtime.geotiff import open_geotiff
from runtime.job import SceneLimits, Window
from runtime.product import Georeference, Layer, Product
from sarwater.errors import ChannelMissing, SceneEmpty, SceneMissing, SceneUnsafe, UnitMismatch, UsageError
from sarwater.manifest import Channel, sha256_of
from sarwater.tiling import TilePlan

Pixels = npt.NDArray[np.generic]
Bool = npt.NDArray[np.bool_]

See = Callable[[int, Pixels, Bool | None], None]

SHADOW = 2
"""Mask value of pixels in radar shadow or layover: measured, but not classified."""

_CO_POLARISATIONS = ("hh", "vv")


@dataclass
class Scene:
    """An opened product, cut to a window. A context manager: leaving it closes the files. One thread reads."""

    path: Path
    product: Product
    layers: tuple[Layer, ...]
    """One per channel of the model."""
    window: Window
    nodata: float | None
    """Value that means "nothing measured" in every channel; None where `bands` yields a validity mask instead."""

    @property
    def height_px(self) -> int:
        return self.window.height_px

    @property
    def width_px(self) -> int:
        return self.window.width_px

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of the bands: the sensor's own, or float32 where layers differ or values are derived."""
        return np.result_type(*(layer.dtype for layer in self.layers))

    @property
    def georeference(self) -> Georeference:
        return self.product.georeference.shifted(self.window.x_px, self.window.y_px)

    @property
    def notes(self) -> tuple[str, ...]:
        """What whoever uses the products should know, in plain words."""
        notes = list(self.product.notes)
        if not self.georeference.known:
            notes.append("the scene has no georeference: products are in rows and columns")
        return tuple(notes)

    def read(self, row: int, count: int) -> tuple[Pixels, Bool | None]:
        """Rows [row, row + count) of the window: (C, count, W) pixels, and (count, W) validity where it takes more
        than `nodata` to tell.

        Raises SceneUnreadable where a block cannot be decoded, UnitMismatch for negative amplitudes.
        """
        window = Window(self.window.x_px, self.window.y_px + row, self.width_px, count)
        rows = np.empty((len(self.layers), count, self.width_px), self.dtype)
        for channel, layer in zip(rows, self.layers, strict=True):
            channel[...] = layer.read(window)
        valid: Bool | None = self.product.read_mask(window)
        if rows.dtype.kind == "f":
            self._refuse_negative_amplitude(rows)
            finite: Bool = np.asarray(np.isfinite(rows).all(axis=0))
            rows[:, ~finite] = 0
            valid = finite if valid is None else finite & valid
        if valid is not None and self.nodata is not None:
            valid &= (rows != self.nodata).any(axis=0)
        return rows, valid

    def bands(self, plan: TilePlan, see: See | None = None) -> Iterator[tuple[Pixels, Bool | None]]:
        """The pixels of each tile row of `plan`, north to south; what two of them share is read once.

        `see` is called with every row once: (row, pixels, validity).
        """
        rows: Pixels | None = None
        valid: Bool | None = None
        end = 0
        for span in plan.rows:
            stop = min(span.start + plan.tile_px, self.height_px)
            fresh, fresh_valid = self.read(end, stop - end)
            if see:
                see(end, fresh, fresh_valid)
            if rows is not None and span.start < end:
                keep = end - span.start
                fresh = np.concatenate([rows[:, -keep:], fresh], axis=1)
                if fresh_valid is not None and valid is not None:
                    fresh_valid = np.concatenate([valid[-keep:], fresh_valid])
            rows, valid, end = fresh, fresh_valid, stop
            yield rows, valid

    def _refuse_negative_amplitude(self, rows: Pixels) -> None:
        if self.layers[0].unit != "amplitude_dn":
            return
        lowest = float(np.min(rows, initial=0, where=np.isfinite(rows) & (rows != self.nodata)))
        if lowest < 0:
            raise UnitMismatch(
                f"{self.path.name}: holds {lowest:.4g}, but an amplitude is never negative; "
                "it looks like decibels: use a model for sigma0_db, or give the scene as amplitude"
            )

    def close(self) -> None:
        self.product.close()

    def __enter__(self) -> Scene:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_scene(
    path: Path,
    channels: Sequence[Channel],
    *,
    polarisations: Sequence[str] = (),
    window: Window | None = None,
    nodata: float | None = None,
    limits: SceneLimits | None = None,
) -> Scene:
    """Open the product at `path` for a model's `channels`.

    `polarisations` chooses what feeds the model's `sar` channels, by name (`vv`) or by band number (`2`).

    Raises SceneMissing, SceneEmpty, SceneTruncated, SceneUnreadable, SceneUnsafe, ChannelMissing, UnitMismatch, and
    UsageError for a window outside the scene.
    """
    limits = limits or SceneLimits()
    _check_file(path, limits)
    product = open_geotiff(path, limits)
    try:
        layers = _choose_layers(product, path, channels, polarisations)
        whole = Window(0, 0, product.width_px, product.height_px)
        return Scene(
            path, product, layers, _inside(window or whole, whole), product.nodata if nodata is None else nodata
        )
    except BaseException:
        product.close()
        raise


def hash_input(path: Path) -> str:
    """The sha256 of a scene's bytes. Raises SceneMissing."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise SceneMissing(f"{path}: {error.strerror}; expected a readable SAR scene") from error


def _check_file(path: Path, limits: SceneLimits) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        raise SceneMissing(f"{path}: {error.strerror}; expected a readable SAR scene") from error
    if not path.is_file():
        raise SceneMissing(f"{path}: not a regular file; expected a SAR scene")
    if size == 0:
        raise SceneEmpty(f"{path.name}: an empty file; the transfer failed: send it again")
    if size > limits.file_bytes:
        raise SceneUnsafe(
            f"{path.name}: {size:,} bytes, more than the limit of {limits.file_bytes:,}; raise it if that is right"
        )


def _choose_layers(
    product: Product, path: Path, channels: Sequence[Channel], polarisations: Sequence[str]
) -> tuple[Layer, ...]:
    wanted = iter(polarisations)
    layers: list[Layer] = []
    for channel in channels:
        name = next(wanted, None) if channel.name == "sar" else channel.name
        layer = _find_layer(product, path, name, [item for item in product.layers if item not in layers])
        if layer.unit != channel.unit:
            raise UnitMismatch(
                f"{path.name}: its pixels are {layer.unit}, the model expects {channel.unit}; "
                "use a model made for this unit, or convert the scene"
            )
        layers.append(layer)
    return tuple(layers)


def _find_layer(product: Product, path: Path, name: str | None, free: Sequence[Layer]) -> Layer:
    """The layer called `name`, or for None the obvious one: the only one, else the co-polarised one."""
    offered = ", ".join(layer.label for layer in product.layers)
    if name is None:
        if len(free) == 1:
            return free[0]
        co_polarised = [layer for layer in free if layer.polarisation in _CO_POLARISATIONS]
        known = [layer for layer in free if layer.polarisation is not None]
        if free and (co_polarised or known):
            return (co_polarised or known)[0]
        raise ChannelMissing(
            f"{path.name}: has {len(product.layers)} bands ({offered}) and none says its polarisation; "
            "choose with --polarisation NUMBER"
        )
    for layer in free:
        if name.lower() == layer.polarisation or name == str(layer.band):
            return layer
    raise ChannelMissing(
        f"{path.name}: has no channel {name!r}; it has {offered}: choose with --polarisation, or another model"
    )


def _inside(window: Window, whole: Window) -> Window:
    if (
        min(window.x_px, window.y_px) < 0
        or min(window.width_px, window.height_px) < 1
        or window.x_px + window.width_px > whole.width_px
        or window.y_px + window.height_px > whole.height_px
    ):
        raise UsageError(f"--window {window}: not inside the scene of {whole.width_px} x {whole.height_px} px")
    return window
