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
from train.models.level import LevelEstimator, levelling_gain
from train.models.preprocessing import several_looks, speckle

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


class TestFCNVgg16(SmallestTester):
    name, stride_px = "fcn-vgg16", 32


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


def test_contrast_is_the_same_whatever_the_calibration() -> None:
    arch = architecture("hrnet-w18-small", contrast=True)
    raw = torch.rand(1, 1, 128, 160, generator=torch.Generator().manual_seed(0)) * 100 + 10
    once, twice = seen_by(arch, raw), seen_by(arch, 2 * raw)
    torch.testing.assert_close(once[:, 1], twice[:, 1], atol=1e-4, rtol=0)
    assert (twice[:, 0] - once[:, 0]).mean().item() == pytest.approx(20 * np.log10(2) / 10, abs=1e-4)


def test_a_dark_lake_stands_out_of_its_surroundings_and_nodata_does_not() -> None:
    raw = torch.full((1, 1, 320, 320), 100.0)
    raw[..., 150:170, 150:170] = 50.0
    raw[..., :, 300:] = 0
    contrast = seen_by(architecture("hrnet-w18-small", contrast=True), raw)[0, 1]
    assert contrast[160, 160].item() == pytest.approx(-20 * np.log10(2) / 5, abs=0.05)
    assert contrast[:, 300:].abs().max() == 0
    assert contrast[:, 290].abs().max() < 0.05, "the mean is that of the valid pixels"


def test_the_coarse_contrast_is_that_with_the_whole_input() -> None:
    """The fine one's mean ends some 150 px away: there, a step at the far end of a wide input changes nothing."""
    raw = torch.full((1, 1, 32, 1024), 100.0)
    raw[..., 768:] = 50.0
    raw[..., :64] = 0
    segmenter = Segmenter(architecture("hrnet-w18-small", contrast=True, coarse=True))
    planes: list[torch.Tensor] = []
    segmenter.net.forward = lambda x: planes.append(x) or x[:, :1]  # type: ignore[method-assign, func-returns-value]
    segmenter._answer(raw)
    segmenter._answer(raw, against_all=True)
    fine, coarse = (seen[0, 1] for seen in planes)
    halved_db = 20 * np.log10(2)
    assert fine[16, 300].abs() < 1e-4
    # 704 valid columns at one level, 256 at another
    torch.testing.assert_close(coarse[16, 64:768], torch.full((704,), halved_db * 256 / 960 / 5), atol=1e-4, rtol=0)
    assert coarse[16, 800].item() == pytest.approx(-halved_db * 704 / 960 / 5, abs=1e-4)
    assert coarse[:, :64].abs().max() == 0


def test_contrast_needs_an_amplitude() -> None:
    with pytest.raises(UsageError, match="amplitude"):
        architecture("hrnet", (GIM, SAR), contrast=True)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_plane_is_enlarged_as_by_bilinear_interpolation(factor: int) -> None:
    plane = torch.randn(2, 1, 5, 7, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(plane, scale_factor=float(factor), mode="bilinear", align_corners=False)
    torch.testing.assert_close(enlarge_plane(plane, factor), expected)


def test_the_coarse_answer_begins_with_as_much_weight_as_the_fine_one() -> None:
    arch = architecture("hrnet-w18-small", contrast=True, coarse=True)
    assert arch.stride_px == 128
    segmenter = Segmenter(arch).eval()
    raw = torch.rand(1, 1, 256, 128, generator=torch.Generator().manual_seed(0)) * 100 + 10
    means = functional.avg_pool2d(raw, 4)
    with torch.no_grad():
        fine, coarse = segmenter._answer(raw), segmenter._answer(means, against_all=True)
        enlarged = functional.interpolate(coarse, scale_factor=4, mode="bilinear")
        torch.testing.assert_close(segmenter.logits(raw), (fine + enlarged) / 2, atol=1e-5, rtol=1e-4)
        segmenter.net.gate[2].bias.fill_(50)
        torch.testing.assert_close(segmenter.logits(raw), fine, atol=1e-5, rtol=1e-4)


def test_a_coarse_pixel_is_the_mean_amplitude_of_the_valid_ones() -> None:
    segmenter = Segmenter(architecture("unet-w16", (SAR, GIM), coarse=True))
    raw = torch.full((1, 2, 128, 128), 60.0)
    raw[:, 0, :4, :2] = 20
    raw[:, 0, :4, 4:] = 0
    coarse = segmenter._coarse(raw)[0]
    assert coarse[0, 0, :3].tolist() == [40, 0, 0]
    assert coarse[0, 1, 0] == coarse[1, 0, 2] == 60


@pytest.mark.parametrize(("looks", "expected_db"), [(1, 1.47), (4, 0.28), (64, 0.02)])
def test_speckle_is_told_by_the_decibels_that_the_mean_gains(looks: int, expected_db: float) -> None:
    power = np.random.default_rng(0).gamma(looks, 1 / looks, (1, 1, 512, 512))
    amplitude = torch.from_numpy(200 * np.sqrt(power)).float()
    assert speckle(amplitude, functional.avg_pool2d(amplitude, 4)).mean().item() == pytest.approx(expected_db, abs=0.1)
    amplitude[..., 1] = 0
    assert speckle(amplitude, functional.avg_pool2d(amplitude, 4))[..., 0].abs().max() == 0


def test_the_coarse_answer_needs_an_amplitude() -> None:
    with pytest.raises(UsageError, match="coarse answer needs an amplitude"):
        architecture("hrnet", (GIM, SAR), coarse=True)


def land(level_db: float, looks: float, side_px: int = 256) -> torch.Tensor:
    """Bare land in speckle whose mean amplitude is `level_db`, (1, 1, side_px, side_px)."""
    amplitude = np.sqrt(np.random.default_rng(0).gamma(looks, 1 / looks, (1, 1, side_px, side_px)))
    return torch.from_numpy(amplitude / amplitude.mean() * 10 ** (level_db / 20)).float()


def speckle_of(amplitude: torch.Tensor) -> torch.Tensor:
    return speckle(amplitude, functional.avg_pool2d(amplitude, 4))


def estimating(off_db: float) -> Segmenter:
    """With an estimate of the level that is `off_db` for everything."""
    torch.manual_seed(0)
    segmenter = Segmenter(architecture("hrnet-w18-small", contrast=True, coarse=True, level_control=True)).eval()
    torch.nn.init.constant_(segmenter.net.level.readout[2].bias, off_db)
    torch.nn.init.normal_(segmenter.net.gate[2].weight)
    return segmenter


def test_the_estimated_level_is_taken_off_the_fine_answer() -> None:
    raw = land(43, looks=16)
    louder = raw * 10 ** (3 / 20)
    with torch.no_grad():
        right, off = estimating(0), estimating(3)
        assert off.off_level_db(louder).tolist() == [[[[3.0]]]]
        coarse = right._coarse_answer(raw)[1:]
        right._coarse_answer = off._coarse_answer = lambda raw: (raw[..., ::4, ::4], *coarse)  # type: ignore[method-assign]
        torch.testing.assert_close(off(louder), right(raw), atol=1e-4, rtol=0)
        assert (right(louder) - right(raw)).abs().mean() > 1e-4


def test_a_single_look_keeps_its_level() -> None:
    for scene in (land(40, looks=1), torch.cat([land(40, looks=1)[..., :64], torch.zeros(1, 1, 256, 192)], dim=3)):
        assert several_looks(speckle_of(scene)) == 0, "what is not valid does not count as smooth"
        with torch.no_grad():
            assert torch.equal(estimating(3)(scene), estimating(0)(scene))
    assert several_looks(speckle_of(land(40, looks=16))) == 1
    assert 0 < several_looks(speckle_of(land(40, looks=1.5))) < 1


def test_a_level_that_has_not_been_learned_changes_nothing() -> None:
    raw = land(43, looks=16)
    torch.manual_seed(0)
    without = Segmenter(architecture("hrnet-w18-small", contrast=True, coarse=True)).eval()
    with_control = Segmenter(architecture("hrnet-w18-small", contrast=True, coarse=True, level_control=True)).eval()
    with_control.net.load_state_dict(without.net.state_dict(), strict=False)
    with torch.no_grad():
        torch.testing.assert_close(with_control(raw), without(raw))


def test_each_window_of_a_batch_has_a_level_of_its_own_by_its_valid_part() -> None:
    torch.manual_seed(0)
    estimator = LevelEstimator().eval()
    torch.nn.init.normal_(estimator.readout[2].weight)
    dark, bright = land(38, looks=16), land(44, looks=16)
    cut = dark.clone()
    cut[..., 128:] = 0

    def estimate(raw: torch.Tensor) -> torch.Tensor:
        means = functional.avg_pool2d(raw, 4)
        with torch.no_grad():
            off_db: torch.Tensor = estimator(means, torch.zeros_like(means), speckle_of(raw))
        return off_db.flatten()

    together = estimate(torch.cat([dark, bright, cut, torch.zeros_like(dark)]))
    torch.testing.assert_close(together[:2], torch.cat([estimate(dark), estimate(bright)]))
    assert abs(together[0] - together[2]) < 0.2 * abs(together[0] - together[1])
    assert together.isfinite().all()
    assert levelling_gain(together[:, None, None, None], torch.zeros(4, 1, 8, 8)).shape == (4, 1, 1, 1)


def test_the_control_of_the_level_goes_by_the_coarse_answer() -> None:
    with pytest.raises(UsageError, match="coarse"):
        architecture("hrnet", level_control=True)


def test_contrast_and_channels_survive_the_description() -> None:
    arch = architecture("hrnet", (SAR, GIM), contrast=True, coarse=True, level_control=True)
    assert Architecture.from_dict(arch.to_dict()) == arch
    assert arch.planes == ("sar", "gim", "contrast")
