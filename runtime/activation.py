"""Which model is in force: one symbolic link, set by a rename, and beside it what is known of the model it leads to.

    active               -> /var/lib/sarwater/engines/hrnet-w18-small-fp16-1024-trt-sm87.engine
    active.proof.json    how it was proven, which model was in force before, how many of the first scenes are left to
                         be compared with the CPU

The link alone decides. What is beside it counts only for the model that it names: it is written before the link is set
to a new model, and after the link is set back. So between any two steps of a change, one model is in force, whole, and
none that was given up.
"""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sarwater.atomic import fsync_folder, replacing
from sarwater.errors import ConfigurationError, OutputError, UsageError
from sarwater.models import Model

FORMAT = "sarwater-activation/1"
FIRST_SCENES = 3


@dataclass(frozen=True)
class Activation:
    """What is known of the model in force."""

    model: str
    """Its path."""
    sha256: str = ""
    """Of the file that was proven; empty for a model that was put in force by hand."""
    activated_utc: str = ""
    proof: dict[str, Any] = field(default_factory=dict)
    """`runtime.proof.Proof`."""
    previous: Activation | None = None
    """The model in force before, to which a rollback returns."""
    reference: str | None = None
    """Path of the fp32 graph with whose answers on the CPU the first scenes are compared."""
    unchecked: int = 0
    """How many of the first scenes have not come out yet; until then the model is new, and a failure of it rolls it
    back."""
    rolled_back: str | None = None
    """Which model was given up for this one, when and why."""
    format: str = FORMAT


def model_in_force(link: Path) -> Path | None:
    """Where the link leads; None where there is none. Raises UsageError for a file or folder in its place."""
    if not os.path.lexists(link):
        return None
    if not link.is_symlink():
        raise UsageError(f"{link}: a file or folder, expected a symbolic link or nothing; name another place: --link")
    return link.resolve()


def read_activation(link: Path) -> Activation | None:
    """What is known of the model that the link leads to; None where that is nothing.

    Raises ConfigurationError for a record that cannot be read.
    """
    record = _record(link)
    try:
        document = json.loads(record.read_text(encoding="utf-8"))
        before = document.pop("previous")
        found = Activation(**document, previous=Activation(**before) if before else None)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise ConfigurationError(
            f"{record}: not a readable record of an activation ({error}); activate a model again: `sarwater activate`"
        ) from error
    return found if link.is_symlink() and found.model == str(link.resolve()) else None


def activate(link: Path, model: Model, sha256: str, proof: dict[str, Any], reference: Model | None) -> Activation:
    """Let the link lead to `model`, which was proven. Raises UsageError, OutputError."""
    before = model_in_force(link)
    path = model.path.resolve()
    known = read_activation(link) or (Activation(str(before)) if before else None)
    if known and before == path:  # proven again: what was in force before that stays the way back
        known = known.previous
    found = Activation(
        str(path),
        sha256,
        _utc(),
        proof,
        dataclasses.replace(known, previous=None) if known else None,
        str(reference.path.resolve()) if reference else None,
        FIRST_SCENES,
    )
    _write(link, found)
    _set(link, found)
    return found


def activation_of(link: Path, model: Path) -> Activation | None:
    """What is known of `model`, if the link still leads to it. Raises ConfigurationError."""
    found = read_activation(link)
    return found if found and found.model == str(model) else None


def checked(link: Path, model: Path) -> Activation | None:
    """One more of the first scenes of `model` came out well. Raises OutputError."""
    found = activation_of(link, model)
    if found is None or not found.unchecked:
        return found
    found = dataclasses.replace(found, unchecked=found.unchecked - 1)
    _write(link, found)
    return found


def roll_back(link: Path, model: Path, why: str) -> Activation | None:
    """Give up `model` for the one in force before; None where there is none, or it is not in force. Raises
    OutputError."""
    given_up = activation_of(link, model)
    if given_up is None or given_up.previous is None:
        return None
    found = dataclasses.replace(given_up.previous, rolled_back=f"{given_up.model} at {_utc()}: {why}")
    _set(link, found)
    _write(link, found)
    return found


def _set(link: Path, activation: Activation) -> None:
    temporary = link.with_name(f".{link.name}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        temporary.symlink_to(activation.model)
        os.replace(temporary, link)
        fsync_folder(link.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{link}: cannot be set ({error.strerror}); run this as the daemon's user") from error


def _write(link: Path, activation: Activation) -> None:
    record = _record(link)
    try:
        with replacing(record) as temporary:
            temporary.write_text(json.dumps(dataclasses.asdict(activation), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{record}: cannot be written ({error.strerror}); run this as the daemon's user") from error


def _record(link: Path) -> Path:
    return link.with_name(f"{link.name}.proof.json")


def _utc() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
