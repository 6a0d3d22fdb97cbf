"""The ONNX model as TorchScript, for the plain PyTorch peer: python -m benchmarks.peer_weights MODEL.onnx OUTPUT.pt.

Runs in the peers' environment, which has torch and onnx, before anything is timed.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from export.from_onnx import segmenter_from_onnx


def main() -> None:
    source, target = map(Path, sys.argv[1:])
    segmenter = segmenter_from_onnx(source)
    with torch.inference_mode(), warnings.catch_warnings():
        # The tracer warns of Python numbers that it takes as fixed: scale factors and kernel sizes, which are.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        example = torch.zeros(1, len(segmenter.arch.channels), 256, 256)
        torch.jit.trace(segmenter, example).save(str(target))


if __name__ == "__main__":
    main()
