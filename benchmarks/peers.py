"""The same network, scene and tile size, run four ways: seconds, peak memory, IoU and visible seams of each.

    benchmarks/peers.sh [--model MODEL] [--int8 hrnet-int8] [--size WxH]

`torch` is a plain sliding window in PyTorch over an array held in memory; `onnxruntime` a rasterio loop, window by
window, as most people write it; `torchgeo` the same PyTorch network fed by torchgeo's grid sampler. None of them
blends. Each runs in a process of its own, one after the other. The weights are the same everywhere: the PyTorch ones
come from the ONNX file. --int8 adds a row: ours with that graph of the same weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.benchmarking.simulated import write_scene
from sarwater.command import run_command
from sarwater.metrics import confusion
from sarwater.models import Model, find_model

PEERS = ("torch", "onnxruntime", "torchgeo")
RUNNER = Path(__file__).with_name("peer_runner.py")
STARTER = """
import json, os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
figures = {
    "seconds": time.perf_counter() - begun,
    "processor_s": usage.ru_utime + usage.ru_stime,
    "peak_memory_mb": usage.ru_maxrss / 1024,
}
print(json.dumps(figures))
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    model = find_model(arguments.model)
    width, height = (int(part) for part in arguments.size.split("x"))
    with tempfile.TemporaryDirectory(prefix="sarwater-peers-") as name:
        folder = Path(name)
        truth = folder / "truth.tif"
        scene = write_scene(folder / "scene.tif", height, width, truth=truth)
        report = {"sarwater": _ours(model, scene, folder, "sarwater")}
        if arguments.int8:
            report["sarwater int8"] = _ours(find_model(arguments.int8), scene, folder, "sarwater int8")
        for peer in arguments.only.split(","):
            report[peer] = _peer(arguments.peers, peer, model, scene, folder)
        edge_to_edge = list(range(model.manifest.tile_px, width, model.manifest.tile_px))
        ours = _borders(model, height, width)
        for name, figures in report.items():
            borders = ours if name.startswith("sarwater") else edge_to_edge
            figures |= _quality(folder / f"{name}.tif", truth, borders)
    print(json.dumps(report, indent=2))
    _print_table(report)
    return 0


def _ours(model: Model, scene: Path, folder: Path, name: str) -> dict[str, Any]:
    products = folder / f"products of {name}"
    command = [sys.executable, "-m", "runtime.predict", str(scene), "-o", str(products)]
    figures = _measured([*command, "--model", str(model.path), "--products", "mask", "--json"])
    (products / "scene_water.tif").rename(folder / f"{name}.tif")
    return figures


def _peer(python: Path, peer: str, model: Model, scene: Path, folder: Path) -> dict[str, Any]:
    tile_px, threshold = model.manifest.tile_px, model.manifest.threshold
    weights, output = model.path, folder / f"{peer}.tif"
    if peer != "onnxruntime":
        weights = folder / "network.pt"
        convert = [str(python), "-m", "benchmarks.peer_weights", str(model.path), str(weights)]
        subprocess.run(convert, check=True, cwd=RUNNER.parent.parent)
    return _measured(
        [str(python), str(RUNNER), peer, str(weights), str(scene), str(output), str(tile_px), str(threshold)]
    )


def _measured(command: Sequence[str]) -> dict[str, Any]:
    """Wall and processor seconds of the process, from start to end, and its peak memory.

    A process counts as its own the memory of the one that starts it; that is a small one here, not this."""
    done = subprocess.run([sys.executable, "-c", STARTER, *command], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: ended with {done.returncode}")
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _borders(model: Model, height_px: int, width_px: int) -> list[int]:
    """The columns in the middle of what two of our windows share."""
    from runtime.backends import open_backend

    with open_backend(model, "cpu") as backend:
        plan = backend.plan(height_px, width_px)
    return [span.lo + plan.overlap_px // 2 for span in plan.columns[1:]]


def _quality(output: Path, truth: Path, borders: Sequence[int]) -> dict[str, float]:
    """IoU against the truth, and how much more often the class changes across a tile's border than elsewhere."""
    mask, label = _classes(output), _classes(truth)
    return {"iou": confusion(mask, label).iou, "seam_ratio": _seam_ratio(mask, borders)}


def _classes(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 of LAND, WATER, NODATA, of a mask as of a label."""
    from sarwater.scenes.labels import Label, settle_coding

    label = Label(path)
    return settle_coding([path]).truth(label.read(0, 0, label.width_px, label.height_px), label.nodata)


def _seam_ratio(mask: npt.NDArray[np.uint8], borders: Sequence[int]) -> float:
    """Share of class changes from the column before a border to the one at it, over that at other columns."""
    changes = (mask[:, 1:] != mask[:, :-1]).mean(axis=0)
    at_border = np.zeros(changes.size, bool)
    at_border[np.asarray(borders) - 1] = True
    return float(changes[at_border].mean() / max(changes[~at_border].mean(), 1e-9))


def _print_table(report: dict[str, dict[str, Any]]) -> None:
    print(f"{'':14}{'seconds':>10}{'cpu s':>10}{'memory MB':>12}{'IoU':>8}{'seams':>8}", file=sys.stderr)
    for name, figures in report.items():
        print(
            f"{name:14}{figures['seconds']:>10.1f}{figures['processor_s']:>10.1f}{figures['peak_memory_mb']:>12.0f}"
            f"{figures['iou']:>8.3f}{figures['seam_ratio']:>8.2f}",
            file=sys.stderr,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks.peers", description="The same network run four ways.")
    parser.add_argument("--peers", type=Path, required=True, help="interpreter of the peers' environment")
    parser.add_argument("--model", default="hrnet", help="an .onnx file or a model name (default: %(default)s)")
    parser.add_argument("--int8", metavar="MODEL", help="the same model in int8, for a row of its own")
    parser.add_argument(
        "--size", default="4096x4096", metavar="WxH", help="of the simulated scene (default: %(default)s)"
    )
    parser.add_argument("--only", default=",".join(PEERS), metavar="LIST", help="peers to run (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
