"""The same network on the same card in the same run: PyTorch eager, torch.compile, ONNX Runtime, and ours.

    python -m benchmarks.gpu_peers [--model hrnet | --untrained hrnet-w18] [--tile 1024] [--batch 1,4] [--markdown F]

Every peer runs in a process of its own with the same weights, and all take turns in short bursts, so that whatever else
the machine does, and however its clocks wander, meets all of them alike. On a GPU ours is an fp16 TensorRT engine,
built first unless --engine names one; torch.compile runs in fp16 with channels-last, ONNX Runtime the same fp16 graph.
A peer that cannot run, or answers nothing for --limit seconds, is left out with the reason, an engine that cannot be
built likewise; no peer needs more than it runs with (GDAL, OpenVINO and a network are not among that for PyTorch's).
Without a GPU this exits with 78; `--device cpu` compares the CPU peers instead, in fp32, with OpenVINO as ours.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from benchmarks.gpu_peer import PEERS, Network, serve
from runtime.benchmarking.numbers import whole_numbers
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import DeviceUnavailable, SarwaterError, UsageError
from sarwater.models import Model, find_model, open_model

Float32 = npt.NDArray[np.float32]

CHECKOUT = Path(__file__).resolve().parents[1]
LIMIT_S = 300.0
"""Opening, compiling and the first run are one answer; `max-autotune` may want more."""
PAUSE_S = 0.05
"""Between bursts: the threads of the one before go to sleep."""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    peers, batches = arguments.peers.split(","), whole_numbers("--batch", arguments.batch, 1)
    whole_numbers("--tile", str(arguments.tile), 32)
    if unknown := [name for name in peers if name not in PEERS]:
        raise UsageError(f"--peers: {unknown[0]!r} is unknown; expected some of: {','.join(PEERS)}")
    if arguments.rounds < 1:
        raise UsageError(f"--rounds {arguments.rounds}: expected 1 or more")
    if arguments.device == "cuda":
        _check_gpu()
    with tempfile.TemporaryDirectory(prefix="sarwater-peers-") as folder:
        network, title, absent = _network(arguments, Path(folder), max(batches))
        limit_s = arguments.limit
        report = compare(network, peers, batches, arguments.rounds, arguments.device, limit_s, absent)
    report["model"], report["tile_px"] = title, arguments.tile
    report["command"] = _command(arguments)
    print(markdown(report))
    for path, text in ((arguments.json, json.dumps(report, indent=2) + "\n"), (arguments.markdown, markdown(report))):
        if path:
            with replacing(path) as temporary:
                temporary.write_text(text, encoding="utf-8")
    return 0 if report["figures"] else 1


def compare(
    network: Network,
    names: Sequence[str],
    batches: Sequence[int],
    rounds: int,
    device: str,
    limit_s: float,
    absent: Mapping[str, str],
) -> dict[str, Any]:
    """Plain JSON values: what each peer took for each batch, or why it did not run. `absent`: why some will not."""
    from runtime.benchmarking.device_state import Sensors
    from runtime.benchmarking.nvml import Nvml

    sensors = Sensors(nvml=Nvml.open())
    report: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "device": device,
        "machine": asdict(sensors.machine()),
        "settings": asdict(sensors.settings()),
    }
    manifest = open_model(network.onnx).manifest
    absent = {name: reason for name, reason in absent.items() if name in names}
    peers = [PeerProcess(name, network, device, limit_s) for name in names if name not in absent]
    try:
        figures = []
        for batch in batches:
            tiles = _tiles(batch, len(manifest.channels), manifest.tile_px)
            figures += _measure_batch(peers, tiles, manifest.threshold, rounds)
    finally:
        for peer in peers:
            peer.close()
    report["figures"] = figures
    report["did_not_run"] = {**absent, **{peer.name: peer.failure for peer in peers if peer.failure}}
    return report


class PeerProcess:
    """The parent's end of a peer. After a failure it stays silent, and `failure` says why; `limit_s` for an answer."""

    def __init__(self, name: str, network: Network, device: str, limit_s: float = LIMIT_S) -> None:
        self.name = name
        self.limit_s = limit_s
        self.failure: str | None = None
        self.version = self.precision = ""
        self._pipe, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=serve, args=(theirs, name, network, device), daemon=True)
        self._process.start()
        theirs.close()
        if (ready := self._receive()) is not None:
            _, self.version, self.precision = ready

    def answer(self, tiles: Float32) -> Float32 | None:
        """Warm up for these tiles; the probabilities, or None after a failure."""
        answer = self._ask(tiles)
        return None if answer is None else answer[1]

    def burst(self) -> tuple[list[float], list[float]]:
        return self._ask("burst") or ([], [])

    def close(self) -> None:
        if self.failure is None:
            with contextlib.suppress(OSError):  # it died meanwhile
                self._pipe.send(None)
            self._process.join(30)
        self._process.kill()
        self._process.join()

    def _ask(self, question: Any) -> Any:
        if self.failure is not None:
            return None
        with contextlib.suppress(OSError):  # whoever died cannot be asked; receiving says so
            self._pipe.send(question)
        return self._receive()

    def _receive(self) -> Any:
        try:
            if not self._pipe.poll(self.limit_s):
                self.failure = f"no answer within {self.limit_s:g} s"
                self._process.kill()
                return None
            reply = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            self.failure = f"its process ended with {self._process.exitcode}"
            return None
        if reply[0] == "failed":
            self.failure = reply[1]
            return None
        return reply


def _measure_batch(peers: Sequence[PeerProcess], tiles: Float32, threshold: float, rounds: int) -> list[dict[str, Any]]:
    from runtime.benchmarking.timing import summarise

    answers = {peer.name: peer.answer(tiles) for peer in peers}
    to_host: dict[str, list[float]] = {peer.name: [] for peer in peers}
    on_device: dict[str, list[float]] = {peer.name: [] for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            time.sleep(PAUSE_S)
            host_s, device_s = peer.burst()
            to_host[peer.name] += host_s
            on_device[peer.name] += device_s
    known = {name: answer for name, answer in answers.items() if answer is not None}
    reference_name = "eager" if "eager" in known else next(iter(known), None)
    figures = []
    for peer in peers:
        if peer.failure or reference_name is None:
            continue
        answer, reference = known[peer.name], known[reference_name]
        figures.append(
            {
                "peer": peer.name,
                "version": peer.version,
                "precision": peer.precision,
                "batch": len(tiles),
                "to_host": asdict(summarise(to_host[peer.name])),
                "on_device": asdict(summarise(on_device[peer.name])) if on_device[peer.name] else None,
                "mpx": tiles.shape[0] * tiles.shape[2] * tiles.shape[3] / 1e6,
                "reference": reference_name,
                "largest_difference": float(np.abs(answer - reference).max()),
                "other_class": float(((answer >= threshold) != (reference >= threshold)).mean()),
            }
        )
    return figures


def markdown(report: dict[str, Any]) -> str:
    """A section for a results file."""
    from runtime.benchmarking.presentation import as_markdown, machine_table

    header = (
        "peer | precision | batch | to host ms | p50 | p99 | Mpx/s | on device ms | Mpx/s | largest Δp | other class"
    )
    lines = [f"| {header} |", "| --- | --- |" + " ---: |" * 9]
    for entry in report["figures"]:
        host, device, mpx = entry["to_host"], entry["on_device"], entry["mpx"]
        half = (host["mean_high_s"] or host["mean_s"]) - host["mean_s"]
        cells = [
            f"{entry['peer']} ({entry['version']})",
            entry["precision"],
            str(entry["batch"]),
            f"{host['mean_s'] * 1e3:.2f} ± {half * 1e3:.2f}",
            f"{host['p50_s'] * 1e3:.2f}",
            "too few" if host["p99_s"] is None else f"{host['p99_s'] * 1e3:.2f}",
            f"{mpx / host['mean_s']:.2f}",
            "" if device is None else f"{device['mean_s'] * 1e3:.2f}",
            "" if device is None else f"{mpx / device['mean_s']:.2f}",
            f"{entry['largest_difference']:.1e}",
            f"{entry['other_class']:.4%}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    absent = [f"- {name} did not run: {reason}" for name, reason in report["did_not_run"].items()]
    reference = report["figures"][0]["reference"] if report["figures"] else "none"
    return "\n\n".join(
        [
            f"# Peers on the {report['device']} device: {report['model']}, tiles of {report['tile_px']} px",
            f"{report['date']}, in turns in one run. To host: from tiles in the computer's memory to probabilities in "
            "it; on device: from and to the device's own memory. Differences are those of the probabilities, and the "
            f"share of pixels that change class, against {reference}. Load before the start: "
            f"{report['settings']['load_1min']} processes over a minute.",
            f"    {report['command']}",
            "\n".join(lines),
            *(["\n".join(absent)] if absent else []),
            as_markdown(machine_table(report)),
        ]
    )


def _network(arguments: argparse.Namespace, folder: Path, max_batch: int) -> tuple[Network, str, dict[str, str]]:
    """The files of the network at the wanted tile, made in `folder`, its name, and why a peer has none of its own."""
    from export.graph import read_graph, with_tile, write_graph

    if arguments.untrained:
        source = _untrained(arguments.untrained, folder / "untrained.onnx", arguments.tile)
    else:
        source = find_model(arguments.model)
    graph = read_graph(source.path)
    if graph.manifest.tile_px != arguments.tile:
        graph = with_tile(graph, arguments.tile)
    graph = write_graph(graph, folder / f"{source.manifest.name}-{arguments.tile}.onnx")
    network = Network(cast(Path, graph.path), compile_mode=arguments.compile_mode)
    absent = {}
    if arguments.device == "cuda" and "sarwater" in arguments.peers.split(","):
        try:
            engine = arguments.engine or _build(network.onnx, folder, arguments.tile, max_batch, arguments.limit)
            half = next((folder / "engines").glob("*-fp16-*.onnx"), None)
            network = replace(network, engine=engine, half_onnx=half)
        except SarwaterError as error:
            absent["sarwater"] = str(error)
    return network, source.manifest.name + (", untrained" if arguments.untrained else ""), absent


def _build(onnx: Path, folder: Path, tile_px: int, max_batch: int, limit_s: float) -> Path:
    """An fp16 engine, by the command that users have; in a process of its own, which gives its memory back.

    Raises SarwaterError.
    """
    command = [sys.executable, "-m", "export.build_engine", "--from-onnx", str(onnx), "--no-gates"]
    command += ["--precision", "fp16", "--tile", str(tile_px), "--max-batch", str(max_batch)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    try:
        done = subprocess.run(command, cwd=folder, env=environment, stdout=sys.stderr, timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise SarwaterError(f"its engine was not built within {limit_s:g} s; raise --limit, or give --engine") from None
    if done.returncode:
        raise SarwaterError("its engine could not be built (see above); fix that, or give one with --engine")
    return next((folder / "engines").glob("*.engine"))


def _untrained(name: str, path: Path, tile_px: int) -> Model:
    """A network of any variant with random weights: its speed is that of a trained one.

    BatchNorm has seen pixels once, so that activations stay in the range of fp16.
    """
    import torch

    from export.to_onnx import export_checkpoint
    from train.models import Segmenter, architecture
    from train.models.checkpoint import Checkpoint, save_checkpoint

    torch.manual_seed(0)
    segmenter = Segmenter(architecture(name)).train()
    with torch.no_grad():
        segmenter(torch.from_numpy(_tiles(2, 1, 256)))
    checkpoint = path.with_suffix(".pt")
    save_checkpoint(checkpoint, Checkpoint(segmenter.arch, segmenter.net.state_dict(), 0.5, {"data": "none"}))
    export_checkpoint(checkpoint, path, tile_px)
    return open_model(path)


def _tiles(batch: int, channels: int, tile_px: int) -> Float32:
    """(batch, channels, tile, tile) float32: speckled land with lakes."""
    from runtime.benchmarking.simulated import water_at

    mean = np.where(water_at(0, tile_px, tile_px), np.float32(14), np.float32(60))
    speckle = np.random.default_rng(0).rayleigh(0.8, (batch, channels, tile_px, tile_px))
    return np.round(mean * speckle).astype(np.float32)


def _check_gpu() -> None:
    """Raise DeviceUnavailable without an NVIDIA driver and GPU."""
    from sarwater.gpu import first_gpu

    if first_gpu() is None:
        raise DeviceUnavailable(
            "no NVIDIA GPU can be reached here; check nvidia-smi, or compare the CPU peers: --device cpu"
        )


def _command(arguments: argparse.Namespace) -> str:
    words = ["python -m benchmarks.gpu_peers"]
    for name in ("model", "untrained", "device", "tile", "batch", "rounds", "peers", "compile_mode", "limit"):
        value = getattr(arguments, name)
        if value != _parser().get_default(name):
            words.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(words)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="benchmarks.gpu_peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", default="hrnet", help="an fp32 .onnx file or a model name (default: %(default)s)")
    add("--untrained", metavar="NAME", help="instead: a family and variant with random weights, as hrnet-w18")
    add("--engine", type=Path, metavar="FILE", help="our engine (default: built from the model, fp16)")
    add("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
    add("--tile", type=int, default=1024, metavar="PX", help="default: %(default)s")
    add("--batch", default="1,4", metavar="LIST", help="default: %(default)s")
    add("--rounds", type=int, default=20, metavar="N", help="bursts of each peer, half a second each (default: 20)")
    add("--peers", default=",".join(PEERS), metavar="LIST", help="default: %(default)s")
    add("--compile-mode", default="default", metavar="MODE", help="of torch.compile (default: %(default)s)")
    add("--limit", type=float, default=LIMIT_S, metavar="S", help="for each answer of a peer (default: %(default)g)")
    add("--json", type=Path, metavar="F")
    add("--markdown", type=Path, metavar="F")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
