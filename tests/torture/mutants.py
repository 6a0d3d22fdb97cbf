"""Is the proof able to fail? Each fsync is taken out and each pair of commit steps swapped, one at a time; the power
cut model must notice every one of these mutants.

    python -m tests.torture.mutants [--only TEXT]

To take out an fsync changes nothing else that the code does, so one recording of each scenario, in which that call is
left out, serves them all. Steps are swapped in a copy of the code.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.torture import powercut
from tests.torture.recording import SCENARIOS, Recording
from tests.torture.station import CHECKOUT

_SYNC = re.compile(r"^( *)fsync_(?:file|folder)\(.*\)$", re.MULTILINE)
_FILES = (
    "runtime/daemon/folders.py",
    "runtime/daemon/gathering.py",
    "runtime/daemon/recovery.py",
    "runtime/daemon/commit.py",
    "runtime/products/publish.py",
    "runtime/pipeline.py",
)

SWAPS = (
    ("runtime/daemon/commit.py", "how = publish(staged)", "self._ledger.published(scene.job, list(staged.names))"),
    (
        "runtime/daemon/commit.py",
        "self._ledger.published(scene.job, list(staged.names))",
        "self._folders.retire(scene.job, scene.name, self._context.remove_done)",
    ),
    (
        "runtime/daemon/commit.py",
        "self._ledger.duplicate(scene.job, holder.id, input_sha256)",
        "self._folders.retire(scene.job, scene.name, self._context.remove_done)",
    ),
    (
        "runtime/daemon/commit.py",
        "self._folders.quarantine_scene(scene.job, scene.name, document)",
        "self._ledger.quarantined(scene.job, reason, message)",
    ),
    ("runtime/daemon/folders.py", "fsync_folder(folder)", "fsync_folder(self.incoming)"),
    ("runtime/daemon/folders.py", "fsync_folder(self.quarantine)", "fsync_folder(self.work)"),
)
"""(file, first step, second step): statements of one function, the first before the second."""


@dataclass(frozen=True)
class Mutant:
    name: str
    file: str
    source: str
    """The file's text with the mutation."""
    where: str = ""
    """The place of the fsync that is left out; empty where a copy of the code has to run."""


def mutants() -> Iterator[Mutant]:
    for file in (*_FILES, "sarwater/atomic.py"):
        source = (CHECKOUT / file).read_text()
        for match in _SYNC.finditer(source):
            line = source.count("\n", 0, match.start()) + 1
            without = source[: match.start()] + f"{match[1]}pass" + source[match.end() :]
            yield Mutant(f"{file}:{line} without {match[0].strip()}", file, without, f"{file}:{line}")
    ledger = (CHECKOUT / "runtime/daemon/ledger.py").read_text()
    for weaker in ("NORMAL", "OFF"):
        weak = ledger.replace("synchronous = FULL", f"synchronous = {weaker}")
        yield Mutant(f"runtime/daemon/ledger.py with synchronous = {weaker}", "runtime/daemon/ledger.py", weak)
    publish = (CHECKOUT / "runtime/products/publish.py").read_text()
    yield Mutant(
        "runtime/products/publish.py mask first, side products after",
        "runtime/products/publish.py",
        mask_first(publish),
    )
    for file, first, second in SWAPS:
        source = (CHECKOUT / file).read_text()
        yield Mutant(f"{file}: {second} before {first}", file, _swapped(source, first, second))


def _swapped(source: str, first: str, second: str) -> str:
    start = source.index(first)
    after = source.index(second, start)
    return source[:start] + second + source[start + len(first) : after] + first + source[after + len(second) :]


def mask_first(source: str) -> str:
    """The link of the mask moved in front of the renames of its side products."""
    link = re.search(
        r"        if overwrite:\n.*?name_once\([^\n]*\n        fsync_folder\(out_dir\)\n", source, re.DOTALL
    )
    assert link, "publish.py has changed: adapt this mutant"
    without = source.replace(link[0], "")
    return without.replace(
        "        for name in sidecars:\n            os.replace",
        link[0] + "        for name in sidecars:\n            os.replace",
    )


def recordings(root: Path) -> Iterator[tuple[str, Recording]]:
    """Of the sound code, by the scenario's name."""
    for scenario in SCENARIOS:
        yield scenario.__name__, scenario(root / scenario.__name__, None)


def caught_without(where: str, recorded: Iterable[tuple[str, Recording]], expected: dict[str, str]) -> str:
    """The first violation that the model finds where the fsync of one place is left out, or nothing."""
    for scenario, recording in recorded:
        if violation := powercut.first_violation(recording, expected, random.Random(1), where):
            return f"{scenario}: {violation}"
    return ""


def caught_by(mutant: Mutant, root: Path, expected: dict[str, str]) -> str:
    """The first violation that the model finds in what a mutated copy of the code does, or nothing."""
    checkout = root / "checkout"
    for package in ("runtime", "sarwater", "tests/torture"):
        shutil.copytree(CHECKOUT / package, checkout / package, ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / mutant.file).write_text(mutant.source)
    for scenario in SCENARIOS:
        recording = scenario(root / scenario.__name__, checkout)
        if violation := powercut.first_violation(recording, expected, random.Random(1)):
            return f"{scenario.__name__}: {violation}"
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Take out each fsync, swap each pair of steps: is it noticed?")
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants with TEXT in their name")
    only = parser.parse_args(argv).only
    survivors = 0
    chosen = [mutant for mutant in mutants() if only in mutant.name]
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        root = Path(folder)
        expected = powercut.expected_masks(root / "expected")
        recorded = list(recordings(root / "sound")) if any(mutant.where for mutant in chosen) else []
        for number, mutant in enumerate(chosen):
            if mutant.where:
                caught = caught_without(mutant.where, recorded, expected)
            else:
                caught = caught_by(mutant, root / str(number), expected)
                shutil.rmtree(root / str(number))
            survivors += not caught
            print(f"{'caught  ' if caught else 'SURVIVED'} {mutant.name}\n           {caught}", flush=True)
    print(f"{survivors} of {len(chosen)} mutants survived")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
