"""Backends: one model on one device. `open_backend` picks one by the model's file and the device asked for."""

from __future__ import annotations

from runtime.backends.base import Backend
from sarwater.errors import UsageError, expected
from sarwater.models import Model

__all__ = ["DEVICES", "Backend", "open_backend"]

DEVICES = ("auto", "cpu", "gpu", "fake")


def open_backend(model: Model, device: str = "auto", tile_px: int | None = None) -> Backend:
    """Open `model` on `device`; its hash is checked against the manifest before anything is parsed.

    The file decides: `.onnx` runs on the CPU with OpenVINO, `.engine` on an NVIDIA GPU with TensorRT; `cpu` and `gpu`
    insist, and nothing falls back from one to the other. `fake` is chosen by name only and needs no library; it still
    wants a file that matches its manifest. `tile_px` runs an `.onnx` file at another tile size than its own; an
    engine's is fixed when it is built.

    Raises HashMismatch, ManifestInvalid, DependencyMissing, DeviceUnavailable, UsageError.
    """
    if device not in DEVICES:
        raise UsageError(f"device {device!r} is unknown; {expected(device, DEVICES)}")
    kind = model.path.suffix
    if kind == ".engine" and device not in ("cpu", "fake"):
        plan, digest = model.manifest.read_verified(model.path)
        if tile_px not in (None, model.manifest.tile_px):
            raise UsageError(
                f"{model.path}: built for a tile of {model.manifest.tile_px} px, asked for {tile_px}; build another: "
                f"`sarwater build-engine {model.manifest.family} --tile {tile_px}`"
            )
        from runtime.backends.gpu.tensorrt import TensorRtBackend

        return TensorRtBackend(model.path, model.manifest, plan, digest)
    digest = model.manifest.verify(model.path)
    if device == "fake":
        from runtime.backends.fake import FakeBackend

        return FakeBackend(model.manifest if tile_px is None else model.manifest.with_tile(tile_px), digest)
    if kind == ".onnx" and device != "gpu":
        from runtime.backends.cpu.openvino import OpenVinoBackend

        return OpenVinoBackend(model.path, model.manifest, digest, tile_px=tile_px)
    if kind == ".onnx":
        from runtime.backends.gpu.cuda import require_gpu

        require_gpu()
        raise UsageError(
            f"{model.path}: on a GPU an engine runs, not an .onnx file; build one here (`sarwater build-engine "
            f"{model.manifest.family}`) and give it as --model engines/NAME.engine"
        )
    raise UsageError(
        f"{model.path}: no backend runs {kind} files on {device}; expected an .onnx file for the CPU, an .engine file "
        "for a GPU"
    )
