"""The four families and their variants, and the network as everything outside training sees it: raw pixels in,
probability of water out."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from sarwater.errors import UsageError
from sarwater.families import FAMILIES, model_name, parse_model
from sarwater.manifest import Channel
from train.models import preprocessing
from train.models.layers import enlarge_plane, zeroed
from train.models.level import LevelEstimator, levelling_gain
from train.models.preprocessing import COARSE, CONTRAST_CELL_PX, SPECKLE_CELL_PX

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
    contrast: bool = False
    """True: the network also sees decibels above the local mean of the first channel, which must be an amplitude."""
    coarse: bool = False
    """True: the network answers at a quarter of the resolution, too, and a gate weighs the two answers."""
    level_control: bool = False
    """True: how far windows of several looks lie off their usual level is estimated and taken away before the fine
    answer, so that a calibration that is off by a few decibels changes little; with `coarse` only."""

    @property
    def planes(self) -> tuple[str, ...]:
        """Names of the network's input planes: the channels, and the contrast."""
        return (*(channel.name for channel in self.channels), *(["contrast"] if self.contrast else []))

    @property
    def name(self) -> str:
        return model_name(self.family, self.variant)

    @property
    def stride_px(self) -> int:
        """Height and width of the input are multiples of this."""
        stride_px = FAMILIES[self.family].stride_px
        if self.contrast:
            stride_px = math.lcm(stride_px, CONTRAST_CELL_PX)
        return math.lcm(COARSE * stride_px, COARSE * SPECKLE_CELL_PX) if self.coarse else stride_px

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Architecture:
        return cls(
            document["family"],
            document["variant"],
            tuple(Channel(**item) for item in document["channels"]),
            tuple(Normalisation(**item) for item in document["normalisation"]),
            document.get("batch_norm", True),
            document.get("contrast", False),
            document.get("coarse", False),
            document.get("level_control", False),
        )


def architecture(
    name: str,
    channels: tuple[Channel, ...] = (Channel("sar", "amplitude_dn"),),
    *,
    batch_norm: bool = True,
    contrast: bool = False,
    coarse: bool = False,
    level_control: bool = False,
) -> Architecture:
    """`hrnet` (its default variant) or `hrnet-w48`. Raises ModelUnknown with the choices, UsageError."""
    family, variant = parse_model(name)
    if not 1 <= len(channels) <= MAX_CHANNELS:
        raise UsageError(f"{len(channels)} input channels; expected 1 to {MAX_CHANNELS}")
    if family.always_normalised and not batch_norm:
        raise UsageError(f"{family.name} without batch normalisation does not exist; expected another family")
    norms = normalisations(channels)
    if level_control and not coarse:
        raise UsageError("--level-control goes by the coarse answer; expected --coarse with it")
    for wanted, feature in ((contrast, "contrast"), (coarse, "the coarse answer")):
        if wanted and not norms[0].decibel:
            raise UsageError(
                f"{feature} needs an amplitude as the first channel; {channels[0].name} is {channels[0].unit}"
            )
    return Architecture(family.name, variant, channels, norms, batch_norm, contrast, coarse, level_control)


class Segmenter(nn.Module):
    """A network with its preprocessing: raw pixels (N, C, H, W) float32 in, logit or probability (N, 1, H, W) out.

    `net` holds the trained tensors under their official names, a gate where there are two answers, and what estimates
    the level; the preprocessing is part of the exported graph.
    """

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.arch = arch
        self.net: Any = _network(arch)

    def logits(self, raw: Tensor) -> Tensor:
        if not torch._C._get_tracing_state():  # a tracer would take the check for part of the network
            self._check(raw)
        if not self.arch.coarse:
            return self._answer(raw)
        coarse_raw, speckle, coarse = self._coarse_answer(raw)
        gain = None
        if self.arch.level_control:
            gain = levelling_gain(self.net.level(coarse_raw[:, :1], coarse, speckle), speckle)
        fine, coarse = self._answer(raw, gain), enlarge_plane(coarse, COARSE)
        return coarse + self._gate(fine, coarse, speckle) * (fine - coarse)  # (N, 1, H, W)

    def off_level_db(self, raw: Tensor) -> Tensor:
        """By how many decibels each window is brighter than it should be, as the network estimates it, (N, 1, 1, 1)."""
        coarse_raw, speckle, coarse = self._coarse_answer(raw)
        off_db: Tensor = self.net.level(coarse_raw[:, :1], coarse, speckle)
        return off_db

    def _coarse_answer(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Means of COARSE x COARSE pixels, their speckle, and the logit at their resolution."""
        coarse_raw = self._coarse(raw)
        speckle = preprocessing.speckle(raw[:, :1], coarse_raw[:, :1])
        return coarse_raw, speckle, self._answer(coarse_raw, against_all=True)

    def _answer(self, raw: Tensor, gain: Tensor | None = None, *, against_all: bool = False) -> Tensor:
        """Logit at the resolution of `raw`, (N, 1, H, W), whose amplitudes are first multiplied by `gain`,
        (N, 1, 1, 1); `against_all`: the contrast is that with all of `raw`."""
        planes = []
        for index, norm in enumerate(self.arch.normalisation):
            plane = raw[:, index : index + 1] if raw.shape[1] > 1 else raw
            if norm.decibel:
                plane = preprocessing.decibel(plane if gain is None else plane * gain)
            if self.arch.contrast and index == 0:
                contrast = preprocessing.contrast(plane, (plane > 0).to(plane.dtype), against_all=against_all)
            planes.append((plane - norm.mean) / norm.std)
        if self.arch.contrast:
            planes.append(contrast)
        return self.net(torch.cat(planes, dim=1) if len(planes) > 1 else planes[0])

    def _coarse(self, raw: Tensor) -> Tensor:
        """Means of COARSE x COARSE pixels, (N, C, H / COARSE, W / COARSE); those of amplitudes, of the valid ones."""
        mean = functional.avg_pool2d(raw, COARSE)
        valid = functional.avg_pool2d((raw > 0).to(raw.dtype), COARSE)
        amplitudes = [norm.decibel for norm in self.arch.normalisation]
        share = valid.clamp(min=1.0 / COARSE**2)
        if all(amplitudes):
            return mean / share
        planes = [
            mean[:, i : i + 1] / share[:, i : i + 1] if yes else mean[:, i : i + 1] for i, yes in enumerate(amplitudes)
        ]
        return torch.cat(planes, dim=1)

    def _gate(self, fine: Tensor, coarse: Tensor, speckle: Tensor) -> Tensor:
        """How far to believe the fine answer, 0 to 1, (N, 1, H, W): by both answers and by the speckle."""
        around = functional.interpolate(
            functional.avg_pool2d(speckle, SPECKLE_CELL_PX),
            scale_factor=float(SPECKLE_CELL_PX),
            mode="bilinear",
            align_corners=False,
        )
        answers = [functional.avg_pool2d(answer, COARSE) for answer in (fine, coarse)]
        gate = self.net.gate(torch.cat([*answers, speckle, around], dim=1))
        return torch.sigmoid(enlarge_plane(gate, COARSE))

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


def _network(arch: Architecture) -> nn.Module:
    net = _family(arch)
    if arch.coarse:  # inside `net`, so that all trained tensors are in one place
        net.add_module("gate", _gate_network())
    if arch.level_control:
        net.add_module("level", LevelEstimator())
    return net


def _gate_network() -> nn.Module:
    """(N, 4, h, w): two answers, speckle and its mean around -> logit of the fine answer's weight, (N, 1, h, w).

    At first that is the mean of both."""
    return nn.Sequential(nn.Conv2d(4, 16, 3, padding=1), nn.ReLU(inplace=True), zeroed(nn.Conv2d(16, 1, 1)))


def _family(arch: Architecture) -> nn.Module:
    module, name = FAMILIES[arch.family].network.split(":")
    network: type[nn.Module] = getattr(import_module(module), name)
    return network(arch.variant, len(arch.planes), normalise=arch.batch_norm)
