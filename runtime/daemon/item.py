"""One item of the inbox can only ever cost that item: the one guard around all that looks at it or moves it.

Names are bytes: as text they hold what is no UTF-8 as Python's surrogates, and `shown` makes them fit for people.
"""

from __future__ import annotations

import errno
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sarwater.shown import shown

__all__ = ["ItemError", "about", "shown"]

LOOK_S = 5.0
"""Most processor time for one look at one item."""
_PROCESS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)
"""What no single item is to blame for, whatever was touched when it came."""


class ItemError(Exception):
    """What is wrong with one item; nothing else is."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """What fails while `name` is moved or removed concerns it alone, unless the machine is at fault: raises ItemError,
    or that OSError.

    FileNotFoundError stays what it is: the item left.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _PROCESS + _DISK:
            raise
        raise ItemError(error.strerror or str(error)) from error
    except (ValueError, ArithmeticError, RecursionError, MemoryError) as error:  # UnicodeError is a ValueError
        raise ItemError(str(error) or type(error).__name__) from error


@contextmanager
def looking_at(name: str) -> Iterator[None]:
    """As `about`, where nothing is changed. Then a disk that cannot read one item, a reader that stumbles over what
    somebody made for that, and one that does not come to an end, concern the item alone, too."""
    try:
        with _for_at_most(LOOK_S):
            yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _PROCESS:
            raise
        raise ItemError(error.strerror or str(error)) from error
    except Exception as error:
        raise ItemError(str(error) or type(error).__name__) from error
    except _TooLong as error:
        raise ItemError(f"it takes more than {LOOK_S:g} s of processor time") from error


class _TooLong(BaseException):
    """Not an Exception: whoever looks may expect some of those."""


@contextmanager
def _for_at_most(seconds: float) -> Iterator[None]:
    """The operating system's clock raises _TooLong in here once that much processor time has gone, and again each
    second; not in threads, which get no signals. Source: setitimer(2)."""
    if threading.current_thread() is not threading.main_thread() or any(signal.getitimer(signal.ITIMER_PROF)):
        yield
        return
    before = signal.signal(signal.SIGPROF, _raise)
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, before)


def _raise(_number: int, _frame: object) -> None:
    raise _TooLong
