"""Where recipes lie and how they are read: recipes/<family>/{default,reference}.toml, recipes/<model>/recipe.toml."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from sarwater.dependencies import require
from sarwater.errors import ConfigurationError, UsageError


def recipes_folder() -> Path:
    """In a checkout beside train/, in a wheel inside it."""
    package = Path(__file__).resolve().parents[1]
    return next((path for path in (package / "recipes", package.parent / "recipes") if path.is_dir()), package)


def family_recipe(family: str, kind: str) -> Path:
    """`kind` is `default`, ours, or `reference`, that of kari_water_seg."""
    return recipes_folder() / family / f"{kind}.toml"


def model_recipe(name_or_path: str) -> Path:
    """The recipe of a model that ships, or a file of one's own. Raises UsageError with those that there are."""
    if name_or_path.endswith(".toml"):
        return Path(name_or_path)
    path = recipes_folder() / name_or_path / "recipe.toml"
    if not path.is_file():
        names = ", ".join(sorted(found.parent.name for found in recipes_folder().glob("*/recipe.toml")))
        raise UsageError(f"--recipe {name_or_path}: no such recipe; expected one of: {names}, or a file FILE.toml")
    return path


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
