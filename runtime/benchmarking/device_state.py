"""What a figure was measured on: the machine, its software, its settings, and how it is doing.

All of it is read, nothing is inferred or assumed; None means that it could not be read. `root` is another folder than
/ in tests. Where the files of a Jetson are described: Jetson Linux Developer Guide, "Platform Power and Performance".
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from runtime.benchmarking.energy import Counter, ina3221_watts, rapl_counters, read_int, read_text
from runtime.benchmarking.nvml import Nvml

_LIBRARIES = ("numpy", "gdal", "openvino", "tensorrt", "tensorrt_lean", "tensorrt_rtx", "pycuda", "nvidia-ml-py")

_JETSON_GPUS = re.compile(r"\.(gpu|ga10b|gv11b|gp10b|gm20b)$|^gpu-gpc-\d+$")
"""Names of the GPU's folder under /sys/class/devfreq, from Tegra X1 to Thor."""


@dataclass(frozen=True)
class Machine:
    """What does not change while it runs."""

    board: str | None
    cpu: str | None
    cpus: int
    """Those that this process may use."""
    virtual: bool | None
    """Whether a hypervisor is underneath: its other guests cannot be seen from here."""
    memory_bytes: int | None
    system: str | None
    kernel: str
    python: str
    l4t: str | None
    """Release of Jetson Linux."""
    gpu: str | None = None
    gpu_memory_bytes: int | None = None
    gpu_driver: str | None = None
    cuda_of_driver: str | None = None
    libraries: dict[str, str] = field(default_factory=dict)
    """Versions of those that are installed."""


@dataclass(frozen=True)
class Settings:
    """What somebody may have set, and what makes two runs on one machine differ."""

    power_mode: str | None
    """nvpmodel's mode of a Jetson: `2 (MAXN_SUPER)`."""
    clocks_locked: bool | None
    """Whether CPU and GPU cannot change their clocks, as after `jetson_clocks`; None where not all can be read."""
    cpu_governor: str | None
    cpu_max_mhz: float | None
    load_1min: float | None
    """Processes that ran or wanted to, over the minute before."""
    gpu_power_limit_w: float | None = None
    gpu_persistence: bool | None = None
    gpu_max_mhz: float | None = None


@dataclass(frozen=True)
class Reading:
    """How the machine is doing at this moment."""

    cpu_mhz: float | None
    """Mean over the cores."""
    gpu_mhz: float | None
    temperature_c: float | None
    """Of the hottest sensor."""
    throttling: list[str] | None
    """Why the GPU holds back at this moment."""


class Sensors:
    """Everything that can be read of this machine."""

    def __init__(self, root: Path = Path("/"), nvml: Nvml | None = None) -> None:
        self._root = root
        self._nvml = nvml

    def machine(self) -> Machine:
        root, cpuinfo = self._root, read_text(self._root / "proc/cpuinfo") or ""
        system = re.search(r'^PRETTY_NAME="?([^"\n]+)', read_text(root / "etc/os-release") or "", re.MULTILINE)
        memory = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo") or "", re.MULTILINE)
        cpu = re.search(r"^model name\s*:\s*(.+)", cpuinfo, re.MULTILINE)
        flags = re.search(r"^flags\s*:(.+)", cpuinfo, re.MULTILINE)
        release = re.match(r"# R(\d+).*?REVISION: ([\d.]+)", read_text(root / "etc/nv_tegra_release") or "")
        board = read_text(root / "proc/device-tree/model") or read_text(root / "sys/class/dmi/id/product_name")
        return Machine(
            board=board,
            cpu=cpu[1].strip() if cpu else None,
            cpus=len(os.sched_getaffinity(0)),
            virtual="hypervisor" in flags[1].split() if flags else None,
            memory_bytes=int(memory[1]) * 1024 if memory else None,
            system=system[1] if system else None,
            kernel=platform.release(),
            python=platform.python_version(),
            l4t=f"{release[1]}.{release[2]}" if release else None,
            libraries=library_versions(),
            **(self._nvml.about() if self._nvml else {}),
        )

    def settings(self) -> Settings:
        policies = sorted((self._root / "sys/devices/system/cpu/cpufreq").glob("policy*"))
        governors = {governor for policy in policies if (governor := read_text(policy / "scaling_governor"))}
        highest_khz = [khz for policy in policies if (khz := read_int(policy / "scaling_max_freq")) is not None]
        load = re.match(r"[\d.]+", read_text(self._root / "proc/loadavg") or "")
        highest_hz = read_int(self._gpu / "max_freq") if self._gpu else None
        of_gpu: dict[str, Any] = {"gpu_max_mhz": None if highest_hz is None else highest_hz / 1e6}
        if self._nvml:
            of_gpu |= {name: value for name, value in self._nvml.settings().items() if value is not None}
        return Settings(
            power_mode=self._power_mode(),
            clocks_locked=self._clocks_locked(policies),
            cpu_governor=", ".join(sorted(governors)) or None,
            cpu_max_mhz=max(highest_khz) / 1e3 if highest_khz else None,
            load_1min=float(load[0]) if load else None,
            **of_gpu,
        )

    def reading(self) -> Reading:
        gpu_mhz: float | None = None
        if self._nvml:
            gpu_mhz = self._nvml.clock_mhz()
        if gpu_mhz is None and self._gpu and (hz := read_int(self._gpu / "cur_freq")) is not None:
            gpu_mhz = hz / 1e6
        return Reading(self._cpu_mhz(), gpu_mhz, self._temperature_c(), self._nvml.throttling() if self._nvml else None)

    def throttle_counts(self) -> dict[str, int]:
        """Counters of how often the hardware held back: over-current events of a Jetson's supply, a CPU's heat."""
        counts: dict[str, int] = {}
        for path in sorted((self._root / "sys/class/hwmon").glob("hwmon*/oc*_event_cnt")):
            counts[path.name.removesuffix("_event_cnt")] = read_int(path) or 0
        of_cpus = (self._root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
        for path in sorted(of_cpus):
            name = f"cpu {path.name.removesuffix('_throttle_count')} thermal"
            # Every core of a package repeats the package's counter.
            counts[name] = max(counts.get(name, 0), read_int(path) or 0)
        return counts

    def counters(self) -> dict[str, Counter]:
        """Energy counters by sensor."""
        counters = rapl_counters(self._root)
        if self._nvml and (joules := self._nvml.joules()) is not None:
            counters["gpu"] = Counter(joules)
        return counters

    def watts(self) -> dict[str, float]:
        """Power now, by sensor, of what has no energy counter."""
        watts = ina3221_watts(self._root)
        if self._nvml and self._nvml.joules() is None and (now := self._nvml.watts()) is not None:
            watts["gpu"] = now
        return watts

    def cpu_seconds(self) -> tuple[float, float] | None:
        """(busy, stolen by the hypervisor) seconds of all cores together since the system started."""
        line = re.match(r"cpu +([\d ]+)", read_text(self._root / "proc/stat") or "")
        if line is None:
            return None
        # proc(5): user, nice, system, idle, iowait, irq, softirq, steal; guests are counted as user already.
        user, nice, system, _, _, irq, softirq, steal = (int(ticks) for ticks in line[1].split()[:8])
        per_second = os.sysconf("SC_CLK_TCK")
        return (user + nice + system + irq + softirq) / per_second, steal / per_second

    @property
    def _gpu(self) -> Path | None:
        folders = (self._root / "sys/class/devfreq").glob("*")
        return next((folder for folder in sorted(folders) if _JETSON_GPUS.search(folder.name)), None)

    def _power_mode(self) -> str | None:
        status = re.search(r"pmode:(\d+)", read_text(self._root / "var/lib/nvpmodel/status") or "")
        if status is None:
            return None
        number = int(status[1])
        modes = read_text(self._root / "etc/nvpmodel.conf") or ""
        name = re.search(rf"^\s*<\s*POWER_MODEL\s+ID={number}\s+NAME=(\S+)", modes, re.MULTILINE)
        return f"{number} ({name[1]})" if name else str(number)

    def _clocks_locked(self, policies: list[Path]) -> bool | None:
        if self._gpu is None:
            return None  # no Jetson: a PC's GPU is not in devfreq
        ranges = [
            (read_int(folder / f"{prefix}min_freq"), read_int(folder / f"{prefix}max_freq"))
            for folder, prefix in [(self._gpu, ""), *((policy, "scaling_") for policy in policies)]
        ]
        if any(None in limits for limits in ranges):
            return None
        return all(lowest == highest for lowest, highest in ranges)

    def _cpu_mhz(self) -> float | None:
        policies = (self._root / "sys/devices/system/cpu/cpufreq").glob("policy*/scaling_cur_freq")
        clocks = [khz / 1e3 for path in policies if (khz := read_int(path)) is not None]
        if not clocks:
            cpuinfo = read_text(self._root / "proc/cpuinfo") or ""
            clocks = [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)", cpuinfo, re.MULTILINE)]
        return sum(clocks) / len(clocks) if clocks else None

    def _temperature_c(self) -> float | None:
        zones = (self._root / "sys/class/thermal").glob("thermal_zone*/temp")
        celsius = [millicelsius / 1e3 for zone in zones if (millicelsius := read_int(zone)) is not None]
        if self._nvml and (of_gpu := self._nvml.temperature_c()) is not None:
            celsius.append(of_gpu)
        return max(celsius, default=None)


def library_versions() -> dict[str, str]:
    """Name -> version of those libraries of ours that are installed."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions
