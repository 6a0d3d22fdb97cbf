"""Which station is meant: the one place that finds the daemon's state folder."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime.daemon.damage import as_damage, is_damage, is_locked
from sarwater.command import Decorator, option
from sarwater.errors import SarwaterError, UsageError

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
    from runtime.daemon.config import read_toml

    if state:
        return Path(state)
    if config is None and (named := os.environ.get(_VARIABLE)):
        return Path(named)
    settings = Path(config) if config else _installed()
    found = read_toml(settings).get("state")
    if not isinstance(found, str) or not found:
        raise UsageError(f"{settings}: names no state folder; give --state DIR")
    return Path(found)


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


def _installed() -> Path:
    """The settings of the daemon here. Where there are several, that of the unit without an instance."""
    files = sorted(SETTINGS_FOLDER.glob("*.toml"))
    if SETTINGS_FOLDER / _SETTINGS in files or len(files) == 1:
        return SETTINGS_FOLDER / _SETTINGS if len(files) != 1 else files[0]
    if files:
        names = ", ".join(file.name for file in files)
        raise UsageError(f"{SETTINGS_FOLDER}: settings of several daemons ({names}); give --config FILE or --state DIR")
    raise UsageError(
        f"no state folder named, and no settings in {SETTINGS_FOLDER}; give --state DIR or --config FILE, "
        f"or set {_VARIABLE}"
    )
