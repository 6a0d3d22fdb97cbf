"""`sarwater archive`: an archive of scenes into masks, each exactly once, on one machine or on many."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Sequence
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
    from runtime.archive.archive import Archive

_EXAMPLES = """
sarwater archive plan s3://scenes/2019/ --to s3://masks/2019 --model hrnet -o run.json
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
    from runtime.archive.layout import DONE
    from runtime.archive.listing import Filters, find_scenes
    from runtime.archive.plan import made
    from runtime.archive.store import open_store

    request = Request(**given(asked))
    chosen(request.products)
    filters = Filters.parse(names, since, until, box)
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
    from runtime.commands.archive_run import RunSession, parsed_resources, print_summary

    part = Shard.parse(shard) if shard else ALL
    if resources and not scheduler:
        raise UsageError("--resources is of Dask workers; give --scheduler, too")
    work = Archive(Plan.read(file), scratch, memory_bytes=int(memory_gb * 1e9) if memory_gb else None)
    session = RunSession(work, part, scheduler, parsed_resources(resources))
    session.carry_out()
    status = work.status()
    if part == ALL or not status.pending:  # else each of forty shards would read all items
        work.write_collection()
    summary = session.summary(status)
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        print_summary(summary)
    return 1 if summary["unsettled"] or (part == ALL and (status.failed or status.pending)) else 0


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
        print(f"{len(scenes):,} put back; `sarwater archive run {file}` takes them")
    return 0


@archive.subcommand("verify", "Read every product of PLAN back, against its key, size and sha256.")
@_plan_argument
@option("--forget", is_flag=True, help="Remove the items of faulty scenes, so that the next run makes them again.")
@_json_option
def verify_command(file: Path, forget: bool, as_json: bool) -> int:
    from runtime.archive.upkeep import forget as forget_scenes
    from runtime.archive.upkeep import verify

    work = _archive(file)
    with Progress("verifying", "scenes") as progress:
        faults = list(verify(work, progress))
    done = work.status().done
    forgotten = forget_scenes(work.store, faults) if forget else []
    if as_json:
        told = [{"scene": fault.scene, "what": fault.what} for fault in faults]
        print(json.dumps({"verified": done, "faults": told, "forgotten": forgotten}, indent=2))
    else:
        for fault in faults:
            print(shown(f"{fault.scene}: {fault.what}"))
        print(f"{done:,} scenes looked at, {len(faults):,} faults")
        if forgotten:
            print(f"{len(forgotten):,} put back; `sarwater archive run {file}` takes them")
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
    from runtime.commands.archive_run import told
    from runtime.products.mosaic import Grid

    parsed = Grid.parse(grid)
    with Progress("mosaics", "cells") as progress:
        made = list(make_mosaics(_archive(file), parsed, progress))
    if as_json:
        print(json.dumps([mosaic._asdict() for mosaic in made], indent=2))
    else:
        print(told(Counter(mosaic.outcome for mosaic in made)) or "no scene that is done has a place and a time")
    return 0


def _archive(file: Path) -> Archive:
    from runtime.archive.archive import Archive
    from runtime.archive.plan import Plan

    return Archive(Plan.read(file))


def main(argv: Sequence[str] | None = None) -> int:
    """Raises the errors of `sarwater.errors`."""
    return invoke(archive, argv)


def cli() -> int:
    return run(archive)


if __name__ == "__main__":
    sys.exit(cli())
