"""`sarwater alert`: a draft of a CAP alert, which the daemon made, becomes an alert when a person says so."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from runtime.telling.cap import LEVELS, confirmed, read
from sarwater.atomic import replacing
from sarwater.command import command, option, run
from sarwater.errors import UsageError

_SHOWN = ("headline", "description", "areaDesc", "identifier")


def _levels(function: Callable[..., int]) -> Callable[..., int]:
    for name, choices in reversed(LEVELS.items()):
        add = option(f"--{name}", group="judgement", type=click.Choice(choices), required=True, help="As you judge it.")
        function = add(function)
    return function


@command(
    "alert",
    "Make an alert of a draft, by the Common Alerting Protocol 1.2. It shows what the draft says and asks; nothing is "
    "sent: the file is for your own alert system.",
    examples="""
    sarwater alert draft.xml -o alert.xml --sender ops@station.example --event Flood --urgency Expected \\
        --severity Moderate --certainty Observed
    """,
)
@click.argument("draft", type=click.Path(path_type=Path), metavar="DRAFT")
@option("-o", "--output", group="files", type=Path, required=True, metavar="FILE", help="Where the alert goes.")
@option("--sender", group="judgement", required=True, help="Who answers for it, as the protocol wants it: NAME@HOST.")
@option("--event", group="judgement", required=True, help="What it is about: Flood, Dam failure, ...")
@_levels
@option("--valid-h", group="judgement", type=click.FloatRange(0, min_open=True), default=24.0, show_default=True,
        help="Hours until it expires.")  # fmt: skip
def alert(draft: Path, output: Path, sender: str, event: str, valid_h: float, **levels: str) -> int:
    try:
        text = draft.read_bytes()
        said = read(text)
        made = confirmed(text, sender, event, levels, valid_h)
    except (OSError, ValueError) as error:
        raise UsageError(f"{draft}: {error}; give what a channel with format = 'cap' was told") from error
    if not sender or any(character in sender for character in " ,<&"):
        raise UsageError(f"--sender {sender}: expected no space, comma, < or &")
    if not sys.stdin.isatty():
        raise UsageError("no terminal: a person confirms an alert, not a script")
    for name in _SHOWN:
        print(f"{name:<12} {said.get(name, '')}")
    print(f"{'as':<12} {event}, {', '.join(levels.values())}, for {valid_h:g} h, by {sender}")
    if input("Is it true, and do you answer for it? Type yes: ") != "yes":
        print("It stays a draft.", file=sys.stderr)
        return 1
    with replacing(output) as temporary:
        temporary.write_bytes(made)
    print(output)
    return 0


def cli() -> int:
    return run(alert)


if __name__ == "__main__":
    sys.exit(cli())
