"""Products of the daemon in a bucket: under their own names, the mask last, at least once, whatever fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.telling.channel import Channel
from tests.support.object_store import CREDENTIALS, ObjectStore, object_store
from tests.torture.station import Station, until

BUCKET = "masks"


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
    with object_store() as store:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": store.endpoint}).items():
            monkeypatch.setenv(name, value)
        yield store


def station_with_bucket(folder: Path) -> Station:
    channel = {"name": "bucket", "to": f"s3://{BUCKET}/station 1", "retry_first_s": 0.1, "retry_cap_s": 0.2}
    return Station(folder, tell=[channel])


def test_products_lie_in_the_bucket_as_in_the_outgoing_folder_however_late_it_is_there(
    tmp_path: Path, s3: ObjectStore
) -> None:
    station = station_with_bucket(tmp_path)
    s3.fault = lambda number, _: ("cut", "lost", None)[number % 3]
    station.drop("bad.tif", b"not a raster")
    with station.start() as daemon:
        station.drop("ä b.tif", 1)
        until(lambda: "bucket: not told" in station.log)
        until(lambda: len(station.masks()) == 1)
        s3.fault = None
        s3.client.create_bucket(Bucket=BUCKET)
        until(lambda: "bucket: takes messages again" in station.log)
        assert daemon.terminate() == 0
    keys = s3.keys(BUCKET)
    assert sorted(keys) == ["station 1/ä_b_water.json", "station 1/ä_b_water.tif"]
    for key in keys:
        there = s3.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        assert there == (station.outgoing / key.rpartition("/")[2]).read_bytes()
    assert [path.rpartition(".")[2] for method, path in s3.seen if method == "PUT"][-2:] == ["json", "tif"]


@pytest.mark.parametrize("more", [{"links": "https://host/"}, {"to": "s3:///key"}])
def test_settings_that_no_bucket_has_are_refused(more: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"expected (none for )?s3://"):
        Channel(**{"name": "b", "to": "s3://masks"} | more)  # type: ignore[arg-type]
