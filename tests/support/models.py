"""Tiny real ONNX graphs with real manifests: dark is water, over a small or a wide box."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from sarwater.manifest import Channel, ModelManifest, sha256_of
from sarwater.models import Model


def box_model(
    path: Path,
    *,
    tile_px: int = 64,
    overlap_px: int = 16,
    box_px: int = 5,
    dark: float = 60.0,
    steepness: float = 0.1,
    channels: tuple[str, ...] = ("sar",),
    unit: str = "amplitude_dn",
) -> Model:
    """water = sigmoid(steepness * (dark - mean of the first channel over a box)), zero-padded at the tile's edges."""
    weights = np.zeros((1, len(channels), box_px, box_px), np.float32)
    weights[:, 0] = 1 / box_px**2
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["sar", "weights"], ["mean"], pads=[box_px // 2] * 4),
            helper.make_node("Sub", ["dark", "mean"], ["darker"]),
            helper.make_node("Mul", ["darker", "steepness"], ["logit"]),
            helper.make_node("Sigmoid", ["logit"], ["water"]),
        ],
        "box",
        [helper.make_tensor_value_info("sar", TensorProto.FLOAT, ["N", len(channels), tile_px, tile_px])],
        [helper.make_tensor_value_info("water", TensorProto.FLOAT, ["N", 1, tile_px, tile_px])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel()),
            helper.make_tensor("dark", TensorProto.FLOAT, [], [dark]),
            helper.make_tensor("steepness", TensorProto.FLOAT, [], [steepness]),
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(path))
    manifest = ModelManifest(
        family="hrnet",
        variant="box",
        channels=tuple(Channel(name, unit) for name in channels),
        tile_px=tile_px,
        overlap_px=overlap_px,
        threshold=0.5,
        precision="fp32",
        opset=17,
        files={path.name: sha256_of(path)},
    )
    path.with_suffix(".json").write_text(manifest.to_json(), encoding="utf-8")
    return Model(path, manifest)


def box_probability(pixels: np.ndarray, box_px: int = 5, dark: float = 60.0, steepness: float = 0.1) -> np.ndarray:
    """The same formula over a whole scene at once, (H, W) -> (H, W) float64; exact away from the scene's edges."""
    half = box_px // 2
    sums = np.pad(np.pad(pixels.astype(np.float64), half).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    boxes = sums[box_px:, box_px:] - sums[:-box_px, box_px:] - sums[box_px:, :-box_px] + sums[:-box_px, :-box_px]
    probability: np.ndarray = 1 / (1 + np.exp(-steepness * (dark - boxes / box_px**2)))
    return probability
