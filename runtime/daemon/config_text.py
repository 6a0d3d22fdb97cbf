"""The settings in force as a TOML file that says of each what it is, and where its value comes from."""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from runtime.daemon.config import Config, gather, missing_keys, validated
from sarwater.errors import ConfigurationError
from sarwater.shown import shown

_WIDTH = 118
_UNPRINTABLE = re.compile(r"[\x7f-\x9f\u2028\u2029]")


def config_text(file: Path | None, flags: Mapping[str, str], groups: Mapping[str, Sequence[str]]) -> str:
    """Of file, environment and flags. Read again, it gives the same settings: defaults are there as comments.

    Raises ConfigurationError. Folders that nobody named are left to be filled in.
    """
    values, origin = gather(file, flags)
    unnamed = missing_keys(values)
    config = validated({**values, **{key: f"{key}-folder" for key in unnamed}}, origin)
    lines: list[str] = []
    for group, names in groups.items():
        lines += ["", f"# ---- {group}"]
        for name in names:
            lines += ["", *_explained(name, origin.get(name), name in unnamed)]
            value = getattr(config, name)
            if name in unnamed:
                lines.append(f'# {name} = "DIR"')
            elif value is None:
                lines.append(f"# {name} =")
            else:
                lines.append(f"{'' if name in values else '# '}{name} = {_toml(name, value)}")
    return "\n".join([*lines[1:], ""])


def _explained(name: str, origin: str | None, unnamed: bool) -> Iterator[str]:
    text = " ".join((Config.model_fields[name].description or "").split())
    said = "required" if unnamed else f"from {origin}" if origin else ""
    yield from (f"# {line}" for line in textwrap.wrap(f"{text}{f' ({said})' if said else ''}", _WIDTH - 2))


def _toml(name: str, value: Any) -> str:
    """Source: https://toml.io/en/v1.0.0."""
    if isinstance(value, BaseModel):
        value = {key: item for key, item in value.model_dump().items() if item is not None}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(name, item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(name, item) for item in value) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    text = json.dumps(str(value), ensure_ascii=False)
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ConfigurationError(f"{name} = {shown(text)}: not UTF-8, which TOML cannot say; choose another name")
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
