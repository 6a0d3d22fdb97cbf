"""Runs of the daemon whose every system call is recorded, for power to be cut at each: one function a scenario."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.ledger import Status
from tests.torture import trace
from tests.torture.disk import Disk
from tests.torture.station import Station, until

CONTENTS = {"a.tif": 1, "b.tif": 2, "c-same-as-a.tif": 1}
BROKEN = "x-broken.tif"
LOOSE = ("g.hdr", "g.img")
"""Two files that are one scene."""
_MARKS = Path(__file__).with_name("marks")
_SIZE_PX = 96


@dataclass
class Recording:
    """A station whose daemons run under strace, one after the other; the disk as it was before, and every call."""

    station: Station
    disk: Disk
    contents: dict[str, bytes]
    """What must not be lost, by name."""
    calls: list[trace.Call] = field(default_factory=list)
    """Those of the daemons and of the operator. A `promise` says that its target is there from now on."""
    runs: int = 0

    @classmethod
    def begin(cls, root: Path, checkout: Path | None = None, loose: bool = False) -> Recording:
        station = Station(root / "station")
        station.checkout = checkout or station.checkout
        contents = {name: station.scene(seed) for name, seed in CONTENTS.items()} | {BROKEN: b"not a raster"}
        if loose:
            contents |= dict(zip(LOOSE, _envi(), strict=True))
        for name, content in contents.items():
            station.drop(name, content)
        return cls(station, Disk(station.root), contents)

    def run(self, *command: str, kill_at: int = 0, refuse_rename: int = 0, until_masks: int = 0) -> list[trace.Call]:
        """Run to the end (or to the kill at that fsync, or to a stop after so many masks), of which that rename is
        refused; `{incoming}` in the command is the inbox. The calls of this run."""
        self.runs += 1
        words = [word.format(incoming=self.station.incoming) for word in command]
        log = self.station.root.parent / f"run{self.runs}"
        prefix = trace.command(log)
        if kill_at or refuse_rename:
            prefix.remove("--seccomp-bpf")  # strace 6.1 sends no signal with it
            kill, refuse = f"fsync:signal=KILL:when={kill_at}", f"rename:error=EPERM:when={refuse_rename}"
            prefix[1:1] = ["-e", f"inject={kill if kill_at else refuse}"]
        path = f"{_MARKS}{os.pathsep}{self.station.checkout}"
        with self.station.start(*words, prefix=prefix, log=log.with_suffix(".log"), PYTHONPATH=path) as daemon:
            if until_masks:
                until(lambda: len(self.station.masks()) >= until_masks)
                strace_child = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0]
                os.kill(int(strace_child), 15)
            daemon.process.wait(600)
        calls = trace.calls(log, self.station.checkout)
        self.calls += calls
        return calls

    def forget_ledger(self) -> None:
        """An operator removes the ledger; that is durable at once."""
        for path in self.station.state.glob("ledger.sqlite*"):
            path.unlink()
            self.calls.append(trace.Call("unlink", str(path)))
        self._sync(self.station.state)

    def set_aside(self, name: str) -> None:
        """An operator takes a scene out of the inbox; that is durable at once."""
        taken, there = self.station.incoming / name, self.station.state / name
        os.rename(taken, there)
        self.calls.append(trace.Call("rename", str(taken), target=str(there)))
        self._sync(there.parent, taken.parent)

    def put_back(self, job: int, name: str) -> None:
        """A claimed scene is in the inbox as well; that is durable at once."""
        held, there = self.station.state / f"work/{job:08d}/input.tif", self.station.incoming / name
        os.link(held, there)
        self.calls.append(trace.Call("link", str(held), target=str(there)))
        self._sync(self.station.incoming)

    def promise(self, product: str) -> None:
        """A command said that it is there."""
        self.calls.append(trace.Call("promise", str(self.station.root), target=product))

    def _sync(self, *folders: Path) -> None:
        self.calls += [trace.Call("sync", str(folder)) for folder in folders]


Scenario = Callable[[Path, Path | None], Recording]
"""`scenario(root, checkout)` runs daemons of that code."""


def _envi() -> tuple[bytes, bytes]:
    """Header and pixels of a scene of bytes."""
    header = f"ENVI\nsamples = {_SIZE_PX}\nlines = {_SIZE_PX}\nbands = 1\ndata type = 1\ninterleave = bsq\n"
    return header.encode(), bytes(range(1, 97)) * _SIZE_PX


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


def plain(root: Path, checkout: Path | None = None) -> Recording:
    """A drain of sound, equal and broken scenes."""
    recording = Recording.begin(root, checkout)
    recording.run("--once")
    return recording


def stopped(root: Path, checkout: Path | None = None) -> Recording:
    """A stop that gives scenes back, then a drain."""
    recording = Recording.begin(root, checkout)
    recording.run(until_masks=1)
    recording.run("--once")
    return recording


def killed(root: Path, checkout: Path | None = None) -> Recording:
    """A kill right after the mask's link, then a drain."""
    recording = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    recording.run("--once")
    return recording


def killed_and_ledger_lost(root: Path, checkout: Path | None = None) -> Recording:
    """A kill right after the mask's link, the ledger removed by an operator, then a drain that adopts the mask."""
    recording = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    recording.forget_ledger()
    recording.run("--once")
    return recording


def held_twice(root: Path, checkout: Path | None = None) -> Recording:
    """A kill, after which the next scene is in work and, as a power cut in its claim may leave it, in the inbox.

    The only one there: the claim of another would make durable what recovery forgot to.
    """
    recording = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    for path in recording.station.incoming.glob("*.tif"):
        recording.set_aside(path.name)
    recording.put_back(2, "b.tif")
    recording.run("--once")
    return recording


def predicted(root: Path, checkout: Path | None = None) -> Recording:
    """`sarwater predict`, killed right after the mask's link, and again; then a daemon drains the same folders."""
    command = ("--products=mask,stac", "{incoming}/a.tif")
    recording = _killed_after_link(root, checkout, "runtime.commands.predict", *command)
    recording.run(*command)
    recording.promise("outgoing/a_water.tif")
    recording.station.module = "runtime.commands.watch"
    recording.run("--once")
    return recording


def set_aside(root: Path, checkout: Path | None = None) -> Recording:
    """A drain in which a scene may not be moved to done once its mask is visible."""
    for attempt in range(20):
        refuse_rename = 0
        for name in ("measured", "refused"):
            recording = Recording.begin(root / f"{name}{attempt}", checkout)
            calls = recording.run("--once", refuse_rename=refuse_rename)
            refuse_rename = refuse_rename or rename_to_done(calls, "b.tif")
        if any(recording.station.state.glob("done/*/input.tif")):
            return recording
    raise RuntimeError(f"{root}: never hit the rename to done")


def gathered(root: Path, checkout: Path | None = None) -> Recording:
    """A drain of files that lie loose and become a folder."""
    recording = Recording.begin(root, checkout, loose=True)
    recording.run("--once")
    return recording


def gathering_killed(root: Path, checkout: Path | None = None) -> Recording:
    """A kill before those are in the folder for certain, then a drain."""
    for attempt in range(20):
        kill_at = 0
        for name in ("measured", "killed"):
            recording = Recording.begin(root / f"{name}{attempt}", checkout, loose=True)
            calls = recording.run("--once", kill_at=kill_at)
            kill_at = kill_at or sync_of_gathered(calls)
        if any(recording.station.incoming.glob(".sarwater-gathering-*/*")):
            recording.run("--once")
            return recording
    raise RuntimeError(f"{root}: the kill never hit the gathering")


def sync_of_gathered(calls: list[trace.Call]) -> int:
    """Number of the supervisor's fsync of the folder into which loose files were moved."""
    sync = next(n for n, call in enumerate(calls) if call.name == "sync" and "/.sarwater-gathering-" in call.path)
    return 1 + sum(call.flags == "fsync" and call.thread == calls[sync].thread for call in calls[:sync])


def rename_to_done(calls: list[trace.Call], name: str) -> int:
    """Number of the supervisor's rename that moves a scene to done."""
    move = next(
        n for n, call in enumerate(calls) if call.name == "rename" and call.target.endswith(f"state/done/{name}")
    )
    before = [call for call in calls[:move] if call.thread == calls[move].thread]
    return 1 + sum(call.name == "rename" for call in before)


def requeued(root: Path, checkout: Path | None = None) -> Recording:
    """A drain, then the operator requeues the broken scene, and another drain judges it again."""
    recording = Recording.begin(root, checkout)
    recording.run("--once")
    (job,) = (row.id for row in recording.station.rows(Status.QUARANTINED))
    recording.station.module = "runtime.commands.queue"
    recording.run("requeue", str(job))
    recording.station.module = "runtime.commands.watch"
    recording.run("--once")
    return recording


def _killed_after_link(root: Path, checkout: Path | None, module: str, *command: str) -> Recording:
    """Run a command and kill it right after it has linked the first mask."""
    for attempt in range(20):
        kill_at = 0
        for name in ("measured", "killed"):
            recording = Recording.begin(root / f"{name}{attempt}", checkout)
            recording.station.module = module
            calls = recording.run(*command, kill_at=kill_at)
            kill_at = kill_at or first_sync_after_link(calls)
        if linked_last(calls):
            return recording
        # What the daemon finds at one look differs from run to run, and so does the number of its fsyncs.
    raise RuntimeError(f"{root}: the kill never hit the moment after the mask's link")


SCENARIOS: tuple[Scenario, ...] = (
    plain, stopped, killed, killed_and_ledger_lost, held_twice, predicted, set_aside, requeued, gathered,
    gathering_killed
)  # fmt: skip
