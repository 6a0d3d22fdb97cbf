"""The names and parameters of TensorRT's real Python bindings, from three of its releases, as a table beside this file.

`python -m tests.support.tensorrt_signatures` makes the table again: the bindings of PyPI are loaded over empty
libraries in TensorRT's place, and asked for their docstrings, which hold what pybind11 knows of each parameter.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

TABLE = Path(__file__).with_name("tensorrt_signatures.json")
BINDINGS = {
    "10.3.0": "tensorrt-cu12-bindings==10.3.0",
    "10.16.1.11": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4.0.106": "tensorrt-cu13-bindings==11.4.0.106",
}
Signatures = dict[str, list[list[str]]]
"""`Class.name` -> the parameters of each overload, without `self`; none for what is no function."""


def signatures() -> dict[str, Signatures]:
    """Version -> what that release has."""
    found: dict[str, Signatures] = json.loads(TABLE.read_text())
    return found


def parameters(documentation: str) -> list[list[str]]:
    """Of each signature in a docstring of pybind11: `1. name(self: module.Class, shape: tuple = ()) -> bool`."""
    found = []
    for line in documentation.splitlines():
        signature = re.match(r"(?:\d+\. )?\w+\((.*)\)(?: -> .*)?$", line)
        if signature and signature[1] != "*args, **kwargs":  # the heading of several
            names = re.findall(r"(?:^|, )(\w+)(?=:)", _without_brackets(signature[1]))
            found.append([name for name in names if name != "self"])
    return found


def _without_brackets(text: str) -> str:
    """Defaults and types may hold commas of their own."""
    while (shorter := re.sub(r"\[[^\[\]]*\]|\([^()]*\)|<[^<>]*>", "", text)) != text:
        text = shorter
    return text


def of_module(module: ModuleType) -> Signatures:
    """What a module of bindings has of the names that the project uses."""
    from tests.export.test_tensorrt_api import SINCE as IN_EXPORT
    from tests.runtime.backends.gpu.test_tensorrt_api import SINCE as IN_RUNTIME

    found: Signatures = {}
    for name in {*IN_EXPORT, *IN_RUNTIME}:
        value: Any = module
        for part in name.split("."):
            value = getattr(value, part, None)
        if value is not None:
            found[name] = parameters(value.__doc__ or "") if inspect.isroutine(value) else []
    return found


def _load(wheel: str) -> Signatures:
    """In this process, of which there must be one for each wheel."""
    with tempfile.TemporaryDirectory() as folder:
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", wheel]
        subprocess.run([*download, "--dest", folder], check=True)
        shutil.unpack_archive(next(Path(folder).glob("*.whl")), folder, "zip")
        library = next(Path(folder).glob("*/tensorrt*.so"))
        _put_empty_libraries_beside(library)
        sys.path.insert(0, folder)
        return of_module(importlib.import_module(library.parent.name + ".tensorrt"))


def _put_empty_libraries_beside(library: Path) -> None:
    """One with every name that the bindings take from TensorRT, under the names of the libraries that they ask for."""
    import ctypes

    wanted = _told("readelf", "--dynamic", library)
    names = [name for name in re.findall(r"\(NEEDED\).*\[(.+)\]", wanted) if name.startswith("libnv")]
    undefined = re.findall(r"^ +U (\w+)$", _told("nm", "--dynamic", "--undefined-only", library), re.MULTILINE)
    symbols = [symbol for symbol in undefined if not symbol.startswith(("Py", "_Py"))]
    source = library.with_name("empty.c")
    source.write_text("".join(f"void *{symbol}(void) {{ return 0; }}\n" for symbol in symbols))
    for name in names:
        path = library.with_name(name)
        _told("cc", "-w", "-shared", "-fPIC", f"-Wl,-soname,{name}", source, "-o", path)
        ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)


def _told(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(_load(sys.argv[1])))
    else:
        table = {
            version: json.loads(_told(sys.executable, "-m", "tests.support.tensorrt_signatures", wheel))
            for version, wheel in BINDINGS.items()
        }
        TABLE.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n")
