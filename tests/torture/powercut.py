"""Power cuts: what would be on the disk, at every system call, and does the next daemon put it right?

The model (`disk`) needs no privilege and misses nothing: it looks at every call of a recorded run. The real thing, a
loop-mounted ext4 whose image is copied while the daemon runs, needs root.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.ledger import State
from runtime.products.publish import job_key_of
from tests.torture import trace
from tests.torture.disk import Disk, Survivor
from tests.torture.station import Audit, Station, until

Scenario = Callable[..., Iterator[tuple["Recording", trace.Call]]]
"""`scenario(root, checkout)` gives each call of its daemons, with the recording it belongs to."""

CONTENTS = {"a.tif": 1, "b.tif": 2, "c-same-as-a.tif": 1}
BROKEN = "x-broken.tif"


@dataclass
class Cuts:
    cuts: int = 0
    audit: Audit = field(default_factory=Audit)


@dataclass
class Recording:
    """A station whose daemons run under strace, one after the other, and the disk that their calls are played into."""

    station: Station
    disk: Disk
    runs: int = 0
    promised: set[str] = field(default_factory=set)
    """Products that a command said are there."""

    @classmethod
    def begin(cls, root: Path, checkout: Path | None = None) -> Recording:
        station = Station(root / "station")
        station.checkout = checkout or station.checkout
        for name, seed in CONTENTS.items():
            station.drop(name, seed)
        station.drop(BROKEN, b"not a raster")
        return cls(station, Disk(station.root))

    def run(self, *command: str, kill_at: int = 0, until_masks: int = 0) -> list[trace.Call]:
        """Run to the end (or to the kill, or to a stop after so many masks) and return the calls; `{incoming}` in the
        command is the inbox."""
        self.runs += 1
        words = [word.format(incoming=self.station.incoming) for word in command]
        log = self.station.root.parent / f"run{self.runs}"
        prefix = trace.command(log)
        if kill_at:
            prefix.remove("--seccomp-bpf")  # strace 6.1 sends no signal with it
            prefix[1:1] = ["-e", f"inject=fsync:signal=KILL:when={kill_at}"]
        with self.station.start(*words, prefix=prefix, log=log.with_suffix(".log")) as daemon:
            if until_masks:
                until(lambda: len(self.station.masks()) >= until_masks)
                strace_child = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0]
                os.kill(int(strace_child), 15)
            daemon.process.wait(120)
        return trace.calls(log, self.station.checkout)

    def forget_ledger(self) -> None:
        """An operator removes the ledger; that is durable at once."""
        for path in self.station.state.glob("ledger.sqlite*"):
            path.unlink()
            self.disk.remove(str(path))
        self.disk.sync(str(self.station.state))

    def set_aside(self, name: str) -> None:
        """An operator takes a scene out of the inbox; that is durable at once."""
        taken, there = self.station.incoming / name, self.station.state / name
        os.rename(taken, there)
        self.disk.rename(str(taken), str(there))
        for folder in (there.parent, taken.parent):
            self.disk.sync(str(folder))

    def put_back(self, job: int, name: str) -> None:
        """A claimed scene is in the inbox as well; that is durable at once."""
        held, there = self.station.state / f"work/{job:08d}/input.tif", self.station.incoming / name
        os.link(held, there)
        node = self.disk.find(str(held))
        assert node is not None, held
        self.disk.make(str(there), node)
        self.disk.sync(str(self.station.incoming))


def first_sync_after_link(calls: list[trace.Call]) -> int:
    """Number of the supervisor's fsync that follows the first link of a mask."""
    link = next(n for n, call in enumerate(calls) if call.name == "link" and call.target.endswith("_water.tif"))
    before = [call for call in calls[:link] if call.thread == calls[link].thread]
    return 1 + sum(call.flags == "fsync" for call in before)


def linked_last(calls: list[trace.Call]) -> bool:
    """Was the first mask linked, and nothing synced by that thread afterwards?"""
    links = [n for n, call in enumerate(calls) if call.name == "link" and call.target.endswith("_water.tif")]
    after = calls[links[0] :] if links else []
    return bool(links) and not any(call.flags == "fsync" and call.thread == after[0].thread for call in after)


def plain(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A drain of sound, equal and broken scenes."""
    recording = Recording.begin(root, checkout)
    for call in recording.run("--once"):
        yield recording, call


def stopped(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A stop that gives scenes back, then a drain."""
    recording = Recording.begin(root, checkout)
    for call in recording.run(until_masks=1):
        yield recording, call
    for call in recording.run("--once"):
        yield recording, call


def killed(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A kill right after the mask's link, then a drain."""
    recording, calls = _killed_after_link(root, checkout, "runtime.watch", "--once")
    yield from ((recording, call) for call in calls)
    for call in recording.run("--once"):
        yield recording, call


def killed_and_ledger_lost(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A kill right after the mask's link, the ledger removed by an operator, then a drain that adopts the mask."""
    recording, calls = _killed_after_link(root, checkout, "runtime.watch", "--once")
    yield from ((recording, call) for call in calls)
    recording.forget_ledger()
    for call in recording.run("--once"):
        yield recording, call


def held_twice(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A kill, after which the next scene is in work and, as a power cut in its claim may leave it, in the inbox.

    The only one there: the claim of another would make durable what recovery forgot to.
    """
    recording, calls = _killed_after_link(root, checkout, "runtime.watch", "--once")
    yield from ((recording, call) for call in calls)
    for path in recording.station.incoming.glob("*.tif"):
        recording.set_aside(path.name)
    recording.put_back(2, "b.tif")
    for call in recording.run("--once"):
        yield recording, call


def predicted(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """`sarwater-predict`, killed right after the mask's link, and again; then a daemon drains the same folders."""
    command = ("--products=mask,stac", "{incoming}/a.tif")
    recording, calls = _killed_after_link(root, checkout, "runtime.predict", *command)
    yield from ((recording, call) for call in calls)
    for call in recording.run(*command):
        yield recording, call
    recording.promised.add("outgoing/a_water.tif")
    recording.station.module = "runtime.watch"
    for call in recording.run("--once"):
        yield recording, call


def requeued(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A drain, then the operator requeues the broken scene, and another drain judges it again."""
    recording = Recording.begin(root, checkout)
    for call in recording.run("--once"):
        yield recording, call
    (job,) = (row.id for row in recording.station.rows(State.QUARANTINED))
    recording.station.module = "runtime.queue"
    for call in recording.run("requeue", str(job)):
        yield recording, call
    recording.station.module = "runtime.watch"
    for call in recording.run("--once"):
        yield recording, call


def _killed_after_link(
    root: Path, checkout: Path | None, module: str, *command: str
) -> tuple[Recording, list[trace.Call]]:
    """Run a command and kill it right after it has linked the first mask."""
    for attempt in range(20):
        kill_at = 0
        for name in ("measured", "killed"):
            recording = Recording.begin(root / f"{name}{attempt}", checkout)
            recording.station.module = module
            calls = recording.run(*command, kill_at=kill_at)
            kill_at = kill_at or first_sync_after_link(calls)
        if linked_last(calls):
            return recording, calls
        # What the daemon finds at one look differs from run to run, and so does the number of its fsyncs.
    raise RuntimeError(f"{root}: the kill never hit the moment after the mask's link")


def inspect(state: dict[str, Survivor], expected: dict[str, str]) -> Audit:
    """What no power cut may leave, judged from the files alone. `expected`: job key -> sha256 of the mask."""
    audit = Audit()
    contents = {name: item.content for name, item in state.items() if item.content is not None}
    for name, content in contents.items():
        if re.fullmatch(r"outgoing/[^.].*_water\.tif", name):
            if hashlib.sha256(content).hexdigest() not in expected.values():
                audit.corrupted.append(f"{name}: a visible mask is not what it should be")
            if not _is_json(contents.get(name.replace(".tif", ".json"))):
                audit.corrupted.append(f"{name}: visible before its side products")
    try:
        for row in _rows(state):
            _inspect_row(row, contents, audit)
    except sqlite3.DatabaseError as error:
        audit.corrupted.append(f"ledger: {error}")
    return audit


def _inspect_row(row: sqlite3.Row, contents: dict[str, bytes], audit: Audit) -> None:
    job, name, status = row["id"], row["name"], row["state"]
    held = f"state/work/{job:08d}/input.tif"
    folder = f"state/quarantine/{job:08d}/"
    in_quarantine = {folder + name, folder + "input.tif"} & contents.keys()
    if status == "PUBLISHED" and not contents.get(f"outgoing/{row['mask']}"):
        audit.lost.append(f"{name}: PUBLISHED without a mask")
    if status in ("PUBLISHED", "DUPLICATE", "QUARANTINED") and f"incoming/{name}" in contents:
        audit.duplicated.append(f"{name}: {status} and in the inbox again")
    inbox = contents.get(f"incoming/{name}")
    if status in ("SEEN", "SETTLING") and inbox is not None and contents.get(held, inbox) != inbox:
        audit.corrupted.append(f"{name}: {status}, and would be taken for another scene's bytes in work")
    if status in ("CLAIMED", "VALIDATED", "RUNNING") and not {held, f"incoming/{name}"} & contents.keys():
        audit.lost += [] if in_quarantine else [f"{name}: {status} and not in work"]
    if status in ("CLAIMED", "VALIDATED", "RUNNING") and folder + "reason.json" in contents and not in_quarantine:
        audit.corrupted.append(f"{name}: {status}, and its last round's reason would send it to quarantine")
    if status == "QUARANTINED" and any(path.startswith(f"state/work/{job:08d}/") for path in contents):
        audit.duplicated.append(f"{name}: QUARANTINED and still in work")
    if status == "QUARANTINED" and not (in_quarantine and _is_json(contents.get(folder + "reason.json"))):
        audit.lost.append(f"{name}: QUARANTINED without its input or reason")


def _missing(state: dict[str, Survivor], recording: Recording) -> list[str]:
    """Scenes whose bytes are nowhere, and products that are not where a command said."""
    station = recording.station
    kept = {item.content for path, item in state.items() if path.startswith(("incoming/", "state/"))}
    wanted = {name: station.scene(seed) for name, seed in CONTENTS.items()} | {BROKEN: b"not a raster"}
    lost = [f"the bytes of {name} are nowhere" for name, content in wanted.items() if content not in kept]
    return lost + [f"{name} was promised and is not there" for name in recording.promised - state.keys()]


def _rows(state: dict[str, Survivor]) -> list[sqlite3.Row]:
    database, log = (state.get("state/ledger.sqlite" + suffix) for suffix in ("", "-wal"))
    return _read_ledger((database and database.content) or b"", (log and log.content) or b"")


@functools.lru_cache(maxsize=4)
def _read_ledger(database: bytes, log: bytes) -> list[sqlite3.Row]:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        path = Path(folder, "ledger.sqlite")
        path.write_bytes(database)
        Path(folder, "ledger.sqlite-wal").write_bytes(log)
        connection = sqlite3.connect(path)
        connection.row_factory = sqlite3.Row
        try:
            return connection.execute("SELECT * FROM jobs").fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise
        finally:
            connection.close()


def _is_json(content: bytes | None) -> bool:
    try:
        json.loads(content or b"")
    except ValueError:
        return False
    return True


def lay_out(state: dict[str, Survivor], root: Path) -> Station:
    """Make the state real, names of one file as hard links."""
    first: dict[int, Path] = {}
    for name, item in state.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if item.content is None:
            path.mkdir(exist_ok=True)
        elif item.inode in first:
            os.link(first[item.inode], path)
        else:
            path.write_bytes(item.content)
            first[item.inode] = path
    return Station(root)


SCENARIOS: tuple[Scenario, ...] = (
    plain, stopped, killed, killed_and_ledger_lost, held_twice, predicted, requeued
)  # fmt: skip


def states(
    scenario: Scenario, root: Path, checkout: Path | None, rng: random.Random
) -> Iterator[tuple[Recording, dict[str, Survivor]]]:
    """What a power cut would leave after each call: only what was synced, and one random mixture."""
    player: trace.Player | None = None
    for recording, call in scenario(root, checkout):
        player = player or trace.Player(recording.disk)
        if player.play(call):
            yield recording, recording.disk.after_power_cut(None)
            yield recording, recording.disk.after_power_cut(rng)


def first_violation(
    scenario: Scenario, root: Path, checkout: Path, expected: dict[str, str], rng: random.Random
) -> str:
    """The first thing that is wrong in any state, or nothing."""
    for recording, state in states(scenario, root, checkout, rng):
        audit = inspect(state, expected)
        audit.lost += _missing(state, recording)
        if audit:
            return (audit.lost + audit.corrupted + audit.duplicated)[0]
    return ""


def expected_masks(root: Path) -> dict[str, str]:
    """Job key -> sha256 of the right masks, made by the sound code without a disturbance."""
    station = Recording.begin(root).station
    station.drain()
    return station.expected()


def cut_model(root: Path, count: int, rng: random.Random) -> Cuts:
    """Inspect every state of every scenario; let a real daemon recover from `count` of them."""
    result = Cuts()
    expected = expected_masks(root / "expected")
    for scenario in SCENARIOS:
        folder = root / scenario.__name__
        found = []
        for recording, state in states(scenario, folder, None, rng):
            station = recording.station
            _merge(result.audit, inspect(state, expected))
            result.audit.lost += _missing(state, recording)
            found.append(state)
        result.cuts += len(found)
        contents = {name: station.scene(seed) for name, seed in CONTENTS.items()}
        for number, state in enumerate(rng.sample(found, min(-(-count // len(SCENARIOS)), len(found)))):
            recovered = lay_out(state, folder / f"cut{number}")
            done = recovered.drain()
            if done.returncode:
                result.audit.lost.append(f"no recovery: {done.stderr[-300:]}")
            else:
                _merge(result.audit, recovered.audit(contents, expected))
            shutil.rmtree(recovered.root)
        shutil.rmtree(folder)
    return result


def can_mount() -> bool:
    return os.geteuid() == 0 and shutil.which("mkfs.ext4") is not None and Path("/dev/loop-control").exists()


def cut_ext4(root: Path, count: int, rng: random.Random) -> Cuts:
    """Copy the image of a mounted ext4 while the daemon runs, mount the copy (which replays its journal), recover."""
    result = Cuts()
    root.mkdir(parents=True)
    reference = Station(root / "reference")
    contents = {f"s{number}.tif": reference.scene(number) for number in range(40)}
    for name, content in contents.items():
        reference.drop(name, content)
    reference.drain(timeout_s=600)
    expected = reference.expected()
    while result.cuts < count:
        _cut_ext4_run(root / f"run{result.cuts}", contents, expected, min(10, count - result.cuts), rng, result)
    return result


def _cut_ext4_run(
    root: Path, contents: dict[str, bytes], expected: dict[str, str], cuts: int, rng: random.Random, result: Cuts
) -> None:
    """One daemon on one file system; `cuts` copies of its image at random moments."""
    root.mkdir()
    image = root / "disk.img"
    subprocess.run(["truncate", "--size=48M", str(image)], check=True)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    copies = []
    with _mounted(image, root / "disk") as disk:
        station = Station(disk / "station")
        for name, content in contents.items():
            station.drop(name, content)
        os.sync()
        with station.start(log=root / "daemon.log") as daemon:
            until(lambda: "ready" in station.log)
            for number in range(cuts):
                time.sleep(rng.uniform(0, 0.4))
                copy = root / f"copy{number}.img"
                _copy_at_one_moment(image, copy)
                copies.append(copy)
            daemon.kill()
    for number, copy in enumerate(copies):
        with _mounted(copy, root / f"copy{number}") as disk:
            _recover_copy(Station(disk / "station"), contents, expected, result)
        copy.unlink()
    shutil.rmtree(root)


def _recover_copy(station: Station, contents: dict[str, bytes], expected: dict[str, str], result: Cuts) -> None:
    result.cuts += 1
    if (station.state / "ledger.sqlite").exists():
        visible = {job_key_of(mask) for mask in station.masks()}
        rows = [row for row in station.rows() if row.state == "PUBLISHED"]
        result.audit.lost += [f"{row.name}: PUBLISHED without a mask" for row in rows if row.key not in visible]
    done = station.drain(timeout_s=600)
    if done.returncode:
        result.audit.lost.append(f"no recovery: {done.stderr[-300:]}")
    else:
        _merge(result.audit, station.audit(contents, expected))


def _copy_at_one_moment(image: Path, copy: Path) -> None:
    """Copy until two copies in a row are the same: nothing was written in between, so it is what a cut would leave."""
    before = image.read_bytes()
    while (after := image.read_bytes()) != before:
        before = after
    copy.write_bytes(after)


class _mounted:
    """A file system image, mounted."""

    def __init__(self, image: Path, folder: Path) -> None:
        self._image, self._folder = image, folder

    def __enter__(self) -> Path:
        self._folder.mkdir()
        subprocess.run(["mount", "-o", "loop", str(self._image), str(self._folder)], check=True)
        return self._folder

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "-l", str(self._folder)], check=True)
        self._folder.rmdir()


def _merge(into: Audit, more: Audit) -> None:
    into.lost += more.lost
    into.duplicated += more.duplicated
    into.corrupted += more.corrupted
