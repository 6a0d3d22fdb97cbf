"""`sarwater activate`: prove a model on this machine, then let the link that the daemon follows lead to it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from runtime.backends import DEVICES
from runtime.commands.station import find_link
from sarwater.command import command, invoke, option, run
from sarwater.errors import UsageError
from sarwater.models import Model, find_model, open_model, shipped_model
from sarwater.progress import Progress as Display

MAY_LOSE = 5.0
_EXAMPLES = """
sarwater activate /var/lib/sarwater/engines/hrnet-w18-small-fp16-1024-trt-sm87.engine
sarwater activate my-lakes.onnx --link /srv/models/active
sarwater activate --back
"""
_MORE = f"""
The proof: golden scenes, which ship, the whole way from raw pixels to classes. Against the truth the model may lose
{MAY_LOSE:g} points of IoU against the model in force (at first: that which ships). What was made from an fp32 graph, as
an engine or an int8 file, is compared with that graph on the CPU, too. A model that fails changes nothing.

Then the link is set, in one step, and `systemctl reload sarwater-watch` takes the model up without losing a scene. Its
first scenes are compared with the CPU before their masks become visible; if they differ, the daemon goes back to the
model before it by itself, and says so in its log, in `sarwater status` and in its metrics.
"""


@command("activate", "Prove a model on this machine, then put it in force for the daemon.", examples=_EXAMPLES,
         more=_MORE)  # fmt: skip
@click.argument("name", metavar="[MODEL]", required=False)
@option("--link", metavar="PATH", help="The link to the model in force. [default: `model` in the daemon's settings]")
@option("--config", metavar="FILE", help="The daemon's settings. [default: those in /etc/sarwater]")
@option("--device", type=click.Choice(DEVICES), default="auto", help="Where it is to run. [default: the file decides]")
@option("--reference", metavar="FILE", help="The fp32 graph that it was made from. [default: found beside it]")
@option("--may-lose", type=click.FloatRange(0, 100), default=MAY_LOSE, metavar="POINTS",
        help=f"Of IoU against the model in force, on the golden scenes. [default: {MAY_LOSE:g}]")  # fmt: skip
@option("--back", is_flag=True, help="Return to the model that was in force before.")
def activate_command(
    name: str | None,
    link: str | None,
    config: str | None,
    device: str,
    reference: str | None,
    may_lose: float,
    back: bool,
) -> int:
    path = find_link(link, config)
    if (name is None) != back:
        raise UsageError(f"{name or 'no model'}: expected a MODEL, or --back alone")
    in_force = _go_back(path) if name is None else _activate(path, name, device, reference, may_lose)
    print(f"{path} -> {in_force}; the daemon takes it up at its next reload: systemctl reload sarwater-watch")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Raises ProofFailed, UsageError, OutputError, and what opening a model raises."""
    return invoke(activate_command, argv)


def cli() -> int:
    return run(activate_command)


def _activate(link: Path, name: str, device: str, reference: str | None, may_lose: float) -> str:
    from runtime.activation import activate, model_in_force
    from runtime.proof import prove, reference_of

    model_in_force(link)  # refused before anything is proven
    model = find_model(name)
    fp32 = open_model(Path(reference)) if reference else reference_of(model)
    with Display(f"{name} -> {link}") as display:
        display.phase("golden scenes, by the model in force", 0, 2)
        bar_iou = max(0.0, _iou_in_force(link) - may_lose / 100)
        display.phase("golden scenes, by this one", 1, 2)
        sha256 = model.manifest.verify(model.path)
        proof = prove(model, device, fp32, bar_iou)
    print(f"{Model(model.path, model.manifest).title}, on {proof.device}: {proof}")
    return activate(link, model, sha256, proof.to_dict(), fp32).model


def _iou_in_force(link: Path) -> float:
    """On the golden scenes, as it was proven; of the model that ships where nothing was."""
    from runtime.activation import read_activation
    from runtime.proof import golden_iou

    known = read_activation(link)
    if known and "iou" in known.proof:
        return float(known.proof["iou"])
    return golden_iou(shipped_model(), "cpu")


def _go_back(link: Path) -> str:
    from runtime.activation import model_in_force, roll_back

    model = model_in_force(link)
    found = roll_back(link, model, "by hand") if model else None
    if found is None:
        raise UsageError(f"{link}: no model was in force before the one that it leads to; activate one by its name")
    return found.model


if __name__ == "__main__":
    sys.exit(cli())
