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
from sarwater.errors import DependencyMissing, UsageError

_FLAGS = {
    "incoming": "folder that is watched for scenes",
    "outgoing": "folder that receives masks and side products",
    "state": "folder of the ledger, scenes in work, done/ and quarantine/; one file system with --incoming",
    "model": "model or engine: a file or a family name (default: hrnet)",
    "device": "where inference runs: auto, cpu, ... (default: auto; never falls back from GPU to CPU)",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`; the exit codes are theirs."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        from runtime import config
        from runtime.supervisor import Supervisor
    except ModuleNotFoundError as error:
        raise DependencyMissing(f"{error.name} is not installed; install sarwater with its dependencies") from error

    flags = {key: value for key in _FLAGS if (value := getattr(arguments, key)) is not None}
    flags.update(_pairs(arguments.set))
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format=_log_format())
    return Supervisor(config.load(arguments.config, flags), once=arguments.once).run()


def cli() -> int:
    return run_command(main)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-watch",
        description="Watch a folder and write a georeferenced water mask for each SAR scene that arrives.",
        epilog="Settings come from defaults, --config, the environment (SARWATER_KEY) and flags; the later wins.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings in TOML")
    for key, text in _FLAGS.items():
        parser.add_argument(f"--{key}", metavar=key.upper() if key in ("model", "device") else "DIR", help=text)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any other setting; repeatable")
    parser.add_argument(
        "--once", action="store_true", help="work off everything that is complete in the inbox, then exit"
    )
    return parser


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    for text in texts:
        if "=" not in text:
            raise UsageError(f"--set {text}: expected KEY=VALUE, e.g. --set settle_s=2")
    return dict(text.split("=", 1) for text in texts)


def _log_format() -> str:
    """The journal adds time and unit itself; `<4>` is its way of spelling a level."""
    return "%(levelname)s %(message)s" if "JOURNAL_STREAM" in os.environ else "%(asctime)s %(levelname)s %(message)s"


if __name__ == "__main__":
    sys.exit(cli())
