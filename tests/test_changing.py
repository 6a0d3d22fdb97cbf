"""docs/changing.md: another release takes over, and goes back, by the commands of the page."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from runtime.daemon.ledger import FILE_NAME, Ledger
from sarwater import __version__
from tests.conftest import CHECKOUT
from tests.torture.station import WITHOUT_PRIVILEGES, Station

PAGE = (CHECKOUT / "docs" / "changing.md").read_text()
(TO_ANOTHER,) = re.findall(r"^    sudo (ln .*)$", PAGE, re.MULTILINE)
PROGRAM = """#!/bin/sh
# As the first line of an installed program, which names the release and not the link.
PYTHONPATH={release} exec {python} -m sarwater "$@"
"""
NEWER = {
    "sarwater/__init__.py": (f'__version__ = "{__version__}"', '__version__ = "9.9.9"'),
    "runtime/daemon/ledger.py": (
        "_STEPS = {",
        '_VERSION += 1\n_STEPS = {_VERSION - 1: f"PRAGMA user_version = {_VERSION}", ',
    ),
}
"""A release that takes the ledger over into a version of its own."""


class Opt:
    """/opt/sarwater in a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def install(self, name: str, changes: dict[str, tuple[str, str]]) -> None:
        release = self.root / "releases" / name
        for package in ("sarwater", "runtime"):
            shutil.copytree(CHECKOUT / package, release / package, ignore=shutil.ignore_patterns("__pycache__"))
        for file, (old, new) in changes.items():
            text = (release / file).read_text()
            assert text.count(old) == 1
            (release / file).write_text(text.replace(old, new))
        program = release / "bin" / "sarwater"
        program.parent.mkdir()
        program.write_text(PROGRAM.format(release=shlex.quote(str(release)), python=shlex.quote(sys.executable)))
        program.chmod(0o755)

    def use(self, name: str) -> None:
        """By the command of the page."""
        words = shlex.split(TO_ANOTHER)
        assert words[2].startswith("releases/")
        assert words[3] == "/opt/sarwater/current"
        subprocess.run([*words[:2], f"releases/{name}", self.root / "current"], check=True)

    def sarwater(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [*WITHOUT_PRIVILEGES, self.root / "current" / "bin" / "sarwater", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=self.root, timeout=250)


def made_by(mask: Path) -> str:
    item = json.loads(mask.with_suffix(".json").read_text())
    version: str = item["properties"]["processing:software"]["sarwater"]
    return version


def test_another_release_takes_over_and_the_older_one_goes_on_after_it(tmp_path: Path) -> None:
    station, opt = Station(tmp_path / "station"), Opt(tmp_path / "opt")
    copy = str(tmp_path / "ledger.sqlite")

    def work(name: str, seed: int) -> subprocess.CompletedProcess[str]:
        station.drop(name, seed)
        return opt.sarwater("watch", *station.command("--once")[3:])

    opt.install("older", {})
    opt.install("newer", NEWER)
    opt.use("older")
    assert work("a.tif", 1).returncode == 0
    assert opt.sarwater("queue", "backup", copy, "--state", str(station.state)).returncode == 0

    opt.use("newer")
    assert work("b.tif", 2).returncode == 0
    assert os.readlink(opt.root / "current") == "releases/newer"

    opt.use("older")
    refused = work("c.tif", 3)
    assert refused.returncode == 78
    assert "the sarwater that wrote it reads it" in refused.stderr
    assert opt.sarwater("queue", "restore", copy, "--state", str(station.state)).returncode == 0
    assert opt.sarwater("watch", *station.command("--once")[3:]).returncode == 0

    with Ledger(station.state / FILE_NAME) as ledger:
        assert ledger.check() == "ok"
    contents = {name: station.scene(seed) for seed, name in enumerate(("a.tif", "b.tif", "c.tif"), 1)}
    assert not (audit := station.audit(contents)), audit
    assert [made_by(mask) for mask in station.masks()] == [__version__, "9.9.9", __version__]
