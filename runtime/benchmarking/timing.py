"""How long something takes, and how sure that is.

Neighbouring measurements resemble each other (clocks, caches, other work), so an interval that takes them for
independent is too narrow. It is therefore made of batch means: the samples in order, cut into 20 batches whose means
are nearly independent. Source: A. M. Law, Simulation Modeling and Analysis, 5th edition, section 9.5.3.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
_BATCHES = 20
# Student's t, two-sided 95 %, for 1 to 19 degrees of freedom: any table of the distribution.
_T: tuple[float, ...] = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_T += (2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093)


@dataclass(frozen=True)
class Interval:
    """A mean and where, with 95 % confidence, the true one lies; unbounded (None) after a single sample."""

    mean: float
    low: float | None
    high: float | None

    @property
    def half_width(self) -> float:
        return math.inf if self.high is None else self.high - self.mean


@dataclass(frozen=True)
class Summary:
    """What is reported of a series of durations, in seconds.

    A percentile is None where the samples are too few to have seen it: p95 wants 20 of them, p99 wants 100.
    """

    samples: int
    mean_s: float
    mean_low_s: float | None
    mean_high_s: float | None
    p50_s: float
    p95_s: float | None
    p99_s: float | None
    max_s: float


@dataclass(frozen=True)
class Patience:
    """When enough was measured: at `least` samples and an interval within `tightness` of the mean, or out of time."""

    limit_s: float = 30.0
    least: int = 100
    tightness: float = 0.01
    """Half the interval's width over the mean."""


def interval(samples: Sequence[float]) -> Interval:
    """The mean of one or more samples, in the order in which they were taken, and its interval."""
    values = np.asarray(samples, np.float64)
    mean = float(values.mean())
    batches = min(_BATCHES, len(values))
    if batches < 2:
        return Interval(mean, None, None)
    # The first samples of a series that does not divide evenly are left out of the spread, not of the mean.
    size = len(values) // batches
    means = values[len(values) - size * batches :].reshape(batches, size).mean(axis=1)
    half = _T[batches - 2] * float(means.std(ddof=1)) / math.sqrt(batches)
    return Interval(mean, mean - half, mean + half)


def summarise(seconds: Sequence[float]) -> Summary:
    """Percentiles interpolate linearly between samples (Hyndman and Fan's type 7)."""
    spread = interval(seconds)
    p50, p95, p99 = (float(np.percentile(seconds, percent)) for percent in (50, 95, 99))
    count = len(seconds)
    return Summary(
        samples=count,
        mean_s=spread.mean,
        mean_low_s=spread.low,
        mean_high_s=spread.high,
        p50_s=p50,
        p95_s=p95 if count >= 20 else None,
        p99_s=p99 if count >= 100 else None,
        max_s=max(seconds),
    )


def warm_up(run: Callable[[], object], least: int = 3, least_s: float = 1.0) -> None:
    """Run until caches, clocks and allocators have settled."""
    start = time.perf_counter()
    done = 0
    while done < least or time.perf_counter() - start < least_s:
        run()
        done += 1


def sample(run: Callable[[], object], patience: Patience) -> list[float]:
    """Seconds of each run of `run`, which returns when its work is done; at least three of them."""
    started = time.perf_counter()
    seconds: list[float] = []
    while not enough(seconds, time.perf_counter() - started, patience):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds


def enough(seconds: Sequence[float], elapsed_s: float, patience: Patience) -> bool:
    """Whether a series that took `elapsed_s` so far may end."""
    if len(seconds) < 3:
        return False
    if elapsed_s >= patience.limit_s:
        return True
    # Looked at whenever the series has grown by a twentieth: an interval costs as much as it has samples.
    if len(seconds) < patience.least or len(seconds) % max(1, len(seconds) // 20):
        return False
    spread = interval(seconds)
    return spread.half_width <= patience.tightness * spread.mean
