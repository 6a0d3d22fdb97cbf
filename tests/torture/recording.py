"""Runs of the daemon whose every system call is recorded, for power to be cut at each: one function a scenario."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.ledger import Status
from tests.torture import trace
from tests.torture.disk import Disk
from tests.torture.station import Station, until

Scenario = Callable[..., Iterator[tuple["Recording", trace.Call]]]
"""`scenario(root, checkout)` gives each call of its daemons, with the recording it belongs to."""

CONTENTS = {"a.tif": 1, "b.tif": 2, "c-same-as-a.tif": 1}
BROKEN = "x-broken.tif"


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

    def run(self, *command: str, kill_at: int = 0, refuse_rename: int = 0, until_masks: int = 0) -> list[trace.Call]:
        """Run to the end (or to the kill at that fsync, or to a stop after so many masks) and return the calls, of
        which that rename is refused; `{incoming}` in the command is the inbox."""
        self.runs += 1
        words = [word.format(incoming=self.station.incoming) for word in command]
        log = self.station.root.parent / f"run{self.runs}"
        prefix = trace.command(log)
        if kill_at or refuse_rename:
            prefix.remove("--seccomp-bpf")  # strace 6.1 sends no signal with it
            kill, refuse = f"fsync:signal=KILL:when={kill_at}", f"rename:error=EPERM:when={refuse_rename}"
            prefix[1:1] = ["-e", f"inject={kill if kill_at else refuse}"]
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
    recording, calls = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    yield from ((recording, call) for call in calls)
    for call in recording.run("--once"):
        yield recording, call


def killed_and_ledger_lost(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A kill right after the mask's link, the ledger removed by an operator, then a drain that adopts the mask."""
    recording, calls = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    yield from ((recording, call) for call in calls)
    recording.forget_ledger()
    for call in recording.run("--once"):
        yield recording, call


def held_twice(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A kill, after which the next scene is in work and, as a power cut in its claim may leave it, in the inbox.

    The only one there: the claim of another would make durable what recovery forgot to.
    """
    recording, calls = _killed_after_link(root, checkout, "runtime.commands.watch", "--once")
    yield from ((recording, call) for call in calls)
    for path in recording.station.incoming.glob("*.tif"):
        recording.set_aside(path.name)
    recording.put_back(2, "b.tif")
    for call in recording.run("--once"):
        yield recording, call


def predicted(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """`sarwater predict`, killed right after the mask's link, and again; then a daemon drains the same folders."""
    command = ("--products=mask,stac", "{incoming}/a.tif")
    recording, calls = _killed_after_link(root, checkout, "runtime.commands.predict", *command)
    yield from ((recording, call) for call in calls)
    for call in recording.run(*command):
        yield recording, call
    recording.promised.add("outgoing/a_water.tif")
    recording.station.module = "runtime.commands.watch"
    for call in recording.run("--once"):
        yield recording, call


def set_aside(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A drain in which a scene may not be moved to done once its mask is visible."""
    for attempt in range(20):
        refuse_rename = 0
        for name in ("measured", "refused"):
            recording = Recording.begin(root / f"{name}{attempt}", checkout)
            calls = recording.run("--once", refuse_rename=refuse_rename)
            refuse_rename = refuse_rename or rename_to_done(calls, "b.tif")
        if any(recording.station.state.glob("done/*/input.tif")):
            yield from ((recording, call) for call in calls)
            return
    raise RuntimeError(f"{root}: never hit the rename to done")


def rename_to_done(calls: list[trace.Call], name: str) -> int:
    """Number of the supervisor's rename that moves a scene to done."""
    move = next(
        n for n, call in enumerate(calls) if call.name == "rename" and call.target.endswith(f"state/done/{name}")
    )
    before = [call for call in calls[:move] if call.thread == calls[move].thread]
    return 1 + sum(call.name == "rename" for call in before)


def requeued(root: Path, checkout: Path | None = None) -> Iterator[tuple[Recording, trace.Call]]:
    """A drain, then the operator requeues the broken scene, and another drain judges it again."""
    recording = Recording.begin(root, checkout)
    for call in recording.run("--once"):
        yield recording, call
    (job,) = (row.id for row in recording.station.rows(Status.QUARANTINED))
    recording.station.module = "runtime.commands.queue"
    for call in recording.run("requeue", str(job)):
        yield recording, call
    recording.station.module = "runtime.commands.watch"
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


SCENARIOS: tuple[Scenario, ...] = (
    plain, stopped, killed, killed_and_ledger_lost, held_twice, predicted, set_aside, requeued
)  # fmt: skip
