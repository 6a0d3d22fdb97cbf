from __future__ import annotations

import json
import threading

import pytest

from runtime.latency import LatencyRecord, Moment, StageClock


def test_stages_add_up_over_threads() -> None:
    times = iter(range(100))
    clock = StageClock(monotonic=lambda: float(next(times)))
    with clock.stage("read"):
        pass
    threads = [threading.Thread(target=clock.add, args=("write", 0.5)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert clock.seconds("read") == 1
    assert clock.seconds("write") == 4
    assert clock.seconds("read", "write", "never") == 5


def test_a_clock_set_back_gives_no_negative_durations() -> None:
    utc = iter([1_000_000_000.0, 999_996_400.0])
    monotonic = iter([10.0, 12.5])
    clock = StageClock(lambda: next(monotonic), lambda: next(utc))
    clock.mark("complete")
    clock.mark("visible")
    record = LatencyRecord()
    record.add_moments(clock.moments)
    assert record.total_s == 2.5
    assert record.moments["complete"].utc == "2001-09-09T01:46:40.000Z"


def test_only_the_first_time_of_a_moment_counts() -> None:
    times = iter([1.0, 2.0])
    clock = StageClock(monotonic=lambda: next(times))
    clock.mark("first_tile")
    clock.mark("first_tile")
    assert clock.moments["first_tile"].monotonic_s == 1.0


def test_a_misspelt_moment_is_a_bug() -> None:
    with pytest.raises(ValueError, match="first_tile"):
        StageClock().mark("frist_tile")


def test_settle_time_is_kept_apart_from_the_total() -> None:
    record = LatencyRecord()
    seconds = {"first_seen": 0.0, "complete": 5.0, "claimed": 5.5, "synced": 8.0, "visible": 8.25}
    record.add_moments({name: Moment("2024-07-26T00:00:00Z", at) for name, at in seconds.items()})
    assert (record.settle_s, record.queue_s, record.publish_s, record.total_s) == (5.0, 0.5, 0.25, 3.25)


def test_a_record_survives_json() -> None:
    record = LatencyRecord(key="k", tiles=3)
    record.add_moments({"complete": Moment("2024-07-26T00:00:00Z", 1.0)})
    assert LatencyRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
