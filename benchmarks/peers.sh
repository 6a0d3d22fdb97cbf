#!/usr/bin/env bash
# Three ways in which people usually run a network over a scene, beside ours, on one scene in one run:
#
#   benchmarks/peers.sh [--model MODEL] [--size WxH]
#
# Makes benchmarks/.venv-peers once (TORCH chooses the PyTorch to install) and runs benchmarks/peers.py. PYTHON is the
# interpreter of sarwater's own environment.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=benchmarks/.venv-peers
if [ ! -e "$environment/ready" ]; then
    python3 -m venv "$environment"
    "$environment/bin/python" -m pip --quiet --disable-pip-version-check install \
        "${TORCH:-torch==2.13.0}" numpy onnx onnxruntime rasterio safetensors torchgeo requests
    touch "$environment/ready"
fi
exec "${PYTHON:-.venv/bin/python}" -m benchmarks.peers --peers "$environment/bin/python" "$@"
