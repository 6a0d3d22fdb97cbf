"""What keeps the repository in order: the lock agrees with pyproject.toml, the hooks fetch nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import CHECKOUT

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no tomllib")

PYTHONS = ("3.10", "3.11", "3.12", "3.13")
LOCKS = {"runtime.txt": (), "dev.txt": ("dev",)}
UNLOCKED = {"gdal", "torch"}
"""The one follows the machine's libgdal, the other comes in several builds with hashes of their own."""


def project() -> dict[str, object]:
    document: dict[str, object] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    return document


def asked_for(extras: tuple[str, ...]) -> Iterator[Requirement]:
    """What pyproject.toml asks for, with what its own extras ask for in their turn."""
    table = project()["project"]
    assert isinstance(table, dict)
    waiting = [*table["dependencies"], *(line for extra in extras for line in table["optional-dependencies"][extra])]
    while waiting:
        requirement = Requirement(waiting.pop())
        if requirement.name == table["name"]:
            waiting += (line for extra in requirement.extras for line in table["optional-dependencies"][extra])
        else:
            yield requirement


def locked(path: Path) -> Iterator[tuple[Requirement, list[str]]]:
    """Each requirement of a lock with its hashes."""
    for entry in re.split(r"\n(?=\S)", path.read_text()):
        if not entry.startswith("#"):
            first, *rest = (line.rstrip(" \\").strip() for line in entry.splitlines())
            yield Requirement(first), [line for line in rest if not line.startswith("#")]


def version_for(python: str, name: str, lock: list[Requirement]) -> str | None:
    """The version that the lock has of `name` for this Python; fails where it has two."""
    environment = {"python_version": python, "python_full_version": f"{python}.5", "extra": ""}
    versions = [
        str(requirement.specifier).removeprefix("==")
        for requirement in lock
        if canonicalize_name(requirement.name) == canonicalize_name(name)
        and (requirement.marker is None or requirement.marker.evaluate(environment))
    ]
    assert len(versions) < 2, f"{name} for Python {python}: {versions}"
    return versions[0] if versions else None


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", LOCKS)
def test_the_lock_has_a_version_in_range_of_all_that_is_asked_for(file: str, python: str) -> None:
    lock = [requirement for requirement, _ in locked(CHECKOUT / "requirements" / file)]
    for wanted in asked_for(LOCKS[file]):
        needed = wanted.marker is None or wanted.marker.evaluate({"python_version": python, "extra": ""})
        if not needed or wanted.name in UNLOCKED:
            continue
        version = version_for(python, wanted.name, lock)
        assert version, f"{file} lacks {wanted.name} for Python {python}: `make lock`"
        assert version in wanted.specifier, f"{file}: {wanted.name} {version}, pyproject.toml has {wanted}: `make lock`"


@pytest.mark.parametrize("file", LOCKS)
def test_every_locked_version_is_exact_and_hashed_and_comes_from_no_named_place(file: str) -> None:
    path = CHECKOUT / "requirements" / file
    for requirement, hashes in locked(path):
        assert re.fullmatch(r"==[\w.!]+", str(requirement.specifier)), requirement
        assert canonicalize_name(requirement.name) not in UNLOCKED
        assert hashes, requirement
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes), requirement
    assert "://" not in path.read_text()


def test_runtime_and_dev_lock_the_same_versions() -> None:
    runtime, dev = (list(locked(CHECKOUT / "requirements" / file)) for file in LOCKS)
    for python in PYTHONS:
        for requirement, _ in runtime:
            versions = {version_for(python, requirement.name, [r for r, _ in lock]) for lock in (runtime, dev)}
            assert len(versions) == 1, f"{requirement.name} for Python {python}: {versions}"


def test_environment_and_lock_name_one_pytorch() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    pinned = f"torch=={tool['uv']['dependency-metadata'][0]['version']}"
    assert tool["uv"]["constraint-dependencies"] == [pinned]
    assert re.findall(r"TORCH:-(torch==[\d.]+)\}", (CHECKOUT / "environment.sh").read_text()) == [pinned]
    assert all(pinned.removeprefix("torch==") in r.specifier for r in asked_for(("dev",)) if r.name == "torch")


def test_hooks_fetch_nothing() -> None:
    text = (CHECKOUT / ".pre-commit-config.yaml").read_text()
    assert set(re.findall(r"repo: *(\S+)", text)) == {"local"}
    assert set(re.findall(r"language: *(\S+)", text)) == {"system"}
