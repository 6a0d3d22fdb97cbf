"""Ways to run one network on this machine, all with the same question: tiles in, probability maps out."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from export.emulate import emulated
from export.graph import Graph
from export.samples import Sample
from sarwater.dependencies import EXPORT_INSTALL, require
from sarwater.manifest import INPUT_NAME, OUTPUT_NAME, ModelManifest
from sarwater.models import Model, open_model

Float32 = npt.NDArray[np.float32]
Network = Callable[[Float32], Float32]
"""(N, C, T, T) float32 raw pixels -> (N, 1, T, T) float32 probability."""

LATENCY_RUNS = 7


@dataclass(frozen=True)
class Runner:
    """How to open one network; it is closed again before the next one is opened, so that memory holds one at a time."""

    name: str
    """What it is; `runs_on` is what computes it: two columns of a table."""
    runs_on: str
    precision: str
    size_bytes: int
    open: Callable[[], contextlib.AbstractContextManager[Network]]
    timed: bool = True
    """False where the machine imitates another: its speed means nothing."""

    @property
    def title(self) -> str:
        return f"{self.name} ({self.runs_on})"


def onnxruntime_runner(graph: Graph) -> Runner:
    """ONNX Runtime in float32 arithmetic, with float16 rounding where the graph says so."""
    precision = graph.manifest.precision
    return Runner(
        f"ONNX {precision}",
        "ONNX Runtime" if precision == "fp32" else "ONNX Runtime, rounding as a GPU",
        precision,
        graph.size_bytes,
        lambda: _onnxruntime(graph),
        timed=precision == "fp32",
    )


def torch_runner(fp32: Graph) -> Runner:
    """The network itself, with the weights that the graph holds. Raises DependencyMissing without torch."""
    from export.to_onnx import torch_network

    network = torch_network(fp32)
    return Runner("PyTorch fp32", "PyTorch", "fp32", fp32.size_bytes, lambda: contextlib.nullcontext(network))


def backend_runner(path: Path) -> Runner:
    """What the runtime would use: OpenVINO for an ONNX file, TensorRT for an engine."""
    model = open_model(path)
    engine, precision = model.manifest.engine, model.manifest.precision
    kind, runs_on = ("ONNX", "OpenVINO") if engine is None else ("engine", engine.flavor)
    return Runner(f"{kind} {precision}", runs_on, precision, path.stat().st_size, lambda: _backend(model))


@contextlib.contextmanager
def plan_network(plan: bytes, manifest: ModelManifest) -> Iterator[Network]:
    """An engine that is no file yet, on this GPU."""
    from runtime.backends.gpu.tensorrt import TensorRtBackend

    with TensorRtBackend(Path("plan"), manifest, plan, hashlib.sha256(plan).hexdigest()) as backend:
        yield backend.infer


@contextlib.contextmanager
def _onnxruntime(graph: Graph) -> Iterator[Network]:
    onnxruntime = require("onnxruntime", "measuring graphs", EXPORT_INSTALL)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # others work on this machine, too
    proto = graph.proto if graph.manifest.precision == "fp32" else emulated(graph.proto)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def network(tiles: Float32) -> Float32:
        answer: Float32 = session.run([OUTPUT_NAME], {INPUT_NAME: tiles})[0]
        return answer

    yield network


@contextlib.contextmanager
def _backend(model: Model) -> Iterator[Network]:
    from runtime.backends import open_backend

    with open_backend(model) as backend:
        yield backend.infer


def probabilities(network: Network, samples: Sequence[Sample]) -> list[Float32]:
    """One map (T, T) float32 for each sample, one at a time."""
    return [network(sample.pixels[None])[0, 0] for sample in samples]


def latency_s(network: Network, sample: Sample) -> list[float]:
    """Seconds of single tiles, after one to warm up."""
    network(sample.pixels[None])
    seconds = []
    for _ in range(LATENCY_RUNS):
        started = time.perf_counter()
        network(sample.pixels[None])
        seconds.append(time.perf_counter() - started)
    return seconds
