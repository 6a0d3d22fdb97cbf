"""Records that a person fills in: from flags, TOML, the environment, JSON or Python, with one validation for all."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from sarwater.errors import SettingInvalid


class Record(BaseModel):
    """A frozen record. Unknown keys are refused. Each field's docstring is what every `--help` says of it.

    Raises SettingInvalid, which is a UsageError, for a value that cannot be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise invalid(error, type(self)) from None

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {annotation, *get_args(annotation)}:
            raise ValueError("expected a number")
        return value

    def but(self, **changes: Any) -> Any:
        """The same record with other values, validated as a new one."""
        kept = {name: getattr(self, name) for name in type(self).model_fields}
        return type(self)(**(kept | changes))


def invalid(error: ValidationError, record: type[BaseModel]) -> SettingInvalid:
    """What pydantic found wrong first, in one line: the key, the value, what was expected. A key that is unknown comes
    first: it may be the one that is missing."""
    first = min(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    path = ".".join(str(part) for part in first["loc"])
    text = str(first["msg"]).removeprefix("Value error, ")
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if not path:
        return SettingInvalid(text + others)
    key = str(first["loc"][0])
    if first["type"] == "missing":
        return SettingInvalid(f"{path} is missing{others}", key)
    if first["type"] == "extra_forbidden":
        return SettingInvalid(unknown(path, _keys_beside(record, first["loc"])), key)
    return SettingInvalid(f"{path} = {first['input']!r}: {text}{others}", key)


def _keys_beside(record: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    """The keys that there are where `place` is: `priority.0.prio` has `priority.0.glob` beside it."""
    model = record
    for part in place[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_models_in(model.model_fields[part].annotation), model)
    above = "".join(f"{part}." for part in place[:-1])
    return [above + name for name in model.model_fields]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)


def unknown(key: str, known: Iterable[str]) -> str:
    """`unknown key 'treshold'; did you mean 'threshold'?`"""
    names = list(known)
    close = difflib.get_close_matches(key, names, 1)
    return f"unknown key {key!r}; " + (f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}")
