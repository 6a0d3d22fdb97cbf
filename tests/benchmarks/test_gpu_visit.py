"""The one command for a GPU machine, where nothing works: what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from benchmarks import gpu_kernels, gpu_training
from runtime.backends.gpu.kernels.compile import SOURCE
from tests.conftest import CHECKOUT


def visit(out: Path, python: str, **settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": python, "RTX_STORE": str(out / "rtx"), **settings}
    command = ["bash", str(CHECKOUT / "benchmarks" / "gpu_visit.sh"), str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_every_step_is_tried_and_its_end_told(tmp_path: Path) -> None:
    done = visit(tmp_path, "/bin/false")
    assert done.returncode == 1
    told = (tmp_path / "visit.txt").read_text()
    for step in ("open", "kernels", "scenes", "bandwidth", "pipeline", "peers", "training"):
        assert f"{step:12} failed with 1" in told
    with tarfile.open(tmp_path / "visit.tgz") as archive:
        assert {"steps/open.txt", "steps/peers.txt", "steps/training.txt"} <= set(archive.getnames())


def test_a_step_over_its_limit_does_not_cost_those_before(tmp_path: Path) -> None:
    slow = tmp_path / "python3"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    done = visit(tmp_path, str(slow), BUDGET_S="6")
    assert done.returncode == 1
    assert "over its limit" in done.stdout
    assert "not begun: no time left" in done.stdout
    with tarfile.open(tmp_path / "visit.tgz") as archive:
        assert "steps/machine.txt" in archive.getnames()


def test_the_bytes_of_every_kernel_are_known() -> None:
    source = SOURCE.read_text()
    assert all(f" {name}(" in source or f" {name}_##name(" in source for name in gpu_kernels.PIXEL_BYTES)


def test_training_speed(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--models", "unet-w16", "--crop", "64", "--batch", "1", "--steps", "1", "--warmup", "0"]
    assert gpu_training.main(small) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| unet-w16")]
    assert [row.split("|")[2].strip() for row in rows] == ["fp32", "bf16"]
