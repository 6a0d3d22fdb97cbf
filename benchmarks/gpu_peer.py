"""One way to run a network, in a process of its own, so that no library's threads or memory disturb another's.

Each peer answers two questions: tiles in the computer's memory to probabilities in it (`to_host`), and, where it has a
device of its own, tiles already there to probabilities there (`on_device`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.backends.base import Backend
from sarwater.errors import DependencyMissing, DeviceUnavailable, SarwaterError
from sarwater.tiling import TilePlan

Float32 = npt.NDArray[np.float32]

WARM_UP = 5
BURST_S = 0.5
SHORTEST_BURST = 3


@dataclass(frozen=True)
class Network:
    """One network as the peers take it, all for the same tile size."""

    onnx: Path
    """fp32."""
    half_onnx: Path | None = None
    """fp16, for ONNX Runtime on a GPU."""
    engine: Path | None = None
    compile_mode: str = "default"


@dataclass
class Peer:
    version: str
    precision: str
    to_host: Callable[[Float32], Float32]
    """(N, C, T, T) float32 raw pixels -> (N, 1, T, T) float32 probability."""
    on_device: Callable[[Float32], Callable[[], float]] | None = None
    """Tiles -> a function that runs them once, from and to the device's memory, and returns its seconds."""


def serve(pipe: Connection, name: str, network: Network, device: str) -> None:
    """The child: open the peer, then answer `("tiles", array)` with its probabilities after a warm-up, and `"burst"`
    with the seconds of a few runs. Whatever goes wrong is sent back in words."""
    with ExitStack() as stack:
        try:
            peer = stack.enter_context(PEERS[name](network, device))
            pipe.send(("ready", peer.version, peer.precision))
            tiles, device_run = np.zeros((0, 0, 0, 0), np.float32), None
            while (question := pipe.recv()) is not None:
                if isinstance(question, str):
                    pipe.send(_burst(peer, tiles, device_run))
                    continue
                tiles = question
                for _ in range(WARM_UP):
                    answer = peer.to_host(tiles)
                device_run = peer.on_device(tiles) if peer.on_device else None
                if device_run:
                    device_run()
                pipe.send(("answer", answer))
        except (SarwaterError, ImportError, RuntimeError, OSError, MemoryError) as error:
            pipe.send(("failed", f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"))


def _burst(peer: Peer, tiles: Float32, device_run: Callable[[], float] | None) -> tuple[list[float], list[float]]:
    """(to host, on device) seconds of consecutive runs."""
    to_host: list[float] = []
    begun = time.perf_counter()
    while len(to_host) < SHORTEST_BURST or time.perf_counter() - begun < BURST_S:
        start = time.perf_counter()
        peer.to_host(tiles)
        to_host.append(time.perf_counter() - start)
    return to_host, [device_run() for _ in to_host] if device_run else []


@contextmanager
def sarwater(network: Network, device: str) -> Iterator[Peer]:
    """Our backend: a TensorRT engine on a GPU, OpenVINO on a CPU."""
    from runtime.backends import open_backend
    from sarwater.models import open_model

    model = open_model(network.engine or network.onnx)
    with open_backend(model, "auto" if network.engine else "cpu") as backend:
        yield Peer(
            f"{backend.name} {_version(backend.name)}",
            backend.manifest.precision,
            backend.infer,
            _in_a_scene(backend) if network.engine else None,
        )


def _in_a_scene(backend: Backend) -> Callable[[Float32], Callable[[], float]]:
    """Of scenes of 16 batches: the backend's own device clock tells what the network took."""

    def on_device(tiles: Float32) -> Callable[[], float]:
        tile_px = backend.manifest.tile_px
        plan = TilePlan(tile_px * 16, tile_px * len(tiles), tile_px, 0)
        band = np.concatenate(list(tiles), axis=-1).astype(np.uint16)

        def run() -> float:
            scene = backend.begin(plan, None)
            for _ in plan.rows:
                scene.push(band)
            return scene.counters.seconds["infer"] / scene.counters.tiles * len(tiles)

        return run

    return on_device


@contextmanager
def pytorch(network: Network, device: str) -> Iterator[Peer]:
    """Our backend without TensorRT: PyTorch on our memory and streams, as in a scene."""
    from runtime.backends import open_backend
    from sarwater.models import open_model

    with open_backend(open_model(network.onnx), "torch") as backend:
        on_cpu = backend.device == "CPU"
        if on_cpu != (device == "cpu"):
            raise DeviceUnavailable(f"PyTorch opens {backend.device} here; CUDA_VISIBLE_DEVICES= hides a GPU")
        on_device = None if on_cpu else _in_a_scene(backend)
        yield Peer(f"{backend.name} {_version('torch')}", backend.manifest.precision, backend.infer, on_device)


@contextmanager
def onnxruntime(network: Network, device: str) -> Iterator[Peer]:
    """ONNX Runtime, as it comes: its CPU provider, or CUDA with tensors bound to the device."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise DependencyMissing(f"ONNX Runtime is not installed ({error}): pip install onnxruntime") from error
    provider = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    if provider not in ort.get_available_providers():
        raise DeviceUnavailable(f"onnxruntime {ort.__version__} has no {provider}: pip install onnxruntime-gpu")
    path = network.half_onnx if device == "cuda" and network.half_onnx else network.onnx
    session = ort.InferenceSession(str(path), providers=[provider])
    if provider not in session.get_providers():  # it falls back to the CPU with no more than a warning
        raise DeviceUnavailable(f"onnxruntime {ort.__version__} could not start {provider}; see its warning above")

    def on_device(tiles: Float32) -> Callable[[], float]:
        binding = session.io_binding()
        binding.bind_ortvalue_input("sar", ort.OrtValue.ortvalue_from_numpy(tiles, "cuda", 0))
        binding.bind_output("water", "cuda")

        def run() -> float:
            start = time.perf_counter()
            session.run_with_iobinding(binding)
            binding.synchronize_outputs()
            return time.perf_counter() - start

        return run

    yield Peer(
        f"onnxruntime {ort.__version__}",
        "fp16" if path == network.half_onnx else "fp32",
        lambda tiles: session.run(None, {"sar": tiles})[0],
        on_device if device == "cuda" else None,
    )


@contextmanager
def eager(network: Network, device: str) -> Iterator[Peer]:
    """PyTorch, op by op, in float32: what most people start with, and the reference of the answers."""
    yield _torch_peer(network, device, half=False, mode=None)


@contextmanager
def compiled(network: Network, device: str) -> Iterator[Peer]:
    """torch.compile, channels-last; on a GPU fp16 behind the preprocessing, which stays in fp32 as in our graphs."""
    yield _torch_peer(network, device, half=device == "cuda", mode=network.compile_mode)


def _torch_peer(network: Network, device: str, *, half: bool, mode: str | None) -> Peer:
    try:
        import torch

        from export.from_onnx import segmenter_from_onnx
    except ImportError as error:
        raise DependencyMissing(f"PyTorch is not installed ({error}): pip install torch") from error
    segmenter = segmenter_from_onnx(network.onnx)
    if half:
        segmenter.net = _in_half(segmenter.net)
    segmenter = segmenter.to(device)
    if mode is not None:
        segmenter = segmenter.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.backends.cudnn.benchmark = True
    model = segmenter if mode is None else torch.compile(segmenter, mode=mode, dynamic=False)

    def to_host(tiles: Float32) -> Float32:
        with torch.inference_mode():
            pixels = torch.from_numpy(tiles).to(device, non_blocking=True)
            answer: Float32 = model(pixels).float().cpu().numpy()
            return answer

    def on_device(tiles: Float32) -> Callable[[], float]:
        pixels = torch.from_numpy(tiles).to(device)
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

        def run() -> float:
            with torch.inference_mode():
                torch.cuda.synchronize()
                start.record()
                model(pixels)
                end.record()
                end.synchronize()
            return start.elapsed_time(end) / 1e3

        return run

    return Peer(
        f"torch {torch.__version__}",
        "fp16" if half else "fp32",
        to_host,
        on_device if device == "cuda" else None,
    )


def _in_half(net: Any) -> Any:
    import torch

    class Half(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net.half()

        def forward(self, planes: torch.Tensor) -> torch.Tensor:
            return self.net(planes.half().contiguous(memory_format=torch.channels_last)).float()

    return Half()


def _version(library: str) -> str:
    from runtime.benchmarking.device_state import library_versions

    return library_versions().get(library.replace("-", "_"), "")


PEERS: dict[str, Callable[[Network, str], Any]] = {
    "sarwater": sarwater,
    "torch": pytorch,
    "eager": eager,
    "compile": compiled,
    "onnxruntime": onnxruntime,
}
