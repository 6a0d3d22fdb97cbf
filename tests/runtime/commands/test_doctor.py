from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.commands import doctor as module
from runtime.commands.doctor import doctor, findings
from sarwater.command import run
from sarwater.errors import DeviceUnavailable
from sarwater.gpu import Gpu

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "systemd" / "sarwater-watch.service"
WITHOUT = "import sys; sys.modules[{module!r}] = None; from sarwater.cli import cli; sys.exit(cli(sys.argv[1:]))"


def doctor_without(module: str, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(module=module), "doctor", *arguments],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_this_machine_can_make_masks(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(doctor, ["-o", str(tmp_path / "not yet" / "there")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"ok  GDAL +3\.", printed)
    assert re.search(r"ok  models +.*hrnet-w18-small fp32", printed)
    assert str(tmp_path) in printed


def test_json_says_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(doctor, ["--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {finding["part"] for finding in found} == {"needed", "GPU", "training and export", "service"}
    assert all(finding["state"] in ("ok", "missing", "note") and finding["text"] for finding in found)


@pytest.mark.parametrize(
    ("module", "remedy"),
    [("osgeo", r"GDAL .*: .*pip install 'setuptools"), ("openvino", r"OpenVINO .*: .*pip install openvino")],
)
def test_what_is_missing_is_said_with_the_command_and_ends_with_1(module: str, remedy: str) -> None:
    code, printed = doctor_without(module)
    assert code == 1
    assert re.search(rf"^  -   {remedy}", printed, re.MULTILINE), printed
    assert "Traceback" not in printed


def test_what_training_lacks_is_no_failure() -> None:
    assert doctor_without("torch")[0] == 0


@pytest.mark.parametrize(
    ("there", "says"),
    [
        ((), "sarwater-watch.service is not installed: sudo make install"),
        (("units",), "does not start by itself: sudo systemctl enable --now sarwater-watch.service"),
        (("units", "enabled"), "sarwater-watch.service starts with the machine"),
    ],
)
def test_the_unit_is_the_one_that_is_installed(
    there: tuple[str, ...], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("units", "enabled"):
        (tmp_path / folder).mkdir()
    for folder in there:
        (tmp_path / folder / UNIT.name).touch()
    monkeypatch.setattr(module, "_UNITS", (tmp_path / "units",))
    monkeypatch.setattr(module, "_ENABLED", tmp_path / "enabled")
    monkeypatch.setattr(module, "_SYSTEMD", tmp_path)
    assert UNIT.is_file()
    assert UNIT.name == module._UNIT
    assert says in module._report(list(module._service()))


def test_a_card_without_a_driver_is_told_the_command_and_no_card_is_no_lack(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none() -> None:
        raise DeviceUnavailable("no NVIDIA driver (libcuda.so.1) is installed; more")

    monkeypatch.setattr(module, "require_gpu", none)
    monkeypatch.setattr(module, "_distribution", lambda: "ubuntu")
    monkeypatch.setattr(module, "_has_nvidia_card", lambda: True)
    assert [(found.state, found.remedy) for found in module._gpu()] == [("missing", "sudo ubuntu-drivers install")]
    monkeypatch.setattr(module, "_has_nvidia_card", lambda: False)
    assert [found.state for found in module._gpu()] == ["note"]


def test_a_gpu_comes_with_its_driver_and_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "require_gpu", lambda: Gpu("RTX", "8.9"))
    monkeypatch.setattr(module, "_text", lambda _: "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu\n")
    found = {finding.name: finding.text for finding in module._gpu()}
    assert found["driver"] == "550.54.14"
    assert found.keys() == {"NVIDIA GPU", "driver", "PyCUDA", "CUDA"}


def test_every_command_that_it_names_exists(tmp_path: Path) -> None:
    remedies = {finding.remedy for finding in findings(tmp_path)} | set(re.findall(
        r"\"((?:sudo )?(?:make|pip) [^\"]+)\"", (ROOT / "runtime/commands/doctor.py").read_text()
    ))  # fmt: skip
    makefile = (ROOT / "Makefile").read_text()
    pyproject = (ROOT / "pyproject.toml").read_text()
    for remedy in remedies:
        if target := re.search(r"make (\w+)", remedy):
            assert re.search(rf"^{target[1]}:", makefile, re.MULTILINE), remedy
        if extra := re.search(r"sarwater\[(\w+)\]", remedy):
            assert re.search(rf"^{extra[1]} = \[", pyproject, re.MULTILINE), remedy
