"""Faults of the machine: too little of something, and a file system that is another process."""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.torture.faults.result import Result, deliver, scenes, undisturbed
from tests.torture.station import WITHOUT_PRIVILEGES, Station, until

NO_INOTIFY = [
    *("unshare", "--user", "--map-root-user", "sh", "-c"),
    'echo 0 > /proc/sys/user/max_inotify_instances; "$@"',
    "sh",
]
_SHORTAGES = {
    "address space": ("ulimit -v {};", ""),
    "file size": ("ulimit -f {};", ""),
    "descriptors": ("ulimit -n {};", ""),
    "streams": ("", "<&- >&- 2>&-"),
    "the error stream": ("", "2>&-"),
    "inotify": ("", ""),
}
"""What stands before and after the command in a shell."""
_AMOUNTS = {"address space": (100_000, 4_000_000), "file size": (1, 200), "descriptors": (8, 200)}
"""KiB, blocks of 512 bytes, descriptors."""


def short_of_something(root: Path, count: int, rng: random.Random) -> Result:
    """19: short of something: closed streams, address space, descriptors, file size, inotify."""
    result = Result()
    for number in range(count):
        kind = list(_SHORTAGES)[number % len(_SHORTAGES)]
        station = Station(root / f"run{number}")
        contents = deliver(station, scenes(station, 2))
        before, after = (part.format(rng.randint(*_AMOUNTS.get(kind, (0, 0)))) for part in _SHORTAGES[kind])
        shell = ["sh", "-c", f'{before} "$@" {after}', "sh"]
        command = [*WITHOUT_PRIVILEGES, *station.command("--once")]
        prefix = NO_INOTIFY if kind == "inotify" else shell
        done = subprocess.run(
            [*prefix, *command], capture_output=True, env=station.environment(), cwd=station.checkout, timeout=600
        )
        result.injected += 1
        result.hit += done.returncode != 0 or not before
        faults = set(station.reasons().values())
        result.expect(faults <= {"out_of_memory", "output", "io", "worker_died"}, f"{kind}: quarantined for {faults}")
        for folder in sorted(station.state.glob("quarantine/*")):
            station.queue("requeue", str(int(folder.name)))
        result.expect(station.drain().returncode == 0, f"{kind}: no recovery")
        result.audit.add(station.audit(contents))
    return result


def pass_through(root: Path, count: int, rng: random.Random) -> Result:
    """20: kill -9 on a FUSE file system that passes everything through."""
    result = Result()
    with _mounted(root) as folder:
        station = Station(folder / "station")
        contents = scenes(station, 2 * count)
        expected = undisturbed(root, contents)
        waiting = list(contents.items())
        while result.injected < count:
            deliver(station, dict(waiting[:2]))
            del waiting[:2]
            result.injected += 1
            with station.start() as daemon:
                seen = len(station.masks())
                with contextlib.suppress(TimeoutError):
                    until(lambda n=seen: len(station.masks()) > n, rng.uniform(1, 20))  # type: ignore[misc]
                daemon.kill()
                result.hit += 1
        result.expect(station.drain(timeout_s=3600).returncode == 0, "the last drain failed")
        result.audit.add(station.audit(contents, expected))
    return result


@contextlib.contextmanager
def _mounted(root: Path) -> Iterator[Path]:
    """A folder behind bindfs, which has neither locks nor inodes of its own."""
    behind, folder = root / "behind", root / "mounted"
    behind.mkdir(parents=True)
    folder.mkdir()
    subprocess.run(["bindfs", "--no-allow-other", str(behind), str(folder)], check=True)
    try:
        yield folder
    finally:
        unmount = ["fusermount", "-u"] if shutil.which("fusermount") else ["fusermount3", "-u"]
        subprocess.run([*unmount, str(folder)], check=True)
