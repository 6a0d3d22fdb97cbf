"""How fast a model is on this machine, and everything that is needed to believe the figure.

python -m runtime.commands.benchmark [MODEL|FILE ...]
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.benchmarking.regression import FORMAT, check_same_machine, compare, differences, read_report
from sarwater import __version__
from sarwater.atomic import replacing
from sarwater.command import run_command
from sarwater.errors import OutputError, UsageError
from sarwater.models import Model, find_model

if TYPE_CHECKING:
    from runtime.benchmarking.measure import Task

DEFAULT_MODEL = "hrnet"
TOLERANCE_PERCENT = 5.0
BUSY_CPUS = 0.1
"""CPUs' worth of other work from which figures are doubted."""

_EPILOG = """\
examples:
  sarwater-benchmark                                            the default model: network, scene, start-up
  sarwater-benchmark hrnet --tile 512,1024 --batch 1,4 --json now.json --plot now.png
  sarwater-benchmark a-fp32.onnx a-int8.onnx a.engine --scene 8192x8192 --markdown results.md
  sarwater-benchmark hrnet --compare before.json                exits with 1 if it became slower

Run it on an otherwise idle machine. On a Jetson, set the power mode first (nvpmodel), and lock the clocks
(jetson_clocks) or not, as in operation: both are reported. Energy of an x86 CPU can be read by root only, that of an
NVIDIA GPU with nvidia-ml-py. What cannot be read is null in the JSON and "not readable" in the tables.

exit codes: 0 measured, 1 slower than --compare or failed, 2 wrong usage, 78 set-up is broken, 130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    task = _task(arguments)
    from runtime.benchmarking import measure, presentation

    models = [find_model(name) for name in arguments.models or [DEFAULT_MODEL]]
    for model in models:
        measure.check(model, task)
    if arguments.start_once:
        print(json.dumps(measure.start_once(models[0], arguments.device, next(iter(task.tiles_px), None))))
        return 0
    # Whatever could fail after minutes of measuring fails now.
    if arguments.plot:
        presentation.check_png(arguments.plot)
        presentation.load_matplotlib()
    earlier = read_report(arguments.compare) if arguments.compare else None
    report = _measured(models, task, arguments, earlier)
    if arguments.json:
        _write(arguments.json, json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    if arguments.markdown:
        _write(arguments.markdown, presentation.markdown(report))
    if arguments.plot:
        presentation.plot(report, arguments.plot)
    presentation.print_tables(list(presentation.tables(report)))
    _warn_if_busy(report)
    return _compared(report, earlier, arguments.tolerance / 100) if earlier else 0


def _measured(
    models: Sequence[Model], task: Task, arguments: argparse.Namespace, earlier: dict[str, Any] | None
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
        "command": _command(arguments),
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
            report["models"].append(measure(model, arguments.device, tile_px, task, sensors, say))
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
        print(f"sarwater-benchmark: slower by more than {tolerance:.1%}: {'; '.join(slower)}", file=sys.stderr)
    return 1 if slower else 0


def _task(arguments: argparse.Namespace) -> Task:
    """What to measure. Raises UsageError for what cannot be."""
    from runtime.benchmarking.measure import Task
    from runtime.benchmarking.timing import Patience

    if not arguments.seconds > 0:
        raise UsageError(f"--seconds {arguments.seconds:g}: expected a time limit above 0")
    if arguments.starts < 0:
        raise UsageError(f"--starts {arguments.starts}: expected a number of processes, 0 or more")
    if not arguments.tolerance >= 0:
        raise UsageError(f"--tolerance {arguments.tolerance:g}: expected a percentage, 0 or more")
    return Task(
        batches=whole_numbers("--batch", arguments.batch, 1) if arguments.batch else None,
        tiles_px=whole_numbers("--tile", arguments.tile, 32) if arguments.tile else (),
        scene_px=_size(arguments.scene),
        patience=Patience(limit_s=arguments.seconds),
        starts=arguments.starts,
    )


def _command(arguments: argparse.Namespace) -> str:
    """The command without where its results go, so that it gives the same figures wherever it is repeated."""
    words = ["sarwater-benchmark", *arguments.models]
    for name in ("device", "batch", "tile", "scene", "seconds", "starts"):
        value = getattr(arguments, name)
        if value != _parser().get_default(name):
            words += [f"--{name}", str(value)]
    return shlex.join(words)


def _warn_if_busy(report: dict[str, Any]) -> None:
    seen = [entry["conditions"] for model in report["models"] for entry in model["network"]]
    others = max((conditions["others_cpus"] or 0.0 for conditions in seen), default=0.0)
    if others > BUSY_CPUS:
        print(
            f"sarwater-benchmark: other processes kept {others:.1f} CPUs busy meanwhile: these figures are too slow",
            file=sys.stderr,
        )


def whole_numbers(flag: str, text: str, step: int) -> tuple[int, ...]:
    """`1,2,4` -> (1, 2, 4), each once and a multiple of `step` above 0."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()) or not int(part) or int(part) % step:
            expected = "whole numbers from 1" if step == 1 else f"multiples of {step}"
            raise UsageError(f"{flag} {text}: {part!r} is not possible; expected {expected}, separated by commas")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _size(text: str) -> tuple[int, int] | None:
    if text == "none":
        return None
    width, cross, height = text.partition("x")
    if not cross or not (width + height).isascii() or not (width.isdigit() and height.isdigit()):
        raise UsageError(f"--scene {text}: expected WIDTHxHEIGHT in pixels, as 4096x4096, or none")
    if min(int(width), int(height)) < 1 or int(width) * int(height) > 1_000_000_000:
        raise UsageError(f"--scene {text}: expected at least 1 x 1 px and at most 1e9 pixels")
    return int(width), int(height)


def _write(path: Path, text: str) -> None:
    try:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free disk space or choose another folder") from error


def _saying(prefix: str) -> Callable[[str], None]:
    return lambda text: print(prefix + text, file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sarwater-benchmark",
        description="Measure how fast models run on this machine: the network alone, whole scenes, start-up.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("models", nargs="*", metavar="MODEL", help=f"a name, an .onnx or an .engine file (default: {DEFAULT_MODEL})")
    add("--device", default="auto", help="as in sarwater-predict (default: %(default)s)")
    add("--batch", metavar="LIST", help="tiles handed over at a time (default: 1,2,4,8, as far as an engine goes)")
    add("--tile", metavar="LIST", help="tile sizes in pixels (default: the model's own; an engine's is fixed)")
    add("--scene", default="4096x4096", metavar="WxH", help="simulated scene in pixels, or none (default: %(default)s)")
    add("--seconds", type=float, default=30.0, metavar="S", help="time limit of each measurement (default: 30)")
    add("--starts", type=int, default=3, metavar="N", help="processes to time the start-up, 0 for none (default: 3)")
    add("--json", type=Path, metavar="F", help="write the whole report")
    add("--markdown", type=Path, metavar="F", help="write the tables as a benchmarks/results-<device>.md")
    add("--plot", type=Path, metavar="F.png", help="draw latency and throughput (needs matplotlib)")
    add("--compare", type=Path, metavar="EARLIER.json", help="exit with 1 if slower than that report")
    add("--tolerance", type=float, default=TOLERANCE_PERCENT, metavar="PERCENT", help="slower than that (default: 5)")
    add("--start-once", action="store_true", help=argparse.SUPPRESS)
    return parser


def cli() -> int:
    return run_command(main)


if __name__ == "__main__":
    sys.exit(cli())
