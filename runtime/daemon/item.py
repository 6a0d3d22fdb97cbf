"""One item of the inbox can only ever cost that item: the one guard around all that looks at it or moves it.

Names are bytes: as text they hold what is no UTF-8 as Python's surrogates, and `shown` makes them fit for people.
"""

from __future__ import annotations

import errno
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager

_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of the disk or the process, whatever was touched when they came."""
_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that could forge a line, or turn it round: controls, formats, surrogates, separators."""


class ItemError(Exception):
    """What is wrong with one item; nothing else is."""


@contextmanager
def about(name: str) -> Iterator[None]:
    """What fails in here concerns `name` alone, unless the machine is at fault: raises ItemError, or that OSError.

    FileNotFoundError stays what it is: the item left.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if error.errno in _MACHINE:
            raise
        raise ItemError(error.strerror or str(error)) from error
    except (ValueError, ArithmeticError, RecursionError, MemoryError) as error:  # UnicodeError is a ValueError
        raise ItemError(str(error) or type(error).__name__) from error


def shown(text: str) -> str:
    """`text` in one line that no name can forge: `a\\x0ab`, `\\xb0\\xad.tif`; other scripts stay as they are."""
    return "".join(_escaped(c) if unicodedata.category(c) in _UNSHOWN else c for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
