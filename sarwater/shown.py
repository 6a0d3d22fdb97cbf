"""Text of unknown origin (names, tags, what libraries say of a file), made fit for one line of a log or a terminal."""

from __future__ import annotations

import unicodedata

_UNSHOWN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories that could forge a line, or turn it round: controls, formats, surrogates, separators."""


def shown(text: str) -> str:
    """`text` in one line that no name can forge: `a\\x0ab`, `\\xb0\\xad.tif`; other scripts stay as they are."""
    return (
        text if text.isprintable() else "".join(_escaped(c) if unicodedata.category(c) in _UNSHOWN else c for c in text)
    )


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
