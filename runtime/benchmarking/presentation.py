"""A report of the benchmark for people: tables on a terminal, the same tables as Markdown, a plot."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.benchmarking.regression import Change, title_of
from sarwater.atomic import replacing
from sarwater.errors import DependencyMissing, OutputError, UsageError

UNREADABLE = "not readable"
_TOO_FEW = "too few"


@dataclass(frozen=True)
class Table:
    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    note: str = ""


def tables(report: dict[str, Any]) -> Iterator[Table]:
    """Everything in the report: the machine, then three tables for every model and tile size."""
    yield machine_table(report)
    for model in report["models"]:
        title = f"{model['name']} {model['precision']}, tiles of {model['tile_px']} px, {model['backend']}"
        yield _network(title, model)
        if model["scene"] or model["scene_not_measured"] or model["start_up"]:
            yield _scene(title, model)
        yield _conditions(title, model)


def compared(changes: Sequence[Change]) -> Table:
    rows = [
        (
            change.what,
            _ms(change.before_s),
            _ms(change.now_s),
            f"{change.change:+.1%} [{change.change_low:+.1%}, {change.change_high:+.1%}]",
            change.verdict,
        )
        for change in changes
    ]
    return Table("Against the earlier report", ("", "before ms", "now ms", "change [95 %]", "verdict"), rows)


def print_tables(shown: Sequence[Table]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console()
    if not console.is_terminal:
        console = Console(width=140)  # in a log, wide lines are better than cut figures
    for table in shown:
        console.print(table.title, style="bold")
        rich = RichTable(box=box.SIMPLE, pad_edge=False, show_header=any(table.header))
        for number, heading in enumerate(table.header):
            rich.add_column(heading, justify="right" if number and len(table.header) > 2 else "left", overflow="fold")
        for row in table.rows:
            rich.add_row(*row)
        console.print(rich)
        if table.note:
            console.print(table.note + "\n", style="dim")


def markdown(report: dict[str, Any]) -> str:
    """The whole of a `benchmarks/results-<device>.md`."""
    device = ", ".join(dict.fromkeys(model["device"] for model in report["models"]))
    models = ", ".join(dict.fromkeys(f"{model['name']} {model['precision']}" for model in report["models"]))
    parts = [
        f"# Speed on {device}",
        f"{models}; sarwater {report['version']}, {report['date']}. Every figure was measured by this command, on the "
        "machine and under the conditions below; nothing is estimated.",
        f"    {report['command']}",
    ]
    parts += [as_markdown(table) for table in tables(report)]
    return "\n\n".join(parts) + "\n"


def as_markdown(table: Table) -> str:
    body = "\n".join([_line(table.header), _rule(table), *map(_line, table.rows)])
    return "\n\n".join(filter(None, [f"## {table.title}", body, table.note]))


def plot(report: dict[str, Any], path: Path) -> None:
    """A PNG: latency percentiles by batch on the left, throughput of network and scene on the right.

    Raises DependencyMissing without matplotlib, OutputError.
    """
    figure_of = load_matplotlib()
    figure = figure_of(figsize=(11, 4.5), layout="constrained")
    ticks = sorted({entry["batch"] for model in report["models"] for entry in model["network"]})
    latency, speed = figure.subplots(1, 2)
    for number, model in enumerate(report["models"]):
        batches = [entry["batch"] for entry in model["network"]]
        of = [entry["latency"] for entry in model["network"]]
        colour, title = f"C{number % 10}", title_of(model)
        latency.plot(batches, [item["p50_s"] * 1e3 for item in of], "o-", color=colour, label=f"{title}: p50")
        tails = [(b, item["p99_s"] or item["p95_s"]) for b, item in zip(batches, of, strict=True)]
        known = [(batch, tail * 1e3) for batch, tail in tails if tail is not None]
        if known:
            latency.plot(*zip(*known, strict=True), "^--", color=colour, label=f"{title}: p99, else p95")
        latency.plot(batches, [item["max_s"] * 1e3 for item in of], "x:", color=colour, label=f"{title}: max")
        rate = [entry["mpx_per_s"] for entry in model["network"]]
        spread = [r * (_half_width(item) / item["mean_s"]) for r, item in zip(rate, of, strict=True)]
        speed.errorbar(batches, rate, yerr=spread, fmt="o-", color=colour, capsize=3, label=f"{title}: network")
        if model["scene"]:
            speed.axhline(model["scene"]["mpx_per_s"], color=colour, ls=":", label=f"{title}: whole scene")
    latency.set(xlabel="batch (tiles)", ylabel="latency (ms)", yscale="log")
    speed.set(xlabel="batch (tiles)", ylabel="Mpx/s, with 95 % intervals", ylim=(0, None))
    for axes in (latency, speed):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(batch) for batch in ticks])
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    figure.suptitle(f"{report['models'][0]['device']}, {report['date']}", fontsize="medium")
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=120)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error}); free disk space or choose another folder") from error


def load_matplotlib() -> Any:
    """matplotlib's Figure, which draws without a display. Raises DependencyMissing."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyMissing(
            f"--plot needs matplotlib, which is not installed ({error}): pip install 'matplotlib>=3.8'; "
            "everything else works without it"
        ) from error
    return Figure


def check_png(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise UsageError(f"--plot {path}: expected a file that ends in .png")


def machine_table(report: dict[str, Any]) -> Table:
    machine, settings = report["machine"], report["settings"]
    values = {
        "board": machine["board"],
        "CPU": machine["cpu"],
        "CPUs to use": str(machine["cpus"]) + (" (virtual machine)" if machine["virtual"] else ""),
        "CPU governor": settings["cpu_governor"],
        "memory": _unit(machine["memory_bytes"], "GiB", 1 / 2**30),
        "system": f"{machine['system']}, Linux {machine['kernel']}, Python {machine['python']}",
        "libraries": ", ".join(f"{name} {version}" for name, version in machine["libraries"].items()),
    }
    if machine["gpu"]:
        values |= {
            "GPU": machine["gpu"],
            "driver": f"{machine['gpu_driver']}, CUDA {machine['cuda_of_driver']}",
            "GPU power limit": _unit(settings["gpu_power_limit_w"], "W"),
        }
    if settings["gpu_max_mhz"]:
        values["GPU clock, most"] = _unit(settings["gpu_max_mhz"], "MHz")
    if machine["l4t"]:
        values |= {
            "Jetson Linux": machine["l4t"],
            "power mode": settings["power_mode"],
            "clocks locked (jetson_clocks)": _yes(settings["clocks_locked"]),
        }
    load = settings["load_1min"]
    values["load before the start"] = None if load is None else f"{load:.2f} processes over a minute"
    return Table("Machine", ("", ""), [(name, value or UNREADABLE) for name, value in values.items()])


def _network(title: str, model: dict[str, Any]) -> Table:
    header = ("batch", "mean ms", "p50", "p95", "p99", "max", "tiles/s", "Mpx/s", "samples", "J/Mpx")
    energy = any(entry["joules_per_mpx"] for entry in model["network"])
    rows = []
    for entry in model["network"]:
        latency = entry["latency"]
        percentiles = (latency["p50_s"], latency["p95_s"], latency["p99_s"], latency["max_s"])
        row = (
            str(entry["batch"]),
            f"{_ms(latency['mean_s'])} {_plus_minus(latency, 1e3)}",
            *(_TOO_FEW if value is None else _ms(value) for value in percentiles),
            f"{entry['tiles_per_s']:.2f}",
            f"{entry['mpx_per_s']:.2f}",
            str(latency["samples"]),
            _joules(entry["joules_per_mpx"]),
        )
        rows.append(row[: 10 if energy else 9])
    note = (
        "From tiles in the computer's memory to probabilities in it, `batch` tiles handed over at a time, after "
        "warm-up; ± is the 95 % confidence interval of the mean (batch means)."
    )
    if not energy:
        note += " Energy: not readable."
    return Table(f"{title}: the network alone", header[: 10 if energy else 9], rows, note)


def _scene(title: str, model: dict[str, Any]) -> Table:
    rows: dict[str, str] = {}
    note = ""
    if model["scene_not_measured"]:
        rows["whole scene"] = f"not measured: {model['scene_not_measured']}"
    if scene := model["scene"]:
        latency, share = scene["latency"], scene["share_of_network"]
        spread = "" if share["low"] is None else f" [{share['low']:.1%}, {share['high']:.1%}]"
        rows |= {
            "scene": f"{scene['width_px']} x {scene['height_px']} px, {scene['tiles']} tiles inferred, "
            f"{scene['tiles_skipped']} skipped, {scene['overlap_waste']:.3f} px computed per px",
            "seconds": f"{latency['mean_s']:.3f} {_plus_minus(latency)} (longest {latency['max_s']:.3f}, "
            f"{latency['samples']} scenes)",
            "tiles/s": f"{scene['tiles_per_s']:.2f}; the network alone, on tiles of this scene: "
            f"{scene['network_tiles_per_s']:.2f}",
            "share of the network's own speed": f"{share['mean']:.1%}{spread}",
            "time in which the network worked": UNREADABLE
            if scene["network_busy"] is None
            else f"{scene['network_busy']:.1%}",
            "Mpx/s": f"{scene['mpx_per_s']:.2f}",
            "J/Mpx": _joules(scene["joules_per_mpx"]),
            "seconds by stage": ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in scene["stages_s"].items()),
        }
        note = (
            "From a simulated scene's file to finished files (mask, confidence, polygons, quicklook, STAC item, all "
            "synced to disk), in turns with the network alone. Mpx/s counts pixels of the scene, without the overlap "
            "of tiles. Stages run side by side, so their seconds may exceed the total."
        )
    if start := model["start_up"]:
        opened, first = statistics.median(start["to_open_s"]), statistics.median(start["first_inference_s"])
        rows["start-up"] = f"{opened:.2f} s from the start of a process to an opened model"
        rows["first inference"] = f"{_ms(first)} ms for one tile; medians of {len(start['to_open_s'])} processes"
    return Table(f"{title}: scene and start-up", ("", ""), list(rows.items()), note)


def _conditions(title: str, model: dict[str, Any]) -> Table:
    seen = [(f"batch {entry['batch']}", entry["conditions"]) for entry in model["network"]]
    if model["scene"]:
        seen.append(("scene", model["scene"]["conditions"]))
    columns: dict[str, list[str | None]] = {
        "CPU MHz": [_number(conditions["cpu_mhz"], 0) for _, conditions in seen],
        "GPU MHz": [_number(conditions["gpu_mhz"], 0) for _, conditions in seen],
        "hottest °C": [_number(conditions["hottest_c"], 0) for _, conditions in seen],
        "held back by": [_throttling(conditions) for _, conditions in seen],
        "other work, CPUs": [_number(conditions["others_cpus"], 2) for _, conditions in seen],
        "stolen, CPUs": [_number(conditions["stolen_cpus"], 2) for _, conditions in seen],
    }
    readable = {name: cells for name, cells in columns.items() if any(cell is not None for cell in cells)}
    rows = [
        (what, *(cells[number] or UNREADABLE for cells in readable.values())) for number, (what, _) in enumerate(seen)
    ]
    note = (
        "While measuring. Other work is that of other processes, stolen is what a hypervisor gave to other guests: "
        "where they are not near 0, the machine was not idle and the figures are too slow."
    )
    if missing := [name for name in columns if name not in readable]:
        note += f" Not readable: {', '.join(missing)}."
    return Table(f"{title}: conditions", ("", *readable), rows, note)


def _throttling(conditions: dict[str, Any]) -> str | None:
    """None where nothing could tell."""
    reasons, events = conditions["throttling"], conditions["throttle_events"]
    if reasons is None and events is None:
        return None
    return ", ".join([*(reasons or []), *(f"{name} x{count}" for name, count in (events or {}).items())]) or "nothing"


def _joules(per_mpx: dict[str, float] | None) -> str:
    if per_mpx is None:
        return UNREADABLE
    return ", ".join(f"{sensor} {joules:.3g}" for sensor, joules in per_mpx.items())


def _plus_minus(latency: dict[str, Any], scale: float = 1.0) -> str:
    if latency["mean_high_s"] is None:
        return ""
    return f"± {_half_width(latency) * scale:.{2 if scale > 1 else 3}f}"


def _half_width(latency: dict[str, Any]) -> float:
    return 0.0 if latency["mean_high_s"] is None else float(latency["mean_high_s"] - latency["mean_s"])


def _ms(seconds: float) -> str:
    return f"{seconds * 1e3:.2f}"


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _unit(value: float | None, unit: str, scale: float = 1.0) -> str | None:
    return None if value is None else f"{value * scale:.1f} {unit}"


def _yes(value: bool | None) -> str | None:
    return None if value is None else "yes" if value else "no"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _rule(table: Table) -> str:
    return _line(["---"] + ["---:" if len(table.header) > 2 else "---"] * (len(table.header) - 1))
