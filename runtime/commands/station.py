"""Which station is meant: the one place that finds the daemon's state folder and the link to its model."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.daemon.damage import as_damage, is_damage, is_locked
from sarwater.command import Decorator, option
from sarwater.errors import SarwaterError, UsageError
from sarwater.models import looks_like_path

SETTINGS_FOLDER = Path("/etc/sarwater")
_SETTINGS = "watch.toml"
_VARIABLE = "SARWATER_STATE"


def station_options(function: Callable[..., int]) -> Callable[..., int]:
    """`--state` and `--config`, of which neither is needed where one daemon is installed."""
    add: Decorator
    for add in (
        option("--config", metavar="FILE", help="The daemon's settings, which name its state folder."),
        option(
            "--state",
            metavar="DIR",
            help=f"The daemon's state folder. [default: ${_VARIABLE}, or what the settings in {SETTINGS_FOLDER} say]",
        ),
    ):
        function = add(function)
    return function


def find_state(state: str | None = None, config: str | None = None) -> Path:
    """The state folder that is named, else that of the settings named, of the environment, of the settings installed.

    Raises UsageError where none is, or several are; ConfigurationError for settings that cannot be read.
    """
    if state:
        return Path(state)
    if config is None and (named := os.environ.get(_VARIABLE)):
        return Path(named)
    settings, found = _setting("state", config, f"--state DIR or --config FILE, or set {_VARIABLE}")
    if not found:
        raise UsageError(f"{settings}: names no state folder; give --state DIR")
    return Path(found)


def find_link(link: str | None = None, config: str | None = None) -> Path:
    """The link to the model in force: that named, else what is the model of the settings named, or installed.

    Raises UsageError where there is none, or the model is no link; ConfigurationError for settings that cannot be read.
    """
    if link:
        return Path(link)
    settings, found = _setting("model", config, "--link PATH or --config FILE")
    path = Path(found)
    if not looks_like_path(found) or (path.exists() and not path.is_symlink()):
        raise UsageError(
            f"{settings}: model is {found or 'not set'!r}, expected a link; set it to a new name in the folder of the "
            'models, `model = "/var/lib/sarwater/engines/active"`, or give --link PATH'
        )
    return path


@contextmanager
def ledger_errors(file: Path) -> Iterator[None]:
    """What cannot be done with the ledger, in one line. Raises SarwaterError."""
    try:
        yield
    except sqlite3.OperationalError as error:
        what_now = "end what holds it, then try again" if is_locked(error) else "run this as the daemon's user"
        raise SarwaterError(f"{file}: {error}; {what_now}") from error
    except sqlite3.DatabaseError as error:
        raise (as_damage(file, error) if is_damage(error) else error) from error
    except OSError as error:
        raise SarwaterError(f"{error.filename or file}: {error.strerror}; run this as the daemon's user") from error


def _setting(key: str, config: str | None, else_give: str) -> tuple[Path, str]:
    """(file of settings, what it says of `key`), "" where that is nothing."""
    from runtime.daemon.config import read_toml

    settings = Path(config) if config else _installed(else_give)
    found = read_toml(settings).get(key)
    return settings, found if isinstance(found, str) else ""


def _installed(else_give: str) -> Path:
    """The settings of the daemon here. Where there are several, that of the unit without an instance."""
    files = sorted(SETTINGS_FOLDER.glob("*.toml"))
    if SETTINGS_FOLDER / _SETTINGS in files or len(files) == 1:
        return SETTINGS_FOLDER / _SETTINGS if len(files) != 1 else files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"{SETTINGS_FOLDER}: settings of several daemons ({names}); give {else_give}")
    raise UsageError(f"no settings in {SETTINGS_FOLDER}; give {else_give}")
