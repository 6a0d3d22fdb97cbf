#!/usr/bin/env bash
# Fill .visit/ with what benchmarks/gpu_visit.sh carries to a GPU machine without a network: wheels for its Python.
#
#     benchmarks/gpu_visit_pack.sh [rtx]      # PYTHON=python3.12: an interpreter of the version that is there
#
# PyCUDA is built here, without cuRAND and without a driver: against $CUDA_HOME or /usr/local/cuda, or else the headers of
# NVIDIA's wheels. `rtx` also brings TensorRT-RTX, in two pieces: one in .visit/, the other in .visit-next/ for a second call.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3.12}
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p .visit

cuda=${CUDA_HOME:-/usr/local/cuda}
if [ ! -e "$cuda/include/cuda.h" ]; then
    "$python" -m pip download --quiet --no-deps --dest "$work" \
        nvidia-cuda-runtime nvidia-cuda-crt nvidia-cuda-profiler-api
    for wheel in "$work"/*.whl; do "$python" -m zipfile -e "$wheel" "$work/cuda"; done
    cuda=$(dirname "$(dirname "$(find "$work/cuda" -name cuda.h)")")
fi
# What PyCUDA calls is found in the driver of the machine where it runs: here its library needs a name only.
mkdir "$work/lib"
echo | cc -x c -shared -o "$work/lib/libcuda.so" -Wl,-soname,libcuda.so.1 -

if ! compgen -G ".visit/pycuda-*-cp${version/./}-*.whl" >/dev/null; then
    "$python" -m venv "$work/venv"
    "$work/venv/bin/pip" install --quiet numpy 'setuptools<81' wheel
    "$work/venv/bin/pip" download --quiet --no-deps --no-binary :all: --no-build-isolation --dest "$work" 'pycuda>=2024.1'
    tar xzf "$work"/pycuda-*.tar.gz -C "$work"
    out=$PWD/.visit
    (
        cd "$work"/pycuda-*/
        "$work/venv/bin/python" configure.py --cuda-root="$cuda" --cuda-inc-dir="$cuda/include" \
            --cudadrv-lib-dir="$work/lib" --no-cuda-enable-curand
        LDFLAGS=-Wl,--no-as-needed "$work/venv/bin/pip" wheel --quiet --no-build-isolation --no-deps --wheel-dir "$out" .
    )
fi
fetch() { # FOLDER NAME...
    local folder=$1
    shift
    "$python" -m pip download --quiet --only-binary=:all: --python-version "$version" --implementation cp \
        --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 --platform manylinux_2_17_x86_64 \
        --platform manylinux2014_x86_64 --dest "$folder" "$@"
}
# What PyCUDA imports, what the settings of scenes and training are made of, and what tests and commands use.
fetch .visit pytools mako pydantic pytest pytest-timeout hypothesis click

if [ "${1:-}" = rtx ]; then
    mkdir -p .visit-next "$work/rtx"
    "$python" -m pip wheel --quiet --no-deps --wheel-dir "$work/rtx" tensorrt-rtx-cu13
    fetch "$work/rtx" --no-deps tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
    tar c -C "$work" rtx | split --number=2 --numeric-suffixes=0 --suffix-length=1 - "$work/rtx.part"
    mv "$work/rtx.part0" .visit/
    mv "$work/rtx.part1" .visit-next/
fi
du -sh .visit
