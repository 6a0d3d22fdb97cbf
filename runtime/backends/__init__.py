"""Backends: one model on one device. `open_backend` picks one by the model's file and the device asked for."""

from __future__ import annotations

from runtime.backends.base import Backend
from sarwater.errors import UsageError
from sarwater.models import Model

__all__ = ["DEVICES", "Backend", "open_backend"]

DEVICES = ("auto", "cpu", "fake")


def open_backend(model: Model, device: str = "auto", tile_px: int | None = None) -> Backend:
    """Open `model` on `device`; its hash is checked against the manifest before anything is parsed.

    `tile_px` runs an `.onnx` file at another tile size than its own; an engine's is fixed when it is built.

    `.onnx` runs on the CPU with OpenVINO. `fake` is chosen by name only and needs no library; it still wants a file
    that matches its manifest. Raises HashMismatch, ManifestInvalid, DependencyMissing, DeviceUnavailable, UsageError.
    """
    if device not in DEVICES:
        raise UsageError(f"device {device!r} is unknown; expected one of: {', '.join(DEVICES)}")
    digest = model.manifest.verify(model.path)
    if device == "fake":
        from runtime.backends.fake import FakeBackend

        return FakeBackend(model.manifest if tile_px is None else model.manifest.with_tile(tile_px), digest)
    if model.path.suffix != ".onnx":
        raise UsageError(f"{model.path}: no backend runs {model.path.suffix} files on {device}; expected an .onnx file")
    from runtime.backends.openvino import OpenVinoBackend

    return OpenVinoBackend(model.path, model.manifest, digest, tile_px=tile_px)
