"""What a run asks of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, torch
from train.loop.machine import choose_device
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages: which of them there are is chance
if {prepared}:
    choose_device("cpu")
def faulted_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize() // 2**20
for step in range(70):
    if step == 50:  # aligned blocks leave crumbs in the heap at first, and push it on a few times before one fits
        settled = faulted_mib()
    torch.ones(2**24)  # 64 MiB
print(faulted_mib() - settled)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the allocator is that of glibc")
def test_memory_that_one_step_frees_is_there_for_the_next() -> None:
    faulted_mib = [
        int(
            subprocess.run(
                [sys.executable, "-c", FAULTS.format(prepared=prepared)], capture_output=True, check=True
            ).stdout
        )
        for prepared in (True, False)
    ]
    assert faulted_mib[0] <= 5 * 64, "of the last 20 blocks nearly all stand where one was before"
    assert faulted_mib[1] >= 20 * 64 - 1, "else this measures nothing"
