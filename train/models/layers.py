"""What several networks are made of, and how fresh weights start."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def conv_relu(inputs: int, outputs: int, kernel: int, *, normalise: bool) -> nn.Sequential:
    """A padded convolution and its ReLU; the image keeps its size.

    With `normalise`, batch normalisation stands between them and takes over the convolution's bias. An even kernel is
    padded at the bottom and the right, as Keras does.
    """
    before, after = (kernel - 1) // 2, kernel // 2
    layers: list[nn.Module] = [] if before == after else [nn.ZeroPad2d((before, after, before, after))]
    padding = before if before == after else 0
    layers.append(nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=not normalise))
    if normalise:
        layers.append(nn.BatchNorm2d(outputs))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))


def enlarge_plane(plane: Tensor, factor: int) -> Tensor:
    """(N, 1, h, w) -> (N, 1, factor h, factor w), bilinear, corners not aligned.

    The same as functional.interpolate, as sums of whole shifted planes, one for each position within a pixel, that are
    then shuffled together: OpenVINO interpolates a single channel ten times slower, and some of the largest planes of
    a network have one.
    """
    steps = [(position + 0.5) / factor - 0.5 for position in range(factor)]
    for axis in (3, 2):
        whole = (slice(None),) * axis
        parts = [(*whole, part) for part in (slice(1), slice(-1), slice(1, None), slice(-1, None))]
        first, all_but_last, all_but_first, last = (plane[part] for part in parts)
        before = torch.cat([first, all_but_last], axis) - plane
        after = torch.cat([all_but_first, last], axis) - plane
        plane = torch.cat([plane + abs(step) * (before if step < 0 else after) for step in steps], 1)
    return nn.functional.pixel_shuffle(plane, factor)


def initialise(net: nn.Module, head: nn.Conv2d | nn.ConvTranspose2d) -> None:
    """He's initialisation for every convolution (He et al., ICCV 2015); the head starts undecided, not certain."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.normal_(head.weight, std=0.01)
    if head.bias is not None:
        nn.init.zeros_(head.bias)
