"""Lists of numbers on a command line."""

from __future__ import annotations

from sarwater.errors import UsageError


def whole_numbers(flag: str, text: str, step: int) -> tuple[int, ...]:
    """`1,2,4` -> (1, 2, 4), each once and a multiple of `step` above 0."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()) or not int(part) or int(part) % step:
            expected = "whole numbers from 1" if step == 1 else f"multiples of {step}"
            raise UsageError(f"{flag} {text}: {part!r} is not possible; expected {expected}, separated by commas")
    return tuple(dict.fromkeys(int(part) for part in parts))
