"""One tester for every network: a subclass names the variant and says what is special about it."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from torch.nn import functional

from sarwater.errors import UsageError
from sarwater.manifest import Channel
from train.models import Architecture, Segmenter, architecture
from train.models.layers import enlarge_plane

SAR = Channel("sar", "amplitude_dn")
GIM = Channel("gim", "incidence_dn")


@cache
def outline(name: str, channels: int = 1) -> Segmenter:
    """The network without numbers: enough for shapes, and quick to build."""
    with torch.device("meta"):
        return Segmenter(architecture(name, (SAR, GIM, SAR)[:channels]))


def blank(channels: int, height_px: int, width_px: int) -> torch.Tensor:
    return torch.zeros(2, channels, height_px, width_px, device="meta")


class NetworkTester:
    """What holds for every network; a subclass names one."""

    name: str
    stride_px: int

    def test_gives_one_logit_per_pixel(self) -> None:
        logits = outline(self.name).logits(blank(1, self.stride_px, 2 * self.stride_px))
        assert logits.shape == (2, 1, self.stride_px, 2 * self.stride_px)

    def test_is_rebuilt_from_its_description(self) -> None:
        arch = architecture(self.name, (SAR, GIM))
        assert Architecture.from_dict(arch.to_dict()) == arch

    def test_proposes_the_padding_for_a_size_it_cannot_take(self) -> None:
        side = self.stride_px
        with pytest.raises(ValueError, match=f"pad it to {2 * side} x {side}"):
            outline(self.name).logits(blank(1, side + 1, side))

    def test_refuses_another_number_of_channels(self) -> None:
        with pytest.raises(ValueError, match="takes 1: sar"):
            outline(self.name).logits(blank(2, self.stride_px, self.stride_px))


class SmallestTester(NetworkTester):
    """The same for the variant of a family that is quick enough to run, and what only running shows."""

    @pytest.mark.parametrize("channels", [2, 3])
    def test_takes_up_to_three_channels(self, channels: int) -> None:
        logits = outline(self.name, channels).logits(blank(channels, self.stride_px, self.stride_px))
        assert logits.shape == (2, 1, self.stride_px, self.stride_px)

    def test_starts_undecided_and_every_parameter_takes_part(self) -> None:
        torch.manual_seed(0)
        segmenter = Segmenter(architecture(self.name)).train()
        water = segmenter(torch.rand(2, 1, self.stride_px, 2 * self.stride_px) * 200)
        water.square().mean().backward()
        assert (water - 0.5).abs().max() < 0.4
        assert all(p.grad is not None and p.grad.isfinite().all() for p in segmenter.parameters())


class TestUNetW64(NetworkTester):
    name, stride_px = "unet-w64", 16


class TestUNetW32(NetworkTester):
    name, stride_px = "unet-w32", 16


class TestUNetW16(SmallestTester):
    name, stride_px = "unet-w16", 16


class TestDeepUNet(SmallestTester):
    name, stride_px = "deepunet", 128


class TestFCNVgg19(NetworkTester):
    name, stride_px = "fcn-vgg19", 32


class TestFCNVgg16(NetworkTester):
    name, stride_px = "fcn-vgg16", 32


class TestFCNVgg16W8(SmallestTester):
    name, stride_px = "fcn-vgg16-w8", 32


class TestHRNetW48(NetworkTester):
    name, stride_px = "hrnet-w48", 32


class TestHRNetW32(NetworkTester):
    name, stride_px = "hrnet-w32", 32


class TestHRNetW18(NetworkTester):
    name, stride_px = "hrnet-w18", 32


class TestHRNetW18Small(SmallestTester):
    name, stride_px = "hrnet-w18-small", 32


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("unet-w64", 31_377_793), ("deepunet", 2_777_537), ("fcn-vgg16", 142_738_883), ("fcn-vgg19", 148_048_579)],
)
def test_without_normalisation_the_net_has_the_published_number_of_parameters(name: str, parameters: int) -> None:
    with torch.device("meta"):
        net = Segmenter(architecture(name, batch_norm=False))
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_the_small_fcn_is_a_file_of_at_most_10_mb() -> None:
    assert 4 * sum(p.numel() for p in outline("fcn-vgg16-w8").parameters()) < 10e6


def test_hrnet_w48_is_as_large_as_the_official_one() -> None:
    # 65.8 M parameters with 19 classes (HRNet-Semantic-Segmentation's README); ours has one.
    assert round(sum(p.numel() for p in outline("hrnet-w48").parameters()) / 1e6, 1) == 65.8


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
    with pytest.raises(UsageError, match="expected another family"):
        architecture("hrnet", batch_norm=False)


def seen_by(arch: Architecture, raw: torch.Tensor) -> torch.Tensor:
    """The planes that the network itself gets."""
    segmenter = Segmenter(arch)
    planes: list[torch.Tensor] = []
    segmenter.net.forward = lambda x: planes.append(x) or x[:, :1]  # type: ignore[method-assign, func-returns-value]
    segmenter.logits(raw)
    return planes[0]


SCALES = architecture("hrnet-w18-small", scales=True)


def speckled(level_dn: float = 100.0, height_px: int = 320, width_px: int = 320) -> torch.Tensor:
    """Single-look amplitude of one level, (1, 1, height_px, width_px)."""
    power = np.random.default_rng(0).exponential(level_dn**2, (1, 1, height_px, width_px))
    return torch.from_numpy(np.maximum(np.sqrt(power), 1)).float()


def test_means_of_more_pixels_have_less_speckle() -> None:
    pixels, fine, coarse, _ = seen_by(SCALES, speckled())[0]
    assert pixels.std() > 2 * fine.std() > 4 * coarse.std()
    assert coarse.mean().item() == pytest.approx((20 * np.log10(100) - 30) / 10, abs=0.02)


def test_contrast_is_the_same_whatever_the_calibration() -> None:
    once, twice = (seen_by(SCALES, gain * speckled(height_px=128, width_px=160))[0] for gain in (1, 2))
    torch.testing.assert_close(once[3], twice[3], atol=1e-4, rtol=0)
    assert [(after - before).mean().item() for before, after in zip(once[:3], twice[:3], strict=True)] == pytest.approx(
        [20 * np.log10(2) / 10] * 3, abs=0.01
    )


def test_a_dark_lake_stands_out_of_its_surroundings() -> None:
    raw = torch.full((1, 1, 320, 320), 100.0)
    raw[..., 144:176, 144:176] = 50.0
    contrast = seen_by(SCALES, raw)[0, 3]
    assert contrast[160, 160].item() == pytest.approx(-20 * np.log10(2) / 5, abs=0.05)
    assert contrast[20, 20].abs() < 0.05


def test_what_was_not_measured_is_nothing_to_the_network_and_changes_nothing_beside_it() -> None:
    raw = torch.full((1, 1, 320, 320), 100.0)
    whole = seen_by(SCALES, raw)
    raw[..., 288:] = 0
    cut = seen_by(SCALES, raw)
    assert cut[..., 288:].abs().max() == 0
    torch.testing.assert_close(cut[..., :272], whole[..., :272], atol=1e-4, rtol=0)
    assert cut[..., :288].isfinite().all()


def test_incidence_angles_are_seen_once() -> None:
    arch = architecture("unet-w16", (SAR, GIM), scales=True)
    assert arch.planes == ("sar", "sar mean of 4 px", "sar mean of 16 px", "sar contrast", "gim")
    assert seen_by(arch, torch.full((1, 2, 64, 64), 128.0))[0, 4].abs().max() == 0
    assert arch.stride_px == 32


def test_a_network_of_an_earlier_version_says_that_it_cannot_be_converted() -> None:
    document = SCALES.to_dict() | {"coarse": True}
    with pytest.raises(UsageError, match="earlier version: it cannot be converted"):
        Architecture.from_dict(document)


def test_scales_and_channels_survive_the_description() -> None:
    arch = architecture("hrnet", (SAR, GIM), scales=True)
    assert Architecture.from_dict(arch.to_dict()) == arch


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_plane_is_enlarged_as_by_bilinear_interpolation(factor: int) -> None:
    plane = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(plane, scale_factor=float(factor), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarge_plane(plane, factor), expected)
