"""Steps per second of training on a GPU with PyTorch alone: no data, no GDAL.

    python -m benchmarks.gpu_training [--models hrnet-w18-small] [--crop 256] [--batch 32] [--steps 30]

Forward, binary cross-entropy, backward and AdamW on crops that lie on the device: contiguous float32 as most loops have
it, then channels-last bfloat16 as `sarwater fit` trains. `benchmarks.training` has the whole of our step, with data.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence

import torch
from torch import nn

from train.models import Segmenter, architecture


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.gpu_training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", nargs="+", default=["hrnet-w18-small"])
    parser.add_argument("--crop", type=int, default=256, metavar="PX")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warmup", type=int, default=5, metavar="STEPS")
    arguments = parser.parse_args(argv)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, PyTorch {torch.__version__}; crops of {arguments.crop} px, batch {arguments.batch}\n")
    print("| network | precision | steps/s (median) | Mpx/s |\n|---|---|---|---|", flush=True)
    for model in arguments.models:
        for precision in ("fp32", "bf16"):
            step_s = seconds_of_step(model, precision, device, arguments)
            mpx = arguments.batch * arguments.crop**2 / 1e6
            print(f"| {model} | {precision} | {1 / step_s:.2f} | {mpx / step_s:.1f} |", flush=True)
    return 0


def seconds_of_step(model: str, precision: str, device: torch.device, arguments: argparse.Namespace) -> float:
    """The median of the steps after the warm-up."""
    torch.manual_seed(0)
    network = Segmenter(architecture(model)).to(device).train()
    layout = torch.channels_last if precision == "bf16" else torch.contiguous_format
    network = network.to(memory_format=layout)  # type: ignore[call-overload]
    optimiser, loss_of = torch.optim.AdamW(network.parameters(), lr=1e-4), nn.BCEWithLogitsLoss()
    shape = (arguments.batch, 1, arguments.crop, arguments.crop)
    pixels = torch.empty(shape, device=device).exponential_(1 / 60).to(memory_format=layout)
    truth = (torch.rand((arguments.batch, arguments.crop, arguments.crop), device=device) < 0.2).float()
    seconds = []
    for _ in range(arguments.warmup + arguments.steps):
        started_s = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            loss = loss_of(network.logits(pixels)[:, 0].float(), truth)
        loss.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started_s)
    return statistics.median(seconds[arguments.warmup :])


if __name__ == "__main__":
    sys.exit(main())
