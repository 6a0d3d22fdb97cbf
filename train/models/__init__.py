"""The four families and their variants, and the network as everything outside training sees it: raw pixels in,
probability of water out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from sarwater.errors import UsageError
from sarwater.families import FAMILIES, model_name, parse_model
from sarwater.manifest import Channel
from train.models.preprocessing import CELL_PX, SCALES_PX, decibel, scale_planes

MAX_CHANNELS = 3


@dataclass(frozen=True)
class Normalisation:
    """How a channel becomes a number near -3..3: (f(x) - mean) / std, with f = 20 log10(max(x, 1)) if `decibel`."""

    decibel: bool
    mean: float
    std: float


NORMALISATIONS = {
    # Between the medians of water (24 dB) and land (35 dB) of the K5 tiles; nodata (0) comes out as the darkest pixel.
    "amplitude_dn": Normalisation(decibel=True, mean=30.0, std=10.0),
    "sigma0_db": Normalisation(decibel=False, mean=-12.0, std=6.0),
    "incidence_dn": Normalisation(decibel=False, mean=128.0, std=64.0),
}


def normalisations(channels: tuple[Channel, ...]) -> tuple[Normalisation, ...]:
    """Those of this version, for each channel by its unit."""
    return tuple(NORMALISATIONS[channel.unit] for channel in channels)


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network again; stored in every checkpoint."""

    family: str
    variant: str
    channels: tuple[Channel, ...]
    normalisation: tuple[Normalisation, ...]
    batch_norm: bool = True
    """False: as the reference implementation, which has it in HRNet only."""
    scales: bool = False
    """True: of each amplitude the network also sees means of several pixels, and the contrast with the surroundings."""

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the network's input planes: each channel, and what is made of it after that."""
        more = (*(f"mean of {side_px} px" for side_px in SCALES_PX), "contrast") if self.scales else ()
        return tuple(
            name
            for channel, norm in zip(self.channels, self.normalisation, strict=True)
            for name in (channel.name, *(f"{channel.name} {each}" for each in more if norm.decibel))
        )

    @property
    def name(self) -> str:
        return model_name(self.family, self.variant)

    @property
    def stride_px(self) -> int:
        """Height and width of the input are multiples of this."""
        stride_px = FAMILIES[self.family].stride_px
        return math.lcm(stride_px, CELL_PX) if self.scales else stride_px

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Architecture:
        """Raises UsageError for a network that only earlier versions can build."""
        if gone := [name for name in EARLIER if document.get(name)]:
            raise UsageError(
                f"a network with {gone[0].replace('_', ' ')} of an earlier version: it cannot be converted; export and "
                "run it with that version, or train it anew with `sarwater fit`"
            )
        return cls(
            document["family"],
            document["variant"],
            tuple(Channel(**item) for item in document["channels"]),
            tuple(Normalisation(**item) for item in document["normalisation"]),
            document.get("batch_norm", True),
            document.get("scales", False),
        )


EARLIER = ("contrast", "coarse", "level_control")
"""Parts of networks up to 0.1."""


def architecture(
    name: str,
    channels: tuple[Channel, ...] = (Channel("sar", "amplitude_dn"),),
    *,
    batch_norm: bool = True,
    scales: bool = False,
) -> Architecture:
    """`hrnet` (its default variant) or `hrnet-w48`. Raises ModelUnknown with the choices, UsageError."""
    family, variant = parse_model(name)
    if not 1 <= len(channels) <= MAX_CHANNELS:
        raise UsageError(f"{len(channels)} input channels; expected 1 to {MAX_CHANNELS}")
    if family.always_normalised and not batch_norm:
        raise UsageError(f"{family.name} without batch normalisation does not exist; expected another family")
    return Architecture(family.name, variant, channels, normalisations(channels), batch_norm, scales)


class Segmenter(nn.Module):
    """A network with its preprocessing: raw pixels (N, C, H, W) float32 in, logit or probability (N, 1, H, W) out.

    `net` holds the trained tensors under their official names; the preprocessing is part of the exported graph.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.net: Any = _family(arch)

    def logits(self, raw: Tensor) -> Tensor:
        if not torch._C._get_tracing_state():  # a tracer would take the check for part of the network
            self._check(raw)
        planes = []
        for index, norm in enumerate(self.arch.normalisation):
            channel = raw[:, index : index + 1] if raw.shape[1] > 1 else raw
            planes += self._planes(channel, norm)
        logits: Tensor = self.net(torch.cat(planes, dim=1) if len(planes) > 1 else planes[0])
        return logits  # (N, 1, H, W)

    def _planes(self, channel: Tensor, norm: Normalisation) -> list[Tensor]:
        """What the network sees of one channel, each (N, 1, H, W)."""
        if not norm.decibel:
            return [(channel - norm.mean) / norm.std]
        pixels = (decibel(channel) - norm.mean) / norm.std
        if not self.arch.scales:
            return [pixels]
        inside = (channel > 0).to(channel.dtype)
        return [pixels * inside, *scale_planes(channel, norm.mean, norm.std)]

    def forward(self, raw: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(raw))

    def _check(self, raw: Tensor) -> None:
        channels, height, width = raw.shape[1:]
        if channels != len(self.arch.channels):
            names = ", ".join(channel.name for channel in self.arch.channels)
            raise ValueError(
                f"input has {channels} channels, {self.arch.name} takes {len(self.arch.channels)}: {names}"
            )
        stride_px = self.arch.stride_px
        padded = [-(-side // stride_px) * stride_px for side in (height, width)]
        if padded != [height, width]:
            raise ValueError(
                f"input is {height} x {width} px, {self.arch.name} takes multiples of {stride_px}: "
                f"pad it to {padded[0]} x {padded[1]}"
            )


def _family(arch: Architecture) -> nn.Module:
    module, name = FAMILIES[arch.family].network.split(":")
    network: type[nn.Module] = getattr(import_module(module), name)
    return network(arch.variant, len(arch.planes), normalise=arch.batch_norm)
