"""Witnesses of TensorRT's Python API, none of which is TensorRT: the type stubs of 10.13, the real TensorRT-RTX, whose
API is that of TensorRT 11, and the list of what TensorRT 11 removed.

Source of the list: NVIDIA, "Removed Python APIs and Replacements", migration guide 10.x -> 11.x.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

REMOVED_IN_11 = re.compile(
    r"BuilderFlag\.(FP16|INT8|FP8|BF16|INT4|FP4|OBEY_PRECISION_CONSTRAINTS|PREFER_PRECISION_CONSTRAINTS|DIRECT_IO)"
    r"|IBuilderConfig\.(int8_calibrator|\w*calibration_profile|\w*quantization_flags?|algorithm_selector)"
    r"|IInt8\w+|IAlgorithm\w*|Builder\.platform_has_fast_\w+|ICudaEngine\.device_memory_size\w*"
    r"|ILayer\.(precision|set_output_type|reset_precision)|ITensor\.\w*dynamic_range"
)


def has_tensorrt_rtx(name: str) -> bool:
    """Whether the real library has `Class.attribute`; skips where it is not installed."""
    found = pytest.importorskip("tensorrt_rtx")
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is not None


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The type stubs, with the lines that no type checker can read made readable.

    Their generator leaves a few plugin methods with parameters called `in`; nothing here uses those.
    """
    try:
        files = metadata.files("tensorrt-stubs")
    except metadata.PackageNotFoundError:
        pytest.skip("tensorrt-stubs is not installed")
    folder = tmp_path_factory.mktemp("stubs")
    for file in files or []:
        if file.suffix == ".pyi":
            target = folder / file
            target.parent.mkdir(exist_ok=True)
            shutil.copy(str(file.locate()), target)
            # They also name a variable `bool`, which hides the type of that name.
            target.write_text(readable(re.sub("^bool: DataType.*", "", target.read_text(), flags=re.MULTILINE)))
    return folder


def readable(source: str) -> str:
    while True:
        try:
            ast.parse(source)
        except SyntaxError as error:
            lines = source.splitlines()
            number = (error.lineno or 1) - 1
            name = re.search(r"def (\w+)\(", lines[number])
            assert name, lines[number]
            indent = lines[number][: len(lines[number]) - len(lines[number].lstrip())]
            lines[number] = f"{indent}def {name[1]}(self, *args: typing.Any, **options: typing.Any) -> typing.Any:"
            source = "\n".join(lines) + "\n"
        else:
            return source


def type_errors(source: Path, misuse: str, stubs: Path, folder: Path) -> list[str]:
    """What mypy finds in `source`. `misuse` is a module with three mistakes, which show that it reads the stubs."""
    wrong = folder / "misuse.py"
    wrong.write_text(misuse)
    command = [sys.executable, "-m", "mypy", "--strict", f"--cache-dir={folder}", "--no-error-summary"]
    done = subprocess.run(
        [*command, "--follow-imports=silent", str(source), str(wrong)],
        capture_output=True,
        text=True,
        cwd=CHECKOUT,
        env={**os.environ, "MYPYPATH": str(stubs)},
        timeout=280,
    )
    errors = done.stdout.splitlines()
    assert len([line for line in errors if "misuse.py" in line]) >= 3, done.stdout + done.stderr
    return [line for line in errors if line.startswith(str(source.relative_to(CHECKOUT)))]
