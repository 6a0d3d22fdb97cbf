"""The GPU half over the CUDA driver of the tests: each body runs in a process of its own, which loads that driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT
from tests.support.cuda_driver.build import Built, CannotBuild, build
from tests.support.gpu_scenes import FLAVOURS, TILE_PX, Body, as_engine, run_over
from tests.support.models import box_model

OverDriver = Callable[..., str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The first run on a machine builds PyCUDA."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(900))


@pytest.fixture(scope="session")
def built() -> Built:
    try:
        return build()
    except CannotBuild as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def over_driver(built: Built) -> OverDriver:
    """Run a body there; what it printed as errors. Fails where the body fails."""

    def run(body: Body, *arguments: object, code: int = 0, sources: Path = CHECKOUT) -> str:
        done = run_over(built, body, *arguments, sources=sources)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr

    return run


@pytest.fixture(scope="session", params=FLAVOURS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An engine of one channel, of each flavour."""
    return _engine(tmp_path_factory, request.param, ("sar",))


@pytest.fixture(scope="session")
def tensorrt_engine(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _engine(tmp_path_factory, "tensorrt", ("sar",))


@pytest.fixture(scope="session")
def two_channel_engine(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _engine(tmp_path_factory, "tensorrt", ("VV", "VH"))


def _engine(folders: pytest.TempPathFactory, flavour: str, channels: tuple[str, ...]) -> str:
    folder = folders.mktemp("engine")
    model = box_model(folder / "box.onnx", tile_px=TILE_PX, overlap_px=4, channels=channels, dark=110, steepness=0.2)
    as_engine(model, folder / "box.engine", flavour)
    return str(folder / "box.engine")
