"""Faults of the disk: power cuts, no space, no inodes, no permission."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.torture import ledger_damage, powercut, powercut_ext4
from tests.torture.faults.result import Result, deliver, scenes
from tests.torture.ledger_damage import BROKEN, some_history
from tests.torture.station import Station, until


def cut_power(root: Path, count: int, rng: random.Random) -> Result:
    """4: power cuts; on a loop-mounted ext4 where that is possible, and on the file system model always."""
    result = Result()
    modelled = powercut.cut_model(root / "model", count, rng)
    result.injected = result.hit = modelled.cuts
    result.audit.add(modelled.audit)
    result.note = f"{modelled.cuts} cuts in the model"
    if powercut_ext4.can_mount():
        real = powercut_ext4.cut_ext4(root / "ext4", count, rng)
        result.injected += real.cuts
        result.hit += real.cuts
        result.audit.add(real.audit)
        result.note += f", {real.cuts} of ext4"
    return result


def fill_disk(root: Path, count: int, rng: random.Random) -> Result:
    """5: disk full, inodes full: pauses, resumes, nothing quarantined."""
    result = Result()
    for number in range(count):
        inodes = number % 2 == 1
        with tiny_disk(root / f"disk{number}", "size=16m,nr_inodes=400" if inodes else "size=16m") as disk:
            station = Station(disk)
            contents = scenes(station, 6)
            first, later = dict(list(contents.items())[:3]), dict(list(contents.items())[3:])
            deliver(station, later)
            for name in later:  # ready to appear without needing space
                os.rename(station.incoming / name, disk / name)
            at_start = number % 4 >= 2
            ballast = _fill(disk, inodes) if at_start else []
            result.injected += 1
            with station.start(log=root / "daemon.log") as daemon:
                if not at_start:
                    deliver(station, first)
                    until(lambda s=station: bool(s.masks()))  # type: ignore[misc]
                    ballast = _fill(disk, inodes)
                for name in later:
                    os.rename(disk / name, station.incoming / name)
                time.sleep(1.5)
                result.hit += daemon.process.poll() is None and not station.published_all(contents)
                for path in ballast:
                    path.unlink()
                if at_start:
                    deliver(station, first)
                until(lambda s=station, c=contents: s.published_all(c))  # type: ignore[misc]
                result.expect(daemon.terminate() == 0, "did not stop cleanly")
            result.expect(station.reasons() == {}, f"quarantined: {station.reasons()}")
            result.audit.add(station.audit(contents))
    return result


@contextlib.contextmanager
def tiny_disk(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs; needs root, be it of a user namespace (`unshare --user --map-root-user --mount`)."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _fill(disk: Path, inodes: bool) -> list[Path]:
    """Use up what is left; returns the files to remove again."""
    ballast: list[Path] = []
    with contextlib.suppress(OSError):
        for number in itertools.count():
            path = disk / f"ballast{number}"
            path.touch()
            ballast.append(path)
            with path.open("ab", buffering=0) as file:
                for _ in range(0 if inodes else 64):
                    file.write(bytes(4096))
    return ballast


def read_only_outgoing(root: Path, count: int, rng: random.Random) -> Result:
    """6: the outgoing folder becomes read-only: nothing is claimed, the input is kept, it goes on afterwards."""
    result = Result()
    for number in range(count):
        station = Station(root / f"run{number}")
        contents = scenes(station, 4)
        with station.start() as daemon:
            until(lambda s=station: "ready" in s.log)  # type: ignore[misc]
            station.outgoing.chmod(0o555)
            result.injected += 1
            try:
                deliver(station, contents)
                until(lambda s=station: "paused" in s.log)  # type: ignore[misc]
                result.hit += not station.masks()
            finally:
                station.outgoing.chmod(0o755)
            until(lambda s=station: len(s.masks()) == 4)  # type: ignore[misc]
            daemon.terminate()
        result.expect(station.reasons() == {}, f"quarantined: {station.reasons()}")
        result.audit.add(station.audit(contents))
    return result


def damage_ledger(root: Path, count: int, rng: random.Random) -> Result:
    """18: damaged ledgers: the daemon ends with 78, and runs after `queue rebuild`; harmless damage needs nobody."""
    past, result = Station(root / "past"), Result()
    contents = some_history(past)
    kinds = [*ledger_damage.FATAL, *ledger_damage.HARMLESS]
    for number, kind in enumerate(kinds if count >= len(kinds) else rng.sample(kinds, count)):
        shutil.copytree(past.root, root / f"run{number}", symlinks=True)
        station = Station(root / f"run{number}")
        ledger_damage.ALL[kind](station.state)
        result.injected += 1
        if kind in ledger_damage.FATAL:
            done = station.drain()
            named = sum("sarwater queue rebuild" in line for line in done.stderr.splitlines())
            result.expect(done.returncode == 78 and named == 1, f"{kind}: exit {done.returncode}: {done.stderr[-300:]}")
            rebuilt = station.queue("rebuild")
            result.expect(rebuilt.returncode == 0, f"{kind}: {rebuilt.stderr[-300:]}")
        again = station.drain()
        result.expect(again.returncode == 0, f"{kind}: no recovery: {again.stderr[-300:]}")
        audit = station.audit(contents)
        result.hit += not audit
        result.audit.add(audit)
        result.expect(station.reasons() == {BROKEN: "scene_unreadable"}, f"{kind}: quarantine {station.reasons()}")
        shutil.rmtree(station.root)
    return result
