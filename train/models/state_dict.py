"""Tensors by name, out of whatever other programs wrap around them: training loops put a state_dict beside epochs and
optimisers (`state_dict`, `model`, `ema`), torch.compile, DataParallel and Lightning put words before every name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sarwater.errors import CheckpointInvalid

WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "ema", "ema_state_dict")
"""Keys that hold the tensors, the likeliest first: the weights themselves before their average."""
_PREFIXES = re.compile(r"^((_orig_mod|module|model|backbone|net|network|ema)\.)+")
_MAX_DEPTH = 6


def load_document(path: Path, expected: str) -> Any:
    """What `torch.save` wrote: tensors and plain values, never code. `expected` is what a message calls that.

    Raises FileNotFoundError, and CheckpointInvalid for a file that is damaged or carries code.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged pickle may say anything
        # torch's own advice is to run the code.
        why = "it carries code" if "weights_only" in str(error) else first_line(error)
        raise CheckpointInvalid(f"{path}: not {expected} ({why})") from error


def first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].strip()


def unwrapped(document: Any, is_found: Callable[[Mapping[str, Any]], bool] | None = None) -> Mapping[str, Any] | None:
    """The innermost mapping that holds tensors, in `document` or under one of WRAPPINGS, else under any other key; or
    the first for which `is_found` is true. None where there is none."""
    found = is_found or _holds_tensors
    return _within(document, found, lambda item: [key for key in WRAPPINGS if key in item]) or _within(
        document, found, list
    )


def _within(
    document: Any, found: Callable[[Mapping[str, Any]], bool], keys: Callable[[Mapping[str, Any]], list[str]]
) -> Mapping[str, Any] | None:
    waiting = [(document, 0)]
    while waiting:
        item, depth = waiting.pop(0)
        if not isinstance(item, Mapping) or depth > _MAX_DEPTH:
            continue
        if found(item):
            return item
        waiting += [(item[key], depth + 1) for key in keys(item)]
    return None


def without_prefixes(tensors: Mapping[Any, Any]) -> dict[str, Tensor]:
    """The tensors of a mapping by the network's own names: without the usual prefixes, and those that all share."""
    known = {
        _PREFIXES.sub("", name): value
        for name, value in tensors.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    while len({name.partition(".")[0] for name in known}) == 1:
        own = {_PREFIXES.sub("", name.partition(".")[2]): value for name, value in known.items()}
        if not all(name[:1].isalpha() and "." in name for name in own):
            break  # `features.0.weight` is what torchvision calls it
        known = own
    return known


def _holds_tensors(item: Mapping[str, Any]) -> bool:
    return any(isinstance(value, Tensor) and "." in str(name) for name, value in item.items())
