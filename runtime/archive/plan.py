"""A plan: which scenes of an archive become masks, by which model and settings, and where to. One JSON file.

It is made once and never changed; what became of its scenes is in the store that the products go to.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.archive.grouping import Group
from runtime.archive.locks import WithLocks
from runtime.archive.store import Store, is_absolute, open_store, root_and_key
from sarwater import __version__
from sarwater.atomic import replacing
from sarwater.errors import HashMismatch, OutputError, UsageError
from sarwater.models import find_model
from sarwater.request import Request

FORMAT = "sarwater archive plan 1"


class PlanInvalid(UsageError):
    """A file that is no plan of this version, or not as it was written."""

    reason = "plan_invalid"


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene of a plan."""

    path: str
    """Of its file or folder, relative to the plan's input, or absolute."""
    files: tuple[tuple[str, int, str], ...]
    """(path, bytes, version) of each of its files, as the listing had them."""
    item: str | None = None
    """The STAC item that it was found by."""

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size, _ in self.files)

    @classmethod
    def of(cls, group: Group, named: Callable[[str], str] = str, item: str | None = None) -> Scene:
        """`named` gives a plan's name for a key."""
        files = ((named(entry.key), entry.size_bytes, entry.version) for entry in group.members)
        return cls(named(group.path), tuple(files), item)


@dataclass(frozen=True)
class Plan:
    """What `sarwater archive run` does. Read with `Plan.read`, written with `write`."""

    source: str
    """Where the scenes lie, as `open_store` takes it."""
    target: str
    """Where the products go."""
    model: str
    """A model that ships, by name, or a file, which every worker finds there."""
    model_sha256: str
    device: str
    request: dict[str, Any]
    """Fields of a Request, as JSON values."""
    scenes: tuple[Scene, ...]
    software: str = __version__
    lock_table: bool = False
    """Whether commits go by claims (`runtime.archive.locks`), for a store without conditional writes."""

    def open_target(self) -> Store:
        return open_target(self.target, self.lock_table)

    @cached_property
    def asked(self) -> Request:
        return Request(**self.request)

    @cached_property
    def _settings(self) -> str:
        settings = self.asked.mask_settings() | {"software": self.software, "model": self.model_sha256}
        return json.dumps(settings, sort_keys=True, ensure_ascii=False)

    def source_of(self, location: str) -> tuple[str, str]:
        """(store, key) of one of a scene's files."""
        return root_and_key(location) if is_absolute(location) else (self.source, location)

    def url_of(self, location: str) -> str:
        return location if is_absolute(location) else f"{self.source}/{location}"

    def token(self, scene: Scene) -> str:
        """What the scene's place, versions, model and settings are in one word: its records in the store are named so.
        Needs none of its bytes, unlike a mask's key."""
        files = "".join(f"{self.url_of(path)}\n{size}\n{version}\n" for path, size, version in scene.files)
        return hashlib.sha256(f"{files}\n{self._settings}".encode(errors="surrogateescape")).hexdigest()[:32]

    def tokens(self) -> dict[str, Scene]:
        """Every scene by its token, in the plan's order."""
        return {self.token(scene): scene for scene in self.scenes}

    def check_model(self) -> None:
        """That the model is the one of the plan. Raises ModelNotFound, ModelUnknown, HashMismatch."""
        found = find_model(self.model)
        digest = found.manifest.files.get(found.path.name, "")
        if digest != self.model_sha256:
            raise HashMismatch(
                f"{self.model}: its sha256 is {digest[:12]}…, the plan was made with {self.model_sha256[:12]}…; "
                "install that model, or plan again with this one"
            )

    def write(self, path: Path) -> None:
        """Raises OutputError."""
        try:
            with replacing(path) as temporary, temporary.open("w", encoding="utf-8", errors="surrogateescape") as file:
                digest = hashlib.sha256()
                for line in self._lines():
                    digest.update(line.encode(errors="surrogateescape"))
                    file.write(line)
                file.write(f'"sha256": "{digest.hexdigest()}"}}\n')
        except OSError as error:
            raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another file with -o") from error

    def _lines(self) -> Iterator[str]:
        head = {
            "format": FORMAT,
            "software": self.software,
            "source": self.source,
            "target": self.target,
            "model": self.model,
            "model_sha256": self.model_sha256,
            "device": self.device,
            "request": self.request,
            **({"lock_table": True} if self.lock_table else {}),
        }
        yield "{" + "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
        yield '"scenes": [\n'
        last = len(self.scenes) - 1
        for number, scene in enumerate(self.scenes):
            record = [scene.path, scene.files, *([scene.item] if scene.item else [])]
            yield json.dumps(record) + ("\n" if number == last else ",\n")
        yield "],\n"

    @classmethod
    def read(cls, path: Path) -> Plan:
        """Raises PlanInvalid: missing, damaged, edited by hand, of another version."""
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
            document = json.loads(text)
        except (OSError, ValueError, RecursionError) as error:
            said = getattr(error, "strerror", None) or error
            raise PlanInvalid(f"{path}: cannot be read ({said}); `sarwater archive plan` makes one") from None
        if not isinstance(document, dict) or "format" not in document:
            raise PlanInvalid(f"{path}: no plan; expected what `sarwater archive plan -o` wrote")
        if document["format"] != FORMAT or document.get("software") != __version__:
            raise PlanInvalid(
                f"{path}: made by sarwater {document.get('software')} ({document['format']}), this is {__version__}, "
                "whose masks may differ: plan again; scenes that are done under another version stay beside the new"
            )
        body, _, end = text.rpartition('"sha256"')
        digest = hashlib.sha256(body.encode(errors="surrogateescape")).hexdigest()
        if end.strip() != f': "{digest}"}}':
            raise PlanInvalid(f"{path}: edited or damaged since it was written; plan again with other options instead")
        scenes = tuple(Scene(place, tuple(map(tuple, files)), *item) for place, files, *item in document["scenes"])
        keys = ("source", "target", "model", "model_sha256", "device", "request")
        locks = document.get("lock_table", False)
        return cls(**{key: document[key] for key in keys}, scenes=scenes, lock_table=locks)


def open_target(url: str, lock_table: bool) -> Store:
    """The store that products go to. Raises what `open_store` raises."""
    store = open_store(url)
    return WithLocks(store) if lock_table else store


def made(
    scenes: Iterable[Scene],
    *,
    source: str,
    target: str,
    model: str,
    device: str,
    request: Request,
    lock_table: bool = False,
) -> Plan:
    """Raises ModelUnknown, ModelNotFound, ManifestInvalid, HashMismatch."""
    found = find_model(model)
    named = str(found.path.absolute()) if "/" in model or model.endswith(found.path.suffix) else model
    asked = request.model_dump(mode="json", exclude_defaults=True)
    digest = found.manifest.verify(found.path)
    return Plan(source, target, named, digest, device, asked, tuple(scenes), lock_table=lock_table)
