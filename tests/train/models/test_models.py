"""One tester for every network: a subclass names the variant and says what is special about it."""

from __future__ import annotations

import pytest
import torch

from sarwater.errors import UsageError
from sarwater.manifest import Channel
from train.models import Architecture, Segmenter, architecture

SAR = Channel("sar", "amplitude_dn")
GIM = Channel("gim", "incidence_dn")


class NetworkTester:
    """What holds for every network. Subclasses fill in the class attributes."""

    name: str
    stride_px: int
    parameters: int | None = None
    """Published size for one channel without normalisation layers; None where none is published."""
    device = "cpu"
    """`meta` (shapes without numbers) for variants that would only repeat a smaller one's code, slowly."""

    def build(self, channels: int = 1) -> Segmenter:
        torch.manual_seed(0)
        with torch.device(self.device):
            return Segmenter(architecture(self.name, (SAR, GIM, SAR)[:channels])).train()

    def amplitude(self, channels: int = 1) -> torch.Tensor:
        return torch.rand(2, channels, self.stride_px, 2 * self.stride_px, device=self.device) * 200

    @pytest.mark.parametrize("channels", [1, 2, 3])
    def test_gives_one_logit_per_pixel_for_one_to_three_channels(self, channels: int) -> None:
        with torch.device("meta"):
            segmenter = Segmenter(architecture(self.name, (SAR, GIM, SAR)[:channels]))
            logits = segmenter.logits(torch.zeros(2, channels, self.stride_px, 2 * self.stride_px))
        assert logits.shape == (2, 1, self.stride_px, 2 * self.stride_px)

    def test_starts_undecided_and_every_parameter_takes_part(self) -> None:
        segmenter = self.build()
        water = segmenter(self.amplitude())
        water.square().mean().backward()
        assert all(p.grad is not None for p in segmenter.parameters())
        if self.device == "cpu":
            assert (water - 0.5).abs().max() < 0.4
            assert all(p.grad.isfinite().all() for p in segmenter.parameters())

    def test_has_the_published_number_of_parameters(self) -> None:
        if self.parameters is None:
            pytest.skip("no figure is published for this variant")
        with torch.device("meta"):
            net = Segmenter(architecture(self.name, batch_norm=False))
        assert sum(p.numel() for p in net.parameters()) == self.parameters

    def test_is_rebuilt_from_its_description(self) -> None:
        arch = architecture(self.name, (SAR, GIM))
        assert Architecture.from_dict(arch.to_dict()) == arch

    def test_proposes_the_padding_for_a_size_it_cannot_take(self) -> None:
        side = self.stride_px
        with torch.device("meta"), pytest.raises(ValueError, match=f"pad it to {2 * side} x {side}"):
            Segmenter(architecture(self.name))(torch.zeros(1, 1, side + 1, side))

    def test_refuses_another_number_of_channels(self) -> None:
        with torch.device("meta"), pytest.raises(ValueError, match="takes 1: sar"):
            Segmenter(architecture(self.name))(torch.zeros(1, 2, self.stride_px, self.stride_px))


class TestUNetW64(NetworkTester):
    name, stride_px, parameters, device = "unet-w64", 16, 31_377_793, "meta"


class TestUNetW32(NetworkTester):
    name, stride_px, device = "unet-w32", 16, "meta"


class TestUNetW16(NetworkTester):
    name, stride_px = "unet-w16", 16


class TestDeepUNet(NetworkTester):
    name, stride_px, parameters = "deepunet", 128, 2_777_537


class TestFCNVgg16(NetworkTester):
    name, stride_px, parameters = "fcn-vgg16", 32, 142_738_883


class TestFCNVgg19(NetworkTester):
    name, stride_px, parameters, device = "fcn-vgg19", 32, 148_048_579, "meta"


class TestHRNetW48(NetworkTester):
    name, stride_px, device = "hrnet-w48", 32, "meta"


class TestHRNetW32(NetworkTester):
    name, stride_px, device = "hrnet-w32", 32, "meta"


class TestHRNetW18(NetworkTester):
    name, stride_px, device = "hrnet-w18", 32, "meta"


class TestHRNetW18Small(NetworkTester):
    name, stride_px = "hrnet-w18-small", 32


def test_hrnet_w48_is_as_large_as_the_official_one() -> None:
    # 65.8 M parameters with 19 classes (HRNet-Semantic-Segmentation's README); ours has one.
    with torch.device("meta"):
        net = Segmenter(architecture("hrnet-w48"))
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 1) == 65.8


def test_a_family_alone_means_its_default_variant() -> None:
    assert architecture("hrnet").name == "hrnet-w18-small"
    assert architecture("deepunet").name == "deepunet"


@pytest.mark.parametrize(
    ("name", "choices"), [("resnet", "fcn, unet, deepunet, hrnet"), ("unet-w8", "unet-w64, unet-w32, unet-w16")]
)
def test_an_unknown_name_lists_the_choices(name: str, choices: str) -> None:
    with pytest.raises(UsageError, match=choices):
        architecture(name)


def test_hrnet_cannot_go_without_normalisation() -> None:
    with pytest.raises(UsageError, match="fcn, unet or deepunet"):
        architecture("hrnet", batch_norm=False)
