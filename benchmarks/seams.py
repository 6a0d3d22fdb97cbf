"""Whether the tiles can be seen in a mask: a scene, twice, its windows half a tile apart.

    python -m benchmarks.seams SCENE [--model MODEL] [--size WxH] [--at X,Y] [--picture FILE.png]

Both runs see parts of the same size, so their windows lie exactly half a tile apart in each direction. What is nearer
than half a tile to the end of either part is not compared: there, the scene ends for one of the two. Borders are the
cross-fades between the windows of either run. Without --size, the part is as large as the scene allows. --picture draws
the difference of the two confidences, where a seam would show as a line: a step of that difference from before a fade
to behind it, in the means of 16 x 64 px. Steps are measured over every fade, and as far apart everywhere else.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.backends import Backend, open_backend
from runtime.pipeline import infer_scene, open_for
from sarwater.classes import NODATA
from sarwater.command import run_command
from sarwater.errors import UsageError
from sarwater.models import find_model
from sarwater.request import Request, Window
from sarwater.tiling import Span

UInt8 = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]

NEAR_PX, ALONG_PX = 16, 64
"""The means between which a step is measured."""


@dataclass(frozen=True)
class Comparison:
    """Two runs over the same pixels, (h, w): what was compared, and the difference of the confidences in points."""

    tile_px: int
    valid: Bool
    classes_differ: Bool
    difference: npt.NDArray[np.int16]
    fade_rows: Bool
    fade_columns: Bool
    """(h,) and (w,) True where two windows are blended, or meet."""
    fade_px: int

    def figures(self) -> dict[str, float | int | None]:
        """None for a step where there is no place to measure it: small tiles have fades everywhere."""
        apart = np.abs(self.difference)
        border = self.fade_rows[:, None] | self.fade_columns
        on, off = self.valid & border, self.valid & ~border
        rows = _steps(self.difference, self.valid, self.fade_rows, self.fade_px)
        columns = _steps(self.difference.T, self.valid.T, self.fade_columns, self.fade_px)
        across, elsewhere = (np.concatenate(steps) for steps in zip(rows, columns, strict=True))
        return {
            "tile_px": self.tile_px,
            "pixels": int(np.count_nonzero(self.valid)),
            "classes_differ_percent": 100 * float(self.classes_differ[self.valid].mean()),
            "difference_on_borders_points": float(apart[on].mean()),
            "difference_elsewhere_points": float(apart[off].mean()),
            "step_across_borders_points": float(across.mean()) if across.size else None,
            "step_elsewhere_points": float(elsewhere.mean()) if elsewhere.size else None,
        }


def compare(scene: Path, backend: Backend, part: Window) -> Comparison:
    """`part` and the one that lies half a tile further south-east, both in the scene."""
    plan = backend.plan(part.height_px, part.width_px)
    half_px = plan.tile_px // 2
    shifted = Window(part.x_px + half_px, part.y_px + half_px, part.width_px, part.height_px)
    inner = tuple(slice(2 * half_px, side_px - half_px) for side_px in (part.height_px, part.width_px))
    same = tuple(slice(half_px, side_px - 2 * half_px) for side_px in (part.height_px, part.width_px))
    mask, confidence = (answer[inner] for answer in _answers(scene, backend, part))
    other_mask, other = (answer[same] for answer in _answers(scene, backend, shifted))
    valid = (mask != NODATA) & (other_mask != NODATA)
    rows, columns = (
        _fades(spans, side_px, plan.overlap_px)
        for spans, side_px in ((plan.rows, plan.height_px), (plan.columns, plan.width_px))
    )
    return Comparison(
        tile_px=plan.tile_px,
        valid=valid,
        classes_differ=(mask != other_mask) & valid,
        difference=np.where(valid, confidence.astype(np.int16) - other, 0).astype(np.int16),
        fade_rows=rows[inner[0]] | rows[same[0]],
        fade_columns=columns[inner[1]] | columns[same[1]],
        fade_px=max(1, plan.overlap_px),
    )


def _answers(scene: Path, backend: Backend, window: Window) -> tuple[UInt8, UInt8]:
    options = Request(window=window)
    with open_for(backend, scene, options) as opened:
        parts = list(infer_scene(opened, backend, options))
    return np.concatenate([part.mask for part in parts]), np.concatenate([part.confidence for part in parts])


def _fades(spans: Sequence[Span], length_px: int, overlap_px: int) -> Bool:
    """(length_px,) True where two windows are blended, or meet."""
    fades = np.zeros(length_px, bool)
    for span in spans[1:]:
        fades[span.lo : span.lo + max(1, overlap_px)] = True
    return fades


def _steps(
    difference: npt.NDArray[np.int16], valid: Bool, fades: Bool, fade_px: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Steps along the first axis, in points: those over a whole fade, and those that no fade touches.

    A step is from the mean of NEAR_PX before to that of NEAR_PX behind, over ALONG_PX across; none with nodata.
    """
    height, width = difference.shape[0], difference.shape[1] // ALONG_PX * ALONG_PX
    strips = [np.where(valid, plane, 0)[:, :width].reshape(height, -1, ALONG_PX) for plane in (difference, valid)]
    totals, counts = (
        np.pad(np.cumsum(strip.sum(axis=2, dtype=np.int64), axis=0), ((1, 0), (0, 0))) for strip in strips
    )
    first = np.arange(height - 2 * NEAR_PX - fade_px + 1)
    second = first + NEAR_PX + fade_px
    before, behind = (totals[at + NEAR_PX] - totals[at] for at in (first, second))
    whole = np.minimum(*(counts[at + NEAR_PX] - counts[at] for at in (first, second))) == NEAR_PX * ALONG_PX
    steps = np.abs(behind - before) / (NEAR_PX * ALONG_PX)
    faded = np.pad(np.cumsum(fades), (1, 0))
    within = faded[second] - faded[first + NEAR_PX]
    over = (within == fade_px) & (faded[second + NEAR_PX] - faded[first] == fade_px)
    untouched = faded[second + NEAR_PX] == faded[first]
    return steps[over][whole[over]], steps[untouched][whole[untouched]]


def _largest(backend: Backend, width_px: int, height_px: int) -> tuple[tuple[int, int], int]:
    """(width and height that leave half a tile free, half a tile): the tile depends on the size."""
    half_px = 0
    while True:
        size_px = (width_px - half_px, height_px - half_px)
        wanted_px = backend.plan(max(1, size_px[1]), max(1, size_px[0])).tile_px // 2
        if wanted_px <= half_px:
            return size_px, half_px
        half_px = wanted_px


def draw(comparison: Comparison, path: Path) -> None:
    """The difference, red and blue up to ten points either way; nodata grey."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.add_subplot()
    shown = np.ma.masked_array(comparison.difference, ~comparison.valid)
    axes.set_facecolor("0.6")
    image = axes.imshow(shown, cmap="RdBu", vmin=-10, vmax=10, interpolation="nearest")
    figure.colorbar(image, label="difference of the confidence, points")
    axes.set_title(f"windows of {comparison.tile_px} px, half a window apart")
    figure.savefig(path, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    x_px, y_px = (int(part) for part in arguments.at.split(","))
    with open_backend(find_model(arguments.model), "cpu") as backend:
        with open_for(backend, arguments.scene, Request()) as scene:
            width_px, height_px = scene.width_px - x_px, scene.height_px - y_px
        if arguments.size:
            size_px = tuple(int(part) for part in arguments.size.split("x"))
            half_px = backend.plan(size_px[1], size_px[0]).tile_px // 2
        else:
            size_px, half_px = _largest(backend, width_px, height_px)
        most_px = (width_px - half_px, height_px - half_px)
        if min(size_px) <= 3 * half_px or size_px[0] > most_px[0] or size_px[1] > most_px[1]:
            raise UsageError(
                f"{size_px[0]} x {size_px[1]} px at {arguments.at}: expected more than {3 * half_px} px and at most "
                f"{most_px[0]} x {most_px[1]}, for half a tile stays free beside it"
            )
        comparison = compare(arguments.scene, backend, Window(x_px, y_px, *size_px))
    if arguments.picture:
        draw(comparison, arguments.picture)
    print(json.dumps(comparison.figures(), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.seams", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path, metavar="SCENE")
    parser.add_argument("--model", default="hrnet", help="an .onnx file or a model name (default: %(default)s)")
    parser.add_argument("--size", metavar="WxH", help="of the part; default: all, but for half a tile")
    parser.add_argument("--at", default="0,0", metavar="X,Y", help="its upper left corner (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE.png")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
