"""How stored values become backscatter, where a text says it: a description has it, but no attribute.

dB = DN * 0.2 - 40        scale 0.2, offset -40        scale_factor=0.001, add_offset=-50
sigma0 [dB] = 20 log10(DN) - 83        10*log10(DN^2) + CF, CF = -83 dB
"""

from __future__ import annotations

import re

_NUMBER = r"([-+−]?\s*(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)"
_DN = r"(?:dn|pixel(?:[\s_]value)?|value|stored(?:[\s_]value)?|digital[\s_]number)"
_PLUS = r"(?:\s*([-+−]\s*\d*\.?\d+)(?!\s*[*x×/\d]))?"
_TIMES = re.compile(rf"(?<![\w(]){_DN}\s*[*x×]\s*{_NUMBER}{_PLUS}", re.IGNORECASE)
_TIMES_FIRST = re.compile(rf"(?<![\w.]){_NUMBER}\s*[*x×]\s*{_DN}{_PLUS}", re.IGNORECASE)
_OVER = re.compile(rf"(?<![\w(]){_DN}\s*/\s*{_NUMBER}{_PLUS}", re.IGNORECASE)
_SCALE = re.compile(rf"(?<![a-z])scal(?:e|ing)(?:[\s_-]?factor)?\s*(?:is|of|[=:])?\s*{_NUMBER}", re.IGNORECASE)
_OFFSET = re.compile(rf"(?<![a-z])(?:add[\s_-]?)?offset\s*(?:is|of|[=:])?\s*{_NUMBER}", re.IGNORECASE)
_LOGARITHM = re.compile(
    rf"(?:20\s*[*·]?\s*log(?:10)?\s*\(?\s*{_DN}\s*\)?|10\s*[*·]?\s*log(?:10)?\s*\(?\s*{_DN}\s*(?:\^|\*\*)\s*2\s*\)?)"
    r"\s*([-+−]\s*\d+\.?\d*)",
    re.IGNORECASE,
)
_FARTHEST = 1000.0
"""No scale, and no decibels, are beyond it."""
DECIBELS = re.compile(r"(?<![a-z])(?:db(?![a-z])|decibels?)", re.IGNORECASE)


def linear_in(text: str) -> tuple[float, float] | None:
    """(scale, offset) that make decibels of stored values; None where `text` does not say both that and how."""
    if not DECIBELS.search(text):
        return None
    for pattern in (_TIMES, _TIMES_FIRST, _OVER):
        if found := pattern.search(text):
            factor, offset = _number(found[1]), _number(found[2] or "0")
            return _sound(1 / factor if pattern is _OVER and factor else factor, offset)
    scale, plus = _SCALE.search(text), _OFFSET.search(text)
    return _sound(_number(scale[1]), _number(plus[1]) if plus else 0.0) if scale else None


def constant_db_in(text: str) -> float | None:
    """K of `20 log10 DN + K`, which is sigma0 in dB."""
    found = _LOGARITHM.search(text)
    constant_db = _number(found[1]) if found else _FARTHEST
    return constant_db if abs(constant_db) < _FARTHEST else None


def _sound(scale: float, offset: float) -> tuple[float, float] | None:
    return (scale, offset) if 0 < abs(scale) < _FARTHEST and abs(offset) < _FARTHEST else None


def _number(text: str) -> float:
    return float(text.replace("−", "-").replace(" ", ""))
