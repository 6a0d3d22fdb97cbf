"""The Dask cluster that a run is carried out on: one that is there, one on this machine, or SLURM's.

tcp://scheduler:8786     a scheduler that somebody runs
local:2                  this machine, two worker processes
slurm:FILE               jobs of SLURM by dask-jobqueue; FILE is TOML: the arguments of its SLURMCluster, and `jobs`
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.backends.cpu.openvino import THREADS_VARIABLE
from sarwater.dependencies import lazy_import
from sarwater.errors import ConfigurationError, UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - JetPack 6 has Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

distributed = lazy_import("distributed", "a Dask cluster", install="`pip install 'sarwater[archive]'`")
jobqueue = lazy_import("dask_jobqueue", "SLURM", install="`pip install dask-jobqueue`")

_CONNECT_S = 30
_ADDRESSES = ("tcp://", "tls://", "ucx://")


class SchedulerSilent(ConfigurationError):
    """Nothing answers at its address."""

    reason = "scheduler_silent"


@contextlib.contextmanager
def open_client(scheduler: str) -> Iterator[Any]:
    """A `distributed.Client`. Raises UsageError for a scheduler of another kind, SchedulerSilent, DependencyMissing."""
    kind, _, rest = scheduler.partition(":")
    with contextlib.ExitStack() as stack:
        if scheduler.startswith(_ADDRESSES):
            address: Any = scheduler
        elif kind == "local" and rest.isdecimal() and int(rest) > 0:
            address = stack.enter_context(_local(int(rest)))
        elif kind == "slurm" and rest:
            address = stack.enter_context(_slurm(Path(rest)))
        else:
            raise UsageError(f"--scheduler {scheduler}: expected tcp://HOST:PORT, local:WORKERS or slurm:FILE")
        try:
            client = distributed.Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, TimeoutError) as error:
            raise SchedulerSilent(
                f"{scheduler}: no Dask scheduler answers within {_CONNECT_S} s ({error}); start one, `dask scheduler`"
            ) from error
        yield stack.enter_context(client)


def _local(workers: int) -> Any:
    """One scene per worker; the cores are shared out among them."""
    cores = len(os.sched_getaffinity(0))
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, cores // workers)))
    return distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, memory_limit=None, dashboard_address="127.0.0.1:0", silence_logs=40
    )


def _slurm(file: Path) -> Any:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file}: {getattr(error, 'strerror', None) or error}; expected TOML for SLURM") from None
    jobs = settings.pop("jobs", 1)
    cluster = jobqueue.SLURMCluster(**settings)
    cluster.scale(jobs=jobs)
    return cluster


def dashboard(client: Any) -> str:
    """The address of the dashboard; empty where bokeh is not installed."""
    return str(client.dashboard_link or "")
