"""`sarwater watch`: watch a folder day and night and turn each scene that arrives into a water mask.

sarwater watch --config /etc/sarwater/watch.toml
sarwater watch --incoming IN --outgoing OUT --state STATE --once
sarwater watch check /etc/sarwater/watch.toml
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from runtime.commands.options import ALIASES, CHOICES
from runtime.daemon.config import Config
from runtime.daemon.item import shown
from sarwater.command import Group, given, invoke, option, record_options, run
from sarwater.errors import ConfigurationError, UsageError
from sarwater.request import Limits, Request

_LEVELS = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""Python's levels in the journal's numbers (sd-daemon(3))."""
_EXAMPLES = """
sarwater watch --config /etc/sarwater/watch.toml
sarwater watch --incoming in --outgoing out --state state --once
sarwater watch --config watch.toml --threshold 0.4 --products mask,polygons
sarwater watch check /etc/sarwater/watch.toml
sarwater watch --print-config > watch.toml
"""
_MORE = """
Defaults, --config, the environment (SARWATER_SETTLE_S=2) and flags are read in this order. Every setting is a key of
the TOML file, a variable of the environment and a flag: settle_s, SARWATER_SETTLE_S, --settle-s.
"""
_FOLDERS = ("incoming", "outgoing", "state")
_INBOX = (
    *("ignore", "accept", "settle_s", "scan_s", "require_marker", "read_only_inbox", "after", "product_timeout_s"),
    "companion_s",
    "priority",
)
_PATIENCE = (
    *("max_claimed", "max_attempts", "max_worker_deaths", "max_interruptions", "retry_first_s", "retry_cap_s"),
    *("free_fraction", "scene_s", "stall_s", "start_s", "stop_s"),
)
_SCENE = tuple(name for name in Request.model_fields if name not in Limits.model_fields)
_NAMED = {
    "folders": _FOLDERS,
    "model and scenes": ("model", "device", *_SCENE),
    "inbox": _INBOX,
    "attempts and time limits": _PATIENCE,
    "limits of a scene": tuple(Limits.model_fields),
    "showing and telling": ("page", "page_token_file", "tell"),
}
_GROUPS: Mapping[str, Sequence[str]] = {
    group: [name for name in names if name in Config.model_fields] for group, names in _NAMED.items()
} | {"records": [name for name in Config.model_fields if not any(name in names for names in _NAMED.values())]}
"""Every setting, in groups; those that no group names are about records."""


@click.group(
    "watch",
    cls=Group,
    help="Watch a folder and write a georeferenced water mask for each SAR scene that arrives.",
    examples=_EXAMPLES,
    more=_MORE,
    invoke_without_command=True,
    subcommand_metavar="[check CONFIG]",
)
@option("--config", group="folders", type=click.Path(path_type=Path), metavar="FILE", help="Settings in TOML.")
@option("--once", group="folders", is_flag=True, help="Work off what is complete in the inbox, then exit.")
@option("--print-config", group="folders", is_flag=True, help="Print the settings in force as TOML, then exit.")
@record_options(Config, _GROUPS, ALIASES, CHOICES)
@click.pass_context
def watch(ctx: click.Context, /, config: Path | None, once: bool, print_config: bool, **flags: Any) -> int:
    ctx.obj = given(flags)
    if ctx.invoked_subcommand is not None:
        return 0
    if print_config:
        from runtime.daemon.config_text import config_text

        print(config_text(config, ctx.obj, _GROUPS), end="")
        return 0
    from runtime.daemon.config import load
    from runtime.daemon.supervisor import Supervisor

    settings = _start(config, ctx.obj)
    supervisor: Any = Supervisor(settings, once=once, reload=lambda: load(config, ctx.obj))
    try:
        done = supervisor.run()
    except UsageError as error:
        raise ConfigurationError(str(error)) from None  # of a setting: a restart cannot help
    return done if isinstance(done, int) else 0


@watch.subcommand("check", "Validate the settings, open model and inbox, and say what would happen.")
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG")
@record_options(Config, _GROUPS, ALIASES, CHOICES)
@click.pass_context
def check(ctx: click.Context, /, config: Path, **flags: Any) -> int:
    from runtime.daemon.check import report

    try:
        return report(_start(config, ctx.obj | given(flags)))
    except UsageError as error:
        raise ConfigurationError(str(error)) from None


def _start(file: Path | None, flags: Mapping[str, str]) -> Config:
    """The settings, once the log is set up. Raises ConfigurationError."""
    from runtime.daemon.config import load

    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    format = "%(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(levelname)s %(message)s"
    logging.getLogger().handlers[0].setFormatter(_LineFormatter(format))
    return load(file, flags)


class _LineFormatter(logging.Formatter):
    """One line each, whatever a name holds. The journal adds the time itself and reads the level from a prefix."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        prefix = f"<{_LEVELS.get(record.levelno, 6)}>" if "JOURNAL_STREAM" in os.environ else ""
        return prefix + shown(super().formatMessage(record))


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`; the exit codes are theirs."""
    return invoke(watch, argv)


def cli() -> int:
    return run(watch)


if __name__ == "__main__":
    sys.exit(cli())
