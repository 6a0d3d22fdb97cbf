"""What becomes of a scene whose file ended, or exhausted, the process that opened or decoded it."""

from __future__ import annotations

import signal
from typing import Any

from sarwater import errors
from sarwater.errors import SceneUnreadable, SceneUnsafe
from sarwater.request import Limits
from sarwater.scenes.limits import how_to_lift


def refuse(answer: dict[str, Any], name: str, limits: Limits, doing: str) -> None:
    """Raise what the `answer` of that process says of the scene called `name`; `doing` is `opened` or `decoded`.

        error, message    one of `sarwater.errors`
        memory            the memory that the limits allow was not enough
        signal            by which it was ended
        bug               an error that nobody foresaw

    Raises the error; SceneUnsafe for time and memory; SceneUnreadable for a crash, and for a bug.
    """
    ended_by = answer.get("signal", 0)
    if kind := answer.get("error"):
        raise getattr(errors, kind)(answer["message"])
    if answer.get("memory") or ended_by == signal.SIGKILL:
        raise SceneUnsafe(
            f"{name}: needs more than {limits.max_open_bytes:,} bytes of memory to be {doing}; it is damaged, or "
            f"hostile; {how_to_lift('max_open_bytes', 2 * limits.max_open_bytes)}"
        )
    if ended_by == signal.SIGXCPU:
        raise SceneUnsafe(
            f"{name}: takes more than {limits.max_open_s:g} s to be {doing}; it is damaged, or hostile; "
            + how_to_lift("max_open_s", 2 * limits.max_open_s)
        )
    if ended_by:
        raise SceneUnreadable(
            f"{name}: the library that decodes it crashed ({signal.Signals(ended_by).name}); the file is damaged: "
            "send it again"
        )
    if why := answer.get("bug"):
        raise SceneUnreadable(
            f"{name}: cannot be made sense of ({why}); the file is damaged: send it again; if it is sound, report it"
        )
