"""What a lower precision gains on the CPU backend and what it costs, in one run.

    python -m benchmarks.precision [--model hrnet] [--data DIR] [--repeat 30] [--json FILE]

fp32, fp16 and int8 graphs of one model, and the fp32 graph in bf16 where the processor computes in it, take turns, tile
by tile, so that whatever else the machine does hits all of them alike. Processor seconds, which hardly depend on the
neighbours, stand beside the wall-clock; accuracy is that of the same answers against fp32, on labelled tiles (DIR with
img/ and mask/, else simulated).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, cast

import numpy as np

from export.accuracy import compare
from export.artefacts import TILE_PX, Workshop, proof_samples
from export.verify import find_files
from runtime.backends import Backend, open_backend
from runtime.backends.cpu.openvino import OpenVinoBackend, computes_bf16
from runtime.benchmarking.timing import summarise
from sarwater.command import run_command
from sarwater.models import ENGINES, open_model

SAMPLES = 6
WARM_UP = 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.precision", description="Speed and accuracy by precision."
    )
    parser.add_argument("--model", default="hrnet", help="a model name or a checkpoint (default: %(default)s)")
    parser.add_argument("--data", type=Path, metavar="DIR", help="labelled scenes (default: simulated ones)")
    parser.add_argument("--repeat", type=int, default=30, metavar="N", help="runs of every precision (default: 30)")
    parser.add_argument("--tile", type=int, default=TILE_PX, metavar="PX")
    parser.add_argument("--json", type=Path, metavar="FILE")
    arguments = parser.parse_args(argv)
    workshop = Workshop(ENGINES, arguments.tile, arguments.data, say=lambda text: print(text, file=sys.stderr))
    text = json.dumps(measure(arguments.model, workshop, arguments.repeat), indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    return 0


def measure(model: str, workshop: Workshop, repeat: int) -> dict[str, Any]:
    """The report; latencies in milliseconds of one tile, batch 1."""
    files = find_files(model, workshop)
    manifest = files.fp32.manifest
    samples = proof_samples(files.fp32, workshop, workshop.tile_px, SAMPLES)
    with contextlib.ExitStack() as stack:
        backends: dict[str, Backend] = {
            graph.manifest.precision: stack.enter_context(open_backend(open_model(cast(Path, graph.path))))
            for graph in files.graphs
        }
        if computes_bf16():
            path = cast(Path, files.fp32.path)
            other = OpenVinoBackend(path, manifest, manifest.verify(path), precision="bf16")
            backends["bf16"] = stack.enter_context(other)
        sizes_mb = {graph.manifest.precision: graph.size_bytes / 1e6 for graph in files.graphs}
        answers = {
            name: [backend.infer(sample.pixels[None])[0, 0] for sample in samples] for name, backend in backends.items()
        }
        wall = np.zeros((len(backends), WARM_UP + repeat))
        processor = np.zeros_like(wall)
        for turn in range(WARM_UP + repeat):
            tile = samples[turn % len(samples)].pixels[None]
            for index, backend in enumerate(backends.values()):
                started, started_processor = time.perf_counter(), time.process_time()
                backend.infer(tile)
                wall[index, turn] = time.perf_counter() - started
                processor[index, turn] = time.process_time() - started_processor
    precisions: dict[str, dict[str, Any]] = {}
    for index, name in enumerate(backends):
        accuracy = compare(answers[name], answers["fp32"], samples, manifest.threshold)
        precisions[name] = {
            "wall": asdict(summarise(wall[index, WARM_UP:].tolist())),
            "processor": asdict(summarise(processor[index, WARM_UP:].tolist())),
            "size_mb": sizes_mb.get(name, sizes_mb["fp32"]),
            **accuracy.to_dict(),
        }
    return {
        "device": backends["fp32"].device,
        "threads": os.environ.get("SARWATER_THREADS", "every core"),
        "python": platform.python_version(),
        "openvino": metadata.version("openvino"),
        "model": manifest.name,
        "tile_px": workshop.tile_px,
        "accuracy_on": [sample.name for sample in samples],
        "warm_up": WARM_UP,
        "samples": repeat,
        "precisions": precisions,
        "int8_speed_up": {
            kind: precisions["fp32"][kind]["p50_s"] / precisions["int8"][kind]["p50_s"]
            for kind in ("wall", "processor")
        },
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
