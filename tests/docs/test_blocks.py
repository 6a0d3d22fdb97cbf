"""What the pages tell a reader to type works: each block is run, or a comment before it says why not."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import numpy as np
import pytest

from sarwater.cli import sarwater
from tests.conftest import CHECKOUT
from tests.docs.pages import PAGES, Block, blocks_of, name_of
from tests.support.rasters import lake_scene, write_geotiff

ELSEWHERE = {"systemd/README.md", "docs/changing.md", "docs/change-model.md", "docs/ko/quickstart.md"}
"""Run by tests of their own, or the same as another page."""
_NOT_HERE = re.compile(r"(git clone|make |\. \.venv|(sudo )?apt |python3 -m venv|(CPPFLAGS=.*)?pip |sudo ).*")
"""Lines that fetch, build or install: tests/test_packaging.py and .ci/run do."""
_ENDLESS = re.compile(r"sarwater watch(?!.*--once).*")
_TYPED, _SLOW = (
    [page for page in PAGES if name_of(page) not in ELSEWHERE and any(block.mark == mark for block in blocks_of(page))]
    for mark in ("", "slow")
)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small stand-ins for the scenes that the pages name, and the command `sarwater`."""
    scene, label = lake_scene(300, 400), lake_scene(300, 400, lake=0, land=0)
    label[100:200, 100:300] = 255
    label[label != 255] = 0
    scenes = (("demo", "SIM00001_k5"), ("mine", "scene"), ("station", "north"), ("station", "south"))
    for number, (folder, name) in enumerate(scenes):
        (tmp_path / folder / "img").mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / "mask").mkdir(exist_ok=True)
        place = (300_000.0, 1.25, 0.0, 4_100_000.0 - 1000 * number, 0.0, -1.25)  # each at its own
        write_geotiff(tmp_path / folder / "img" / f"{name}.tif", scene, transform=place)
        write_geotiff(tmp_path / folder / "mask" / f"{name}_label.tif", label.astype(np.uint8), transform=place)
    write_geotiff(tmp_path / "scene.tif", scene)
    for name in ("scenes/first.tif", "alos2.tif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(tmp_path / "scene.tif", tmp_path / name)
    decibels = 20 * np.log10(np.maximum(scene, 1) / 400, dtype=np.float32)
    write_geotiff(tmp_path / "rtc.tif", decibels)
    write_geotiff(tmp_path / "rtc_int16.tif", np.round(100 * decibels).astype(np.int16))
    write_geotiff(tmp_path / "rtc_bytes.tif", np.clip((decibels + 40) / 0.2, 1, 255).round().astype(np.uint8))
    np.save(tmp_path / "amplitude.npy", scene)
    command = tmp_path / "bin" / "sarwater"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sarwater "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_shell(text: str, desk: Path) -> None:
    lines = [_ENDLESS.sub(r"\g<0> --once", line) for line in text.splitlines() if not _NOT_HERE.fullmatch(line)]
    script = "\n".join(lines).replace("sarwater doctor", "{ sarwater doctor || [ $? = 1 ]; }")  # it may find a lack
    done = subprocess.run(["bash", "-eux", "-c", script], capture_output=True, text=True, cwd=desk, timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]


def run_blocks(blocks: list[Block], page: Path, desk: Path) -> None:
    names: dict[str, object] = {}
    for block in blocks:
        if block.language == "shell":
            run_shell(block.text, desk)
        else:
            exec(compile(block.text, str(page), "exec"), names)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("page", _TYPED, ids=name_of)
def test_what_a_page_says_to_type_works(page: Path, desk: Path) -> None:
    run_blocks([block for block in blocks_of(page) if not block.mark], page, desk)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("page", _SLOW, ids=name_of)
def test_what_takes_minutes_works(page: Path, desk: Path) -> None:
    run_blocks([block for block in blocks_of(page) if block.mark in ("", "slow")], page, desk)


def test_the_korean_quick_start_has_the_same_commands() -> None:
    english, korean = (list(blocks_of(CHECKOUT / f"docs/{page}quickstart.md")) for page in ("", "ko/"))
    assert english == korean


def commands_of(page: Path) -> list[str]:
    """Each `sarwater ...` that a reader is to type, up to the next operator of the shell."""
    pattern = r"(?:^|do |&& |sudo |sudo -u sarwater )sarwater ([a-z][^|;&>\n]*)"
    texts = [block.text for block in blocks_of(page) if block.language == "shell"]
    return [found for text in texts for found in re.findall(pattern, text, re.MULTILINE)]


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
