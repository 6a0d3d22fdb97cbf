"""Steps per second of each network: our training step beside a plain loop, in the same run.

    python -m benchmarks.training [--models unet-w16 hrnet-w18-small] [--crop 128] [--batch 4] [--steps 8]

`plain` is the style of the reference repository: the same network, contiguous tensors in float32, forward, binary
cross-entropy, backward, Adam. `ours` is the whole of train.loop.trainer.TrainingRun.update, with Dice, gradient
clipping and the average of the weights, channels-last, in float32 and in bfloat16. All see the same crops, in turns, so
that other load on the machine meets them alike; reading is not part of it. Prints a table in Markdown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from runtime.benchmarking.device_state import Sensors
from sarwater.classes import WATER
from train.data.crops import Share, loader
from train.loop.machine import Team
from train.loop.options import FitOptions
from train.loop.plan import Plan, make_plan
from train.loop.trainer import TrainingRun
from train.models import Segmenter

MODELS = ("unet-w16", "unet-w64", "deepunet", "hrnet-w18-small", "hrnet-w18", "hrnet-w48", "fcn-vgg16")
Batch = tuple[Tensor, Tensor]


def plain_step(plan: Plan) -> Callable[[Batch], None]:
    network = Segmenter(plan.arch).to(plan.device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    loss_of = nn.BCEWithLogitsLoss()

    def step(batch: Batch) -> None:
        pixels, truth = (part.to(plan.device) for part in batch)
        optimiser.zero_grad()
        loss = loss_of(network.logits(pixels)[:, 0], (truth == WATER).float())
        loss.backward()
        optimiser.step()

    return step


def our_step(plan: Plan) -> Callable[[Batch], None]:
    training = TrainingRun(plan)

    def step(batch: Batch) -> None:
        training.update(*batch)

    return step


def seconds_of(step: Callable[[Batch], None], batch: Batch, device: torch.device) -> float:
    started_s = time.perf_counter()
    step(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started_s


def measure(model: str, data: Path, out: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each step, by style."""
    plans = {}
    for precision in ("fp32", "bf16"):
        options = FitOptions(
            model=model,
            data=(str(data),),
            crop_px=arguments.crop,
            batch=arguments.batch,
            precision=precision,
            device=arguments.device,
            out=out / model / precision,
        )
        plans[precision] = make_plan(options, Team())
    plan = plans["fp32"]
    batches = list(loader(plan.crops, Share(0, 2, arguments.batch), workers=0))
    styles = {
        "plain fp32": plain_step(plan),
        "ours fp32": our_step(plan),
        "ours bf16": our_step(plans["bf16"]),
    }
    samples: dict[str, list[float]] = {style: [] for style in styles}
    for turn in range(arguments.warmup + arguments.steps):
        for style, step in styles.items():
            seconds = seconds_of(step, batches[turn % len(batches)], plan.device)
            if turn >= arguments.warmup:
                samples[style].append(seconds)
    return samples


def main(argv: Sequence[str] | None = None) -> int:
    p = argparse.ArgumentParser(description="Steps per second of each network, beside a plain loop.")
    p.add_argument("--models", nargs="+", default=MODELS)
    p.add_argument("--crop", type=int, default=128, metavar="PX")
    p.add_argument("--batch", type=int, default=4)
    p.add_argument("--warmup", type=int, default=2, metavar="STEPS")
    p.add_argument("--steps", type=int, default=8)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments = p.parse_args(argv)
    from train.simulator.simulate import Simulation, write_scenes

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "scenes"
        write_scenes(data, Simulation(count=2, size=str(max(512, 2 * arguments.crop)), seed=1))
        print("# Steps per second of training, beside a plain loop\n\n`python -m benchmarks.training`: ", end="")
        print(
            f"{_machine(arguments.device)}; crops of {arguments.crop} px, batch {arguments.batch}, "
            f"{arguments.steps} steps after {arguments.warmup} to warm up\n"
        )
        print(
            "| network | style | steps/s (median) | slowest step, ms | against plain |\n|---|---|---|---|---|",
            flush=True,
        )
        for model in arguments.models:
            samples = measure(model, data, Path(folder) / "runs", arguments)
            plain_s = statistics.median(samples["plain fp32"])
            for style, seconds in samples.items():
                median_s = statistics.median(seconds)
                print(
                    f"| {model} | {style} | {1 / median_s:.2f} | {max(seconds) * 1e3:.0f} "
                    f"| {plain_s / median_s:.2f} x |",
                    flush=True,
                )
    return 0


def _machine(device: str) -> str:
    if device != "cpu" and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}"
    load = f"load average {os.getloadavg()[0]:.1f} at the start"
    return f"{Sensors().machine().cpu}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}, {load}"


if __name__ == "__main__":
    sys.exit(main())
