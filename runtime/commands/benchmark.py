"""How fast a model is on this machine, and everything that is needed to believe the figure.

python -m runtime.commands.benchmark [MODEL|FILE ...]
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.benchmarking.numbers import whole_numbers
from runtime.benchmarking.regression import FORMAT, check_same_machine, compare, differences, read_report
from runtime.commands.options import device_option
from runtime.commands.output import check_writable, write_report
from sarwater import __version__
from sarwater.command import ModelName, command, invoke, option, run
from sarwater.errors import UsageError
from sarwater.models import DEFAULT_MODEL, Model, find_model

if TYPE_CHECKING:
    from runtime.benchmarking.measure import Task

TOLERANCE_PERCENT = 5.0
_PATH = click.Path(path_type=Path)
BUSY_CPUS = 0.1
"""CPUs' worth of other work from which figures are doubted."""

_EXAMPLES = """
sarwater benchmark                                            the default model: network, scene, start-up
sarwater benchmark hrnet --tile 512,1024 --batch 1,4 --json now.json --plot now.png
sarwater benchmark a-fp32.onnx a-int8.onnx a.engine --scene 8192x8192 --markdown results.md
sarwater benchmark hrnet --compare before.json                exits with 1 if it became slower
"""
_MORE = """
Run it on an otherwise idle machine. On a Jetson, set the power mode first (nvpmodel), and lock the clocks
(jetson_clocks) or not, as in operation: both are reported. Energy of an x86 CPU can be read by root only, that of an
NVIDIA GPU with nvidia-ml-py. What cannot be read is null in the JSON and "not readable" in the tables.
"""
_WHAT, _RESULTS = "what is measured", "results"


@dataclass(frozen=True)
class _Asked:
    """What the command line says, as it is there."""

    device: str = "auto"
    batch: str | None = None
    tile: str | None = None
    scene: str = "4096x4096"
    seconds: float = 30.0
    starts: int = 3


_DEFAULTS = _Asked()


@command(
    "benchmark",
    "Measure how fast models run on this machine: the network alone, whole scenes, start-up. "
    f"A MODEL is a name, an .onnx or an .engine file; without, it is {DEFAULT_MODEL}.",
    examples=_EXAMPLES,
    more=_MORE,
    exit_codes="0 measured, 1 slower than --compare or failed, 2 wrong usage, 78 settings or machine at fault, "
    "130 interrupted",
)
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@option("--model", "also", multiple=True, group=_WHAT, metavar="MODEL", type=ModelName(), help="As the argument MODEL.")
@device_option(_WHAT)
@option("--batch", group=_WHAT, metavar="LIST", help="Tiles at a time. [default: 1,2,4,8, as far as an engine goes]")
@option(
    "--tile", group=_WHAT, metavar="LIST", help="Tile sizes in pixels; an engine's is fixed. [default: the model's]"
)
@option(
    "--scene",
    group=_WHAT,
    metavar="WxH",
    default=_DEFAULTS.scene,
    help=f"Simulated scene in pixels, or none. [default: {_DEFAULTS.scene}]",
)
@option(
    "--seconds",
    group=_WHAT,
    type=float,
    metavar="S",
    default=_DEFAULTS.seconds,
    help=f"Time limit of each measurement. [default: {_DEFAULTS.seconds:g}]",
)
@option(
    "--starts",
    group=_WHAT,
    type=int,
    metavar="N",
    default=_DEFAULTS.starts,
    help=f"Processes to time the start-up, 0 for none. [default: {_DEFAULTS.starts}]",
)
@option("--json", "json_file", group=_RESULTS, type=_PATH, metavar="FILE", help="Write the whole report.")
@option("--markdown", group=_RESULTS, type=_PATH, metavar="FILE", help="Write the tables, as benchmarks/results-*.md.")
@option("--plot", group=_RESULTS, type=_PATH, metavar="F.png", help="Draw latency and throughput; needs matplotlib.")
@option("--compare", group=_RESULTS, type=_PATH, metavar="EARLIER.json", help="Exit with 1 if slower than that report.")
@option(
    "--tolerance",
    group=_RESULTS,
    type=float,
    metavar="PERCENT",
    default=TOLERANCE_PERCENT,
    help=f"Slower is what takes longer by more than this. [default: {TOLERANCE_PERCENT:g}]",
)
@option("--start-once", is_flag=True, hidden=True)
def benchmark(
    models: Sequence[str],
    also: Sequence[str],
    json_file: Path | None,
    markdown: Path | None,
    plot: Path | None,
    compare: Path | None,
    tolerance: float,
    start_once: bool,
    **what: Any,
) -> int:
    asked = _Asked(**what)
    if not tolerance >= 0:
        raise UsageError(f"--tolerance {tolerance:g}: expected a percentage, 0 or more")
    task = _task(asked)
    from runtime.benchmarking import measure, presentation

    names = [*models, *also]
    found = [find_model(name) for name in names or [DEFAULT_MODEL]]
    for model in found:
        measure.check(model, task)
    if start_once:
        print(json.dumps(measure.start_once(found[0], asked.device, next(iter(task.tiles_px), None))))
        return 0
    # Whatever could fail after minutes of measuring fails now.
    for path in filter(None, (json_file, markdown, plot)):
        check_writable(path)
    if plot:
        presentation.check_png(plot)
        presentation.load_matplotlib()
    earlier = read_report(compare) if compare else None
    report = _measured(found, names, task, asked, earlier)
    if json_file:
        write_report(json_file, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if markdown:
        write_report(markdown, presentation.markdown(report))
    if plot:
        presentation.plot(report, plot)
    presentation.print_tables(list(presentation.tables(report)))
    _warn_if_busy(report)
    return _compared(report, earlier, tolerance / 100) if earlier else 0


def _measured(
    models: Sequence[Model], names: Sequence[str], task: Task, asked: _Asked, earlier: dict[str, Any] | None
) -> dict[str, Any]:
    """The report: what was measured on what, in plain JSON values."""
    from runtime.benchmarking.device_state import Sensors
    from runtime.benchmarking.measure import measure
    from runtime.benchmarking.nvml import Nvml

    sensors = Sensors(nvml=Nvml.open())
    report: dict[str, Any] = {
        "format": FORMAT,
        "version": __version__,
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "command": _command(names, asked),
        "machine": asdict(sensors.machine()),
        "settings": asdict(sensors.settings()),
        "patience": asdict(task.patience),
        "models": [],
    }
    if earlier:
        check_same_machine(report, earlier)
    for model in models:
        print(f"model {model.manifest.name} {model.manifest.precision} ({model.path})", file=sys.stderr)
        for tile_px in task.tiles_px or (None,):
            say = _saying(f"  tile {tile_px or model.manifest.tile_px} px: ")
            report["models"].append(measure(model, asked.device, tile_px, task, sensors, say))
    return report


def _compared(report: dict[str, Any], earlier: dict[str, Any], tolerance: float) -> int:
    """Print the comparison; 1 where something became slower, else 0."""
    from runtime.benchmarking.presentation import compared, print_tables

    changes = compare(report, earlier, tolerance)
    if not changes:
        raise UsageError("--compare: the earlier report has no figure of these models, tiles, batches or scene size")
    print_tables([compared(changes)])
    for difference in differences(report, earlier):
        print(f"differs: {difference}")
    slower = [change.what for change in changes if change.verdict == "slower"]
    if slower:
        print(f"sarwater benchmark: slower by more than {tolerance:.1%}: {'; '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


def _task(asked: _Asked) -> Task:
    """What to measure. Raises UsageError for what cannot be."""
    from runtime.benchmarking.measure import Task
    from runtime.benchmarking.timing import Patience

    if not asked.seconds > 0:
        raise UsageError(f"--seconds {asked.seconds:g}: expected a time limit above 0")
    if asked.starts < 0:
        raise UsageError(f"--starts {asked.starts}: expected a number of processes, 0 or more")
    return Task(
        batches=whole_numbers("--batch", asked.batch, 1) if asked.batch else None,
        tiles_px=whole_numbers("--tile", asked.tile, 32) if asked.tile else (),
        scene_px=_size(asked.scene),
        patience=Patience(limit_s=asked.seconds),
        starts=asked.starts,
    )


def _command(names: Sequence[str], asked: _Asked) -> str:
    """The command without where its results go, so that it gives the same figures wherever it is repeated."""
    words = ["sarwater", "benchmark", *names]
    for name, value in asdict(asked).items():
        if value != getattr(_DEFAULTS, name):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _warn_if_busy(report: dict[str, Any]) -> None:
    seen = [entry["conditions"] for model in report["models"] for entry in model["network"]]
    others = max((conditions["others_cpus"] or 0.0 for conditions in seen), default=0.0)
    if others > BUSY_CPUS:
        print(
            f"sarwater benchmark: other processes kept {others:.1f} CPUs busy meanwhile: these figures are too slow",
            file=sys.stderr,
        )


def _size(text: str) -> tuple[int, int] | None:
    if text == "none":
        return None
    width, cross, height = text.partition("x")
    if not cross or not (width + height).isascii() or not (width.isdigit() and height.isdigit()):
        raise UsageError(f"--scene {text}: expected WIDTHxHEIGHT in pixels, as 4096x4096, or none")
    if min(int(width), int(height)) < 1 or int(width) * int(height) > 1_000_000_000:
        raise UsageError(f"--scene {text}: expected at least 1 x 1 px and at most 1e9 pixels")
    return int(width), int(height)


def _saying(prefix: str) -> Callable[[str], None]:
    return lambda text: print(prefix + text, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`."""
    return invoke(benchmark, argv)


def cli() -> int:
    return run(benchmark)


if __name__ == "__main__":
    sys.exit(cli())
