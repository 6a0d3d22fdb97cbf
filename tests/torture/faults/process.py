"""Faults of the process: kills, calls that fail, stops, a clock that jumps, deadly scenes, a long run."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from pathlib import Path

from runtime.daemon.ledger import FILE_NAME, Ledger, Status
from tests.torture.faults.result import Result, deliver, scenes, undisturbed
from tests.torture.station import CHECKOUT, Audit, Daemon, Station, ended_well, until

SYSCALLS = "rename,link,linkat,unlink,unlinkat,rmdir,mkdir,fsync,fdatasync,pwrite64,ftruncate"


def kill_at_random(root: Path, count: int, rng: random.Random) -> Result:
    """1: kill -9 at random moments."""
    # Two scenes a kill, so that every daemon has something to do when it is killed.
    return _kill_at_random(root, count, 2 * count, rng, patience_s=10)


def kill_with_the_model_that_ships(root: Path, count: int, rng: random.Random) -> Result:
    """21: kill -9 with the model that ships."""
    # Few live long enough to finish a scene.
    settings = {"model": str(_in_small_tiles(root / "ships")), "device": "cpu", "max_interruptions": count + 1}
    return _kill_at_random(root, count, 2 + count // 2, rng, patience_s=120, **settings)


def _in_small_tiles(folder: Path) -> Path:
    """The model that ships, for tiles of a sixteenth of the area: a start is dearest for its golden tile, and a kill
    needs a start."""
    from export.graph import read_graph, with_tile, write_graph

    ships = read_graph(CHECKOUT / "engines" / "hrnet-w18-small.onnx")
    folder.mkdir(parents=True)
    return write_graph(with_tile(ships, ships.manifest.tile_px // 4), folder / "small-tiles.onnx").path


def _kill_at_random(
    root: Path, count: int, scene_count: int, rng: random.Random, patience_s: float, **settings: object
) -> Result:
    station, result = Station(root / "station", **settings), Result()
    contents = scenes(station, scene_count)
    expected = undisturbed(root, contents, **settings)
    waiting = list(contents.items())
    while result.hit < count:
        while waiting and len(contents) - len(waiting) < len(station.masks()) + 2:
            station.drop(*waiting.pop(0))
        result.injected += 1
        with station.start() as daemon:
            if rng.random() < 0.75:  # while it works, else anywhere, the start and the recovery included
                seen = len(station.masks())
                with contextlib.suppress(TimeoutError):
                    until(lambda n=seen: len(station.masks()) > n, patience_s, poll_s=0.1)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 0.2))
            else:
                time.sleep(rng.uniform(0.0, 2.0))
            daemon.kill()
            result.hit += daemon.process.returncode == -signal.SIGKILL
    deliver(station, dict(waiting))
    result.expect(station.drain(timeout_s=3600).returncode == 0, "the last drain failed")
    result.audit.add(station.audit(contents, expected))
    return result


def kill_at_syscalls(root: Path, count: int, rng: random.Random) -> Result:
    """2: kill at each rename, link, unlink, fsync, write."""
    return _at_each_syscall(root, count, rng, ["signal=KILL"])


def fail_syscalls(root: Path, count: int, rng: random.Random) -> Result:
    """3: each of these fails with EIO, ENOSPC, EACCES."""
    return _at_each_syscall(root, count, rng, ["error=EIO", "error=ENOSPC", "error=EACCES"])


def _at_each_syscall(root: Path, count: int, rng: random.Random, injections: list[str]) -> Result:
    """Run the daemon with one injection at one syscall, then without; `count` of all such runs, or all."""
    result = Result()
    contents = scenes(Station(root / "content"), 3)
    contents["same.tif"] = contents["s00000.tif"]
    with_broken = {**contents, "broken.tif": b"not a raster"}
    calls = _syscalls(root, with_broken)
    runs = [(name, at, injection) for name, at in calls for injection in injections]
    expected = undisturbed(root, contents)
    for number, (name, at, injection) in enumerate(runs if count >= len(runs) else rng.sample(runs, count)):
        station = Station(root / f"run{number}")
        deliver(station, with_broken)
        result.injected += 1
        with station.start(
            "--once", prefix=_strace(root, f"trace={name}", f"inject={name}:{injection}:when={at}")
        ) as daemon:
            daemon.process.wait(300)
        recorded = (root / "strace.log").read_text()
        result.hit += "INJECTED" in recorded or "killed by" in recorded
        if (station.state / FILE_NAME).exists():
            result.audit.add(_false_successes(station, expected))
        drained = station.drain()
        where = f"{name} {at} {injection}"
        result.expect(ended_well(drained), f"{where}: no recovery: {drained.stderr[-300:]}")
        audit = station.audit(contents, expected)
        result.expect(not audit, where)
        result.audit.add(audit)
        result.expect(list(station.reasons()) == ["broken.tif"], f"{where}: quarantine {station.reasons()}")
        shutil.rmtree(station.root)
    result.note = f"{len(calls)} calls, {len(runs)} possible runs"
    return result


def _syscalls(root: Path, contents: dict[str, bytes]) -> list[tuple[str, int]]:
    """(name, n) for each of SYSCALLS that the supervisor makes for `contents`: strace counts each name by itself."""
    station = Station(root / "counted")
    deliver(station, contents)
    with station.start("--once", prefix=_strace(root, f"trace={SYSCALLS}")) as daemon:
        daemon.process.wait(300)
    names = re.findall(r"^(\w+)\(", (root / "strace.log").read_text(), re.MULTILINE)
    return [(name, at) for name, count in Counter(names).items() for at in range(1, count + 1)]


def _strace(root: Path, *expressions: str) -> list[str]:
    flags = [part for expression in expressions for part in ("-e", expression)]
    return ["strace", "-qq", "-o", str(root / "strace.log"), *flags, "--"]


def _false_successes(station: Station, expected: dict[str, str]) -> Audit:
    """PUBLISHED without its right mask, at any time."""
    audit = Audit()
    visible = station.expected()
    with Ledger(station.state / FILE_NAME) as ledger:  # may be so young that it has no tables yet
        with_key = [row for row in ledger.rows(Status.PUBLISHED) if row.key is not None]
    audit.lost += [f"{row.name}: PUBLISHED without a mask" for row in with_key if row.key not in visible]
    audit.corrupted += [key for key, sha in visible.items() if expected.get(key) != sha]
    return audit


def deadly_inputs(root: Path, count: int, rng: random.Random) -> Result:
    """11: inputs that kill or hang the worker: quarantined after two deaths, the next scene succeeds."""
    station, result = Station(root / "station", stall_s=15, retry_first_s=0), Result()
    station.module = "tests.torture.faulty_watch"
    for number in range(count):
        station.drop(f"{('segfault', 'hang')[number % 2]}{number}.tif", number)
        result.injected += 1
    sound = deliver(station, {"z-sound.tif": station.scene(count)})
    result.expect(station.drain(timeout_s=300 + 60 * count).returncode == 1, "the daemon failed")
    result.hit = sum(row.worker_deaths == 2 for row in station.rows(Status.QUARANTINED))
    result.expect(result.hit == count, f"{result.hit} of {count} quarantined after two deaths")
    result.audit.add(station.audit(sound))
    return result


def jump_clock(root: Path, count: int, rng: random.Random) -> Result:
    """12: the wall clock jumps by -1 h and +1 day: nothing is skipped, no duration is negative."""
    station, result = Station(root / "station"), Result()
    station.module = "tests.torture.faulty_watch"
    contents = scenes(station, count * 2)
    clock = root / "clock"
    clock.write_text("0")
    with station.start(TORTURE_CLOCK=str(clock)) as daemon:
        until(lambda: "ready" in station.log)
        for number, (name, content) in enumerate(contents.items()):
            if number % 2 == 0:
                clock.write_text(str((-3600, 86400)[result.injected % 2]))
                result.injected += 1
            station.drop(name, content)
            until(lambda n=number: len(station.masks()) > n)  # type: ignore[misc]
        daemon.terminate()
    records = [json.loads(line) for line in (station.state / "latency.jsonl").read_text().splitlines()]
    seconds = [value for record in records for key, value in record.items() if key.endswith("_s") and value is not None]
    days = [record["moments"]["visible"]["utc"][:10] for record in sorted(records, key=lambda r: int(r["job"]))]
    result.hit = 1 + sum(before != after for before, after in itertools.pairwise(days))
    result.expect(min(seconds) >= 0, "a negative duration")
    metrics = (station.state / "metrics.prom").read_text()
    result.expect(not re.search(r"_(seconds|sum)\S* -", metrics), "a negative metric")
    result.audit.add(station.audit(contents))
    return result


def stop_and_reload(root: Path, count: int, rng: random.Random) -> Result:
    """14: SIGTERM at random moments, with bad reloads in between: out within 10 s, nothing lost."""
    file = root / "watch.toml"
    root.mkdir(parents=True, exist_ok=True)
    station, result = Station(root / "station"), Result()
    contents = scenes(station, count)
    waiting = list(contents.items())
    expected = undisturbed(root, contents)
    slowest_s = 0.0
    for _ in range(count):
        station.drop(*waiting.pop())
        file.write_text("")
        with station.start(f"--config={file}") as daemon:
            until(lambda s=station: _has_begun(s, daemon))  # type: ignore[misc]
            time.sleep(rng.uniform(0, 2))
            file.write_text("settle_s = -1")
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(rng.uniform(0, 0.3))
            start_s = time.monotonic()
            result.injected += 1
            result.hit += daemon.terminate() == 0
            slowest_s = max(slowest_s, time.monotonic() - start_s)
    result.expect(result.hit == count, f"{count - result.hit} exits were not clean")
    result.expect(slowest_s < 10, f"a stop took {slowest_s:.1f} s")
    result.expect(station.drain(timeout_s=600).returncode == 0, "the last drain failed")
    result.note = f"slowest stop {slowest_s:.1f} s"
    result.audit.add(station.audit(contents, expected))
    return result


def _has_begun(station: Station, daemon: Daemon) -> bool:
    """Has it locked its folders, with its own handlers in place? Before that, a signal ends it as any command."""
    lock = station.state / "lock"
    return lock.exists() and lock.read_text().strip() == str(daemon.pid)


def long_run(root: Path, count: int, rng: random.Random) -> Result:
    """15: many small scenes in a row: memory and descriptors stay flat."""
    station, result = Station(root / "station", after="remove"), Result()
    samples: list[tuple[int, int]] = []
    with station.start() as daemon:
        until(lambda: "ready" in station.log)
        start_s = time.monotonic()
        for number in range(count):
            station.drop(f"s{number:05d}.tif", number)
            while number - result.hit > 500:
                time.sleep(0.2)
                result.hit = len(station.masks())
            if number % max(1, count // 20) == 0:
                samples.append(_footprint(daemon))
        until(lambda: len(station.masks()) == count, 3600)
        took_s = time.monotonic() - start_s
        samples.append(_footprint(daemon))
        daemon.terminate()
    result.injected = result.hit = count
    settled, last = samples[len(samples) // 4], samples[-1]
    result.expect(last[0] - settled[0] < 100_000, f"memory grew by {(last[0] - settled[0]) / 1000:.0f} MB")
    result.expect(abs(last[1] - settled[1]) <= 8, f"descriptors went from {settled[1]} to {last[1]}")
    result.expect(len(station.rows(Status.PUBLISHED)) == count, "not all published")
    result.note = (
        f"{count / took_s:.0f} scenes/s, {(last[0] - settled[0]) / 1000:+.1f} MB, {last[1] - settled[1]:+d} fds"
    )
    return result


def _footprint(daemon: Daemon) -> tuple[int, int]:
    """(resident kB, descriptors) of supervisor and worker together."""
    pids = [
        daemon.pid,
        *(int(text) for text in Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()),
    ]
    kilobytes = descriptors = 0
    for pid in pids:
        resident = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        kilobytes += int(resident[1]) if resident else 0
        descriptors += len(os.listdir(f"/proc/{pid}/fd"))
    return kilobytes, descriptors
