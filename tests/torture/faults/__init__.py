"""The faults of the reliability specification. Each function injects one kind, then counts what went wrong.

A daemon that keeps its guarantee ends with 0 lost, 0 duplicated, 0 corrupted, whatever was injected.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.torture.faults.disk import cut_power, damage_ledger, fill_disk, read_only_outgoing
from tests.torture.faults.inbox import (
    broken_and_hostile_files,
    burst_while_stopped,
    folder_without_events,
    same_and_different,
    slow_writers,
    strange_things,
    wrong_engines,
)
from tests.torture.faults.machine import pass_through, short_of_something
from tests.torture.faults.process import (
    deadly_inputs,
    fail_syscalls,
    jump_clock,
    kill_at_random,
    kill_at_syscalls,
    kill_with_the_model_that_ships,
    long_run,
    stop_and_reload,
)
from tests.torture.faults.result import Result

__all__ = ["FAULTS", "Fault", "Result"]


@dataclass(frozen=True)
class Fault:
    number: int
    inject: Callable[[Path, int, random.Random], Result]
    full: int
    """Count of the whole torture."""
    quick: int
    """Count in `make test`."""
    needs: str = ""
    """`strace`, `mount` or `fuse`."""

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
    Fault(10, broken_and_hostile_files, 600, 60),
    Fault(11, deadly_inputs, 10, 2),
    Fault(12, jump_clock, 20, 2),
    Fault(13, same_and_different, 10, 1),
    Fault(14, stop_and_reload, 200, 2),
    Fault(15, long_run, 10_000, 40),
    Fault(16, wrong_engines, 12, 3),
    Fault(17, strange_things, 10, 1),
    Fault(18, damage_ledger, 39, 2),
    Fault(19, short_of_something, 60, 2),
    Fault(20, pass_through, 100, 2, "fuse"),
    Fault(21, kill_with_the_model_that_ships, 1000, 1),
)
