"""`sarwater`: the one command. Each subcommand is imported when it is used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click
from click.shell_completion import shell_complete

from sarwater import __version__
from sarwater.command import LazyGroup, run

COMPLETE_VARIABLE = "_SARWATER_COMPLETE"
COMMANDS = {
    "predict": ("runtime.commands.predict:predict", "SAR scenes -> water masks, now"),
    "watch": ("runtime.commands.watch:watch", "watch a folder, day and night: each scene that arrives becomes a mask"),
    "status": ("runtime.commands.status:status", "what the daemon does now, what waits, what came of the last scenes"),
    "queue": ("runtime.commands.queue:queue", "look into the daemon's ledger, requeue or drop scenes"),
    "activate": ("runtime.commands.activate:activate_command", "prove a model here, then let the daemon take it up"),
    "alert": ("runtime.commands.alert:alert", "a draft of a public alert (CAP), confirmed by a person"),
    "archive": ("runtime.commands.archive:archive", "an archive of scenes -> masks, exactly once, on many machines"),
    "evaluate": ("runtime.commands.evaluate:evaluate", "score a model on labelled scenes, as it runs"),
    "benchmark": ("runtime.commands.benchmark:benchmark", "latency, throughput and start-up on this machine"),
    "fit": ("train.fit:fit_command", "train a network on labelled scenes"),
    "finetune": ("train.finetuning.finetune:finetune_command", "adapt a model to a station's own labelled scenes"),
    "simulate": ("train.simulator.simulate:simulate", "make SAR scenes with known water"),
    "export": ("export.to_onnx:export_command", "checkpoint -> ONNX"),
    "build-engine": ("export.build_engine:build_engine_command", "model -> TensorRT or TensorRT-RTX engine"),
    "verify": ("export.verify:verify_command", "every precision of a model side by side, with its gate"),
    "inspect": ("export.inspect:inspect_command", "what is in a model file"),
    "doctor": ("runtime.commands.doctor:doctor", "what this machine can do, and the command for what is missing"),
}
EXAMPLES = """
sarwater predict scene.tif -o products
sarwater watch --incoming in --outgoing out --state state --once
sarwater finetune MY_SCENES
sarwater COMMAND --help
"""
COMPLETION = """
completion by the tab key, in the start-up file of your shell:
  bash   eval "$(_SARWATER_COMPLETE=bash_source sarwater)"
  zsh    eval "$(_SARWATER_COMPLETE=zsh_source sarwater)"
  fish   _SARWATER_COMPLETE=fish_source sarwater | source
"""


@click.group(cls=LazyGroup, lazy=COMMANDS, examples=EXAMPLES, more=COMPLETION, invoke_without_command=True)
@click.version_option(__version__, "--version", "-V", prog_name="sarwater", help="Print the version and exit.")
@click.pass_context
def sarwater(ctx: click.Context) -> int:
    """SAR water segmentation that runs beside the antenna."""
    if ctx.invoked_subcommand is None:
        print(ctx.get_help(), file=sys.stderr)
        return 2
    return 0


def cli(argv: Sequence[str] | None = None) -> int:
    if asked := os.environ.get(COMPLETE_VARIABLE):
        return shell_complete(sarwater, {}, "sarwater", COMPLETE_VARIABLE, asked)
    return run(sarwater, argv, "sarwater")


if __name__ == "__main__":
    sys.exit(cli())
