from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from runtime.benchmarking.timing import _T, CONFIDENCE, Patience, enough, interval, sample, summarise, warm_up

durations = st.lists(st.floats(1e-6, 100.0), min_size=1, max_size=300)


def test_the_quantiles_of_student_are_those_of_the_distribution() -> None:
    exact = stats.t.ppf((1 + CONFIDENCE) / 2, np.arange(1, len(_T) + 1))
    assert np.abs(np.array(_T) - exact).max() < 6e-4


@pytest.mark.parametrize("count", [5, 20, 100, 137])
def test_the_interval_contains_the_true_mean_in_about_95_of_100_series(count: int) -> None:
    rng = np.random.default_rng(0)
    found = [interval(list(series)) for series in rng.normal(10, 2, (1000, count))]
    assert 0.93 < np.mean([spread.low <= 10 <= spread.high for spread in found]) < 0.97


def test_the_interval_of_samples_that_resemble_their_neighbours_is_still_honest() -> None:
    """An autoregressive series, as of a clock that wanders: taken for independent, two thirds would be right."""
    rng = np.random.default_rng(0)
    right = 0
    for noise in rng.normal(0, 1, (300, 1000)):
        series, level = [], 0.0
        for step in noise:
            level = 0.6 * level + step
            series.append(10 + level)
        spread = interval(series)
        right += spread.low <= 10 <= spread.high
    assert right / 300 > 0.9


@settings(deadline=None)
@given(durations)
def test_a_summary_lies_in_order_and_within_its_samples(seconds: list[float]) -> None:
    summary = summarise(seconds)
    known = [value for value in (summary.p50_s, summary.p95_s, summary.p99_s, summary.max_s) if value is not None]
    assert known == sorted(known)
    assert min(seconds) <= summary.p50_s
    assert summary.max_s == max(seconds)
    assert min(seconds) * (1 - 1e-9) <= summary.mean_s <= max(seconds) * (1 + 1e-9)
    assert summary.samples == len(seconds)


@settings(deadline=None)
@given(durations)
def test_a_percentile_that_the_samples_cannot_have_seen_is_not_reported(seconds: list[float]) -> None:
    summary = summarise(seconds)
    assert (summary.p95_s is None) == (len(seconds) < 20)
    assert (summary.p99_s is None) == (len(seconds) < 100)


@settings(deadline=None)
@given(st.permutations(range(100)))
def test_percentiles_do_not_depend_on_the_order_of_the_samples(order: list[int]) -> None:
    summary = summarise([float(value) for value in order])
    assert summary.p50_s == 49.5
    assert summary.p95_s == pytest.approx(94.05)
    assert summary.p99_s == pytest.approx(98.01)


def test_one_sample_has_no_interval() -> None:
    spread = interval([3.0])
    assert (spread.mean, spread.low, spread.high) == (3.0, None, None)
    assert spread.half_width == math.inf


def test_equal_samples_have_an_interval_of_no_width() -> None:
    assert interval([2.0] * 50).half_width == 0


def test_sampling_goes_on_until_the_interval_is_tight() -> None:
    patience = Patience(limit_s=60, least=40, tightness=0.01)
    assert not enough([1.0] * 39, 1.0, patience)
    assert enough([1.0] * 40, 1.0, patience)
    assert not enough([1.0, 2.0] * 10 + [3.0, 4.0] * 10, 1.0, patience)


def test_sampling_ends_at_the_time_limit_but_not_before_the_third_sample() -> None:
    patience = Patience(limit_s=1, least=40)
    assert not enough([5.0, 5.0], 10.0, patience)
    assert enough([5.0, 4.0, 9.0], 18.0, patience)


def test_every_run_is_one_sample_and_warming_up_is_none() -> None:
    runs: list[int] = []
    warm_up(lambda: runs.append(0), least=3, least_s=0)
    assert len(runs) == 3
    assert len(sample(lambda: runs.append(1), Patience(limit_s=0.0))) == 3
    assert len(runs) == 6
