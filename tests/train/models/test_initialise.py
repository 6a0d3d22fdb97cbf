"""Files are made here with the official names and shapes: nothing is downloaded."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sarwater.errors import CheckpointInvalid
from sarwater.manifest import Channel
from train.models import Segmenter, architecture
from train.models.checkpoint import FORMAT, Checkpoint, load_checkpoint, save_checkpoint
from train.models.initialise import initialise

SAR = Channel("sar", "amplitude_dn")
GIM = Channel("gim", "incidence_dn")


def network(
    name: str = "hrnet-w18-small", channels: tuple[Channel, ...] = (SAR,), seed: int = 0, scales: bool = False
) -> Segmenter:
    torch.manual_seed(seed)
    return Segmenter(architecture(name, channels, scales=scales)).eval()


@cache
def official_hrnet() -> dict[str, Tensor]:
    """The state_dict of HRNet-Semantic-Segmentation's w18-small-v1 for three channels and two classes."""
    generator = torch.Generator().manual_seed(1)
    tensors = {}
    for name, tensor in network().net.state_dict().items():
        shape = list(tensor.shape)
        if name == "conv1.weight":
            shape[1] = 3
        if name.startswith("last_layer.3."):
            shape[0] = 2
        tensors[name] = torch.rand(shape, generator=generator) if shape else torch.tensor(7)
    return tensors


def torchvision_vgg(depths: tuple[int, ...], *, batch_norm: bool) -> dict[str, Tensor]:
    """The layout of torchvision.models.vgg16 and its relatives, with a sixteenth of the dense layers' outputs."""
    tensors: dict[str, Tensor] = {}
    position, width = 0, 3
    for depth, outputs in zip(depths, (64, 128, 256, 512, 512), strict=True):
        for _ in range(depth):
            tensors[f"features.{position}.weight"] = torch.full((outputs, width, 3, 3), float(position))
            tensors[f"features.{position}.bias"] = torch.randn(outputs)
            if batch_norm:
                position += 1
                for kind in ("weight", "bias", "running_mean", "running_var"):
                    tensors[f"features.{position}.{kind}"] = torch.rand(outputs)
            position, width = position + 2, outputs
        position += 1
    return tensors


def save(folder: Path, document: object, name: str = "weights.pth") -> Path:
    torch.save(document, folder / name)
    return folder / name


def test_an_official_hrnet_loads_with_its_stem_folded_and_its_head_made_one_logit(tmp_path: Path) -> None:
    official = official_hrnet()
    segmenter = network()
    report = initialise(segmenter, save(tmp_path, official))
    tensors = segmenter.net.state_dict()
    assert set(report.adapted) == {"conv1.weight", "last_layer.3.weight", "last_layer.3.bias"}
    assert (report.skipped, report.fresh) == ({}, [])
    assert torch.allclose(tensors["conv1.weight"], official["conv1.weight"].sum(1, keepdim=True))
    head = official["last_layer.3.weight"]
    assert torch.equal(tensors["last_layer.3.weight"], head[1:] - head[:1])
    assert torch.equal(
        tensors["stage4.0.branches.3.1.bn2.running_var"], official["stage4.0.branches.3.1.bn2.running_var"]
    )


def test_a_folded_stem_answers_as_three_copies_of_the_channel_did(tmp_path: Path) -> None:
    one, three = network(), network(channels=(SAR, SAR, SAR))
    path = save(tmp_path, official_hrnet())
    initialise(one, path)
    initialise(three, path)
    sar = torch.randn(1, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(one.net.conv1(sar), three.net.conv1(sar.expand(-1, 3, -1, -1)), atol=1e-4)


def test_a_new_incidence_angle_begins_without_influence(tmp_path: Path) -> None:
    segmenter = network(channels=(SAR, GIM))
    initialise(segmenter, save(tmp_path, official_hrnet()))
    stem = segmenter.net.conv1.weight
    assert torch.allclose(stem[:, 0], official_hrnet()["conv1.weight"].sum(1))
    assert stem[:, 1].abs().max() == 0


def test_scales_begin_without_influence_and_goes_from_one_of_our_files_to_the_next(tmp_path: Path) -> None:
    fresh = network(scales=True)
    initialise(fresh, save(tmp_path, official_hrnet()))
    assert fresh.net.conv1.weight[:, 1:].abs().max() == 0
    trained, other = network(scales=True, seed=1), network(scales=True, seed=2)
    path = tmp_path / "ours.pt"
    save_checkpoint(path, Checkpoint(trained.arch, trained.net.state_dict(), 0.5, {}))
    assert initialise(other, path).adapted == {}
    assert torch.equal(other.net.conv1.weight, trained.net.conv1.weight)


def named(prefix: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {prefix + name: tensor for name, tensor in tensors.items()}


WRAPS: dict[str, Callable[[dict[str, Tensor]], object]] = {
    "bare": lambda tensors: tensors,
    "state_dict": lambda tensors: {"state_dict": tensors, "epoch": 484},
    "model_state_dict": lambda tensors: {"model_state_dict": tensors, "optimizer_state_dict": {"state": {}}},
    "net": lambda tensors: {"net": tensors, "acc": 0.9},
    "ema": lambda tensors: {"epoch": 3, "model": None, "ema": tensors},
    "model and ema": lambda tensors: {"ema": {name: 0 * tensor for name, tensor in tensors.items()}, "model": tensors},
    "model.state_dict": lambda tensors: {"model": {"state_dict": tensors}},
    "ema.model.state_dict": lambda tensors: {"ema": {"model": {"state_dict": named("module.")(tensors)}}},
    "model with a loss": lambda tensors: named("model.")(tensors) | {"loss.weight": torch.ones(2)},
    "DataParallel": lambda tensors: {"model": named("module.")(tensors)},
    "weights": lambda tensors: {"epoch": 3, "optimizer": {"state": {0: {"exp_avg": tensors}}}, "weights": tensors},
    "params": lambda tensors: {"params": named("generator.")(tensors)},
    "student": lambda tensors: {"state": {"teacher": {}, "student": named("student.model.")(tensors)}},
    "compiled": named("_orig_mod."),
    "compiled in DDP": named("module._orig_mod."),
    "DDP, compiled": lambda tensors: {"state_dict": named("_orig_mod.module.")(tensors)},
    "Lightning": lambda tensors: {"state_dict": named("model.net.")(tensors), "pytorch-lightning_version": "2.1"},
    "backbone": lambda tensors: {"state_dict": named("backbone.")(tensors)},
    "all of them": lambda tensors: {"net": {"state_dict": named("module.model._orig_mod.backbone.net.")(tensors)}},
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_wrappings_of_a_state_dict_are_taken_off(tmp_path: Path, wrap: str) -> None:
    segmenter = network()
    report = initialise(segmenter, save(tmp_path, WRAPS[wrap](official_hrnet())))
    assert report.fresh == []
    bias = official_hrnet()["last_layer.0.bias"]
    assert torch.equal(segmenter.net.state_dict()["last_layer.0.bias"], bias)


@pytest.mark.parametrize(("family", "wrap"), [*(("unet-w16", wrap) for wrap in WRAPS), ("deepunet", "Lightning")])
def test_all_tensors_of_a_network_are_a_checkpoint_whatever_wraps_them(tmp_path: Path, family: str, wrap: str) -> None:
    tensors = network(family, seed=3).net.state_dict()
    checkpoint = load_checkpoint(save(tmp_path, WRAPS[wrap](tensors), "best.pt"))
    assert checkpoint.architecture == architecture(family)
    assert all(torch.equal(checkpoint.state_dict[name], tensor) for name, tensor in tensors.items())
    assert len(checkpoint.state_dict) == len(tensors)


def test_the_planes_that_a_network_sees_are_told_by_its_tensors(tmp_path: Path) -> None:
    arch = architecture("unet-w16", scales=True)
    checkpoint = load_checkpoint(save(tmp_path, {"state_dict": Segmenter(arch).net.state_dict()}, "best.pt"))
    assert checkpoint.architecture == arch


@pytest.mark.parametrize("wrap", ["bare", "model", "prefixed"])
def test_a_checkpoint_of_ours_keeps_what_it_says_when_it_is_wrapped(tmp_path: Path, wrap: str) -> None:
    trained = network("unet-w16", (SAR, GIM), seed=3)
    path = tmp_path / "ours.pt"
    save_checkpoint(path, Checkpoint(trained.arch, trained.net.state_dict(), 0.4, {"step": 7}))
    document = torch.load(path, weights_only=True)
    if wrap == "model":
        document = {"model": document}
    elif wrap == "prefixed":
        document["state_dict"] = named("_orig_mod.module.")(document["state_dict"])
    torch.save(document, path)
    checkpoint = load_checkpoint(path)
    assert (checkpoint.architecture, checkpoint.threshold) == (trained.arch, 0.4)
    assert checkpoint.segmenter().net.state_dict().keys() == trained.net.state_dict().keys()
    assert initialise(network("unet-w16", (SAR, GIM)), path).fresh == []


class _Code:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch /tmp/pwned",)


def damaged() -> dict[str, bytes]:
    """Kinds of damage to a checkpoint, and of files that only claim to be one."""
    whole = io.BytesIO()
    torch.save({"state_dict": {"a.b": torch.ones(100)}}, whole)
    content = whole.getvalue()
    documents: dict[str, object] = {
        "code": _Code(),
        "a list": [torch.ones(3)],
        "a number": 7,
        "other tensors": {"state_dict": {"a.b": torch.ones(3)}},
        "no architecture": {"format": FORMAT},
        "a family of none": {"format": FORMAT, "architecture": {"family": "x", "variant": "", "channels": []}},
        "lists all over": {key: [] for key in ("architecture", "state_dict", "threshold", "training", "resume")}
        | {"format": FORMAT},
        "numbers for names": {"state_dict": {7: torch.ones(3)}},
    }
    files = {"empty": b"", "text": b"not a pickle\n", "half": content[: len(content) // 2], "zip only": content[:40]}
    files |= {f"byte {at}": content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :] for at in (40, 70, 90, 120)}
    files["old pickle"] = b"\x80\x02}q\x00."
    for name, document in documents.items():
        buffer = io.BytesIO()
        torch.save(document, buffer)
        files[name] = buffer.getvalue()
    return files


@pytest.mark.parametrize("kind", damaged())
def test_a_damaged_or_hostile_file_costs_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "best.pt"
    path.write_bytes(damaged()[kind])
    for read in (load_checkpoint, lambda path: initialise(network("unet-w16"), path)):
        with pytest.raises(CheckpointInvalid) as refused:
            read(path)
        assert str(path) in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
    assert not os.path.exists("/tmp/pwned")


def test_an_imagenet_hrnet_loads_all_but_the_head(tmp_path: Path) -> None:
    tensors = {name: tensor for name, tensor in official_hrnet().items() if not name.startswith("last_layer")}
    tensors["classifier.weight"] = torch.zeros(1000, 2048)
    report = initialise(network(), save(tmp_path, tensors))
    assert list(report.skipped) == ["classifier.weight"]
    assert {name.split(".")[0] for name in report.fresh} == {"last_layer"}


def test_nineteen_classes_leave_the_last_convolution_fresh(tmp_path: Path) -> None:
    tensors = dict(official_hrnet())
    tensors["last_layer.3.weight"] = torch.zeros(19, 240, 1, 1)
    report = initialise(network(), save(tmp_path, tensors))
    assert "expected (1, 240, 1, 1)" in report.skipped["last_layer.3.weight"]


@pytest.mark.parametrize("theirs", [False, True], ids=["vgg16", "vgg16_bn"])
@pytest.mark.parametrize("ours", [False, True], ids=["plain", "normalised"])
def test_torchvisions_vgg_fits_fcn_with_and_without_normalisation(tmp_path: Path, theirs: bool, ours: bool) -> None:
    tensors = torchvision_vgg((2, 2, 3, 3, 3), batch_norm=theirs)
    # Half-size dense layers do not fit and are left out: the file of the test stays small.
    tensors["classifier.0.weight"] = torch.zeros(16, 512 * 7 * 7)
    with torch.device("meta"):
        outline = Segmenter(architecture("fcn-vgg16", batch_norm=ours))
    outline.net.load_state_dict = lambda state: received.update(state)  # type: ignore[method-assign,assignment]
    received: dict[str, Tensor] = {}
    report = initialise(outline, save(tmp_path, tensors))
    convolutions = [name for name, tensor in tensors.items() if tensor.dim() == 4]
    assert (received["features.0.bias"] == tensors["features.0.bias"]).all()
    last = max(
        int(name.split(".")[1]) for name in received if name.startswith("features.") and received[name].dim() == 4
    )
    assert torch.equal(received[f"features.{last}.weight"], tensors[convolutions[-1]])
    assert ("features.1.running_mean" in report.loaded) == (theirs and ours)


def test_torchvisions_dense_layers_become_convolutions() -> None:
    from train.models.initialise import _fit

    with torch.device("meta"):
        outline = Segmenter(architecture("fcn-vgg16"))
    dense = torch.zeros(4096, 512 * 7 * 7, device="meta")
    fitted, how = _fit("conv6.0.weight", dense, outline.net.conv6[0].weight, None, outline)
    assert fitted is not None
    assert (fitted.shape, how) == ((4096, 512, 7, 7), "a dense layer became a convolution")


def test_vgg19_weights_for_vgg16_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path, torchvision_vgg((2, 2, 4, 4, 4), batch_norm=False))
    with torch.device("meta"):
        outline = Segmenter(architecture("fcn-vgg16"))
    with pytest.raises(CheckpointInvalid, match=r"weights\.pth: 16 VGG convolutions, fcn-vgg16 has 13"):
        initialise(outline, path)


def test_our_own_checkpoint_loads_whole(tmp_path: Path) -> None:
    trained, fresh = network(seed=1), network(seed=2)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(trained.arch, trained.net.state_dict()))
    report = initialise(fresh, tmp_path / "best.pt")
    assert (report.adapted, report.skipped, report.fresh) == ({}, {}, [])
    assert all(
        torch.equal(a, b) for a, b in zip(trained.state_dict().values(), fresh.state_dict().values(), strict=True)
    )


def test_our_angle_is_left_behind_by_a_network_without_one(tmp_path: Path) -> None:
    trained = network(channels=(SAR, GIM), seed=1)
    save_checkpoint(tmp_path / "best.pt", Checkpoint(trained.arch, trained.net.state_dict()))
    segmenter = network()
    initialise(segmenter, tmp_path / "best.pt")
    assert torch.equal(segmenter.net.conv1.weight, trained.net.conv1.weight[:, :1])


def test_our_onnx_and_safetensors_load_whole(tmp_path: Path) -> None:
    import onnx
    from safetensors.torch import save_file

    trained = network("unet-w16", seed=1)
    tensors = {name: t for name, t in trained.net.state_dict().items() if not name.endswith("num_batches_tracked")}
    initialisers = [onnx.numpy_helper.from_array(t.numpy(), name) for name, t in tensors.items()]
    initialisers.append(onnx.numpy_helper.from_array(np.ones(3, np.float32), "/net/up.0/Constant_output_0"))
    graph = onnx.helper.make_graph([], "unet", [], [], initialisers)
    onnx.save(onnx.helper.make_model(graph), tmp_path / "unet.onnx")
    save_file(tensors, tmp_path / "unet.safetensors")
    for name in ("unet.onnx", "unet.safetensors"):
        segmenter = network("unet-w16", seed=2)
        report = initialise(segmenter, tmp_path / name)
        assert (report.skipped, report.fresh) == ({}, [])
        assert torch.equal(segmenter.net.head.weight, trained.net.head.weight)


def test_a_checkpoint_of_another_network_is_refused_by_file_and_name(tmp_path: Path) -> None:
    trained = network("unet-w16")
    save_checkpoint(tmp_path / "unet.pt", Checkpoint(trained.arch, trained.net.state_dict()))
    with pytest.raises(CheckpointInvalid, match=r"unet\.pt: of unet-w16; only 0 of the \d+ convolutions of hrnet"):
        initialise(network(), tmp_path / "unet.pt")


class Hostile:
    """Unpickling this runs a command; reading tensors alone must not."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.victim}",)


def test_a_file_that_carries_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = save(tmp_path, {"state_dict": official_hrnet(), "extra": Hostile(tmp_path / "ran")})
    with pytest.raises(CheckpointInvalid, match=r"weights\.pth: not a file of tensors alone"):
        initialise(network(), path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["a.pth", "a.onnx", "a.safetensors"])
def test_a_damaged_or_missing_file_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckpointInvalid, match=rf"{name}: no such file"):
        initialise(network(), tmp_path / name)
    (tmp_path / name).write_bytes(b"\x07damaged")
    with pytest.raises(CheckpointInvalid, match=rf"{name}: not a"):
        initialise(network(), tmp_path / name)
