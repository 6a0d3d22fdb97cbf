"""The page "Change the model", as an operator would type it, beside a running daemon."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from runtime.activation import read_activation
from sarwater.models import find_model
from tests.conftest import CHECKOUT
from tests.torture.station import Station, until


@pytest.mark.timeout(900)
def test_the_commands_of_the_page_change_the_model_of_a_running_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine's folders are below the test's, and `systemctl` sends the daemon its signal."""
    once, another, back = _blocks(CHECKOUT / "docs/change-model.md")
    settings = tmp_path / "etc/sarwater/watch.toml"
    settings.parent.mkdir(parents=True)
    station = Station(tmp_path / "station", device="cpu")
    link = station.model = tmp_path / "var/lib/sarwater/engines/active"
    settings.write_text(f'model = "hrnet"\nstate = "{station.state}"\n')
    for name, text in {
        "sarwater": f'exec {shlex.quote(sys.executable)} -m sarwater "$@" --config={settings}',
        "sudo": '[ "$1" != -u ] || shift 2; exec "$@"',
        "systemctl": '[ "$1" = restart ] || kill -HUP "$DAEMON"',
    }.items():
        command = tmp_path / "bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(f"#!/bin/bash\n{text}\n")
        command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(CHECKOUT))

    def typed(lines: list[str]) -> str:
        script = "\n".join(lines).replace("/etc/sarwater", str(settings.parent))
        script = script.replace("/var/lib/sarwater", str(tmp_path / "var/lib/sarwater"))
        done = subprocess.run(["bash", "-eux", "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=600)
        assert done.returncode == 0, done.stderr
        return done.stdout

    typed(once)
    with station.start() as daemon:
        monkeypatch.setenv("DAEMON", str(daemon.pid))
        until(lambda: "ready" in station.log)
        assert "% of pixels differ" in typed(another)
        until(lambda: station.log.count("ready") == 2)
        known = read_activation(link)
        assert known is not None
        assert known.model == str(find_model("hrnet-int8").path)
        station.drop("s.tif", 1)
        until(lambda: len(station.masks()) == 1)
        assert "of the pixels compared differ from the CPU's" in station.log
        typed(back)
        until(lambda: station.log.count("ready") == 3)
        assert link.resolve() == find_model("hrnet").path
        assert daemon.terminate() == 0


def _blocks(page: Path) -> list[list[str]]:
    """Lines of code that follow each other directly."""
    blocks = re.findall(r"(?:^ {4}\S.*\n)+", page.read_text(), re.MULTILINE)
    return [textwrap.dedent(block).splitlines() for block in blocks]
