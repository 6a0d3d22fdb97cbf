"""Libraries that are imported when they are first used, so that every `--help` and every light module works without.

gdal = lazy_import("osgeo.gdal", "...", install="...")    # nothing is imported yet
gdal.Open(...)                                             # now it is; DependencyMissing where it cannot be
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from types import ModuleType
from typing import Any

from sarwater.errors import DependencyMissing

EXPORT_INSTALL = "`pip install 'sarwater[export]'`"


def require(module: str, purpose: str, install: str = "") -> Any:
    """Import `module` now. Raises DependencyMissing that says what it is for and how to get it."""
    try:
        return importlib.import_module(module)
    except (ImportError, OSError) as error:  # OSError: a shared library that it needs is missing
        first: BaseException = error
        while isinstance(first.__context__, (ImportError, OSError)):
            first = first.__context__  # `module` may have tried something else after it
        name = (getattr(first, "name", None) or module).split(".")[0]  # it may be what `module` itself needs
        how = install or f"`pip install {name}`"
        reason = (str(first).splitlines() or [type(first).__name__])[0]
        raise DependencyMissing(f"{purpose} needs {name}, which cannot be imported ({reason}): {how}") from error


class LazyModule:
    """Stands for a module until an attribute of it is asked for."""

    def __init__(self, load: Callable[[], ModuleType]) -> None:
        self._load = load

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._load(), name)
        self.__dict__[name] = value  # the next use costs no more than an attribute
        return value


def lazy_import(module: str, purpose: str, install: str = "", prepare: Callable[[], None] | None = None) -> Any:
    """`module`, imported at its first use; `prepare` runs before that."""

    def load() -> ModuleType:
        if prepare is not None:
            prepare()
        return require(module, purpose, install)  # type: ignore[no-any-return]

    return LazyModule(load)
