"""Backends: one model on one device. `open_backend` picks one by the model's file and the device asked for.

A new one is one file here and one line in BACKENDS.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from runtime.backends.base import Backend
from sarwater.errors import UsageError, expected
from sarwater.models import Model

__all__ = ["BACKENDS", "DEVICES", "Backend", "open_backend"]


@dataclass(frozen=True)
class Entry:
    """One backend, imported when it is opened."""

    device: str
    """What insists on it."""
    suffix: str
    """Of the model files that it runs; "" for any."""
    opens: str
    """`module:class`, a Backend."""
    get: str
    """How one comes by such a file."""

    def load(self) -> type[Backend]:
        module, name = self.opens.split(":")
        found: type[Backend] = getattr(importlib.import_module(module), name)
        return found


BACKENDS = (
    Entry("cpu", ".onnx", "runtime.backends.cpu.openvino:OpenVinoBackend", "give the one that it was built from"),
    Entry(
        "gpu",
        ".engine",
        "runtime.backends.gpu.tensorrt:TensorRtBackend",
        "build one on this machine, `sarwater build-engine MODEL`, and give it as --model engines/NAME.engine",
    ),
    Entry("torch", ".onnx", "runtime.backends.pytorch.backend:TorchBackend", "give the one that it was built from"),
    Entry("fake", "", "runtime.backends.fake:FakeBackend", "any will do"),
)
DEVICES = ("auto", *(entry.device for entry in BACKENDS))


def open_backend(model: Model, device: str = "auto", tile_px: int | None = None) -> Backend:
    """Open `model` on `device`; its hash is checked against the manifest before anything is parsed.

    The file decides: each backend runs one kind of file, and a device that is named insists on its backend; nothing
    falls back from one to another. `fake` is chosen by name only and needs no library; it still wants a file that
    matches its manifest. `tile_px` runs an `.onnx` file at another tile size than its own; an engine's is fixed when it
    is built.

    Raises HashMismatch, ManifestInvalid, DependencyMissing, DeviceUnavailable, UsageError.
    """
    if device not in DEVICES:
        raise UsageError(f"device {device!r} is unknown; {expected(device, DEVICES)}")
    suffix = model.path.suffix
    for entry in BACKENDS:
        if (device == "auto" and entry.suffix == suffix) or (device == entry.device and entry.suffix in ("", suffix)):
            return entry.load().open(model, tile_px)
    for entry in BACKENDS:
        if device == entry.device:
            entry.load().check_device()
            raise UsageError(
                f"{model.path}: no backend runs {suffix} files on {device}, which wants an {entry.suffix} file: "
                + entry.get
            )
    wanted = ", ".join(f"{entry.suffix} ({entry.device})" for entry in BACKENDS if entry.suffix)
    raise UsageError(f"{model.path}: no backend runs {suffix} files; expected one of: {wanted}")
