"""Power cuts: what would be on the disk, at every system call, and does the next daemon put it right?

The model (`disk`) needs no privilege and misses nothing: it looks at every call of a recorded run. The real thing is
`powercut_ext4`.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import os
import random
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from runtime.daemon.folders import input_name
from tests.torture import trace
from tests.torture.disk import Survivor
from tests.torture.recording import CONTENTS, LOOSE, SCENARIOS, STUCK, Recording
from tests.torture.station import Audit, Station, ended_well


@dataclass
class Cuts:
    cuts: int = 0
    audit: Audit = field(default_factory=Audit)


def inspect(state: dict[str, Survivor], expected: dict[str, str]) -> Audit:
    """What no power cut may leave, judged from the files alone. `expected`: mask key -> sha256 of the mask."""
    audit = Audit()
    contents = {name: item.content for name, item in state.items() if item.content is not None}
    for name, content in contents.items():
        if re.fullmatch(r"outgoing/[^.].*_water\.tif", name):
            if hashlib.sha256(content).hexdigest() not in expected.values():
                audit.corrupted.append(f"{name}: a visible mask is not what it should be")
            if not _is_json(contents.get(name.replace(".tif", ".json"))):
                audit.corrupted.append(f"{name}: visible before its side products")
    contents |= {str(parent): b"" for path in contents for parent in Path(path).parents}  # scenes of several files
    try:
        for row in _rows(state):
            _inspect_row(row, contents, audit)
    except sqlite3.DatabaseError as error:
        audit.corrupted.append(f"ledger: {error}")
    return audit


def _inspect_row(row: sqlite3.Row, contents: dict[str, bytes], audit: Audit) -> None:
    job, name, status = row["id"], row["name"], row["status"]
    held = str(Path("state", "work", f"{job:08d}", input_name(name)))
    folder = f"state/quarantine/{job:08d}/"
    in_quarantine = {folder + name, folder + input_name(name)} & contents.keys()
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


def _missing(state: dict[str, Survivor], contents: dict[str, bytes], promised: set[str]) -> list[str]:
    """Scenes whose bytes are nowhere, and products that are not where a command said."""
    kept = {item.content for path, item in state.items() if path.startswith(("incoming/", "state/"))}
    lost = [f"the bytes of {name} are nowhere" for name, content in contents.items() if content not in kept]
    return lost + [f"{name} was promised and is not there" for name in promised - state.keys()]


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


def states(recording: Recording, rng: random.Random, without: str = "") -> Iterator[tuple[Audit, dict[str, Survivor]]]:
    """What a power cut would leave after each call, only what was synced and one random mixture, and what is lost by
    that. `without` the syncs of one place in the code, from the first of them on."""
    player, promised, differs = trace.Player(copy.deepcopy(recording.disk)), set[str](), not without
    for call in recording.calls:
        if call.name == "promise":
            promised.add(call.target)
        if without and call.where == without:
            differs = True
        elif player.play(call) and differs:
            for state in (player.disk.after_power_cut(None), player.disk.after_power_cut(rng)):
                yield Audit(lost=_missing(state, recording.contents, promised)), state


def first_violation(recording: Recording, expected: dict[str, str], rng: random.Random, without: str = "") -> str:
    """The first thing that is wrong in any state, or nothing."""
    for audit, state in states(recording, rng, without):
        audit.add(inspect(state, expected))
        if audit:
            return (audit.lost + audit.corrupted + audit.duplicated)[0]
    return ""


def expected_masks(root: Path) -> dict[str, str]:
    """Mask key -> sha256 of the right masks, made by the sound code without a disturbance."""
    station = Recording.begin(root, more=LOOSE | STUCK).station
    station.drain()
    return station.expected()


def cut_model(root: Path, count: int, rng: random.Random) -> Cuts:
    """Inspect every state of every scenario; let a real daemon recover from `count` of them."""
    result = Cuts()
    expected = expected_masks(root / "expected")
    for scenario in SCENARIOS:
        folder = root / scenario.__name__
        recording = scenario(folder, None)
        found = []
        for audit, state in states(recording, rng):
            result.audit.add(audit)
            result.audit.add(inspect(state, expected))
            found.append(state)
        result.cuts += len(found)
        contents = {name: content for name, content in recording.contents.items() if name in CONTENTS}
        for number, state in enumerate(rng.sample(found, min(-(-count // len(SCENARIOS)), len(found)))):
            recovered = lay_out(state, folder / f"cut{number}")
            done = recovered.drain()
            if not ended_well(done):
                result.audit.lost.append(f"no recovery: {done.stderr[-300:]}")
            else:
                result.audit.add(recovered.audit(contents, expected))
            shutil.rmtree(recovered.root)
        shutil.rmtree(folder)
    return result
