"""HRNet: parallel branches at 1/4, 1/8, 1/16 and 1/32 of the input, exchanged after every module.

Wang et al., "Deep High-Resolution Representation Learning for Visual Recognition", TPAMI 2020. The tensor names are
those of the official HRNet-Semantic-Segmentation code, so that its checkpoints load. Two things differ, on purpose:

- one logit instead of two class scores (softmax over two equals a sigmoid of their difference);
- bilinear upsampling never aligns corners: aligned corners shift the grid by an amount that depends on the window,
  which shows as a seam between tiles, and ONNX runtimes disagree on it (onnx-tensorrt#457).

`w18-small` is the official "W18_small_v1" (16 to 128 channels, 1.5 M parameters).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from train.models.layers import enlarge_plane


@dataclass(frozen=True)
class Layout:
    """Width and depth of a variant, per stage 1 to 4 as in the official configuration files."""

    stem_blocks: int
    stem_channels: int
    width: int
    """Channels of the 1/4 branch; each branch below has twice as many."""
    modules: tuple[int, int, int]
    blocks: int


LAYOUTS = {
    "w48": Layout(stem_blocks=4, stem_channels=64, width=48, modules=(1, 4, 3), blocks=4),
    "w32": Layout(stem_blocks=4, stem_channels=64, width=32, modules=(1, 4, 3), blocks=4),
    "w18": Layout(stem_blocks=4, stem_channels=64, width=18, modules=(1, 4, 3), blocks=4),
    "w18-small": Layout(stem_blocks=1, stem_channels=32, width=16, modules=(1, 1, 1), blocks=2),
}


class HRNet(nn.Module):
    """(N, C, H, W) float32 -> logit of water (N, 1, H, W) float32; H and W multiples of 32."""

    def __init__(self, variant: str, channels: int = 1, *, normalise: bool = True) -> None:
        super().__init__()
        layout = LAYOUTS[variant]
        widths = [layout.width << branch for branch in range(4)]
        self.conv1 = nn.Conv2d(channels, 64, 3, stride=2, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _bottlenecks(layout.stem_blocks, layout.stem_channels)
        before = [layout.stem_channels * Bottleneck.expansion]
        for stage, modules in enumerate(layout.modules, start=2):
            now = widths[:stage]
            setattr(self, f"transition{stage - 1}", _transition(before, now))
            setattr(self, f"stage{stage}", nn.Sequential(*(Exchange(now, layout.blocks) for _ in range(modules))))
            before = now
        total = sum(widths)
        head = nn.Conv2d(total, 1, 1)
        self.last_layer = nn.Sequential(nn.Conv2d(total, total, 1), nn.BatchNorm2d(total), nn.ReLU(inplace=True), head)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(head.weight, std=0.01)  # start undecided, not certain
        if head.bias is not None:
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))  # (N, 64, H/2, W/2)
        x = self.relu(self.bn2(self.conv2(x)))  # (N, 64, H/4, W/4)
        branches = [self.layer1(x)]  # [(N, 4 * stem_channels, H/4, W/4)]
        for stage in (2, 3, 4):
            transition = getattr(self, f"transition{stage - 1}")
            # A new branch starts from the coarsest one so far; an old one goes on, convolved if its width changes.
            branches = [
                branches[min(i, len(branches) - 1)] if step is None else step(branches[min(i, len(branches) - 1)])
                for i, step in enumerate(transition)
            ]
            branches = getattr(self, f"stage{stage}")(branches)
        finest = branches[0]
        x = torch.cat([finest, *(_enlarge(b, 2**i) for i, b in enumerate(branches[1:], start=1))], dim=1)
        return enlarge_plane(self.last_layer(x), 4)  # (N, 1, H, W)


class BasicBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if inputs != outputs:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return self.relu(self.bn3(self.conv3(y)) + shortcut)


class Exchange(nn.Module):
    """One module: some blocks on every branch, then every branch receives the sum of all, brought to its size."""

    def __init__(self, widths: list[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Sequential(*(BasicBlock(width) for _ in range(blocks))) for width in widths)
        self.fuse_layers = nn.ModuleList(
            _modules(_exchange(widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        branches = [blocks(x) for blocks, x in zip(self.branches, branches, strict=True)]
        fused = []
        rows: Any = self.fuse_layers
        for target, row in enumerate(rows):
            total = None
            for source, (step, x) in enumerate(zip(row, branches, strict=True)):
                part = x if source == target else step(x)
                if source > target:
                    part = _enlarge(part, 2 ** (source - target))
                total = part if total is None else total + part
            fused.append(self.relu(total))
        return fused


def _exchange(widths: list[int], source: int, target: int) -> nn.Module | None:
    """What brings branch `source` to the width (and, downwards, the size) of branch `target`."""
    if source == target:
        return None
    if source > target:  # coarse to fine: width here, size by _enlarge
        return _conv_bn(widths[source], widths[target], 1)
    steps = [_conv_bn_relu(widths[source], widths[source], 2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, _conv_bn(widths[source], widths[target], 3, stride=2))


def _transition(before: list[int], now: list[int]) -> nn.ModuleList:
    """What turns the branches of one stage into those of the next, which has one more."""
    kept = [None if old == new else _conv_bn_relu(old, new, 1) for old, new in zip(before, now, strict=False)]
    return _modules([*kept, nn.Sequential(_conv_bn_relu(before[-1], now[-1], 2))])


def _modules(modules: Iterable[nn.Module | None]) -> nn.ModuleList:
    """None stands for a branch that stays as it is, and keeps the names of the others those of the official weights."""
    return nn.ModuleList(modules)  # type: ignore[arg-type]


def _bottlenecks(count: int, channels: int) -> nn.Sequential:
    outputs = channels * Bottleneck.expansion
    return nn.Sequential(Bottleneck(64, channels), *(Bottleneck(outputs, channels) for _ in range(count - 1)))


def _conv_bn(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _conv_bn_relu(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(*_conv_bn(inputs, outputs, 3, stride), nn.ReLU(inplace=True))


def _enlarge(x: Tensor, factor: int) -> Tensor:
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)
