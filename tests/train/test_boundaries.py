from __future__ import annotations

import ast
from pathlib import Path

import pytest

import train

SOURCES = sorted(Path(train.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_training_imports_neither_export_nor_runtime(path: Path) -> None:
    nodes = list(ast.walk(ast.parse(path.read_text())))
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not {module.split(".")[0] for module in modules} & {"export", "runtime"}
