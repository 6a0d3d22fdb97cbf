"""Faults of what comes in: bursts, folders without events, slow writers, broken files, twins, wrong models."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import sys
import time
from pathlib import Path

from runtime.daemon.ledger import Status
from sarwater.shown import shown
from tests.torture.corpus import hostile_files
from tests.torture.faults.result import Result, deliver, scenes
from tests.torture.station import Station, ended_well, until
from tests.torture.strange import put_strange_things, put_together, restless


def burst_while_stopped(root: Path, count: int, rng: random.Random) -> Result:
    """7: a burst while the daemon is stopped: more files than the kernel's event queue holds, each handled once."""
    station, result = Station(root / "station", accept=["*.tif"], scan_s=1), Result()
    contents = scenes(station, max(4, count // 50))
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        daemon.process.send_signal(signal.SIGSTOP)
        for number in range(count - len(contents)):
            (station.incoming / f"x{number}.dat").touch()
        deliver(station, contents)
        result.injected = count
        daemon.process.send_signal(signal.SIGCONT)
        until(lambda: len(station.masks()) == len(contents) and len(station.rows()) >= count, 3600)
        daemon.terminate()
    names = [row.name for row in station.rows()]
    result.hit = len(names)
    result.expect(len(names) == len(set(names)) == count, f"{len(names)} rows for {count} files")
    overflows = re.search(r"sarwater_watch_overflows_total (\d+)", (station.state / "metrics.prom").read_text())
    result.note = f"{overflows[1] if overflows else '?'} event overflows"
    result.audit.add(station.audit(contents))
    return result


def folder_without_events(root: Path, count: int, rng: random.Random) -> Result:
    """8: an inbox that gives no events: what is renamed in is found by scans."""
    station, result = Station(root / "station"), Result()
    station.module = "tests.torture.faulty_watch"
    contents = scenes(station, count)
    with station.start(TORTURE_NO_EVENTS="1") as daemon:
        until(lambda: "ready" in station.log)
        for name, content in contents.items():
            station.drop(name, content)
            result.injected += 1
        until(lambda: len(station.masks()) == count)
        daemon.terminate()
    result.hit = sum(row.found_by == "scan" for row in station.rows(Status.PUBLISHED))
    result.audit.add(station.audit(contents))
    return result


def slow_writers(root: Path, count: int, rng: random.Random) -> Result:
    """9: slow writers, rewrites in place, renames in, `.tmp`: no mask of anything but the finished bytes."""
    station, result = Station(root / "station", settle_s=1), Result()
    contents = {}
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        for number in range(count):
            name, content = f"w{number}.tif", station.scene(number)
            way = ("slow", "rewrite", "hidden", "tmp")[number % 4]
            contents[name] = content
            _write(station.incoming, name, content, way, rng)
            result.injected += 1
            result.hit += way in ("slow", "rewrite")
        until(lambda: len(station.masks()) == count, 600 + count)
        daemon.terminate()
    result.expect(station.reasons() == {}, f"quarantined: {station.reasons()}")
    result.audit.add(station.audit(contents))
    return result


def _write(folder: Path, name: str, content: bytes, way: str, rng: random.Random) -> None:
    path = folder / name
    if way in ("hidden", "tmp"):
        partial = folder / (f".{name}" if way == "hidden" else f"{name}.tmp")
        partial.write_bytes(content)
        os.rename(partial, path)
        return
    if way == "rewrite":
        path.write_bytes(content[: len(content) // 2])
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(content), 4096):
            file.write(content[start : start + 4096])
            time.sleep(rng.uniform(0, 0.1))


_MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], "w").write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Runs a command and writes the peak memory, in kB, of the largest process among it and its children."""


def broken_and_hostile_files(root: Path, count: int, rng: random.Random) -> Result:
    """10: broken and hostile files: each ends in quarantine or as a mask, none kills the worker, memory is capped."""
    station, result = Station(root / "station", retry_first_s=0, stall_s=300), Result()
    for name, content in hostile_files(station.scene(0), count, rng):
        station.drop(name, content)
        result.injected += 1
    locked = station.drop("unreadable.tif", station.scene(1))
    locked.chmod(0)
    sound = deliver(station, {"z-sound.tif": station.scene(2)})
    peak = root / "peak_kb"
    done = station.drain(timeout_s=3600, prefix=[sys.executable, "-c", _MEASURED, str(peak)])
    result.expect(ended_well(done), f"exit {done.returncode}: {done.stderr[-300:]}")
    rows = station.rows()
    result.hit = len(station.reasons())
    result.expect(
        all(row.status in (Status.QUARANTINED, Status.PUBLISHED, Status.DUPLICATE, Status.IGNORED) for row in rows),
        "undecided",
    )
    deadly = [f"{shown(row.name)} ({row.message})" for row in rows if row.worker_deaths]
    result.expect(not deadly, f"killed the worker: {deadly}")
    result.expect(station.reasons().get("unreadable.tif") == "scene_unreadable", "read a file of mode 000")
    peak_mb = int(peak.read_text()) / 1024
    result.expect(peak_mb < 1500, f"{peak_mb:.0f} MB")
    result.note = f"peak {peak_mb:.0f} MB"
    result.audit.add(station.audit(sound))
    return result


def same_and_different(root: Path, count: int, rng: random.Random) -> Result:
    """13: same bytes under another name: 1 mask; same name with other bytes: 2 masks; two daemons: the second exits."""
    result = Result()
    for number in range(count):
        station = Station(root / f"run{number}")
        deliver(station, {"a.tif": station.scene(1), "b.tif": station.scene(1)})
        with station.start() as daemon:
            until(lambda s=station: "ready" in s.log)  # type: ignore[misc]
            second = station.drain()
            result.injected += 3
            result.hit += second.returncode == 78
            result.expect("another daemon" in second.stderr, "the second daemon did not say why")
            until(lambda s=station: len(s.rows(Status.DUPLICATE)) == 1)  # type: ignore[misc]
            result.hit += len(station.masks()) == 1
            station.drop("a.tif", 2)
            until(lambda s=station: len(s.masks()) == 2)  # type: ignore[misc]
            result.hit += 1
            daemon.terminate()
        result.audit.add(station.audit({"b.tif": station.scene(1), "a.tif": station.scene(2)}))
    result.expect(result.hit == result.injected, "not as expected")
    return result


def wrong_engines(root: Path, count: int, rng: random.Random) -> Result:
    """16: tampered, truncated or foreign models: refused before a byte of them is parsed, and the scenes are kept."""
    result = Result()
    for number in range(count):
        station = Station(root / f"run{number}")
        contents = deliver(station, scenes(station, 1))
        whole = bytearray(station.model.read_bytes())
        match number % 3:
            case 0:
                whole[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
                station.model.write_bytes(whole)
            case 1:
                station.model.write_bytes(whole[: rng.randrange(len(whole))])
            case 2:
                other = Station(root / f"other{number}")
                other.model.write_bytes(rng.randbytes(100))
                shutil.copy(other.model, station.model)
        result.injected += 1
        done = station.drain(device="cpu")
        result.hit += done.returncode == 1 and "sha256" in done.stderr
        result.expect(list(contents) == [path.name for path in station.incoming.iterdir()], "the scene was touched")
        station.write_model()
        station.drain()
        result.audit.add(station.audit(contents))
    result.expect(result.hit == count, f"{count - result.hit} were not refused by their hash")
    return result


def strange_things(root: Path, count: int, rng: random.Random) -> Result:
    """17: strange things in the inbox: names, folders, markers and sizes; each costs itself, the sound scenes run."""
    result = Result()
    for number in range(count):
        station = Station(root / f"run{number}", max_input_bytes=4_000_000)
        strange = put_strange_things(station.incoming, station.scene(0))
        sound = deliver(station, {"0-first.tif": station.scene(1), "zz-last.tif": station.scene(2)})
        try:
            with restless(station.incoming, station.scene(3)) as moving:
                done = station.drain(timeout_s=1800)
        finally:
            put_together(station.incoming)
        strange += moving
        result.injected += len(strange)
        result.expect(ended_well(done), f"exit {done.returncode}: {done.stderr[-300:]}")
        result.expect("Traceback" not in done.stderr, "a traceback")
        known = {row.name for row in station.rows()}
        result.hit += len(known & set(strange))
        for huge in (*station.state.glob("quarantine/*/huge.tif"), *station.state.glob("quarantine/*/growing.tif")):
            os.truncate(huge, 0)  # the audit hashes all that was kept
        result.audit.add(station.audit(sound))
    return result
