"""Make the driver and PyCUDA, once: both are kept in the cache folder, by the hash of all that goes into them.

PyCUDA takes about a minute of one core, the driver ten seconds; a kept one takes nothing.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from runtime.backends.gpu.kernels.compile import SOURCE
from runtime.cache import cache_folder
from tests.conftest import CHECKOUT
from tests.support.host_kernels import host_compiler

REQUIREMENTS = CHECKOUT / "requirements" / "cuda-driver.txt"
FLAGS = ("-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-ffp-contract=off")
# Without cuRAND, which nothing here needs, and unoptimised: the calls count, not their speed.
SETTINGS = """
CUDA_ROOT = ""
CUDA_INC_DIR = [{headers!r}]
CUDADRV_LIB_DIR = [{driver!r}]
CUDA_ENABLE_CURAND = False
CXXFLAGS = ["-O0", "-g0", "-w"]
"""


class CannotBuild(Exception):
    """Why there is no driver here; the tests that need it are skipped with this."""


class BuildError(Exception):
    """What a command said that should have worked."""


@dataclass(frozen=True)
class Built:
    driver: Path
    """Folder with libcuda.so.1."""
    packages: Path
    """Folder with the package `pycuda`."""


def build() -> Built:
    """Raises CannotBuild without a compiler or a package index."""
    compiler = host_compiler()
    if compiler is None:
        raise CannotBuild("no C++ compiler to build the CUDA driver of the tests with")
    folder = cache_folder() / "cuda-driver"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two processes of tests need it at the same time
        requirements = REQUIREMENTS.read_text()
        downloads = _kept(folder, "downloads", requirements, _download)
        headers = downloads / "nvidia" / "cu13" / "include"

        parts = sorted(Path(__file__).parent.glob("*.[ch]*"))
        content = [part.read_text() for part in (*parts, SOURCE, SOURCE.with_name("host.h"))]
        sources = [part for part in parts if part.suffix == ".cpp"]
        driver = _kept(
            folder, "driver", [*content, *FLAGS], lambda target: _compile(compiler, sources, headers, target)
        )

        python = (sysconfig.get_config_var("SOABI"), metadata.version("numpy").split(".")[0])
        packages = _kept(
            folder, "pycuda", [requirements, SETTINGS, *python], lambda target: _pycuda(downloads, driver, target)
        )
    return Built(driver, packages)


def _kept(folder: Path, name: str, made_of: str | list[str], make: Callable[[Path], None]) -> Path:
    """`folder/name-HASH`, made where it is not there yet: aside, then renamed."""
    digest = hashlib.sha256("\0".join([made_of] if isinstance(made_of, str) else made_of).encode()).hexdigest()
    target = folder / f"{name}-{digest[:16]}"
    if not target.is_dir():
        with tempfile.TemporaryDirectory(dir=folder) as aside:
            made = Path(aside) / "made"
            made.mkdir()
            make(made)
            made.rename(target)
    return target


def _download(target: Path) -> None:
    """The headers' wheels unpacked, and the source of PyCUDA beside them."""
    locked = ["--no-deps", "--require-hashes", "--no-build-isolation", "--no-binary=pycuda", "-r", str(REQUIREMENTS)]
    try:
        _run([sys.executable, "-m", "pip", "download", "--quiet", *locked, "--dest", str(target)])
    except BuildError as error:
        raise CannotBuild(f"PyCUDA and the headers of CUDA cannot be downloaded: {error}") from error
    for wheel in target.glob("*.whl"):
        shutil.unpack_archive(wheel, target, "zip")
        wheel.unlink()


def _compile(compiler: str, sources: list[Path], headers: Path, target: Path) -> None:
    common = [compiler, *FLAGS, f"-I{headers}", f'-DSCENE="{SOURCE}"']
    objects = []
    for source in sources:
        objects.append(str(target / f"{source.stem}.o"))
        _run([*common, "-c", str(source), "-o", objects[-1]])
    library = target / "libcuda.so.1"
    _run([compiler, "-shared", "-Wl,-soname,libcuda.so.1", *objects, "-o", str(library)])
    for part in objects:
        Path(part).unlink()
    (target / "libcuda.so").symlink_to(library.name)  # what a linker looks for


def _pycuda(downloads: Path, driver: Path, target: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(next(downloads.glob("pycuda-*.tar.gz"))) as archive:
            archive.extractall(folder)  # its hash was checked
        source = next(Path(folder).iterdir())
        headers = downloads / "nvidia" / "cu13" / "include"
        (source / "siteconf.py").write_text(SETTINGS.format(headers=str(headers), driver=str(driver)))
        wanted = ["--no-deps", "--no-build-isolation", "--no-compile", "--target", str(target), str(source)]
        _run([sys.executable, "-m", "pip", "install", "--quiet", *wanted])


def _run(command: list[str]) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise BuildError(f"{' '.join(command)}: {said[-1] if said else done.returncode}")


if __name__ == "__main__":
    print(build())
