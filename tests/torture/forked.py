"""Processes that run our commands and Dask's, forked from one that has imported them already.

A process that is killed every few seconds spends most of its life importing; what it runs is the same.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess

_PRELOADED = (
    *("distributed.cli.dask_scheduler", "distributed.cli.dask_worker", "boto3", "runtime.archive.s3"),
    *("runtime.archive.upkeep", "runtime.commands.archive", "sarwater.cli", "runtime.archive.cluster"),
    *("tests.support.object_store", "tests.support.models", "tests.support.rasters"),  # those of the torture itself
)
_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(list(_PRELOADED))


def started(command: Sequence[str], environment: Mapping[str, str]) -> BaseProcess:
    """`scheduler`, `worker` or `sarwater` with its arguments, as a process of its own that says nothing."""
    process = _forks.Process(target=_run, args=(tuple(command), dict(environment)))
    process.start()
    return process


def _run(command: tuple[str, ...], environment: dict[str, str]) -> None:
    os.environ.update(environment)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    name, *arguments = command
    if name == "sarwater":
        from sarwater.cli import cli

        raise SystemExit(cli(arguments))
    if name == "scheduler":
        from distributed.cli.dask_scheduler import main as scheduler

        scheduler(arguments)
    from distributed.cli.dask_worker import main as worker

    worker(arguments)
