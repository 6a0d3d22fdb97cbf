"""One item of the inbox can only ever cost that item: the one guard around all that looks at it or moves it.

Names are bytes: as text they hold what is no UTF-8 as Python's surrogates, and `shown` makes them fit for people.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sarwater.shown import shown

__all__ = ["ItemError", "about", "shown"]

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
    """As `about`, where nothing is changed. Then a disk that cannot read one item, and a reader that stumbles over what
    somebody made for that, concern the item alone, too."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _PROCESS:
            raise
        raise ItemError(error.strerror or str(error)) from error
    except Exception as error:
        raise ItemError(str(error) or type(error).__name__) from error
