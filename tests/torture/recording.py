"""Runs of the daemon whose every system call is recorded, for power to be cut at each: one function a scenario."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.ledger import Status
from tests.torture import trace
from tests.torture.disk import Disk
from tests.torture.station import Station, until

CONTENTS = {"a.tif": 1, "b.tif": 2, "c-same-as-a.tif": 1}
BROKEN = "x-broken.tif"
_MARKS = Path(__file__).with_name("marks")
_SIZE_PX = 96
_ENVI = {
    "g.hdr": f"ENVI\nsamples = {_SIZE_PX}\nlines = {_SIZE_PX}\nbands = 1\ndata type = 1\ninterleave = bsq\n".encode(),
    "g.img": bytes(range(1, _SIZE_PX + 1)) * _SIZE_PX,
}
LOOSE = dict(_ENVI)
"""Two files that are one scene."""
STUCK = {f"0-stuck/{name}": content for name, content in _ENVI.items()} | {"0-stuck/inner/note": b"not to be removed"}
"""A scene that may not be removed whole: its inner folder is read-only."""


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
    def begin(
        cls, root: Path, checkout: Path | None = None, more: Mapping[str, bytes] | None = None, **settings: str
    ) -> Recording:
        """`more` lies in the inbox besides, by path."""
        station = Station(root / "station", **settings)
        station.checkout = checkout or station.checkout
        contents = {name: station.scene(seed) for name, seed in CONTENTS.items()} | {BROKEN: b"not a raster"}
        contents |= more or {}
        for name, content in contents.items():
            (station.incoming / name).parent.mkdir(parents=True, exist_ok=True)
            station.drop(name, content)
        return cls(station, Disk(station.root), contents)

    def run(self, *command: str, kill_at: str = "", until_masks: int = 0) -> None:
        """Run to the end, to the kill at that place in the code, or to a stop after so many masks; `{incoming}` in the
        command is the inbox."""
        self.runs += 1
        words = [word.format(incoming=self.station.incoming) for word in command]
        log = self.station.root.parent / f"run{self.runs}"
        environment = {"PYTHONPATH": f"{_MARKS}{os.pathsep}{self.station.checkout}", "TORTURE_KILL_AT": kill_at}
        prefix = trace.command(log)
        with self.station.start(*words, prefix=prefix, log=log.with_suffix(".log"), **environment) as daemon:
            if until_masks:
                until(lambda: len(self.station.masks()) >= until_masks)
                strace_child = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()[0]
                os.kill(int(strace_child), 15)
            daemon.process.wait(1200)
        self.calls += trace.calls(log, self.station.checkout)

    def run_and_kill(self, file: str, after: str, sync: str, *command: str) -> None:
        """Run until it would call `sync`, in `file` of the code, behind the line that says `after`."""
        path = self.station.checkout / file
        lines = path.read_text(encoding="utf-8").splitlines()
        begin = next(number for number, line in enumerate(lines) if after in line)
        place = next(number for number in range(begin, len(lines)) if sync in lines[number])
        self.run(*command, kill_at=f"{path}:{place + 1}")

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
    """A drain that removes scenes, one of which may not be: what is left of it is kept."""
    recording = Recording.begin(root, checkout, STUCK, after="remove")
    (recording.station.incoming / "0-stuck" / "inner").chmod(0o555)
    recording.contents = {name: content for name, content in STUCK.items() if "/inner/" in name}
    recording.run("--once")
    return recording


def gathered(root: Path, checkout: Path | None = None) -> Recording:
    """A drain of files that lie loose and become a folder."""
    recording = Recording.begin(root, checkout, LOOSE)
    recording.run("--once")
    return recording


def gathering_killed(root: Path, checkout: Path | None = None) -> Recording:
    """A kill before those are in the folder for certain, then a drain."""
    recording = Recording.begin(root, checkout, LOOSE)
    recording.run_and_kill("runtime/daemon/gathering.py", "def gather(", "fsync_folder(hidden)", "--once")
    recording.run("--once")
    return recording


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
    recording = Recording.begin(root, checkout)
    recording.station.module = module
    recording.run_and_kill("runtime/products/publish.py", "name_once(source", "fsync_folder(out_dir)", *command)
    return recording


SCENARIOS: tuple[Scenario, ...] = (
    plain, stopped, killed, killed_and_ledger_lost, held_twice, predicted, set_aside, requeued, gathered,
    gathering_killed
)  # fmt: skip
