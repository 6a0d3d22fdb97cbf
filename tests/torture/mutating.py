"""A small fuzzer: seeds that the tests' real writers made, damaged at random, through everything that reads them.

    python -m tests.torture.mutating [COUNT] [--seed N] [--only KIND]

All mutations of a kind run in one child process, which is ended where one takes too long: what it did not answer, and
what raised anything but an error of `sarwater.errors`, is a finding. Each is written to `tests/torture/findings`, from
where a test replays it for ever; the file's suffix says what reads it.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import multiprocessing
import os
import random
import resource
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from sarwater.errors import SarwaterError
from tests.torture.seeds import KINDS

FINDINGS = Path(__file__).parent / "findings"
PATIENCE_S = 60.0
MOST_BYTES = 1500 * 10**6
"""Address space beyond what the child begins with."""
_INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (b"<", b">", b"&x;", b"[", b"{", b'"', b"\0", b"\n", b"-1", b"1e999", b"NaN", b"null", b"\xff\xfe", b"../")

Read = Callable[[Path], object]


def mutated(seed: bytes, others: Sequence[bytes], rng: random.Random) -> bytes:
    """`seed` with one to six changes; `others` are what it may be spliced with."""
    data = bytearray(seed)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if not data:
            break
        # Headers are read with more care than pixels, and there is more to get wrong in them.
        place = rng.randrange(min(len(data), rng.choice((64, 1024, len(data)))))
        match rng.randrange(8):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                data[place] = rng.randrange(256)
            case 2 | 3:
                form = rng.choice(("<H", ">H", "<I", ">I", "<Q"))
                size = struct.calcsize(form)
                number = rng.choice(_INTERESTING) & ((1 << 8 * size) - 1)
                data[place : place + size] = struct.pack(form, number)
            case 4:
                del data[place : place + rng.choice((1, 4, 100, len(data)))]
            case 5:
                part = data[place : place + rng.choice((1, 12, 20, 500))]
                data[place:place] = part * rng.choice((1, 2, 50))
            case 6:
                other = rng.choice(others)
                data[place:] = other[rng.randrange(len(other)) :]
            case 7:
                data[place:place] = rng.choice(_TOKENS)
    return bytes(data)


def mutations(kind: str, count: int, seed: int) -> Iterator[bytes]:
    """The same for the same `seed`."""
    rng = random.Random(f"{seed} {kind}")
    seeds = KINDS[kind][0]()
    for _ in range(count):
        yield mutated(rng.choice(seeds), seeds, rng)


def fuzz(kind: str, contents: Sequence[bytes]) -> list[tuple[bytes, str]]:
    """(content, what happened) of each that is a finding."""
    findings, left = [], list(contents)
    context = multiprocessing.get_context("fork")
    while left:
        ours, theirs = context.Pipe()
        child = context.Process(target=_serve, args=(kind, left, theirs), daemon=True)
        child.start()
        theirs.close()
        answered = 0
        while answered < len(left):
            try:
                if not ours.poll(PATIENCE_S):
                    child.kill()
                    child.join()
                    findings.append((left[answered], f"no answer in {PATIENCE_S:g} s"))
                    break
                what = ours.recv()
            except EOFError:
                child.join()
                findings.append((left[answered], f"the process ended with {child.exitcode}"))
                break
            if what:
                findings.append((left[answered], what))
            answered += 1
        child.join()
        left = left[answered + 1 :]
    return findings


def _serve(kind: str, contents: Sequence[bytes], pipe: Connection) -> None:
    faulthandler.disable()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # libraries print what they think of each file
        os.dup2(nowhere, descriptor)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MOST_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    _, read, suffix = KINDS[kind]
    with tempfile.TemporaryDirectory() as folder:
        for content in contents:
            path = Path(folder) / f"x{suffix}"
            path.write_bytes(content)
            pipe.send(outcome(read, path))


def outcome(read: Read, path: Path) -> str:
    """Empty where `read` takes the file, or refuses it in one line."""
    try:
        read(path)
    except SarwaterError as error:
        text = str(error)
        return "" if text.isprintable() and text else f"message {text!r}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


def kind_of(path: Path) -> str:
    return path.name.split("-")[0]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make torture", description="Damage files at random, and read them.")
    parser.add_argument("count", type=int, nargs="?", default=300, help="mutations of all kinds together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=KINDS)
    arguments = parser.parse_args(argv)
    kinds = [arguments.only] if arguments.only else list(KINDS)
    found = 0
    for kind in kinds:
        contents = list(mutations(kind, -(-arguments.count // len(kinds)), arguments.seed))
        for number, (content, what) in enumerate(fuzz(kind, contents)):
            found += 1
            FINDINGS.mkdir(exist_ok=True)
            path = FINDINGS / f"{kind}-{arguments.seed}-{number}{KINDS[kind][2]}"
            path.write_bytes(content)
            print(json.dumps({"kind": kind, "file": path.name, "what": what[:300]}), flush=True)
        print(f"{kind}: {len(contents)} mutations", flush=True)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
