"""`make torture`: inject the faults and print one table.

    python -m tests.torture.run [--quick] [--only 1,4] [--scale 0.1] [--seed 7] [--json FILE]

As root, the daemons run without any capability, which makes them ordinary users; what needs a mount runs in a user
namespace when nobody is root.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.torture.faults import FAULTS, Fault, Result

NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount", "--"]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make torture", description="Inject the faults; count what was lost.")
    parser.add_argument("--quick", action="store_true", help="the counts of `make test`")
    parser.add_argument("--only", default="", metavar="N,N", help="these faults alone")
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="so many times the full counts")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all random choices (default: the time)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table as JSON, too")
    arguments = parser.parse_args(argv)
    only = {int(number) for number in arguments.only.split(",") if number}
    rows = []
    print(f"seed {arguments.seed}, {os.cpu_count()} CPUs, user {os.geteuid()}", flush=True)
    for fault in FAULTS:
        if only and fault.number not in only:
            continue
        count = fault.quick if arguments.quick else max(fault.quick, round(fault.full * arguments.scale))
        start_s = time.monotonic()
        row = run(fault, count, arguments.seed)
        row["seconds"] = round(time.monotonic() - start_s)
        rows.append(row)
        print(json.dumps(row, ensure_ascii=False), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if len(rows) > 1:
        _print(rows)
    return 1 if any(row["lost"] or row["duplicated"] or row["corrupted"] for row in rows) else 0


def run(fault: Fault, count: int, seed: int) -> dict[str, object]:
    """One fault in a folder of its own; its row of the table."""
    if lacking := missing(fault):
        return {**_row(fault, Result()), "note": f"skipped: {lacking}"}
    if fault.needs == "mount" and os.geteuid() != 0:
        command = [*NAMESPACE, sys.executable, "-m", "tests.torture.run", f"--only={fault.number}", f"--seed={seed}"]
        done = subprocess.run([*command, f"--scale={count / fault.full}"], capture_output=True, text=True)
        row: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return row
    with tempfile.TemporaryDirectory(prefix=f"torture-{fault.number}-") as folder:
        return _row(fault, fault.inject(Path(folder), count, random.Random(seed)))


def missing(fault: Fault) -> str:
    """Why a fault cannot be injected here; empty where it can."""
    if fault.needs == "strace" and shutil.which("strace") is None:
        return "strace is not installed"
    if fault.needs == "fuse" and (shutil.which("bindfs") is None or not os.access("/dev/fuse", os.R_OK | os.W_OK)):
        return "bindfs is not installed, or /dev/fuse may not be used"
    if (
        fault.needs == "mount"
        and os.geteuid() != 0
        and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode
    ):
        return "neither root nor user namespaces"
    return ""


def _row(fault: Fault, result: Result) -> dict[str, object]:
    audit = result.audit
    wrong = [*audit.lost, *audit.duplicated, *audit.corrupted]
    return {
        "number": fault.number,
        "fault": fault.title,
        "injected": result.injected,
        "hit": result.hit,
        "lost": len(audit.lost),
        "duplicated": len(audit.duplicated),
        "corrupted": len(audit.corrupted),
        "note": "; ".join(filter(None, [result.note, *wrong[:3]])),
    }


def _print(rows: list[dict[str, object]]) -> None:
    table = Table(box=None, header_style="bold")
    for column in rows[0]:
        table.add_column(column, justify="left" if column in ("fault", "note") else "right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 200
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
