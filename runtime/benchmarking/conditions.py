"""What the machine did while something was measured: energy, clocks, throttling, and who else was at work."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from runtime.benchmarking.device_state import Reading, Sensors
from runtime.benchmarking.energy import Counter

PERIOD_S = 0.5


@dataclass(frozen=True)
class Conditions:
    """Of all the time watched together; None where no sensor could be read."""

    seconds: float
    joules: dict[str, float] | None
    """Sensor -> energy. Sensors may contain each other (a package its cores), so they are not added up."""
    cpu_mhz: float | None
    gpu_mhz: float | None
    """Means of the clocks over time."""
    hottest_c: float | None
    throttling: list[str] | None
    """Every reason for which the GPU held back at some moment."""
    throttle_events: dict[str, int] | None
    """Counters that moved, and by how much; empty where they all stood still."""
    others_cpus: float | None = None
    """CPUs' worth of work that other processes did: a figure taken beside them is too slow."""
    stolen_cpus: float | None = None
    """CPUs' worth of time that the hypervisor gave to other guests."""


class Watch:
    """`with watch:` around what is measured, as often as wanted; `conditions()` tells of all these times together.

    A thread reads the sensors twice a second. Energy counters are followed from reading to reading, so that one that
    wraps is noticed; power is integrated by trapezoids.
    """

    def __init__(self, sensors: Sensors, period_s: float = PERIOD_S) -> None:
        self._sensors = sensors
        self._period_s = period_s
        self._seconds = 0.0
        self._joules: dict[str, float] = {}
        self._readings: list[Reading] = []
        self._events: dict[str, int] | None = None
        self._others_s: float | None = 0.0
        self._stolen_s: float | None = 0.0

    def __enter__(self) -> Watch:
        self._before = (self._sensors.throttle_counts(), self._sensors.cpu_seconds(), _own_cpu_seconds())
        self._leave = threading.Event()
        self._start_s = time.monotonic()
        self._last = self._energy()
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        seconds = time.monotonic() - self._start_s
        after, own_s = self._sensors.cpu_seconds(), _own_cpu_seconds()
        self._leave.set()
        self._thread.join()
        self._step()
        self._seconds += seconds
        counts, busy_before, own_before_s = self._before
        for name, count in self._sensors.throttle_counts().items():
            self._events = self._events or {}
            if moved := count - counts.get(name, count):
                self._events[name] = self._events.get(name, 0) + moved
        if busy_before is None or after is None or self._others_s is None or self._stolen_s is None:
            self._others_s = self._stolen_s = None
        else:
            self._others_s += max(0.0, after[0] - busy_before[0] - (own_s - own_before_s))
            self._stolen_s += after[1] - busy_before[1]

    def conditions(self) -> Conditions:
        reasons = [reading.throttling for reading in self._readings if reading.throttling is not None]
        return Conditions(
            seconds=self._seconds,
            joules=dict(self._joules) or None,
            cpu_mhz=_mean([reading.cpu_mhz for reading in self._readings]),
            gpu_mhz=_mean([reading.gpu_mhz for reading in self._readings]),
            hottest_c=max((r.temperature_c for r in self._readings if r.temperature_c is not None), default=None),
            throttling=sorted({reason for some in reasons for reason in some}) if reasons else None,
            throttle_events=self._events,
            others_cpus=_per(self._others_s, self._seconds),
            stolen_cpus=_per(self._stolen_s, self._seconds),
        )

    def _follow(self) -> None:
        while not self._leave.wait(self._period_s):
            self._step()

    def _step(self) -> None:
        self._readings.append(self._sensors.reading())
        at_s, counters, watts = self._energy()
        before_s, counters_before, watts_before = self._last
        for name, counter in counters.items():
            if name in counters_before:
                self._add(name, counter.since(counters_before[name]))
        for name, now in watts.items():
            if name in watts_before:
                self._add(name, (now + watts_before[name]) / 2 * (at_s - before_s))
        self._last = (at_s, counters, watts)

    def _energy(self) -> tuple[float, dict[str, Counter], dict[str, float]]:
        return time.monotonic(), self._sensors.counters(), self._sensors.watts()

    def _add(self, name: str, joules: float) -> None:
        self._joules[name] = self._joules.get(name, 0.0) + joules


def _own_cpu_seconds() -> float:
    """Of this process and the children that it has waited for."""
    return sum(os.times()[:4])


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _per(amount: float | None, seconds: float) -> float | None:
    return None if amount is None or not seconds else amount / seconds
