"""The sixteen faults of the reliability specification. Each function injects one kind, then counts what went wrong.

A daemon that keeps its guarantee ends with 0 lost, 0 duplicated, 0 corrupted, whatever was injected.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.ledger import FILE_NAME, Ledger, State
from tests.torture import powercut
from tests.torture.corpus import hostile_files
from tests.torture.station import Audit, Daemon, Station, until

SYSCALLS = "rename,link,linkat,unlink,unlinkat,rmdir,mkdir,fsync,fdatasync,pwrite64,ftruncate"


@dataclass
class Result:
    """`injected`: attempts; `hit`: those that demonstrably struck a running daemon."""

    injected: int = 0
    hit: int = 0
    audit: Audit = field(default_factory=Audit)
    note: str = ""

    def add(self, audit: Audit) -> None:
        self.audit.lost += audit.lost
        self.audit.duplicated += audit.duplicated
        self.audit.corrupted += audit.corrupted

    def expect(self, holds: bool, what: str) -> None:
        """A condition besides the guarantee; where it does not hold, the fault counts as not survived."""
        if not holds:
            self.audit.lost.append(what)


def scenes(station: Station, count: int, start: int = 0) -> dict[str, bytes]:
    return {f"s{number:05d}.tif": station.scene(number) for number in range(start, start + count)}


def deliver(station: Station, contents: dict[str, bytes]) -> dict[str, bytes]:
    for name, content in contents.items():
        station.drop(name, content)
    return contents


def undisturbed(root: Path, contents: dict[str, bytes]) -> dict[str, str]:
    """The masks that `contents` should give."""
    station = Station(root / "undisturbed")
    deliver(station, contents)
    station.drain(timeout_s=3600)
    return station.expected()


def kill_at_random(root: Path, count: int, rng: random.Random) -> Result:
    """1: kill -9 at random moments."""
    station, result = Station(root / "station"), Result()
    contents = scenes(station, 2 * count)  # so that every daemon has something to do when it is killed
    expected = undisturbed(root, contents)
    waiting = list(contents.items())
    while result.hit < count:
        for name, content in waiting[:2]:
            station.drop(name, content)
        del waiting[:2]
        result.injected += 1
        with station.start() as daemon:
            if rng.random() < 0.75:  # while it works, else anywhere, the start and the recovery included
                seen = len(station.masks())
                with contextlib.suppress(TimeoutError):
                    until(lambda n=seen: len(station.masks()) > n, 10)  # type: ignore[misc]
                time.sleep(rng.uniform(0.0, 0.2))
            else:
                time.sleep(rng.uniform(0.0, 2.0))
            daemon.kill()
            result.hit += daemon.process.returncode == -signal.SIGKILL
    deliver(station, dict(waiting))
    result.expect(station.drain(timeout_s=3600).returncode == 0, "the last drain failed")
    result.add(station.audit(contents, expected))
    return result


def _strace(root: Path, *expressions: str) -> list[str]:
    flags = [part for expression in expressions for part in ("-e", expression)]
    return ["strace", "-qq", "-o", str(root / "strace.log"), *flags, "--"]


def _syscalls(root: Path, contents: dict[str, bytes]) -> list[tuple[str, int]]:
    """(name, n) for each of SYSCALLS that the supervisor makes for `contents`: strace counts each name by itself."""
    station = Station(root / "counted")
    deliver(station, contents)
    with station.start("--once", prefix=_strace(root, f"trace={SYSCALLS}")) as daemon:
        daemon.process.wait(300)
    names = re.findall(r"^(\w+)\(", (root / "strace.log").read_text(), re.MULTILINE)
    return [(name, at) for name, count in Counter(names).items() for at in range(1, count + 1)]


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
            result.add(_false_successes(station, expected))
        drained = station.drain()
        where = f"{name} {at} {injection}"
        result.expect(drained.returncode == 0, f"{where}: no recovery: {drained.stderr[-300:]}")
        audit = station.audit(contents, expected)
        result.expect(not audit, where)
        result.add(audit)
        result.expect(list(station.reasons()) == ["broken.tif"], f"{where}: quarantine {station.reasons()}")
        shutil.rmtree(station.root)
    result.note = f"{len(calls)} calls, {len(runs)} possible runs"
    return result


def _false_successes(station: Station, expected: dict[str, str]) -> Audit:
    """PUBLISHED without its right mask, at any time."""
    audit = Audit()
    visible = station.expected()
    with Ledger(station.state / FILE_NAME) as ledger:  # may be so young that it has no tables yet
        with_key = [row for row in ledger.rows(State.PUBLISHED) if row.key is not None]
    audit.lost += [f"{row.name}: PUBLISHED without a mask" for row in with_key if row.key not in visible]
    audit.corrupted += [key for key, sha in visible.items() if expected.get(key) != sha]
    return audit


def kill_at_syscalls(root: Path, count: int, rng: random.Random) -> Result:
    """2: kill at each rename, link, unlink, fsync, write."""
    return _at_each_syscall(root, count, rng, ["signal=KILL"])


def fail_syscalls(root: Path, count: int, rng: random.Random) -> Result:
    """3: each of these fails with EIO, ENOSPC, EACCES."""
    return _at_each_syscall(root, count, rng, ["error=EIO", "error=ENOSPC", "error=EACCES"])


def cut_power(root: Path, count: int, rng: random.Random) -> Result:
    """4: power cuts; on a loop-mounted ext4 where that is possible, and on the file system model always."""
    result = Result()
    modelled = powercut.cut_model(root / "model", count, rng)
    result.injected = result.hit = modelled.cuts
    result.add(modelled.audit)
    result.note = f"{modelled.cuts} cuts in the model"
    if powercut.can_mount():
        real = powercut.cut_ext4(root / "ext4", count, rng)
        result.injected += real.cuts
        result.hit += real.cuts
        result.add(real.audit)
        result.note += f", {real.cuts} of ext4"
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
                until(lambda s=station, c=contents: s.published_all(c), 120)  # type: ignore[misc]
                result.expect(daemon.terminate() == 0, "did not stop cleanly")
            result.expect(station.reasons() == {}, f"quarantined: {station.reasons()}")
            result.add(station.audit(contents))
    return result


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
        result.add(station.audit(contents))
    return result


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
    result.add(station.audit(contents))
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
    result.hit = sum(row.found_by == "scan" for row in station.rows(State.PUBLISHED))
    result.add(station.audit(contents))
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
        until(lambda: len(station.masks()) == count, 120 + count)
        daemon.terminate()
    result.expect(station.reasons() == {}, f"quarantined: {station.reasons()}")
    result.add(station.audit(contents))
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


def broken_and_hostile_files(root: Path, count: int, rng: random.Random) -> Result:
    """10: broken and hostile files: each ends in quarantine or as a mask, none kills the worker, memory is capped."""
    station, result = Station(root / "station", retry_first_s=0, stall_s=60), Result()
    for name, content in hostile_files(station.scene(0), count, rng):
        station.drop(name, content)
        result.injected += 1
    locked = station.drop("unreadable.tif", station.scene(1))
    locked.chmod(0)
    sound = deliver(station, {"z-sound.tif": station.scene(2)})
    done = station.drain(timeout_s=3600)
    result.expect(done.returncode == 0, f"exit {done.returncode}: {done.stderr[-300:]}")
    rows = station.rows()
    result.hit = len(station.reasons())
    result.expect(all(row.state in (State.QUARANTINED, State.PUBLISHED, State.DUPLICATE) for row in rows), "undecided")
    result.expect(not any(row.worker_deaths for row in rows), "a file killed the worker")
    result.expect(station.reasons().get("unreadable.tif") == "scene_unreadable", "read a file of mode 000")
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    result.expect(peak_mb < 1500, f"{peak_mb:.0f} MB")
    result.note = f"peak {peak_mb:.0f} MB"
    result.add(station.audit(sound))
    return result


def deadly_inputs(root: Path, count: int, rng: random.Random) -> Result:
    """11: inputs that kill or hang the worker: quarantined after two deaths, the next scene succeeds."""
    station, result = Station(root / "station", stall_s=1, retry_first_s=0), Result()
    station.module = "tests.torture.faulty_watch"
    for number in range(count):
        station.drop(f"{('segfault', 'hang')[number % 2]}{number}.tif", number)
        result.injected += 1
    sound = deliver(station, {"z-sound.tif": station.scene(count)})
    result.expect(station.drain(timeout_s=60 + 20 * count).returncode == 0, "the daemon failed")
    result.hit = sum(row.worker_deaths == 2 for row in station.rows(State.QUARANTINED))
    result.expect(result.hit == count, f"{result.hit} of {count} quarantined after two deaths")
    result.add(station.audit(sound))
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
    result.add(station.audit(contents))
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
            until(lambda s=station: len(s.rows(State.DUPLICATE)) == 1)  # type: ignore[misc]
            result.hit += len(station.masks()) == 1
            station.drop("a.tif", 2)
            until(lambda s=station: len(s.masks()) == 2)  # type: ignore[misc]
            result.hit += 1
            daemon.terminate()
        result.add(station.audit({"b.tif": station.scene(1), "a.tif": station.scene(2)}))
    result.expect(result.hit == result.injected, "not as expected")
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
            until(lambda s=station: _catches(daemon.process.pid))  # type: ignore[misc]
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
    result.add(station.audit(contents, expected))
    return result


def _catches(pid: int) -> bool:
    """Has the process installed its handlers? Before that, a signal ends it as any program."""
    caught = re.search(r"SigCgt:\t([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) >> (signal.SIGHUP - 1) & 1)


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
    result.expect(len(station.rows(State.PUBLISHED)) == count, "not all published")
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
        result.add(station.audit(contents))
    result.expect(result.hit == count, f"{count - result.hit} were not refused by their hash")
    return result


@dataclass(frozen=True)
class Fault:
    number: int
    inject: Callable[[Path, int, random.Random], Result]
    full: int
    """Count of the whole torture."""
    quick: int
    """Count in `make test`."""
    needs: str = ""
    """`strace` or `mount`."""

    @property
    def title(self) -> str:
        return (self.inject.__doc__ or "").partition(": ")[2].partition(":")[0].rstrip(".")


FAULTS = (
    Fault(1, kill_at_random, 1000, 4),
    Fault(2, kill_at_syscalls, 400, 4, "strace"),
    Fault(3, fail_syscalls, 400, 3, "strace"),
    Fault(4, cut_power, 200, 5, "strace"),
    Fault(5, fill_disk, 8, 3, "mount"),
    Fault(6, read_only_outgoing, 5, 1),
    Fault(7, burst_while_stopped, 20_000, 500),
    Fault(8, folder_without_events, 50, 4),
    Fault(9, slow_writers, 60, 4),
    Fault(10, broken_and_hostile_files, 600, 30),
    Fault(11, deadly_inputs, 10, 2),
    Fault(12, jump_clock, 20, 2),
    Fault(13, same_and_different, 10, 1),
    Fault(14, stop_and_reload, 200, 2),
    Fault(15, long_run, 10_000, 40),
    Fault(16, wrong_engines, 12, 3),
)
