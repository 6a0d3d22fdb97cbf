"""One peer, in the peers' own environment: peer_runner.py PEER MODEL SCENE OUTPUT TILE_PX THRESHOLD.

MODEL is the ONNX file, for `torch` and `torchgeo` the same network as TorchScript (peer_weights.py). Written the way
such code is usually written, neither slowed down nor tuned; imports nothing of sarwater.
"""

from __future__ import annotations

import sys

import numpy as np


def main() -> None:
    peer, model, scene, output, tile, threshold = sys.argv[1:]
    run = {"torch": sliding_window, "onnxruntime": rasterio_loop, "torchgeo": grid_sampler}[peer]
    run(model, scene, output, int(tile), float(threshold))


def sliding_window(model_path: str, scene_path: str, output_path: str, tile: int, threshold: float) -> None:
    import rasterio
    import torch

    model = torch.jit.load(model_path).eval()
    with rasterio.open(scene_path) as scene:
        image, profile = scene.read(1).astype(np.float32), scene.profile
    height, width = image.shape
    padded = np.pad(image, ((0, -height % tile), (0, -width % tile)), mode="reflect")
    mask = np.zeros(padded.shape, np.uint8)
    with torch.inference_mode():
        for y in range(0, padded.shape[0], tile):
            for x in range(0, padded.shape[1], tile):
                patch = torch.from_numpy(padded[y : y + tile, x : x + tile].copy())[None, None]
                mask[y : y + tile, x : x + tile] = (model(patch)[0, 0] >= threshold).numpy()
    write(output_path, mask[:height, :width], profile)


def rasterio_loop(model_path: str, scene_path: str, output_path: str, tile: int, threshold: float) -> None:
    import onnxruntime
    import rasterio
    from rasterio.windows import Window

    session = onnxruntime.InferenceSession(model_path, providers=["CPUExecutionProvider"])
    with rasterio.open(scene_path) as scene:
        profile = scene.profile | {"dtype": "uint8", "count": 1, "compress": "deflate"}
        with rasterio.open(output_path, "w", **profile) as output:
            for y in range(0, scene.height, tile):
                for x in range(0, scene.width, tile):
                    window = Window(x, y, tile, tile)
                    patch = scene.read(1, window=window, boundless=True, fill_value=0).astype(np.float32)
                    water = session.run(None, {"sar": patch[None, None]})[0][0, 0] >= threshold
                    rows, columns = min(tile, scene.height - y), min(tile, scene.width - x)
                    output.write(water[:rows, :columns].astype(np.uint8), 1, window=Window(x, y, columns, rows))


def grid_sampler(model_path: str, scene_path: str, output_path: str, tile: int, threshold: float) -> None:
    import rasterio
    import torch

    import_torchvision()
    from torch.utils.data import DataLoader
    from torchgeo.datasets import RasterDataset, stack_samples
    from torchgeo.samplers import GridGeoSampler

    model = torch.jit.load(model_path).eval()
    with rasterio.open(scene_path) as scene:
        profile, to_pixel = scene.profile, ~scene.transform
    dataset = RasterDataset(paths=[scene_path])
    mask = np.zeros((profile["height"], profile["width"]), np.uint8)
    chips = DataLoader(dataset, batch_size=1, sampler=GridGeoSampler(dataset, size=tile), collate_fn=stack_samples)
    with torch.inference_mode():
        for chip in chips:
            water = (model(chip["image"])[0, 0] >= threshold).numpy()
            x, y, _ = dataset._disambiguate_slice(chip["bounds"][0])
            left, top = (round(value) for value in to_pixel * (x.start, y.stop))
            # Chips start at the lower left corner; those at the other edges reach beyond the scene.
            rows, columns = slice(max(top, 0), top + tile), slice(left, min(left + tile, mask.shape[1]))
            mask[rows, columns] = water[rows.start - top :][: rows.stop - rows.start, : columns.stop - left]
    write(output_path, mask, profile)


def import_torchvision() -> None:
    """torchgeo imports torchvision, which is built for CUDA on PyPI: beside a PyTorch without it, two operators that
    nothing here calls are missing, and the import fails for want of their names."""
    import torch

    try:
        import torchvision
    except RuntimeError:
        names = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            names.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision  # noqa: F401


def write(path: str, mask: np.ndarray, profile: dict[str, object]) -> None:
    import rasterio

    with rasterio.open(path, "w", **(profile | {"dtype": "uint8", "count": 1, "compress": "deflate"})) as output:
        output.write(mask, 1)


if __name__ == "__main__":
    main()
