from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.commands.doctor import doctor, findings
from sarwater.command import run

ROOT = Path(__file__).parents[3]
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
    [("osgeo", r"GDAL .*: pip install 'setuptools"), ("openvino", r"OpenVINO .*: pip install openvino")],
)
def test_what_is_missing_is_said_with_the_command_and_ends_with_1(module: str, remedy: str) -> None:
    code, printed = doctor_without(module)
    assert code == 1
    assert re.search(rf"^  -   {remedy}", printed, re.MULTILINE), printed
    assert "Traceback" not in printed


def test_what_training_lacks_is_no_failure() -> None:
    assert doctor_without("torch")[0] == 0


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
