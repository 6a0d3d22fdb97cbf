"""FCN-8s: the convolutions of VGG, its dense layers as convolutions, and three learnt enlargements with skips.

Long et al., "Fully Convolutional Networks for Semantic Segmentation", CVPR 2015, in the form of the reference
implementation. `features` has the layout and the tensor names of torchvision's VGG, so that its weights load:
`vgg16` without normalisation, `vgg16_bn` with it; `conv6` and `conv7` are `classifier.0` and `classifier.3`.

Two things differ, on purpose: `conv6` is padded, so that the answer covers the whole tile; and batch normalisation
follows each convolution of the encoder, `conv6` and `conv7` included, because without it the sixteen layers learn only
from ImageNet weights. The convolutions keep their bias beside it, as torchvision's do.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from train.models.layers import initialise

VARIANTS = {"vgg16": ((2, 2, 3, 3, 3), 64), "vgg19": ((2, 2, 4, 4, 4), 64), "vgg16-w8": ((2, 2, 3, 3, 3), 8)}
"""Convolutions before each of the five halvings, and channels at full resolution; `w8` has an eighth of VGG's
everywhere, and so a sixty-fourth of its 143 million parameters."""
WIDENING = (1, 2, 4, 8, 8)
DENSE = 64
"""Channels of conv6 and conv7, over those at full resolution."""


class FCN(nn.Module):
    """(N, C, H, W) float32 -> logit of water (N, 1, H, W) float32; H and W multiples of 32."""

    def __init__(self, variant: str, channels: int = 1, *, normalise: bool = True) -> None:
        super().__init__()
        depths, finest = VARIANTS[variant]
        widths = [finest * widening for widening in WIDENING]
        dense = finest * DENSE
        layers: list[nn.Module] = []
        width = channels
        for depth, outputs in zip(depths, widths, strict=True):
            for _ in range(depth):
                layers += _conv(width, outputs, 3, normalise)
                width = outputs
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.conv6 = nn.Sequential(*_conv(width, dense, 7, normalise))
        self.conv7 = nn.Sequential(*_conv(dense, dense, 1, normalise))
        self.score = nn.Conv2d(dense, 2, 1)
        self.enlarge4 = nn.ConvTranspose2d(2, widths[3], 4, stride=2, padding=1)
        self.enlarge3 = nn.ConvTranspose2d(widths[3], widths[2], 8, stride=2, padding=3)
        self.head = nn.ConvTranspose2d(widths[2], 1, 16, stride=8, padding=4)
        initialise(self, self.head)
        for enlarge in (self.enlarge4, self.enlarge3):
            _keep_variance(enlarge)

    def forward(self, x: Tensor) -> Tensor:
        pools = []
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pools.append(x)  # (N, widths[i], H >> (i + 1), W >> (i + 1))
        x = self.score(self.conv7(self.conv6(x)))  # (N, 2, H/32, W/32)
        x = self.enlarge4(x) + pools[3]  # (N, widths[3], H/16, W/16)
        x = self.enlarge3(x) + pools[2]  # (N, widths[2], H/8, W/8)
        return self.head(x)  # (N, 1, H, W)


def _conv(inputs: int, outputs: int, kernel: int, normalise: bool) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
    norm = [nn.BatchNorm2d(outputs)] if normalise else []
    return [convolution, *norm, nn.ReLU(inplace=True)]


def _keep_variance(layer: nn.ConvTranspose2d) -> None:
    """Each output pixel of a transposed convolution sums inputs * (kernel / stride)^2 products, no more."""
    products = layer.in_channels * (layer.kernel_size[0] / layer.stride[0]) ** 2
    nn.init.normal_(layer.weight, std=1 / math.sqrt(products))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
