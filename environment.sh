#!/usr/bin/env bash
# Make a virtual environment that can run sarwater: `environment.sh FOLDER [dev]`.
#
# Needs python3 (3.10 or newer); brings the rest: GDAL and a compiler through apt where they are missing, then wheels.
# PYTHON chooses the interpreter. `dev` adds everything for training, export and tests, with the PyTorch build that
# pip finds for TORCH (default: torch==2.13.0); set PIP_EXTRA_INDEX_URL to PyTorch's CPU index to save some gigabytes.
# LOCKED=1 takes exactly the versions of requirements/, by their hashes, in place of the newest that pyproject.toml
# allows; GDAL's binding and PyTorch stay as said above.
set -euo pipefail
cd "$(dirname "$0")"
folder=$1
kind=${2:-runtime}
python=${PYTHON:-python3}
say() { printf '\033[1m%s\033[0m\n' "$*" >&2; }

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { say "$("$python" --version) found, Python 3.10 or newer expected; set PYTHON=/path/to/python3"; exit 78; }

# What the operating system has to give. GDAL's Python binding is compiled against the machine's own libgdal.
header=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["include"])')/Python.h
missing() {
    command -v gdal-config >/dev/null || echo libgdal-dev
    command -v gdalinfo >/dev/null || echo gdal-bin
    command -v c++ >/dev/null || echo g++
    "$python" -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    [ -e "$header" ] || echo python3-dev
    if [ "$kind" = dev ]; then
        command -v strace >/dev/null || echo strace
        command -v systemd-analyze >/dev/null || echo systemd
    fi
}
(
    flock 9  # two environments may be made at a time, but apt-get does one thing
    mapfile -t packages < <(missing)
    [ ${#packages[@]} -gt 0 ] || exit 0
    say "installing ${packages[*]}"
    command -v apt-get >/dev/null || { say "apt-get not found: install the equivalents of ${packages[*]}"; exit 78; }
    root=(); [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -qq
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
) 9<environment.sh

[ -x "$folder/bin/python" ] || { say "making $folder"; rm -rf "$folder"; "$python" -m venv "$folder"; }
pip=("$folder/bin/python" -m pip --quiet --disable-pip-version-check)
install=("${pip[@]}" install)
[ "$kind" = dev ] && install+=(--no-compile)  # of thousands of modules few are used; Python compiles those

gdal=$(gdal-config --version)
if ! "$folder/bin/python" -c "from osgeo import gdal, gdal_array; assert gdal.__version__ == '$gdal'" 2>/dev/null; then
    say "building GDAL's Python binding $gdal (about half a minute)"
    "${install[@]}" numpy 'setuptools<81' wheel
    # Not isolated and not cached: the binding finds numpy at build time, and one built without it would stay in the cache.
    # This numpy first: Debian's python3-numpy, which gdal-bin brings, puts an older one beside Python.h.
    numpy=$("$folder/bin/python" -c 'import numpy; print(numpy.get_include())')
    PYTHONWARNINGS=ignore CPPFLAGS="-I'$numpy' ${CPPFLAGS:-}" "${install[@]}" --use-pep517 --no-build-isolation --no-binary gdal --no-cache-dir \
        --force-reinstall --no-deps "gdal==$gdal"
fi
torch=${TORCH:-torch==2.13.0}
own=("${install[@]}" --editable)
if [ "${LOCKED:-}" = 1 ]; then
    say "installing the locked versions of requirements/$kind.txt"
    "${install[@]}" --no-deps --require-hashes --requirement "requirements/$kind.txt"
    own=("${install[@]}" --no-deps --editable)
fi
if [ "$kind" = dev ]; then
    say "installing sarwater with everything for training, export and tests"
    "${install[@]}" "$torch"
    flock environment.sh "${own[@]}" '.[dev]' "gdal==$gdal"  # it writes beside the sources
    # For the type checker alone. Its dependency is TensorRT itself, which not every machine can have.
    "${install[@]}" --no-deps 'tensorrt-stubs==10.13.0.35.1'
    # About a minute, the first time on a machine; without it the tests of the GPU half are skipped or make it themselves.
    "$folder/bin/python" -m tests.support.cuda_driver.build >/dev/null || say "no CUDA driver for tests"
else
    say "installing sarwater's runtime"
    flock environment.sh "${own[@]}" . "gdal==$gdal"
fi
touch "$folder/ready"
