"""The operator's pages, typed from top to bottom on a machine of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.docs.pages import blocks_of
from tests.support.rasters import lake_scene, write_geotiff

PAGES = ("systemd/README.md", "docs/changing.md")
MACHINE = CHECKOUT / "tests" / "support" / "machine.sh"
ALONE = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc"]
OUTGOING, LEDGER = "/var/lib/sarwater/outgoing", "/var/lib/sarwater/state/ledger.sqlite"
COPY = "/var/lib/sarwater/ledger-copy.sqlite"
PAGE = "curl --silent --fail --unix-socket /run/sarwater/page.sock http://localhost/"
QUICK = {"PATH": os.environ["PATH"], "SARWATER_DEVICE": "fake"}
AROUND = {
    "incoming/scene.tif": ("", f"until [ -e {OUTGOING}/scene_water.tif ]; do sleep 0.1; done"),
    "queue rebuild": (f"sudo systemctl stop sarwater-watch; echo damaged > {LEDGER}", ""),
    "page.token": ("", f"{PAGE} | grep -q sarwater"),
    "/etc/cron.d": ("", f'sudo -u sarwater sh -c "$(cut -d" " -f7- /etc/cron.d/sarwater)"; [ -s {COPY} ]'),
    "/etc/fstab": ("", "mountpoint -q /var/lib/sarwater; sudo sarwater queue list PUBLISHED | grep scene.tif"),
}
"""What is done before and after a block, by words of it: what the page's text says, and a look at what came of it."""


def can_have_a_machine(folder: Path) -> bool:
    for part in ("lower", "upper", "work", "whole"):
        (folder / part).mkdir()
    overlay = "mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work whole"
    return subprocess.run([*ALONE, "sh", "-c", overlay], cwd=folder, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a machine of its own")
def test_every_command_of_the_operators_pages_does_what_the_page_says(tmp_path: Path) -> None:
    if not can_have_a_machine(tmp_path):
        pytest.skip("needs namespaces and overlayfs")
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "systemd").symlink_to(CHECKOUT / "systemd")
    write_geotiff(desk / "scene.tif", lake_scene(300, 400))
    script = tmp_path / "script"
    lines: list[str] = []
    for page in PAGES:
        for block in blocks_of(CHECKOUT / page):
            if not block.mark:
                before, after = _around(block.text)
                lines += [before, block.text, after]
    text = "\n".join(lines)
    text = re.sub(r"^.*status --watch$", r"{ timeout 5 \g<0> || [ $? = 124 ]; }", text, flags=re.MULTILINE)
    script.write_text(text + "\nsudo sarwater status --check\n")
    command: list[str | Path] = [*ALONE, "bash", MACHINE, tmp_path, sys.executable, CHECKOUT, script]
    log = tmp_path / "log"
    with log.open("w") as written:
        subprocess.run(command, stdout=written, stderr=subprocess.STDOUT, timeout=850, env=QUICK)
    assert "SARWATER OK" in log.read_text().splitlines()[-1], log.read_text()[-4000:]


def _around(text: str) -> tuple[str, str]:
    found = [around for words, around in AROUND.items() if words in text]
    return "\n".join(before for before, _ in found), "\n".join(after for _, after in found)
