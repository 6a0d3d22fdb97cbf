"""What U-Net and DeepUNet are made of, and how fresh weights start."""

from __future__ import annotations

from torch import nn


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
