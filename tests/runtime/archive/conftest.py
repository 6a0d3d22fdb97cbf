from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from runtime.archive.job import Head
from runtime.archive.listing import Filters, find_scenes
from runtime.archive.plan import Plan, made
from runtime.archive.product_maker import ProductMaker
from runtime.daemon.worker_process import WORKER_COMMAND
from sarwater.models import Model
from sarwater.request import Request
from tests.support.object_store import CREDENTIALS, ObjectStore, object_store
from tests.support.rasters import lake_scene, write_geotiff

_numbers = itertools.count(1)

MakePlan = Callable[..., Plan]


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStore]:
    """In the usual chain of credentials and endpoint, for this process and the workers that it starts."""
    with object_store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": store.endpoint}).items():
            patch.setenv(name, value)
        yield store


@pytest.fixture(autouse=True)
def no_faults(s3: ObjectStore) -> Iterator[None]:
    yield
    s3.fault = None


class _Kept(ProductMaker):
    """Whose process is there for the tests that follow, whoever closes it."""

    def close(self) -> None:
        pass


@pytest.fixture(scope="session")
def kept_makers() -> Iterator[dict[str, ProductMaker]]:
    makers: dict[str, ProductMaker] = {}
    yield makers
    for maker in makers.values():
        ProductMaker.close(maker)


@pytest.fixture(autouse=True)
def one_process_makes_all_products(
    kept_makers: dict[str, ProductMaker], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start takes most of a test's time; one that has a worker of its own, or a limit, gets another."""

    def maker(head: Head, folder: Path, command: Sequence[str]) -> ProductMaker:
        if tuple(command) != WORKER_COMMAND or head.memory_bytes is not None:
            return ProductMaker(head, folder, command)
        makes = json.dumps([head.model, head.model_sha256, head.device, head.request, head.software], sort_keys=True)
        if makes not in kept_makers:
            kept_makers[makes] = _Kept(head, tmp_path_factory.mktemp("maker"), command)
        return kept_makers[makes]

    monkeypatch.setattr("runtime.archive.work.ProductMaker", maker)


@pytest.fixture(autouse=True)
def tried_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.0)


@pytest.fixture
def bucket(s3: ObjectStore) -> str:
    name = f"archive-{next(_numbers)}"
    s3.client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """Three small scenes."""
    folder = tmp_path / "in" / "2019"
    folder.mkdir(parents=True)
    for number in range(3):
        name = f"K5_2019070{number + 1}091530_lake.tif"
        write_geotiff(folder / name, lake_scene(70, 80, seed=number))
    return folder.parent


@pytest.fixture
def in_bucket(s3: ObjectStore, bucket: str, scenes: Path) -> str:
    """The same scenes in a bucket."""
    for path in scenes.rglob("*.tif"):
        s3.client.upload_file(str(path), bucket, f"in/{path.relative_to(scenes)}")
    return f"s3://{bucket}/in"


@pytest.fixture
def model_path(model: Model) -> str:
    return str(model.path)


@pytest.fixture
def plan_of(model: Model) -> MakePlan:
    """A plan for a backend without a network, with few products."""

    def make(source: str | Path, target: str | Path, device: str = "fake", **asked: object) -> Plan:
        root, found = find_scenes(str(source), Filters())
        request = Request(**{"products": "mask,stac", **asked})  # type: ignore[arg-type]
        return made(found, source=root, target=str(target), model=str(model.path), device=device, request=request)

    return make
