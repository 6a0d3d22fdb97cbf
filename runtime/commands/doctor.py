"""What this machine can do, and the command for whatever is missing: `sarwater doctor`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from sarwater import __version__
from sarwater.command import command, option, run
from sarwater.dependencies import EXPORT_INSTALL
from sarwater.errors import SarwaterError
from sarwater.gpu import require_gpu
from sarwater.installing import for_this_environment
from sarwater.models import shipped_models
from sarwater.scenes.raster import INSTALL, gdal
from sarwater.tensorrt_library import FLAVOURS

GIB = 1 << 30
_READS = {"GTiff": "GeoTIFF", "HDF5Image": "KOMPSAT-5, COSMO-SkyMed and other HDF5", "PNG": "labels as PNG"}
_WRITES = {"COG": "masks", "GPKG": "polygons", "PNG": "quicklooks"}
_LEAST_MEMORY_BYTES, _LEAST_DISK_BYTES = 2 * GIB, 5 * GIB
_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8", "asimd")
_NVIDIA = "0x10de"
_DRIVERS = {"debian": "sudo apt install nvidia-driver", "ubuntu": "sudo ubuntu-drivers install"}
_SYSTEMD = Path("/run/systemd/system")
_UNIT = "sarwater-watch.service"
_UNITS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"), Path("/lib/systemd/system"))
_ENABLED = Path("/etc/systemd/system/multi-user.target.wants")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    part: Literal["needed", "GPU", "training and export", "service"]
    name: str
    state: Literal["ok", "missing", "note"]
    """`missing` only of what `part` cannot do without; `note` is worth knowing."""
    text: str
    remedy: str = ""
    """The command for what is missing."""


def findings(folder: Path) -> Iterator[Finding]:
    """All, in the order of the report; `folder` is where products would go."""
    for check in (_python, _gdal, _openvino, _models, _memory, lambda: _disk(folder)):
        yield from map(_here, check())
    for check in (_gpu, _tensorrt, _training, _service):
        yield from map(_here, check())


def _here(finding: Finding) -> Finding:
    return replace(finding, remedy=for_this_environment(finding.remedy))


def _python() -> Iterator[Finding]:
    yield Finding("needed", "sarwater", "ok", f"{__version__} on Python {platform.python_version()} ({sys.prefix})")


def _gdal() -> Iterator[Finding]:
    try:
        version = gdal.VersionInfo("RELEASE_NAME")
    except SarwaterError as error:
        yield Finding("needed", "GDAL", "missing", _first(error), INSTALL)
        return
    absent = {name: use for name, use in (_READS | _WRITES).items() if gdal.GetDriverByName(name) is None}
    if absent:
        uses = ", ".join(f"{name} ({use})" for name, use in absent.items())
        yield Finding("needed", "GDAL", "missing", f"{version} without {uses}", "sudo apt install gdal-bin libgdal-dev")
    else:
        yield Finding("needed", "GDAL", "ok", f"{version}, reads and writes all that is needed")


def _openvino() -> Iterator[Finding]:
    from runtime.backends.cpu.openvino import require_openvino

    flags = _cpu_flags()
    instructions = ", ".join(name for name in _INSTRUCTIONS if name in flags) or "no vector instructions that it knows"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        version = require_openvino().get_version().split("-")[0]
    except SarwaterError as error:
        yield Finding("needed", "OpenVINO", "missing", _first(error), "pip install openvino")
        return
    yield Finding("needed", "OpenVINO", "ok", f"{version} on {cores} cores ({instructions})")


def _models() -> Iterator[Finding]:
    found = [f"{model.manifest.name} {model.manifest.precision}" for model in shipped_models()]
    if found:
        yield Finding("needed", "models", "ok", ", ".join(found))
    else:
        yield Finding("needed", "models", "missing", "none of those that ship is here", "git checkout -- engines")


def _memory() -> Iterator[Finding]:
    found = re.search(r"^MemAvailable:\s*(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    if found is None:
        return
    free = int(found[1]) * 1024
    state: Literal["ok", "note"] = "ok" if free >= _LEAST_MEMORY_BYTES else "note"
    advice = "" if state == "ok" else f"; a large scene wants {_LEAST_MEMORY_BYTES // GIB} GiB"
    yield Finding("needed", "memory", state, f"{free / GIB:.1f} GiB free{advice}")


def _disk(folder: Path) -> Iterator[Finding]:
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    free = shutil.disk_usage(there).free
    if not os.access(there, os.W_OK | os.X_OK):
        yield Finding("needed", "disk", "missing", f"{there} may not be written to by this user", f"ls -ld {there}")
    elif free < _LEAST_DISK_BYTES:
        least = _LEAST_DISK_BYTES // GIB
        yield Finding("needed", "disk", "note", f"{free / GIB:.1f} GiB free at {there}; large scenes want {least} GiB")
    else:
        yield Finding("needed", "disk", "ok", f"{free / GIB:.0f} GiB free at {there}")


def _gpu() -> Iterator[Finding]:
    try:
        gpu = require_gpu()
    except SarwaterError as error:
        text = _first(error).split(";")[0]
        if not _has_nvidia_card():
            yield Finding(
                "GPU", "NVIDIA GPU", "note", f"{text}, and no NVIDIA card is found; masks are made on the CPU"
            )
            return
        remedy = _DRIVERS.get(_distribution(), _DRIVERS["debian"]) if "no NVIDIA driver" in text else "nvidia-smi"
        yield Finding("GPU", "NVIDIA GPU", "missing", text, remedy)
        return
    yield Finding("GPU", "NVIDIA GPU", "ok", f"{gpu.name}, compute capability {gpu.compute_capability}")
    found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", _text("/proc/driver/nvidia/version"))
    yield Finding("GPU", "driver", "ok", found[1] if found else "loaded; it does not tell its version")
    yield _module("GPU", "PyCUDA", "pycuda", "pycuda", "pip install 'sarwater[cuda]'")
    yield _cuda()


def _cuda() -> Finding:
    """What compiles the kernels for this GPU when it is first used."""
    from runtime.backends.gpu.kernels.compile import INSTALL as CUDA_INSTALL
    from runtime.backends.gpu.kernels.compile import compilers

    names = [f"{compiler.name} of CUDA {'.'.join(map(str, compiler.version))}" for compiler in compilers()]
    if names:
        return Finding("GPU", "CUDA", "ok", ", ".join(names))
    return Finding("GPU", "CUDA", "missing", "neither NVRTC nor nvcc is found", CUDA_INSTALL)


def _has_nvidia_card() -> bool:
    """On the PCI bus, or a Jetson's, which is on none."""
    vendors = Path("/sys/bus/pci/devices").glob("*/vendor")
    return any(_text(str(vendor)).strip() == _NVIDIA for vendor in vendors) or Path("/etc/nv_tegra_release").exists()


def _distribution() -> str:
    found = re.search(r'^ID="?([\w-]+)', _text("/etc/os-release"), re.MULTILINE)
    return found[1] if found else ""


def _tensorrt() -> Iterator[Finding]:
    for flavour in FLAVOURS.values():
        remedy = flavour.install.split("`")[1]
        yield _module("GPU", flavour.name, flavour.module, flavour.module.replace("_", "-"), remedy)


def _training() -> Iterator[Finding]:
    train = "pip install 'sarwater[train]'"
    export = EXPORT_INSTALL.strip("`")
    for name, module, remedy in (
        ("PyTorch", "torch", train),
        ("ONNX", "onnx", export),
        ("ModelOpt", "modelopt", export),
    ):
        yield _module("training and export", name, module, {"modelopt": "nvidia-modelopt"}.get(module, module), remedy)


def _service() -> Iterator[Finding]:
    if not _SYSTEMD.is_dir():
        yield Finding("service", "systemd", "note", "does not run here; `sarwater watch` runs in any terminal")
        return
    yield Finding("service", "systemd", "ok", "runs")
    unit = next((folder / _UNIT for folder in _UNITS if (folder / _UNIT).exists()), None)
    if unit is None:
        yield Finding("service", "unit", "missing", f"{_UNIT} is not installed", "sudo make install")
    elif not (_ENABLED / _UNIT).exists():
        yield Finding(
            "service", "unit", "note", f"{unit} does not start by itself", f"sudo systemctl enable --now {_UNIT}"
        )
    else:
        yield Finding("service", "unit", "ok", f"{unit} starts with the machine")


def _module(part: Literal["GPU", "training and export"], name: str, module: str, package: str, remedy: str) -> Finding:
    """By its metadata: importing PyTorch takes seconds."""
    for candidate in (package, module):
        try:
            return Finding(part, name, "ok", importlib.metadata.version(candidate))
        except importlib.metadata.PackageNotFoundError:
            continue
    return Finding(part, name, "missing", "not installed", remedy)


def _cpu_flags() -> frozenset[str]:
    found = re.search(r"^(?:flags|Features)\s*:(.+)", _text("/proc/cpuinfo"), re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _first(error: Exception) -> str:
    """Without the command, which is the remedy."""
    return str(error).splitlines()[0].split(": `")[0]


def _report(found: list[Finding]) -> str:
    marks = {"ok": "ok", "missing": "-", "note": "!"}
    label = max(len(finding.name) for finding in found)
    lines: list[str] = []
    part = ""
    for finding in found:
        if finding.part != part:
            part = finding.part
            lines += ["", part]
        text = finding.text + (f": {finding.remedy}" if finding.remedy else "")
        lines.append(f"  {marks[finding.state]:2}  {finding.name:{label}}  {text}")
    return "\n".join(lines[1:])


@command(
    "doctor",
    "Say what this machine can do: what masks need, the GPU, training and export, the service; and the command for "
    "whatever is missing. Looks, and changes nothing.",
    examples="""
    sarwater doctor
    sarwater doctor -o /data/products --json
    """,
    exit_codes="0 masks can be made here, 1 something that they need is missing",
)
@option("-o", "--output", group="report", type=Path, default=Path("."), metavar="DIR", help="Where products would go.")
@option("--json", "as_json", group="report", is_flag=True, help="Print it as JSON.")
def doctor(output: Path, as_json: bool) -> int:
    found = list(findings(output))
    if as_json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        print(_report(found))
    return int(any(finding.part == "needed" and finding.state == "missing" for finding in found))


def cli() -> int:
    return run(doctor)


if __name__ == "__main__":
    sys.exit(cli())
