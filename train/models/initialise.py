"""Weights to start from, whatever program wrote them: which tensors fit, which can be made to fit, which cannot.

    official HRNet-Semantic-Segmentation and HRNet-Image-Classification .pth  -> hrnet
    torchvision VGG16/19 .pth, with or without batch normalisation            -> fcn
    checkpoints (.pt), ONNX files and .safetensors of ours                    -> the network they are of

Files are data here, never code: `torch.load` reads tensors only, and an ONNX file is read for its initialisers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from sarwater.errors import CheckpointInvalid, DependencyMissing
from sarwater.manifest import ARCHITECTURE_KEY, MANIFEST_KEY, THRESHOLD_KEY
from train.models import Architecture, Segmenter
from train.models.checkpoint import checkpoint_in
from train.models.state_dict import first_line, load_document, unwrapped, without_prefixes

ENOUGH = 0.5
"""Share of a network's convolutions below which the file is taken to be of another network."""


@dataclass
class Report:
    """What became of the tensors of the file, by name; `fresh` are those of the network that it did not have."""

    loaded: list[str] = field(default_factory=list)
    adapted: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    fresh: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = [
            f"{len(self.loaded)} tensors loaded, {len(self.adapted)} adapted, {len(self.skipped)} skipped, "
            f"{len(self.fresh)} start fresh"
        ]
        lines += [f"  adapted {name}: {how}" for name, how in self.adapted.items()]
        lines += [f"  skipped {name}: {why}" for name, why in list(self.skipped.items())[:10]]
        if len(self.skipped) > 10:
            lines.append(f"  and {len(self.skipped) - 10} more")
        return "\n".join(lines)


@dataclass(frozen=True)
class Weights:
    """Tensors by name, without the prefixes that wrappers add; `channels` where the file says what they are."""

    tensors: dict[str, Tensor]
    channels: tuple[str, ...] | None = None
    network: str = "another network"
    architecture: Architecture | None = None
    """Where the file is one of ours, which says so; what follows is of such a file, as in a checkpoint."""
    threshold: float = 0.5
    coarsest_m: float | None = None
    level_db: float | None = None


def initialise(segmenter: Segmenter, path: Path) -> Report:
    """Start `segmenter.net` from the file at `path`.

    Raises CheckpointInvalid for a file that is missing, damaged, carries code, or is of another network,
    DependencyMissing where reading it needs a library.
    """
    weights = read_weights(path)
    tensors = weights.tensors
    if segmenter.arch.family == "fcn":
        tensors = _vgg_names(tensors, segmenter, path)
    target = segmenter.net.state_dict()
    report = Report()
    for name, tensor in tensors.items():
        if name not in target:
            report.skipped[name] = "no such tensor in " + segmenter.arch.name
            continue
        fitted, how = _fit(name, tensor, target[name], weights.channels, segmenter)
        if fitted is None:
            report.skipped[name] = how
            continue
        target[name] = fitted
        if how:
            report.adapted[name] = how
        else:
            report.loaded.append(name)
    known = {*report.loaded, *report.adapted}
    report.fresh = [name for name in target if name not in known and not name.endswith("num_batches_tracked")]
    convolutions = [name for name, tensor in target.items() if tensor.dim() == 4]
    fitting = sum(name in known for name in convolutions)
    if fitting < ENOUGH * len(convolutions):
        raise CheckpointInvalid(
            f"{path}: of {weights.network}; only {fitting} of the {len(convolutions)} convolutions of "
            f"{segmenter.arch.name} are in it; choose the model that it is of, or leave out --init"
        )
    segmenter.net.load_state_dict(target)
    return report


def read_weights(path: Path) -> Weights:
    """The tensors in a file of any of the kinds above. Raises as `initialise`."""
    if not path.is_file():
        raise CheckpointInvalid(f"{path}: no such file to start from (--init)")
    if path.suffix == ".onnx":
        return _read_onnx(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        document = load_document(path, "a file of tensors alone")
    except CheckpointInvalid as error:
        raise CheckpointInvalid(
            f"{error}; if you trust its origin, load it where it was made and save `model.state_dict()` by itself"
        ) from error
    checkpoint = checkpoint_in(document, path)
    if checkpoint is not None:
        arch = checkpoint.architecture
        of_training = checkpoint.threshold, checkpoint.coarsest_m, checkpoint.level_db
        return Weights(checkpoint.state_dict, arch.planes, arch.name, arch, *of_training)
    tensors = unwrapped(document)
    if tensors is None:
        raise CheckpointInvalid(f"{path}: {type(document).__name__} found, expected tensors by name (a state_dict)")
    return Weights(without_prefixes(tensors))


def _read_onnx(path: Path) -> Weights:
    try:
        import onnx
    except ImportError as error:
        raise DependencyMissing(f"{path}: reading weights from ONNX needs onnx: pip install onnx") from error
    try:
        proto = onnx.load(path, load_external_data=False)
        arrays = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
        metadata = {item.key: item.value for item in proto.metadata_props}
        about = metadata.get(ARCHITECTURE_KEY)
        arch = Architecture.from_dict(json.loads(about)) if about else None
        threshold = float(json.loads(metadata.get(THRESHOLD_KEY, "0.5")))
        manifest = json.loads(metadata.get(MANIFEST_KEY, "{}"))
    except Exception as error:  # whatever protobuf and numpy say of a damaged file
        raise CheckpointInvalid(f"{path}: not a readable ONNX file ({first_line(error)})") from error
    # Constants of the graph are initialisers, too: those are named by a path, or without a dot.
    tensors = without_prefixes(
        {
            name: torch.from_numpy(array.copy())
            for name, array in arrays.items()
            if "." in name and not name.startswith("/")
        }
    )
    if arch is None:
        return Weights(tensors)
    return Weights(
        tensors, arch.planes, arch.name, arch, threshold, manifest.get("coarsest_m"), manifest.get("level_db")
    )


def _read_safetensors(path: Path) -> Weights:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise DependencyMissing(f"{path}: needs safetensors: pip install safetensors") from error
    try:
        return Weights(without_prefixes(load_file(path)))
    except (SafetensorError, OSError) as error:
        raise CheckpointInvalid(f"{path}: not a readable .safetensors file ({first_line(error)})") from error


def _fit(
    name: str, tensor: Tensor, target: Tensor, channels: tuple[str, ...] | None, segmenter: Segmenter
) -> tuple[Tensor | None, str]:
    """(the tensor in the target's shape, how it was changed), or (None, why it cannot be)."""
    wanted = segmenter.arch.planes
    is_stem = target.dim() == 4 and target.shape[1] == len(wanted) and name == _stem_name(segmenter)
    if is_stem and (tensor.shape != target.shape or channels not in (None, wanted)):
        same_filters = tensor.dim() == 4 and (tensor.shape[0], *tensor.shape[2:]) == (
            target.shape[0],
            *target.shape[2:],
        )
        if same_filters:
            return _fold(tensor, channels, wanted), f"{tensor.shape[1]} input channels folded to {', '.join(wanted)}"
    if tensor.shape == target.shape:
        return tensor.to(target.dtype), ""
    if target.shape[:1] == (1,) and tensor.shape == (2, *target.shape[1:]):
        return tensor[1:] - tensor[:1], "scores of land and water became one logit, their difference"
    if target.dim() == 4 and tensor.dim() == 2 and tensor.numel() == target.numel():
        return tensor.reshape(target.shape), "a dense layer became a convolution"
    return None, f"is {tuple(tensor.shape)}, expected {tuple(target.shape)}"


def _stem_name(segmenter: Segmenter) -> str:
    """The first convolution: the first tensor of four dimensions, in every family."""
    return next(name for name, tensor in segmenter.net.state_dict().items() if tensor.dim() == 4)


def _fold(weight: Tensor, channels: tuple[str, ...] | None, wanted: tuple[str, ...]) -> Tensor:
    """Sum the filters of all image channels, as if SAR had been repeated in each, and share them out among the SAR
    channels in use. Other planes keep their own filters; one that is new begins without influence."""
    channels = channels or ("image",) * weight.shape[1]
    image = [index for index, channel in enumerate(channels) if _is_image(channel)]
    total = weight[:, image].sum(dim=1, keepdim=True)
    own = {name: weight[:, index][:, None] for index, name in enumerate(channels) if not _is_image(name)}
    share = total / sum(_is_image(name) for name in wanted)
    return torch.cat([share if _is_image(name) else own.get(name, torch.zeros_like(total)) for name in wanted], dim=1)


def _is_image(plane: str) -> bool:
    """Whether an input plane is backscatter pixel by pixel: no incidence angle, and nothing made of other pixels."""
    return plane != "gim" and " " not in plane


def _vgg_names(tensors: dict[str, Tensor], segmenter: Segmenter, path: Path) -> dict[str, Tensor]:
    """torchvision's names -> ours. The convolutions of `features` correspond by their order, because normalisation
    layers in between shift the numbers; a normalisation layer goes with the convolution before it."""
    if "conv6.0.weight" in tensors:
        return tensors  # ours already
    theirs, ours = _encoder(tensors), _encoder(segmenter.net.state_dict())
    if len(theirs) != len(ours):
        raise CheckpointInvalid(
            f"{path}: {len(theirs)} VGG convolutions, {segmenter.arch.name} has {len(ours)}; expected torchvision's "
            f"{segmenter.arch.variant} weights"
        )
    layers = {f"classifier.{their}": our for their, our in ((0, "conv6.0"), (3, "conv7.0"))}
    for (their_conv, their_norm), (our_conv, our_norm) in zip(theirs, ours, strict=True):
        layers[their_conv] = our_conv
        if their_norm and our_norm:
            layers[their_norm] = our_norm
    renamed = {}
    for name, tensor in tensors.items():
        layer, _, kind = name.rpartition(".")
        renamed[f"{layers[layer]}.{kind}" if layer in layers else name] = tensor
    return renamed


def _encoder(tensors: Mapping[str, Tensor]) -> list[tuple[str, str | None]]:
    """(convolution, normalisation or None) for each convolution of a VGG, in order."""
    numbers = sorted({int(name.split(".")[1]) for name in tensors if re.match(r"features\.\d+\.weight$", name)})
    is_conv = {number: tensors[f"features.{number}.weight"].dim() == 4 for number in numbers}
    return [
        (f"features.{number}", f"features.{number + 1}" if is_conv.get(number + 1) is False else None)
        for number in numbers
        if is_conv[number]
    ]
