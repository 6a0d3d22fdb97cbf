from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.benchmarking.conditions import Watch
from runtime.benchmarking.device_state import Reading, Sensors
from runtime.benchmarking.energy import Counter


class Playing(Sensors):
    """Readings played one after the other, one per call."""

    def __init__(self, joules: list[float], watts: list[float], oc_events: list[int]) -> None:
        super().__init__(Path("/nowhere"))
        self._played = {"joules": iter(joules), "watts": iter(watts), "oc": iter(oc_events)}

    def reading(self) -> Reading:
        return Reading(cpu_mhz=2000.0, gpu_mhz=None, temperature_c=61.0, throttling=["software power cap"])

    def counters(self) -> dict[str, Counter]:
        return {"package-0": Counter(next(self._played["joules"]), 100.0)}

    def watts(self) -> dict[str, float]:
        return {"VDD_IN": next(self._played["watts"])}

    def throttle_counts(self) -> dict[str, int]:
        return {"oc1": 5, "oc3": int(next(self._played["oc"]))}


def test_energy_adds_up_over_readings_and_over_a_wrap_of_the_counter() -> None:
    watch = Watch(Playing([98.0, 3.0, 10.0, 11.5], [10.0, 10.0, 10.0, 10.0], [7, 9, 9, 9]), period_s=60)
    began_s = time.monotonic()
    for _ in range(2):
        with watch:
            time.sleep(0.05)
    whole_s = time.monotonic() - began_s
    seen = watch.conditions()
    assert seen.joules is not None
    assert seen.joules["package-0"] == pytest.approx(5.0 + 1.5)
    assert 10 * 2 * 0.05 * 0.9 < seen.joules["VDD_IN"] <= 10 * whole_s
    assert seen.throttle_events == {"oc3": 2}
    assert (seen.cpu_mhz, seen.gpu_mhz, seen.hottest_c) == (2000, None, 61)
    assert seen.throttling == ["software power cap"]


def test_a_thread_reads_while_the_work_goes_on() -> None:
    watch = Watch(Playing([1.0] * 9999, [4.0] * 9999, [0] * 9999), period_s=0.01)
    deadline_s = time.monotonic() + 60  # a crowded machine may not run the thread for a while
    with watch:
        while len(watch._readings) <= 3 and time.monotonic() < deadline_s:
            time.sleep(0.01)
    assert len(watch._readings) > 3


def test_without_sensors_everything_is_none(tmp_path: Path) -> None:
    with Watch(Sensors(tmp_path)) as watch:
        pass
    seen = watch.conditions()
    assert seen.seconds > 0
    assert {value for name, value in vars(seen).items() if name != "seconds"} == {None}


@pytest.mark.skipif(not os.access("/proc/stat", os.R_OK), reason="no /proc/stat")
def test_the_work_of_other_processes_is_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            with Watch(Sensors()) as watch:
                time.sleep(0.5)
        finally:
            other.kill()
    seen = watch.conditions()
    assert seen.others_cpus is not None
    assert seen.others_cpus > 0.05  # a crowded machine gives it less than a CPU
