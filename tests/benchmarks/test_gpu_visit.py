"""The one command for a GPU machine, where nothing works: what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmarks import gpu_kernels, gpu_training
from runtime.backends.gpu.kernels.compile import SOURCE
from tests.conftest import CHECKOUT

THIS = "cp{0}{1}-cp{0}{1}-linux_x86_64".format(*sys.version_info)


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


@pytest.mark.parametrize(("tags", "code"), [("cp27-cp27m-linux_x86_64", 1), (THIS, 0), ("cp39-abi3-any", 0)])
def test_wheels_of_this_python_are_unpacked_without_pip_and_others_left_alone(
    tmp_path: Path, tags: str, code: int
) -> None:
    for name, tag in (("pycuda", tags), ("mako", "py3-none-any")):
        with zipfile.ZipFile(tmp_path / f"{name}-1-{tag}.whl", "w") as wheel:
            wheel.writestr(f"{name}/__init__.py", "")
    done = visit(tmp_path, sys.executable, STEPS="carried", CARRIED=str(tmp_path))
    assert done.returncode == code
    with tarfile.open(tmp_path / "visit.tgz") as archive:
        told = archive.extractfile("steps/carried.txt")
        assert told is not None
        said = told.read().decode()
    assert "mako\n" in said
    assert ("pycuda\n" in said) == (code == 0)
    assert ("no PyCUDA for cp3" in said) == (code == 1)


def test_the_bytes_of_every_kernel_are_known() -> None:
    source = SOURCE.read_text()
    assert all(f" {name}(" in source or f" {name}_##name(" in source for name in gpu_kernels.PIXEL_BYTES)


def test_training_speed(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--models", "unet-w16", "--crop", "64", "--batch", "1", "--steps", "1", "--warmup", "0"]
    assert gpu_training.main(small) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| unet-w16")]
    assert [row.split("|")[2].strip() for row in rows] == ["fp32", "bf16"]
