"""Signs of life while a scene is opened: to unpack an archive and to wait for a trial, both of which have bounds of
their own, may take longer than a supervisor listens to a worker that says nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar

_sign: ContextVar[Callable[[], None] | None] = ContextVar("sign", default=None)


@contextlib.contextmanager
def signs_of_life(sign: Callable[[], None]) -> Iterator[None]:
    """In this thread `sign` is called now and then from here on; what it raises ends the opening."""
    token = _sign.set(sign)
    try:
        yield
    finally:
        _sign.reset(token)


def show_life() -> None:
    """For whoever may take long: several times a second, where that is asked for."""
    if sign := _sign.get():
        sign()
