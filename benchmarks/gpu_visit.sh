#!/usr/bin/env bash
# One command on a bare GPU machine without a network: everything that only a GPU can show, in nine minutes.
#
#     benchmarks/gpu_visit.sh OUT [recipe]        # after benchmarks/gpu_visit_pack.sh, which fills .visit/
#
# Wanted there: python3 with torch, numpy and onnx; nvcc or NVRTC. No pip, GDAL, OpenVINO or TensorRT.
# Each step has its limit and its file; OUT/visit.txt says how each ended, and OUT/visit.tgz, with every file so far, is
# made anew after each step: what is done is there whatever happens later. BUDGET_S (540) ends the whole, SLOWER=3 triples
# the limits of the steps; SCENES, MODEL, TILE_PX, SCENE_SIZE, KERNEL_SIZE, ROUNDS and TRAINING make them smaller.
# STEPS='carried open kernels' runs those alone: after mending something, say. CARRIED is where the wheels lie (.visit).
# `recipe` trains for ten minutes more, where GDAL is there. TensorRT-RTX (`gpu_visit_pack.sh rtx`) is too large for one
# journey of 64 MiB: each call puts its piece into $RTX_STORE, and the one that has both installs and proves it.
set -u
out=$1
asked=${2:-}
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
site=$work/site
store=${RTX_STORE:-/tmp/sarwater-rtx}
carried=${CARRIED:-.visit}
end=$((SECONDS + ${BUDGET_S:-540}))
export PYTHONPATH=$site:$PWD${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 SARWATER_CACHE=$work/cache PYTHONDONTWRITEBYTECODE=1
mkdir -p "$out" "$work/steps" "$site"
trap 'rm -rf "$work"' EXIT

step() { # NAME LIMIT_S COMMAND...
    local name=$1 limit_s=$(($2 * ${SLOWER:-1})) left_s=$((end - SECONDS)) started=$SECONDS code=0
    shift 2
    case " ${STEPS:-$name} " in *" $name "*) ;; *) return 0 ;; esac
    if [ "$left_s" -lt 5 ]; then
        printf '%-12s not begun: no time left\n' "$name" | tee -a "$out/visit.txt"
        return 1
    fi
    timeout --kill-after=5 "$((limit_s < left_s ? limit_s : left_s))" "$@" >"$work/steps/$name.txt" 2>&1 || code=$?
    printf '%-12s %s, %d s: %s\n' "$name" "$(ended "$code")" $((SECONDS - started)) "$(tail -n 1 "$work/steps/$name.txt" | cut -c-160)" |
        tee -a "$out/visit.txt"
    tar czf "$work/visit.tgz" -C "$work" steps && cp "$work/visit.tgz" "$out/visit.tgz.new" && mv "$out/visit.tgz.new" "$out/visit.tgz"
    return "$code"
}
ended() { case $1 in 0) echo ok ;; 124 | 137) echo 'over its limit' ;; *) echo "failed with $1" ;; esac; }
with() { command -v "$1" >/dev/null; }

machine() {
    nvidia-smi
    uname -a
    "$python" -VV
    nvcc --version || /usr/local/cuda/bin/nvcc --version
    "$python" -c '
from importlib import metadata
for package in sorted((one.name, one.version) for one in metadata.distributions() if one.name):
    print(*package)'
}
carried() { # a wheel is a zip file: pip need not be there, and wheels of other Pythons are left alone
    local version wheel
    version=$("$python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
    for wheel in "$carried"/*.whl; do
        case $wheel in
            *-"$version"-*.whl | *-none-any.whl | *-abi3-*.whl) "$python" -m zipfile -e "$wheel" "$site" ;;
            *) echo "not for $version: $wheel" ;;
        esac
    done
    ls "$site"
    [ -e "$site/pycuda" ] || "$python" -c 'import pycuda' || { echo "no PyCUDA for $version in $carried: PYTHON=python${version/cp3/3.} benchmarks/gpu_visit_pack.sh"; return 1; }
}
open_device() {
    "$python" -c '
from runtime.backends.gpu.cuda import CudaDevice
from runtime.backends.gpu.kernels.compile import compilers
print([compiler.name for compiler in compilers()])
device = CudaDevice()
print(device.name, device.compute_capability, f"{device.free_bytes() / 2**30:.1f} GiB free")
device.close()'
}
export -f machine carried open_device
export python site carried

: >"$out/visit.txt"
step machine 30 bash -c machine
step carried 60 bash -c carried
step open 60 bash -c open_device || echo 'the GPU does not open: the steps that need it will say the same' >>"$out/visit.txt"
step kernels 90 "$python" -m tests.gpu.random_scenes "${SCENES:-60}"
step scenes 150 "$python" -m pytest -v --tb=short -p no:cacheprovider -m gpu tests/gpu
step bandwidth 60 "$python" -m benchmarks.gpu_kernels --size "${KERNEL_SIZE:-27000x6000}" --json "$work/steps/bandwidth.json"
step pipeline 90 "$python" -m benchmarks.gpu_pipeline --model "${MODEL:-hrnet}" --tile "${TILE_PX:-1024}" \
    --size "${SCENE_SIZE:-27000x27000}" --json "$work/steps/pipeline.json"
step peers 180 "$python" -m benchmarks.gpu_peers --peers torch,eager,compile --batch 1,8 --rounds "${ROUNDS:-3}" --limit 90 \
    --model "${MODEL:-hrnet}" --tile "${TILE_PX:-1024}" --json "$work/steps/peers.json" --markdown "$work/steps/peers.md"
if with compute-sanitizer; then
    step memcheck 90 compute-sanitizer --tool memcheck --error-exitcode 9 "$python" -m tests.gpu.random_scenes 3
    step racecheck 90 compute-sanitizer --tool racecheck --error-exitcode 9 "$python" -m tests.gpu.random_scenes 2
fi
step training 60 "$python" -m benchmarks.gpu_training ${TRAINING:-}

if compgen -G "$carried/rtx.part?" >/dev/null; then
    mkdir -p "$store" && cp "$carried"/rtx.part? "$store/"
fi
if [ -e "$store/rtx.part0" ] && [ -e "$store/rtx.part1" ]; then
    unpacked() { cat "$store"/rtx.part? | tar x -C "$work" && for wheel in "$work"/rtx/*.whl; do "$python" -m zipfile -e "$wheel" "$site"; done; }
    export -f unpacked && export store work
    step rtx 90 bash -c unpacked &&
        step rtx-scenes 120 "$python" -m pytest -v --tb=short -p no:cacheprovider -m gpu tests/gpu -k engine
fi
if [ "$asked" = recipe ]; then
    end=$((SECONDS + 660))
    step recipe 600 "$python" -m sarwater fit --recipe hrnet --data "${DATA:?a folder of labelled scenes}" -o "$out/run"
fi
[ "$(grep -cE ' (failed with|over its limit)' "$out/visit.txt")" = 0 ]
