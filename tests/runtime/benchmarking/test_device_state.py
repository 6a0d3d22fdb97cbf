"""Sensors against folder trees with the file names of real machines."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runtime.benchmarking.device_state import Sensors
from runtime.benchmarking.energy import Counter, ina3221_watts, rapl_counters
from runtime.benchmarking.nvml import Nvml


def plant(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


ORIN_NANO: dict[str, str | bytes] = {
    # A device tree's strings end with NUL.
    "proc/device-tree/model": b"NVIDIA Jetson Orin Nano Developer Kit\0",
    "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64\n",
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "var/lib/nvpmodel/status": "pmode:0002",
    "etc/nvpmodel.conf": "# < POWER_MODEL ID=2 NAME=WRONG >\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
    "< POWER_MODEL ID=2 NAME=MAXN_SUPER >\nCPU_ONLINE CORE_0 1\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_cur_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_max_freq": "1728000\n",
    "sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq": "729600\n",
    "sys/class/devfreq/15340000.vic/max_freq": "729600000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/cur_freq": "1020000000\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "51281\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "54750\n",
    "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
    "sys/class/hwmon/hwmon3/oc1_event_cnt": "0\n",
    "sys/class/hwmon/hwmon3/oc3_event_cnt": "37\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/name": "ina3221\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_label": "VDD_IN\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in1_input": "5040\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr1_input": "1200\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in2_label": "VDD_CPU_GPU_CV\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in2_input": "5032\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr2_input": "400\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in3_label": "NC\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in3_input": "0\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/curr3_input": "0\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in7_label": "sum of shunt voltages\n",
    "sys/bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1/in7_input": "8\n",
}
"""As Jetson Linux 36.4 has them; policy4's current frequency is of idle cores."""


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    return plant(tmp_path, ORIN_NANO)


def test_a_jetson_is_told_by_its_device_tree_and_release(jetson: Path) -> None:
    machine = Sensors(jetson).machine()
    assert machine.board == "NVIDIA Jetson Orin Nano Developer Kit"
    assert (machine.l4t, machine.system) == ("36.4.3", "Ubuntu 22.04.5 LTS")


def test_the_power_mode_has_its_number_and_its_name(jetson: Path) -> None:
    assert Sensors(jetson).settings().power_mode == "2 (MAXN_SUPER)"


def test_a_power_mode_without_a_catalogue_is_a_number(jetson: Path) -> None:
    (jetson / "etc/nvpmodel.conf").unlink()
    assert Sensors(jetson).settings().power_mode == "2"


def test_clocks_that_cannot_move_are_locked(jetson: Path) -> None:
    assert Sensors(jetson).settings().clocks_locked is True
    plant(jetson, {"sys/class/devfreq/17000000.gpu/min_freq": "306000000"})
    assert Sensors(jetson).settings().clocks_locked is False


def test_clocks_that_cannot_be_read_are_not_claimed_to_be_locked(jetson: Path) -> None:
    (jetson / "sys/class/devfreq/17000000.gpu/min_freq").unlink()
    assert Sensors(jetson).settings().clocks_locked is None


def test_the_gpu_is_found_among_the_other_clocks_of_a_jetson(jetson: Path) -> None:
    sensors = Sensors(jetson)
    assert sensors.settings().gpu_max_mhz == 1020
    reading = sensors.reading()
    assert (reading.gpu_mhz, reading.cpu_mhz, reading.temperature_c) == (1020, (1728 + 729.6) / 2, 54.75)


def test_the_supply_rails_of_a_jetson_are_read_by_name_and_unconnected_ones_left_out(jetson: Path) -> None:
    watts = ina3221_watts(jetson)
    assert watts.keys() == {"VDD_IN", "VDD_CPU_GPU_CV"}
    assert watts["VDD_IN"] == pytest.approx(6.048)


def test_over_current_events_are_counted_by_the_hardware(jetson: Path) -> None:
    assert Sensors(jetson).throttle_counts() == {"oc1": 0, "oc3": 37}


def test_packages_count_energy_and_their_parts_are_not_counted_again(tmp_path: Path) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    files: dict[str, str | bytes] = {
        f"{zone}/name": "package-0\n",
        f"{zone}/energy_uj": "2500000\n",
        f"{zone}/max_energy_range_uj": "262143328850\n",
        f"{zone.removesuffix(':0')}:0:0/name": "core\n",
        f"{zone.removesuffix(':0')}:0:0/energy_uj": "1000000\n",
    }
    assert rapl_counters(plant(tmp_path, files)) == {"package-0": Counter(2.5, 262143.32885)}


def test_a_counter_that_wrapped_goes_on() -> None:
    assert Counter(1.0, 10.0).since(Counter(8.0, 10.0)) == 3.0
    assert Counter(9.0, 10.0).since(Counter(8.0, 10.0)) == 1.0


def test_an_empty_machine_gives_nothing_rather_than_a_guess(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path)
    machine, settings, reading = sensors.machine(), sensors.settings(), sensors.reading()
    assert {machine.board, machine.cpu, machine.virtual, machine.memory_bytes, machine.l4t, machine.gpu} == {None}
    assert set(vars(settings).values()) == {None}
    assert set(vars(reading).values()) == {None}
    assert (sensors.counters(), sensors.watts(), sensors.throttle_counts()) == ({}, {}, {})
    assert sensors.cpu_seconds() is None


def test_files_that_hold_something_else_give_nothing(jetson: Path) -> None:
    for path in jetson.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\xff?\0")
    sensors = Sensors(jetson)
    assert sensors.settings().power_mode is None
    assert sensors.reading().gpu_mhz is None
    assert sensors.watts() == {}


def test_an_x86_machine_is_read_from_procfs(tmp_path: Path) -> None:
    cpu = "model name\t: AMD EPYC 9755\ncpu MHz\t\t: 2500.000\nflags\t\t: fpu avx512f hypervisor\n"
    throttled = "sys/devices/system/cpu/cpu{}/thermal_throttle/package_throttle_count"
    files: dict[str, str | bytes] = {
        "proc/cpuinfo": f"processor\t: 0\n{cpu}\nprocessor\t: 1\n{cpu.replace('2500', '3500')}",
        "proc/meminfo": "MemTotal:       24684096 kB\n",
        "proc/stat": "cpu  100 10 50 4000 5 1 2 30 7 0\ncpu0 50 5 25 2000 2 0 1 15 3 0\n",
        "proc/loadavg": "0.35 0.65 1.41 4/104 6697\n",
        "sys/class/dmi/id/product_name": "PowerEdge R6615\n",
        throttled.format(0): "4\n",
        throttled.format(1): "4\n",
    }
    sensors = Sensors(plant(tmp_path, files))
    machine = sensors.machine()
    assert (machine.board, machine.cpu, machine.virtual) == ("PowerEdge R6615", "AMD EPYC 9755", True)
    assert machine.memory_bytes == 24684096 * 1024
    assert sensors.settings().load_1min == 0.35
    assert sensors.reading().cpu_mhz == 3000
    assert sensors.throttle_counts() == {"cpu package thermal": 4}
    busy_s, stolen_s = sensors.cpu_seconds() or (0, 0)
    assert busy_s / stolen_s == pytest.approx(163 / 30)


class NotSupported(Exception):
    pass


def refuse(*_: Any) -> None:
    raise NotSupported


class Library:
    """NVML as an RTX laptop answers: no energy counter, no persistence mode."""

    NVMLError = NotSupported
    NVML_CLOCK_SM = 1
    NVML_TEMPERATURE_GPU = 0
    nvmlSystemGetDriverVersion = staticmethod(lambda: b"580.95.05")
    nvmlSystemGetCudaDriverVersion_v2 = staticmethod(lambda: 13010)
    nvmlDeviceGetName = staticmethod(lambda gpu: "NVIDIA RTX 4070 Laptop GPU")
    nvmlDeviceGetMemoryInfo = staticmethod(lambda gpu: SimpleNamespace(total=8 << 30))
    nvmlDeviceGetEnforcedPowerLimit = staticmethod(lambda gpu: 80_000)
    nvmlDeviceGetMaxClockInfo = staticmethod(lambda gpu, clock: 2610)
    nvmlDeviceGetClockInfo = staticmethod(lambda gpu, clock: 1815)
    nvmlDeviceGetTemperature = staticmethod(lambda gpu, sensor: 71)
    nvmlDeviceGetCurrentClocksThrottleReasons = staticmethod(lambda gpu: 0x24)
    nvmlDeviceGetPowerUsage = staticmethod(lambda gpu: 78_500)
    nvmlDeviceGetPersistenceMode = staticmethod(refuse)
    nvmlDeviceGetTotalEnergyConsumption = staticmethod(refuse)


def test_nvml_tells_the_driver_the_clocks_and_why_they_are_low(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path, Nvml(Library, object()))
    machine, settings, reading = sensors.machine(), sensors.settings(), sensors.reading()
    assert (machine.gpu, machine.gpu_driver, machine.cuda_of_driver) == (
        "NVIDIA RTX 4070 Laptop GPU",
        "580.95.05",
        "13.1",
    )
    assert (settings.gpu_power_limit_w, settings.gpu_max_mhz, settings.gpu_persistence) == (80, 2610, None)
    assert (reading.gpu_mhz, reading.temperature_c) == (1815, 71)
    assert reading.throttling == ["software power cap", "software thermal slowdown"]


def test_a_gpu_without_an_energy_counter_gives_its_power(tmp_path: Path) -> None:
    sensors = Sensors(tmp_path, Nvml(Library, object()))
    assert (sensors.counters(), sensors.watts()) == ({}, {"gpu": 78.5})


def test_a_gpu_with_an_energy_counter_is_not_counted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "nvmlDeviceGetTotalEnergyConsumption", staticmethod(lambda gpu: 5_000))
    sensors = Sensors(tmp_path, Nvml(Library, object()))
    assert (sensors.counters(), sensors.watts()) == ({"gpu": Counter(5.0)}, {})


def test_a_machine_without_the_binding_has_no_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert Nvml.open() is None
