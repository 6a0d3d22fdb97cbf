"""`sarwater-watch`: watch a folder day and night and turn each scene that arrives into a water mask.

sarwater-watch --config /etc/sarwater/watch.toml
sarwater-watch --incoming IN --outgoing OUT --state STATE --once
sarwater-watch check /etc/sarwater/watch.toml
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from sarwater.command import run_command
from sarwater.errors import DependencyMissing

_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Python's levels in the journal's numbers (sd-daemon(3))."""


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`; the exit codes are theirs."""
    arguments = vars(_parser().parse_args(argv))
    command, file, once = (arguments.pop(name, None) for name in ("command", "config", "once"))
    try:
        from runtime.daemon import check, config
        from runtime.daemon.supervisor import Supervisor
    except ModuleNotFoundError as error:
        raise DependencyMissing(f"{error.name} is not installed; install sarwater with its dependencies") from error

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    if "JOURNAL_STREAM" in os.environ:
        logging.getLogger().handlers[0].setFormatter(_JournalFormatter())
    settings = config.load(file, arguments)
    if command == "check":
        return check.report(settings)
    Supervisor(settings, once=bool(once), reload=lambda: config.load(file, arguments)).run()
    return 0


def cli() -> int:
    return run_command(main)


class _JournalFormatter(logging.Formatter):
    """The journal adds time and unit itself, and reads the level from a prefix."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_LEVELS.get(record.levelno, 6)}>{record.getMessage()}"


def _parser() -> argparse.ArgumentParser:
    settings = _settings()
    parser = argparse.ArgumentParser(
        prog="sarwater-watch",
        description="Watch a folder and write a georeferenced water mask for each SAR scene that arrives.",
        usage="%(prog)s [--config FILE] [--once] [settings]\n       %(prog)s check CONFIG [settings]",
        epilog="Defaults, --config, the environment (SARWATER_SETTLE_S=2) and flags are read in this order.",
        parents=[settings],
        allow_abbrev=False,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    parser.add_argument("--once", action="store_true", help="work off what is complete in the inbox, then exit")
    commands = parser.add_subparsers(dest="command", metavar="")
    check = commands.add_parser(
        "check",
        parents=[settings],
        allow_abbrev=False,
        help="validate the settings, open model and inbox, and say what would happen",
    )
    check.add_argument("config", type=Path, metavar="CONFIG", help="settings in TOML")
    return parser


def _settings() -> argparse.ArgumentParser:
    """A flag for every setting, as runtime.daemon.config describes it."""
    parser = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = parser.add_argument_group("settings")
    try:
        from runtime.daemon.config import Config
    except ModuleNotFoundError as error:
        group.description = f"not listed, because {error.name} is not installed"
        return parser
    for key, field in Config.model_fields.items():
        text = (field.description or "").replace("%", "%%")
        default = "" if field.is_required() or field.default is None else f" (default: {_shown(field.default)})"
        group.add_argument("--" + key.replace("_", "-"), dest=key, metavar="VALUE", help=text + default)
    return parser


def _shown(default: object) -> str:
    if isinstance(default, tuple):
        return ",".join(str(getattr(item, "folder", item)) for item in default).replace("%", "%%") or "none"
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.exit(cli())
