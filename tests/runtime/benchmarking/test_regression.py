from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.benchmarking.regression import FORMAT, check_same_machine, compare, differences, read_report
from sarwater.errors import UsageError


def latency(mean_s: float, half_s: float | None = 0.0) -> dict[str, Any]:
    low, high = (None, None) if half_s is None else (mean_s - half_s, mean_s + half_s)
    return {"mean_s": mean_s, "mean_low_s": low, "mean_high_s": high}


def report(mean_s: float, half_s: float | None = 0.0, scene_s: float = 9.0) -> dict[str, Any]:
    model = {
        "name": "hrnet-w18-small",
        "precision": "fp32",
        "tile_px": 512,
        "backend": "openvino",
        "network": [{"batch": 1, "latency": latency(mean_s, half_s)}],
        "scene": {"width_px": 4096, "height_px": 4096, "latency": latency(scene_s)},
    }
    return {
        "format": FORMAT,
        "machine": {"board": None, "cpu": "Xeon", "cpus": 2, "gpu": None, "libraries": {"openvino": "2026.1"}},
        "settings": {"power_mode": None, "load_1min": 0.1},
        "models": [model],
    }


def verdicts(now: dict[str, Any], earlier: dict[str, Any], tolerance: float = 0.05) -> list[str]:
    return [change.verdict for change in compare(now, earlier, tolerance)]


def test_what_is_surely_slower_is_a_regression() -> None:
    assert verdicts(report(1.2, 0.01), report(1.0, 0.01)) == ["slower", "same"]


def test_what_may_be_noise_is_no_regression() -> None:
    assert verdicts(report(1.2, 0.1), report(1.0, 0.1)) == ["same", "same"]


def test_a_change_within_the_tolerance_is_no_regression() -> None:
    assert verdicts(report(1.04), report(1.0)) == ["same", "same"]
    assert verdicts(report(1.04), report(1.0), tolerance=0.01) == ["slower", "same"]


def test_faster_is_told_but_is_no_regression() -> None:
    assert verdicts(report(0.8), report(1.0)) == ["faster", "same"]


def test_a_slower_scene_is_a_regression_though_the_network_is_as_fast() -> None:
    assert verdicts(report(1.0, scene_s=10.0), report(1.0)) == ["same", "slower"]


def test_a_single_sample_proves_nothing() -> None:
    assert verdicts(report(9.0, None), report(1.0)) == ["same", "same"]


def test_what_only_one_report_has_is_not_compared() -> None:
    other = report(1.0)
    other["models"][0]["tile_px"] = 1024
    assert compare(other, report(1.0), 0.05) == []
    without = report(5.0)
    without["models"][0]["scene"] = None
    assert verdicts(without, report(1.0)) == ["slower"]


@settings(deadline=None)
@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 0.5), st.floats(0, 0.5))
def test_the_interval_contains_the_change_and_the_verdict_follows_it(a: float, b: float, x: float, y: float) -> None:
    change = compare(report(a, a * x), report(b, b * y), 0.05)[0]
    assert change.change_low <= change.change <= change.change_high
    assert (change.verdict == "slower") == (change.change_low > 0.05)
    assert not (change.verdict == "slower" and a < b)


def test_reports_of_two_machines_are_not_compared() -> None:
    other = copy.deepcopy(report(1.0))
    other["machine"]["cpu"] = "EPYC"
    with pytest.raises(UsageError, match="'EPYC'"):
        check_same_machine(report(1.0), other)


def test_what_else_changed_is_named() -> None:
    now = copy.deepcopy(report(1.0))
    now["machine"]["libraries"] = {"openvino": "2026.4", "tensorrt": "10.13"}
    now["settings"]["load_1min"] = 3.0
    assert differences(now, report(1.0)) == ["openvino: 2026.1 -> 2026.4", "tensorrt: None -> 10.13"]


def test_an_earlier_report_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "earlier.json"
    path.write_text(json.dumps(report(1.0)))
    assert read_report(path) == report(1.0)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not readable"),
        (b"\xff\xfe", "not readable"),
        (b"[1, 2]", "list"),
        (b'{"format": "sarwater-model/1"}', "sarwater-model/1"),
        (b'{"format": "sarwater-benchmark/1", "models": [{"name": "x"}]}', "damaged"),
        (b'{"format": "sarwater-benchmark/1", "models": []}', "damaged"),
    ],
)
def test_a_file_that_is_no_report_is_refused_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "earlier.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=reason):
        read_report(path)


def test_a_report_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_report(tmp_path / "none.json")
