"""What the pages tell a reader to type works: Python is run, commands are parsed, those of the quick start are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest

from sarwater.cli import sarwater
from tests.conftest import CHECKOUT
from tests.support.rasters import lake_scene, write_geotiff

PAGES = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "systemd/*.md", "recipes/*.md") for path in CHECKOUT.glob(pattern)
)
PYTHON = [path for path in PAGES if "```python" in path.read_text()]
RUN = ["README.md", "docs/quickstart.md", "docs/first-scene.md"]
_NOT_HERE = re.compile(r"git clone|make |\. \.venv|(mkdir \w+ && )?sarwater watch(?!.*--once)|pip |apt ")
"""Lines that fetch, or that never end."""


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def shell_lines(page: Path) -> Iterator[str]:
    """Lines of code that are no Python, without their comments."""
    text = re.sub(r"```(python|toml|json|text)\n.*?```", "", page.read_text(), flags=re.DOTALL)
    for line in re.findall(r"^(?: {4,}|\t)(\S.*)$", text, re.MULTILINE):
        yield re.sub(r"\s+#\s.*", "", line)


def commands_of(page: Path) -> list[str]:
    """Each `sarwater ...` that a reader is to type, up to the next operator of the shell."""
    pattern = r"(?:^|do |&& |sudo )sarwater ([a-z][^|;&>]*)"
    return [found for line in shell_lines(page) for found in re.findall(pattern, line)]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small stand-ins for the scenes that the pages name, and the command `sarwater`."""
    scene, label = lake_scene(300, 400), lake_scene(300, 400, lake=0, land=0)
    label[100:200, 100:300] = 255
    label[label != 255] = 0
    for folder, name in (("demo", "SIM00001_k5"), ("mine", "scene")):
        (tmp_path / folder / "img").mkdir(parents=True)
        (tmp_path / folder / "mask").mkdir()
        write_geotiff(tmp_path / folder / "img" / f"{name}.tif", scene)
        write_geotiff(tmp_path / folder / "mask" / f"{name}_label.tif", label.astype(np.uint8))
    write_geotiff(tmp_path / "scene.tif", scene)
    np.save(tmp_path / "amplitude.npy", scene)
    command = tmp_path / "bin" / "sarwater"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sarwater "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page: Path, desk: Path) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), names)
    assert list((desk / "products").glob("*_water.tif"))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", RUN)
def test_the_shell_of_a_page_runs(page: str, desk: Path) -> None:
    lines = [line for line in shell_lines(CHECKOUT / page) if not _NOT_HERE.match(line)]
    assert lines
    script = "\n".join(lines).replace("sarwater doctor", "{ sarwater doctor || [ $? = 1 ]; }")  # it may find a lack
    done = subprocess.run(["bash", "-eux", "-c", script], capture_output=True, text=True, cwd=desk, timeout=850)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(desk.glob("*/*_water.tif"))


def test_the_korean_quick_start_has_the_same_commands() -> None:
    english, korean = (list(shell_lines(CHECKOUT / f"docs/{page}quickstart.md")) for page in ("", "ko/"))
    assert english == korean


@pytest.mark.parametrize("page", [page for page in PAGES if commands_of(page)], ids=name_of)
def test_the_commands_of_a_page_are_understood(page: Path) -> None:
    for line in commands_of(page):
        command: click.Command = sarwater
        context = click.Context(command, info_name="sarwater")
        words = shlex.split(line)
        while isinstance(command, click.Group) and words and words[0] in command.list_commands(context):
            name = words.pop(0)
            found = command.get_command(context, name)
            assert found is not None
            command, context = found, click.Context(found, info_name=name, parent=context)
        assert command is not sarwater, line
        try:
            command.make_context(context.info_name, words, parent=context.parent)
        except click.UsageError as error:
            pytest.fail(f"sarwater {line}: {error.format_message()}")
