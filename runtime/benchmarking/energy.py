"""Sensors of power and energy in sysfs. What is not there, or not ours to read, is simply not in the answer.

RAPL     x86 packages count their energy: /sys/class/powercap/intel-rapl:N, for root alone since Linux 5.10.
         https://docs.kernel.org/power/powercap/powercap.html
INA3221  a Jetson module measures voltage and current of its supply rails: /sys/bus/i2c/drivers/ina3221.
         https://docs.kernel.org/hwmon/ina3221.html; the rails: Jetson Linux Developer Guide, "Power Monitor"
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Counter:
    """Energy since some moment in the past; it starts from 0 again at `wraps_at_j`."""

    joules: float
    wraps_at_j: float | None = None

    def since(self, earlier: Counter) -> float:
        """Joules since an earlier reading, over one wrap at most."""
        if self.joules >= earlier.joules or self.wraps_at_j is None:
            return self.joules - earlier.joules
        return self.joules + self.wraps_at_j - earlier.joules


def rapl_counters(root: Path) -> dict[str, Counter]:
    """Name of each package (`package-0`) -> its counter. Subzones (cores, memory) are parts of their package."""
    counters = {}
    for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
        name, microjoules = read_text(zone / "name"), read_int(zone / "energy_uj")
        if zone.name.count(":") == 1 and name and microjoules is not None:
            wraps_at_uj = read_int(zone / "max_energy_range_uj")
            counters[name] = Counter(microjoules / 1e6, None if wraps_at_uj is None else wraps_at_uj / 1e6)
    return counters


def ina3221_watts(root: Path) -> dict[str, float]:
    """Label of each supply rail -> power now.

    `VDD_IN` (Orin NX, Orin Nano) is the whole module; the rails of an AGX Orin feed each other in part, so they are
    not added up. Unconnected channels (`NC`) and the sum of shunt voltages (channel 7) are left out.
    """
    watts = {}
    for label in sorted((root / "sys/bus/i2c/drivers/ina3221").glob("*/hwmon/hwmon*/in[123]_label")):
        channel = label.name[2]
        rail = read_text(label)
        millivolts = read_int(label.with_name(f"in{channel}_input"))
        milliamperes = read_int(label.with_name(f"curr{channel}_input"))
        if rail and rail != "NC" and millivolts is not None and milliamperes is not None:
            watts[rail] = millivolts * milliamperes / 1e6
    return watts


def read_text(path: Path) -> str | None:
    """One value as sysfs, procfs and the device tree (which ends it with a NUL) write it; None if unreadable."""
    try:
        return path.read_text(errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def read_int(path: Path) -> int | None:
    text = read_text(path)
    try:
        return None if text is None else int(text)
    except ValueError:
        return None
