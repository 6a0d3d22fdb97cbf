"""`sarwater archive`: an archive of scenes into masks, each exactly once, on one machine or on many."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from runtime.commands.options import ALIASES, MODEL_AND_PIXELS, PRODUCT_GROUPS, SCENE_GROUPS, device_option
from runtime.products import chosen
from sarwater.command import Group, given, invoke, model_option, option, record_options, run
from sarwater.errors import UsageError
from sarwater.progress import Progress
from sarwater.request import Request
from sarwater.shown import shown

if TYPE_CHECKING:
    from runtime.archive.archive import Archive, Shard, Status
    from runtime.archive.work import SceneResult

_EXAMPLES = """
sarwater archive plan s3://in/2019/ --to s3://out/masks --model hrnet -o run.json
sarwater archive plan /data/scenes --to /data/masks --name 'K5_*' --since 2019-01-01 -o run.json
sarwater archive run run.json                              # here, one scene after the other
sarwater archive run run.json --shard 3/40                 # one of 40 machines; needs no scheduler
sarwater archive run run.json --scheduler local:2          # Dask, two worker processes here
sarwater archive run run.json --scheduler tcp://head:8786  # Dask, a cluster
sarwater archive status run.json
sarwater archive retry run.json --reason worker_died
sarwater archive verify run.json
sarwater archive gc run.json
sarwater archive mosaic run.json --grid EPSG:32652,10,100000
"""
_EXIT_CODES = (
    "0 all of it done, 1 some failed or are left, 2 wrong usage, 78 settings, machine or store at fault, "
    "130 interrupted"
)
_SHOWN_FAILURES = 20
_RECONNECT_S, _PATIENCE_S = 10.0, 600.0

_plan_argument = click.argument("file", type=click.Path(path_type=Path), metavar="PLAN")
_json_option = option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")


@click.group(
    "archive",
    cls=Group,
    help="Make water masks of an archive of scenes, in folders or S3-compatible storage, each exactly once.",
    examples=_EXAMPLES,
    exit_codes=_EXIT_CODES,
)
def archive() -> int:
    return 0


@archive.subcommand(
    "plan",
    "List the scenes of SOURCE: a folder, s3://BUCKET/PREFIX, a list (.txt), or a STAC collection or items (.json).",
)
@click.argument("source", metavar="SOURCE")
@option("--to", "target", group="plan", required=True, metavar="TARGET", help="A folder or s3://BUCKET/PREFIX.")
@option(
    "-o",
    "--output",
    group="plan",
    required=True,
    type=click.Path(path_type=Path),
    metavar="PLAN",
    help="File to write.",
)
@option(
    "--lock-table",
    group="plan",
    is_flag=True,
    help="TARGET knows no conditional writes: commit by claims, which are weaker and take 5 s (docs/archive.md).",
)
@option(
    "--name", "names", group="which scenes", multiple=True, metavar="GLOB", help="Names, as in a shell; repeatable."
)
@option("--since", group="which scenes", metavar="DATE", help="First day, as 2019-07-01.")
@option("--until", group="which scenes", metavar="DATE", help="Last day.")
@option("--box", group="which scenes", metavar="W,S,E,N", help="Degrees; STAC items that touch it.")
@model_option(MODEL_AND_PIXELS)
@device_option()
@record_options(Request, {**PRODUCT_GROUPS, **SCENE_GROUPS}, ALIASES)
@_json_option
def plan_command(
    source: str,
    target: str,
    output: Path,
    lock_table: bool,
    names: Sequence[str],
    since: str | None,
    until: str | None,
    box: str | None,
    model: str,
    device: str,
    as_json: bool,
    **asked: Any,
) -> int:
    from runtime.archive.listing import Filters, find_scenes
    from runtime.archive.plan import made
    from runtime.archive.store import open_store
    from runtime.archive.work import DONE

    request = Request(**given(asked))
    chosen(request.products)
    if since and until and since > until:
        raise UsageError(f"--since {since} --until {until}: expected the first day before the last")
    filters = Filters(names, _date(since, "--since"), _date(until, "--until"), _box(box))
    with Progress(f"listing {shown(source)}"):
        root, scenes = find_scenes(source, filters)
    to = open_store(target)
    next(iter(to.list(DONE)), None)  # a bucket that is not there, or is not ours, is told of now
    plan = made(scenes, source=root, target=to.root, model=model, device=device, request=request, lock_table=lock_table)
    plan.write(output)
    size_bytes = sum(scene.size_bytes for scene in scenes)
    facts = {
        "plan": str(output),
        "scenes": len(scenes),
        "bytes": size_bytes,
        "source": plan.source,
        "target": plan.target,
        "model": plan.model,
        "model_sha256": plan.model_sha256,
    }
    if as_json:
        print(json.dumps(facts, indent=2))
    else:
        counted = f"{len(scenes):,} scene{'s' * (len(scenes) > 1)}, {size_bytes / 1e6:,.1f} MB"
        print(f"{output}: {counted}, from {plan.source} to {plan.target}")
    return 0


@archive.subcommand("run", "Work PLAN off; what is done already is passed over.")
@_plan_argument
@option("--scheduler", metavar="WHERE", help="Dask: tcp://HOST:PORT, local:WORKERS or slurm:FILE. [default: none]")
@option("--shard", metavar="N/OF", help="Only this part of the plan, as 3/40. Needs no scheduler.")
@option("--resources", metavar="NAME=N", help="Of each scene on a Dask worker, as GPU=1.")
@option(
    "--scratch", type=click.Path(path_type=Path), metavar="DIR", help="Folder for scenes in work. [default: TMPDIR]"
)
@option(
    "--memory",
    "memory_gb",
    type=click.FloatRange(min=0, min_open=True),
    metavar="GB",
    help="Most that each worker may have in memory; twice more, and its scene is set aside. [default: no limit]",
)
@_json_option
def run_command(
    file: Path,
    scheduler: str | None,
    shard: str | None,
    resources: str | None,
    scratch: Path | None,
    memory_gb: float | None,
    as_json: bool,
) -> int:
    from runtime.archive.archive import ALL, Archive, Shard
    from runtime.archive.plan import Plan

    part = Shard.parse(shard) if shard else ALL
    if resources and not scheduler:
        raise UsageError("--resources is of Dask workers; give --scheduler, too")
    work = Archive(Plan.read(file), scratch, memory_bytes=int(memory_gb * 1e9) if memory_gb else None)
    results: list[SceneResult] = []
    began_s = time.monotonic()
    whole = False
    try:
        for result in _results(work, scheduler, part, _resources(resources)):
            results.append(result)
        whole = True
    finally:
        if not whole and results:
            print(f"{_told(Counter(result.outcome for result in results))}; run it again to go on", file=sys.stderr)
    seconds = time.monotonic() - began_s
    status = work.status()
    if part == ALL or not status.pending:  # else each of forty shards would read all items
        work.write_collection()
    summary = _summary(results, status, seconds)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)
    unsettled = [result for result in results if result.outcome in ("failed", "later")]
    return 1 if unsettled or (part == ALL and (status.failed or status.pending)) else 0


def _results(
    work: Archive, scheduler: str | None, part: Shard, resources: dict[str, float] | None
) -> Iterator[SceneResult]:
    """Of a whole run, however often its scheduler goes and comes back."""
    from runtime.archive.cluster import SchedulerSilent, dashboard, open_client
    from runtime.archive.executors import SchedulerLost

    began, lost_s = False, None
    while True:
        try:
            with open_client(scheduler) if scheduler else contextlib.nullcontext() as client:
                if client is not None and (address := dashboard(client)):
                    print(f"dashboard {address}", file=sys.stderr)
                began = True
                for result in _with_progress(work, client, part, resources):
                    lost_s = None
                    yield result
            return
        except (SchedulerLost, SchedulerSilent) as error:
            lost_s = lost_s or time.monotonic()
            if not began or time.monotonic() - lost_s > _PATIENCE_S or not str(scheduler).startswith("tcp"):
                raise
            print(f"sarwater archive: {error}; connecting again", file=sys.stderr)
            time.sleep(_RECONNECT_S)


def _with_progress(
    work: Archive, client: Any, part: Shard, resources: dict[str, float] | None
) -> Iterator[SceneResult]:
    total, done = len(work.pending(part)), 0
    began_s = time.monotonic()
    with Progress("archive", "scenes") as progress:
        progress(0, total)
        for result in work.run(client, shard=part, resources=resources):
            done += 1
            progress(done, total, f"{done / max(time.monotonic() - began_s, 1e-3):.2f} scenes/s")
            yield result


def _summary(results: Sequence[SceneResult], status: Status, seconds: float) -> dict[str, Any]:
    requests: Counter[str] = Counter()
    for result in results:
        requests.update(result.requests)
    unsettled = [result for result in results if result.outcome in ("failed", "later")]
    return {
        "outcomes": dict(Counter(result.outcome for result in results)),
        "seconds": round(seconds, 3),
        "input_bytes": sum(result.input_bytes for result in results),
        "output_bytes": sum(result.output_bytes for result in results),
        "memory_bytes": max((result.memory_bytes for result in results), default=0),
        "requests": dict(requests),
        "unsettled": [result.to_dict() for result in unsettled],
        "plan": {**dataclasses.asdict(status), "pending": status.pending},
    }


def _told(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {name}" for name, number in sorted(outcomes.items()))


def _print_summary(summary: dict[str, Any]) -> None:
    outcomes, plan, seconds = summary["outcomes"], summary["plan"], summary["seconds"]
    count = sum(outcomes.values())
    told = _told(outcomes) or "nothing was left to do"
    rate = f" in {seconds:,.1f} s, {count / seconds:.2f} scenes/s" if count else ""
    if most_bytes := summary["memory_bytes"]:
        rate += f", {most_bytes / 1e9:.2f} GB in memory at most"
    print(f"{told}{rate}")
    for result in summary["unsettled"][:_SHOWN_FAILURES]:
        print(shown(f"  {result['scene']}: {result['outcome']}: {result['reason']}: {result['message']}"))
    if more := len(summary["unsettled"]) - _SHOWN_FAILURES:
        print(f"  and {more:,} more; `sarwater archive status` names all that were set aside") if more > 0 else None
    print(f"plan: {plan['done']:,} of {plan['planned']:,} done, {plan['failed']:,} set aside, {plan['pending']:,} left")


@archive.subcommand("status", "How far PLAN is, and what was set aside.")
@_plan_argument
@_json_option
def status_command(file: Path, as_json: bool) -> int:
    work = _archive(file)
    status, failures = work.status(), sorted(work.failures().values(), key=lambda record: record["scene"])
    if as_json:
        document = {**dataclasses.asdict(status), "pending": status.pending, "set_aside": failures}
        print(json.dumps(document, indent=2))
        return 0
    for record in failures:
        print(shown(f"{record['scene']}: {record['reason']}: {record['message']}"))
    print(f"{status.done:,} of {status.planned:,} done, {status.failed:,} set aside, {status.pending:,} left")
    return 0


@archive.subcommand("retry", "Let the next run take what was set aside.")
@_plan_argument
@option("--reason", "reasons", multiple=True, metavar="REASON", help="Only for this reason; repeatable.")
@_json_option
def retry_command(file: Path, reasons: Sequence[str], as_json: bool) -> int:
    scenes = _archive(file).retry(reasons)
    if as_json:
        print(json.dumps(scenes, indent=2))
    else:
        print(f"{len(scenes):,} scenes wait again; `sarwater archive run {file}` takes them")
    return 0


@archive.subcommand("verify", "Read every product of PLAN back, against its key, size and sha256.")
@_plan_argument
@_json_option
def verify_command(file: Path, as_json: bool) -> int:
    from runtime.archive.upkeep import verify

    work = _archive(file)
    with Progress("verifying", "scenes") as progress:
        faults = list(verify(work, progress))
    status = work.status()
    if as_json:
        print(json.dumps({"verified": status.done, "faults": [fault._asdict() for fault in faults]}, indent=2))
    else:
        for fault in faults:
            print(shown(f"{fault.scene}: {fault.what}"))
        print(f"{status.done:,} scenes looked at, {len(faults):,} faults")
    return 1 if faults else 0


@archive.subcommand("gc", "Remove what dead attempts left in the target of PLAN.")
@_plan_argument
@option(
    "--older-than-h",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="Age from which an attempt is dead. With less than the default, nobody may be working. [default: 24]",
)
@_json_option
def gc_command(file: Path, older_than_h: float | None, as_json: bool) -> int:
    from runtime.archive.upkeep import DEAD_AFTER_S, collect_garbage

    age_s = DEAD_AFTER_S if older_than_h is None else older_than_h * 3600
    removed = collect_garbage(_archive(file).store, age_s)
    print(json.dumps(removed, indent=2) if as_json else f"{len(removed):,} objects of dead attempts removed")
    return 0


@archive.subcommand("mosaic", "Make one mosaic per day and cell of a grid, of the scenes of PLAN that are done.")
@_plan_argument
@option("--grid", required=True, metavar="EPSG:CODE,PIXEL,CELL", help="In units of that system: EPSG:32652,10,100000.")
@_json_option
def mosaic_command(file: Path, grid: str, as_json: bool) -> int:
    from runtime.archive.mosaic import make_mosaics
    from runtime.products.mosaic import Grid

    parsed = Grid.parse(grid)
    with Progress("mosaics", "cells") as progress:
        made = list(make_mosaics(_archive(file), parsed, progress))
    if as_json:
        print(json.dumps([mosaic._asdict() for mosaic in made], indent=2))
    else:
        print(_told(Counter(mosaic.outcome for mosaic in made)) or "no scene that is done has a place and a time")
    return 0


def _archive(file: Path) -> Archive:
    from runtime.archive.archive import Archive
    from runtime.archive.plan import Plan

    return Archive(Plan.read(file))


def _date(text: str | None, flag: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        raise UsageError(f"{flag} {text}: expected a day, as 2019-07-01") from None


def _box(text: str | None) -> tuple[float, float, float, float] | None:
    if text is None:
        return None
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--box {text}: expected W,S,E,N in degrees, as 126.5,33,127,34") from None
    if not (-180 <= west <= east <= 180 and -90 <= south <= north <= 90):
        raise UsageError(f"--box {text}: expected W,S,E,N in degrees, west of east and south of north")
    return west, south, east, north


def _resources(text: str | None) -> dict[str, float] | None:
    if not text:
        return None
    try:
        return {name: float(number) for name, number in (part.split("=") for part in text.split(","))}
    except ValueError:
        raise UsageError(f"--resources {text}: expected NAME=NUMBER, as GPU=1") from None


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`."""
    return invoke(archive, argv)


def cli() -> int:
    return run(archive)


if __name__ == "__main__":
    sys.exit(cli())
