"""The proof of a model on the machine and device that will run it: golden scenes, the whole way through its backend.

    proof = prove(model, device, reference=fp32_graph, bar_iou=iou_of_the_model_in_force)

Held against the truth, so that a wrong model is noticed, and, where it was made from an fp32 graph, against that graph
on the CPU, so that a wrong engine is.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime.backends import Backend, open_backend
from sarwater.classes import NODATA
from sarwater.errors import DeviceUnavailable, ProofFailed
from sarwater.golden import golden_scene
from sarwater.metrics import LARGEST_CHANGED_SHARE, LARGEST_IOU_LOSS, confusion
from sarwater.models import Model, open_model
from sarwater.tiling import TilePlan

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Proof:
    """What was measured."""

    device: str
    iou: float
    """On the golden scenes, against where their water is."""
    bar_iou: float
    """The least it had to be."""
    reference_iou: float | None = None
    """Of the fp32 graph on the CPU; None where the model is one itself."""
    changed_share: float | None = None
    """Share of the pixels whose class is another than that graph's."""

    def to_dict(self) -> dict[str, float | str | None]:
        return asdict(self)

    def __str__(self) -> str:
        text = f"IoU {self.iou:.3f} on golden scenes (least {self.bar_iou:.3f})"
        if self.changed_share is not None:
            text += (
                f", {self.reference_iou:.3f} by its fp32 graph on the CPU, {self.changed_share:.2%} of pixels differ"
            )
        return text


def prove(model: Model, device: str = "auto", reference: Model | None = None, bar_iou: float = 0.0) -> Proof:
    """Raises ProofFailed with the figures, and what opening a backend raises."""
    with open_backend(model, device) as backend:
        check_golden_tile(backend)
        tile_px, plan = backend.manifest.tile_px, _golden_plan(backend)
        mask, truth = golden_mask(backend, plan)
        name = backend.device
    proof = Proof(name, confusion(mask, truth).iou, bar_iou)
    if reference is not None:
        with open_backend(reference, "cpu", tile_px) as backend:
            wanted, _ = golden_mask(backend, plan)
        changed = float((mask != wanted)[truth != NODATA].mean())
        proof = Proof(name, proof.iou, bar_iou, confusion(wanted, truth).iou, changed)
    _judge(model, proof)
    return proof


def _judge(model: Model, proof: Proof) -> None:
    precision = model.manifest.precision
    if not proof.iou >= proof.bar_iou:
        raise ProofFailed(
            f"{model.path}: IoU {proof.iou:.3f} on the golden scenes, expected {proof.bar_iou:.3f} at least; judge it "
            "on scenes of your own (`sarwater evaluate`), train it on, or allow more with --may-lose POINTS"
        )
    if proof.reference_iou is None or proof.changed_share is None:
        return
    lost, most_lost = proof.reference_iou - proof.iou, LARGEST_IOU_LOSS[precision]
    most_changed = LARGEST_CHANGED_SHARE[precision]
    if lost > most_lost or proof.changed_share > most_changed:
        raise ProofFailed(
            f"{model.path}: on {proof.device} it loses {100 * lost:.2f} points of IoU against its fp32 graph on the "
            f"CPU and {proof.changed_share:.2%} of the pixels differ; allowed in {precision} are {100 * most_lost:.2f} "
            f"points and {most_changed:.0%}; build it again here, with another release of the library, or in fp32"
        )


def golden_iou(model: Model, device: str = "auto") -> float:
    """IoU of a model on the golden scenes. Raises as opening a backend does."""
    with open_backend(model, device) as backend:
        mask, truth = golden_mask(backend, _golden_plan(backend))
    return confusion(mask, truth).iou


def _golden_plan(backend: Backend) -> TilePlan:
    """Of as much of the golden scenes as takes more than one tile each way."""
    return backend.plan(*golden_scene(backend.manifest.channels, backend.manifest.tile_px * 9 // 8)[1].shape)


def golden_mask(backend: Backend, plan: TilePlan) -> tuple[UInt8, UInt8]:
    """(H, W) mask of the golden scenes by `plan`, and their truth: the whole way, from raw pixels to classes."""
    pixels, truth = golden_scene(backend.manifest.channels, max(plan.height_px, plan.width_px))
    pixels, truth = pixels[:, : plan.height_px, : plan.width_px], truth[: plan.height_px, : plan.width_px]
    run = backend.begin(plan, nodata=0)
    strips = (pixels[:, span.start : span.start + plan.tile_px] for span in plan.rows)
    finished = [run.push(np.ascontiguousarray(rows)) for rows in strips]
    return np.concatenate([rows.mask for rows in finished]), truth


def check_golden_tile(backend: Backend) -> None:
    """One tile of fixed speckle, twice: it must give the same finite probabilities. Raises DeviceUnavailable."""
    manifest = backend.manifest
    size = (1, len(manifest.channels), manifest.tile_px, manifest.tile_px)
    tile = np.random.default_rng(5).rayleigh(60, size).astype(np.float32)
    first, second = backend.infer(tile), backend.infer(tile)
    sound = np.isfinite(first).all() and first.min() >= 0 and first.max() <= 1 and np.allclose(first, second, atol=1e-3)
    if not sound:
        raise DeviceUnavailable(
            f"{backend.name} on {backend.device}: the golden tile came out as {first.min():.3g} to {first.max():.3g}, "
            "expected the same probabilities between 0 and 1 twice; check driver and device"
        )


def reference_of(model: Model) -> Model | None:
    """The fp32 graph that a model was made from, by the hashes in the manifests that lie beside it; None for a graph
    that is one itself. Raises ProofFailed where it is not there."""
    beside = dict(_beside(model.path.parent))
    found = model
    while found.manifest.precision != "fp32" or found.manifest.engine is not None:
        source = str(found.manifest.recipe.get("source", ""))
        if source not in beside:
            raise ProofFailed(
                f"{model.path}: the fp32 graph that it was made from is not beside it; expected an .onnx file with "
                f"sha256 {source[:12] or 'unknown'}… and its manifest there, or name it: --reference FILE"
            )
        found = open_model(beside[source])
    return None if found is model else found


def _beside(folder: Path) -> list[tuple[str, Path]]:
    """(sha256, path) of the model files that manifests in `folder` describe."""
    found = []
    for file in sorted(folder.glob("*.json")):
        try:
            files = json.loads(file.read_text(encoding="utf-8")).get("files", {})
            found += [(digest, folder / name) for name, digest in files.items() if (folder / name).is_file()]
        except (OSError, ValueError, AttributeError):
            continue  # another kind of JSON
    return found
