"""What travels between a run and its workers: a scene with all that its work needs, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runtime.archive.plan import Plan, Scene
from runtime.products import chosen


@dataclass(frozen=True)
class Head:
    """What is the same for all scenes of a plan. Small: it travels with each of them."""

    target: str
    model: str
    model_sha256: str
    device: str
    request: dict[str, Any]
    software: str
    scratch: str | None = None
    """Folder for scenes in work; none means the system's for temporary files."""
    memory_bytes: int | None = None
    """Most that a worker process may have in memory; none means no limit."""
    lock_table: bool = False

    @classmethod
    def of(cls, plan: Plan, scratch: Path | None = None, memory_bytes: int | None = None) -> Head:
        products = [product.name for product in chosen(plan.asked.products)]
        request = plan.request | {"products": [*products, *({"stac"} - set(products))]}
        return cls(
            *(plan.target, plan.model, plan.model_sha256, plan.device, request, plan.software),
            str(scratch) if scratch else None,
            memory_bytes,
            plan.lock_table,
        )


@dataclass(frozen=True)
class Job:
    """One scene, with all that a worker needs to know."""

    head: Head
    token: str
    path: str
    files: tuple[tuple[str, str, str, str], ...]
    """(store, key, version, path below the scene's folder) of each."""
    url: str
    derived_from: str

    @classmethod
    def of(cls, plan: Plan, head: Head, scene: Scene) -> Job:
        above = len(scene.path) - len(scene.name)
        files = tuple((*plan.source_of(path), version, path[above:]) for path, _, version in scene.files)
        url = plan.url_of(scene.path)
        return cls(head, plan.token(scene), scene.name, files, url, scene.item or url)


@dataclass(frozen=True)
class SceneResult:
    """What became of a scene."""

    token: str
    scene: str
    """Where it lies."""
    outcome: str
    """`published`; `adopted` where the item was there already, or another driver was first; `failed`; `later` where the
    place was at fault."""
    reason: str = ""
    message: str = ""
    item: str | None = None
    """Where its STAC item lies."""
    blamed: bool = True
    """Of `later`: whether it may be the scene's fault, so that it is not tried for ever."""
    seconds: float = 0.0
    input_bytes: int = 0
    output_bytes: int = 0
    memory_bytes: int = 0
    """Most that its worker process was seen to have in memory, on this scene or one before."""
    requests: Mapping[str, int] = field(default_factory=dict)
    """To the stores, by operation."""
    worker: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value not in ("", None, {})}
