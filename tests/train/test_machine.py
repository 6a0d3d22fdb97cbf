"""What a run asks of the machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import ctypes, resource, torch
from train.machine import choose_device
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # no huge pages: which of them there are is chance
if {prepared}:
    choose_device("cpu")
for _ in range(20):
    torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt * resource.getpagesize() // 2**20)
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
    # The interpreter and PyTorch are the same in both; of the 20 blocks all but one are spared.
    assert faulted_mib[1] - faulted_mib[0] > 15 * 64
