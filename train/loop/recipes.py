"""Where recipes lie and how they are read: recipes/<family>/{default,reference}.toml, recipes/open-data.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sarwater.dependencies import require
from sarwater.errors import ConfigurationError


def recipes_folder() -> Path:
    """In a checkout beside train/, in a wheel inside it."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "recipes", package.parent / "recipes") if path.is_dir()), package)


def family_recipe(family: str, kind: str) -> Path:
    """`kind` is `default`, ours, or `reference`, that of kari_water_seg."""
    return recipes_folder() / family / f"{kind}.toml"


def read_toml(path: Path) -> dict[str, Any]:
    """Raises ConfigurationError naming the file."""
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    tomllib = require(name, "reading a recipe before Python 3.11")
    try:
        return dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file; expected a TOML file, `reference` or `default`") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: not a readable TOML file ({error})") from error
