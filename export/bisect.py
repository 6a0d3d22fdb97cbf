"""Where a converted network goes wrong: every intermediate tensor of both, side by side, with Polygraphy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from export.emulate import emulated
from export.graph import Graph, with_tile
from export.precision import folded
from export.samples import Sample
from sarwater.dependencies import EXPORT_INSTALL, require
from sarwater.manifest import INPUT_NAME

Float32 = npt.NDArray[np.float32]

TILE_PX = 256
"""Every tensor of a large network at once: a corner of a tile must do."""


@dataclass(frozen=True)
class LayerError:
    name: str
    op_type: str
    error: float
    """Root mean square of the difference over that of the fp32 tensor; infinite for an overflow."""
    added: float
    """How much of it this layer adds to the largest error among its inputs."""


def worst_layers(reference: Graph, converted: Graph, sample: Sample, count: int = 5) -> list[LayerError]:
    """The layers that add the most error, the worst first, on the upper left corner of one sample.

    Raises DependencyMissing without Polygraphy.
    """
    side_px = min(TILE_PX, sample.pixels.shape[1])
    pixels = np.ascontiguousarray(sample.pixels[None, :, :side_px, :side_px])
    plain = folded(with_tile(reference, side_px))
    expected = _all_tensors(plain, pixels)
    found = _all_tensors(emulated(with_tile(converted, side_px).proto), pixels)
    errors: dict[str, float] = {}
    layers = []
    for node in plain.graph.node:
        name = node.output[0]
        if name in found and found[name].dtype.kind == "f" and found[name].shape == expected[name].shape:
            errors[name] = _relative_error(found[name], expected[name])
            before = max((errors.get(source, 0.0) for source in node.input), default=0.0)
            added = errors[name] - before if np.isfinite(errors[name]) else np.inf if np.isfinite(before) else 0.0
            layers.append(LayerError(node.name, node.op_type, errors[name], added))
    return sorted(layers, key=lambda layer: -layer.added)[:count]


def _all_tensors(proto: onnx.ModelProto, pixels: Float32) -> dict[str, npt.NDArray[np.generic]]:
    require("polygraphy.backend.onnxrt", "comparing layers", EXPORT_INSTALL)
    from polygraphy import constants
    from polygraphy.backend.onnx import BytesFromOnnx, ModifyOutputs
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.logger import G_LOGGER

    marked = ModifyOutputs(proto, outputs=constants.MARK_ALL)
    with G_LOGGER.verbosity(G_LOGGER.ERROR), OnnxrtRunner(SessionFromOnnx(BytesFromOnnx(marked))) as runner:
        return {name: np.array(value) for name, value in runner.infer({INPUT_NAME: pixels}).items()}


def _relative_error(found: npt.NDArray[np.generic], expected: npt.NDArray[np.generic]) -> float:
    difference = found.astype(np.float64) - expected.astype(np.float64)
    if not np.isfinite(difference).all():
        return float("inf")
    scale = float(np.sqrt(np.mean(np.square(expected.astype(np.float64)))))
    return float(np.sqrt(np.mean(np.square(difference)))) / max(scale, 1e-12)
