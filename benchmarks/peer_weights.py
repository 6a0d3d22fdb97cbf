"""The ONNX model as TorchScript, for the plain PyTorch peer: python -m benchmarks.peer_weights MODEL.onnx OUTPUT.pt.

Runs in the peers' environment, which has torch and onnx, before anything is timed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from export.to_onnx import state_dict_from_onnx
from train.models import Segmenter


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    architecture, tensors = state_dict_from_onnx(source)
    segmenter = Segmenter(architecture)
    segmenter.net.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()})
    with torch.inference_mode():
        example = torch.zeros(1, len(architecture.channels), 256, 256)
        torch.jit.trace(segmenter.eval(), example).save(str(target))


if __name__ == "__main__":
    main()
