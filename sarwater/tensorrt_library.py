"""The flavours of TensorRT: which Python modules they are, how they are installed, and which one is here.

tensorrt       tensorrt builds and runs; tensorrt_lean only runs, and only version-compatible engines
tensorrt-rtx   tensorrt_rtx builds and runs; it builds without a GPU
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from sarwater.errors import DependencyMissing, DeviceUnavailable
from sarwater.gpu import Gpu


@dataclass(frozen=True)
class Flavour:
    """One kind of TensorRT."""

    name: str
    """As manifests have it."""
    short: str
    """In the name of an engine's file."""
    module: str
    install: str
    lean: str | None = None
    """A module that runs engines and builds none."""


TENSORRT = Flavour(
    "tensorrt", "trt", "tensorrt", "`pip install 'sarwater[tensorrt]'` (a Jetson has it with JetPack)", "tensorrt_lean"
)
TENSORRT_RTX = Flavour(
    "tensorrt-rtx", "rtx", "tensorrt_rtx", "`pip install 'sarwater[rtx]'` (x86-64; needs no GPU to build)"
)
FLAVOURS = {flavour.name: flavour for flavour in (TENSORRT, TENSORRT_RTX)}


PORTABLE = "portable"
"""The compute capability of a TensorRT-RTX engine that is bound to none: it runs wherever the library does, Ampere and
newer."""
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Library:
    """A TensorRT that was imported, and the GPU that it would build for (TensorRT-RTX can do without)."""

    flavor: str
    module: ModuleType
    gpu: Gpu | None = None

    @property
    def name(self) -> str:
        return self.module.__name__

    @property
    def version(self) -> str:
        return str(self.module.__version__)

    @property
    def is_rtx(self) -> bool:
        return self.flavor == TENSORRT_RTX.name

    @property
    def compute_capabilities(self) -> tuple[str, ...]:
        """Those that TensorRT-RTX serves, by its own list (`8.6` and the like, oldest first): RTX cards, but neither
        Jetsons nor Hopper. Empty for TensorRT, which has no such list."""
        listed = getattr(self.module, "ComputeCapability", None) if self.is_rtx else None
        digits = [name.removeprefix("SM") for name in dir(listed) if name.startswith("SM")]
        return tuple(f"{item[:-1]}.{item[-1]}" for item in sorted(digits, key=int))

    def check_serves(self, gpu: Gpu) -> None:
        """Raises DeviceUnavailable where this is TensorRT-RTX and the GPU none of its own."""
        served = self.compute_capabilities
        if served and gpu.compute_capability not in served:
            raise DeviceUnavailable(
                f"{gpu.name} has compute capability {gpu.compute_capability}, and {self.name} {self.version} serves "
                f"{', '.join(served)}: it wants TensorRT, not RTX: {TENSORRT.install}"
            )


def is_for(engine_capability: str, gpu_capability: str) -> bool:
    """Whether an engine for `engine_capability` (`8.7`; `8.6, 8.9`; PORTABLE) is for a GPU that the library serves."""
    if engine_capability == PORTABLE:
        return tuple(map(int, gpu_capability.split("."))) >= _AMPERE
    return gpu_capability in engine_capability.split(", ")


def builder(flavour: Flavour) -> ModuleType | None:
    """The module that builds engines of this flavour; None where it is not installed."""
    return _imported(flavour.module, "Builder")


def find_library(flavor: str, library_version: str, version_compatible: bool) -> Library:
    """What runs an engine of this flavour and version. The lean runtime is enough for a version-compatible one.

    Raises DependencyMissing.
    """
    flavour = FLAVOURS[flavor]
    names = (flavour.module, flavour.lean) if version_compatible else (flavour.module,)
    for name in filter(None, names):
        if module := _imported(name, "Runtime"):
            return Library(flavor, module)
    raise missing([flavour], f"the engine was built by {flavor} {library_version}, which is not installed")


def missing(flavours: Sequence[Flavour], problem: str) -> DependencyMissing:
    return DependencyMissing(f"{problem}: " + " or ".join(flavour.install for flavour in flavours))


def _imported(name: str, needed: str) -> ModuleType | None:
    with contextlib.suppress(ImportError, OSError):  # OSError: a shared library it needs is missing
        module = importlib.import_module(name)
        if hasattr(module, needed):  # type stubs alone make an empty package of the same name
            return module
    return None
