"""The comparison with other ways to run a network, on the CPU and tiny: that it runs and agrees, not how fast."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_peers
from benchmarks.gpu_peer import Network
from benchmarks.gpu_peers import PeerProcess
from sarwater.command import run_command
from sarwater.errors import SarwaterError
from sarwater.gpu import first_gpu
from tests.support.models import box_model

SMALL = ("--device", "cpu", "--untrained", "unet-w16", "--tile", "64", "--batch", "1", "--rounds", "1")


def run(*arguments: object) -> int:
    return run_command(gpu_peers.main, [str(argument) for argument in arguments])


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "SARWATER_THREADS"):
        monkeypatch.setenv(name, "1")


@pytest.fixture
def box(tmp_path: Path) -> Network:
    return Network(box_model(tmp_path / "box.onnx").path)


@pytest.fixture
def peer(box: Network) -> Iterator[PeerProcess]:
    process = PeerProcess("sarwater", box, "cpu")
    yield process
    process.close()


def agreeing(report: dict[str, Any], peers: str) -> None:
    assert [entry["peer"] for entry in report["figures"]] == peers.split(",")
    assert report["did_not_run"] == {}
    for entry in report["figures"]:
        assert entry["reference"] == "eager"
        assert entry["largest_difference"] < 1e-3
        assert entry["to_host"]["samples"] >= 3
        assert entry["on_device"] is None


def test_the_cpu_peers_run_and_agree_with_each_other(tmp_path: Path) -> None:
    files = {name: tmp_path / f"peers.{name}" for name in ("json", "md")}
    peers = "sarwater,torch,eager,onnxruntime"
    assert run(*SMALL, "--peers", peers, "--json", files["json"], "--markdown", files["md"]) == 0
    agreeing(json.loads(files["json"].read_text()), peers)
    text = files["md"].read_text()
    assert "| onnxruntime (onnxruntime " in text
    assert "## Machine" in text


@pytest.mark.slow
def test_a_compiled_network_agrees_with_the_eager_one(tmp_path: Path) -> None:
    assert run(*SMALL, "--peers", "eager,compile", "--json", tmp_path / "peers.json") == 0
    agreeing(json.loads((tmp_path / "peers.json").read_text()), "eager,compile")


@pytest.mark.skipif(first_gpu() is not None, reason="there is a GPU here")
def test_without_a_gpu_it_says_so_and_ends_with_78(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 78
    assert "--device cpu" in capsys.readouterr().err


@pytest.mark.skipif(first_gpu() is not None, reason="there is a GPU here")
def test_a_peer_that_cannot_run_says_why_and_does_not_stop_the_others(box: Network) -> None:
    refused = PeerProcess("onnxruntime", box, "cuda")
    assert refused.failure is not None
    assert "CUDAExecutionProvider" in refused.failure
    assert refused.answer(np.zeros((1, 1, 64, 64), np.float32)) is None
    assert refused.burst() == ([], [])
    refused.close()


def test_a_peer_answers_with_probabilities_and_times(peer: PeerProcess) -> None:
    answer = peer.answer(np.full((2, 1, 64, 64), 10, np.float32))
    assert answer is not None
    assert answer.shape == (2, 1, 64, 64)
    to_host, on_device = peer.burst()
    assert len(to_host) >= 3
    assert on_device == []


def test_a_peer_whose_process_is_killed_is_reported(peer: PeerProcess) -> None:
    peer._process.kill()
    assert peer.burst() == ([], [])
    assert peer.failure == "its process ended with -9"


def test_a_peer_that_does_not_answer_in_time_is_left_out(box: Network) -> None:
    silent = PeerProcess("sarwater", box, "cpu", limit_s=0.0)
    assert silent.failure == "no answer within 0 s"
    assert silent.burst() == ([], [])
    silent.close()


def test_an_engine_that_cannot_be_built_does_not_end_the_other_peers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU: the report has the reason, and PyTorch's own figures."""

    def fails(*arguments: object) -> Path:
        raise SarwaterError("its engine could not be built (see above)")

    monkeypatch.setattr(gpu_peers, "_build", fails)
    model = box_model(tmp_path / "hrnet.onnx").path
    arguments = gpu_peers._parser().parse_args(["--model", str(model), "--tile", "64", "--peers", "sarwater,eager"])
    network, _, absent = gpu_peers._network(arguments, tmp_path, 1)
    assert network.engine is None
    assert "could not be built" in absent["sarwater"]
    report = gpu_peers.compare(network, ["sarwater", "onnxruntime"], [1], 1, "cpu", 300.0, absent)
    assert [entry["peer"] for entry in report["figures"]] == ["onnxruntime"]
    assert report["did_not_run"] == absent


@pytest.mark.parametrize(
    "arguments", [("--peers", "caffe"), ("--batch", "0"), ("--batch", "x"), ("--tile", "100"), ("--rounds", "0")]
)
def test_nonsense_is_a_usage_error(arguments: tuple[str, str]) -> None:
    assert run("--device", "cpu", *arguments) == 2
