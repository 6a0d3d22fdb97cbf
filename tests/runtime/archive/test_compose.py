"""The compose file's services as processes of this machine, moto in MinIO's place, and the commands that it names."""

from __future__ import annotations

import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import CHECKOUT
from tests.support.object_store import ObjectStore
from tests.support.rasters import lake_scene, write_geotiff

COMPOSE = CHECKOUT / "docs" / "archive" / "compose.yaml"
RUN = "#   docker compose run --rm sarwater "


@pytest.fixture
def text(s3: ObjectStore) -> str:
    """With addresses of this machine for names that the network of the containers has."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        scheduler = f"127.0.0.1:{free.getsockname()[1]}"
    return COMPOSE.read_text().replace("scheduler:8786", scheduler).replace("http://s3:9000", s3.endpoint)


@contextmanager
def process(service: dict[str, Any], command: str) -> Iterator[subprocess.Popen[bytes]]:
    name, *arguments = shlex.split(command)
    environment = {**os.environ, **service["environment"]}
    with subprocess.Popen([sys.executable, "-m", name, *arguments], env=environment) as started:
        try:
            yield started
        finally:
            started.kill()


@pytest.mark.slow
def test_the_services_of_the_compose_file_work_its_example_off(
    text: str, s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    services = yaml.safe_load(text)["services"]
    for bucket in ("scenes", "masks"):
        s3.client.create_bucket(Bucket=bucket)
    path = write_geotiff(tmp_path / "lake.tif", lake_scene(70, 80))
    s3.client.upload_file(str(path), "scenes", "lake.tif")
    port = services["worker"]["command"].partition("tcp://127.0.0.1:")[2].split()[0]
    commands = [line.removeprefix(RUN) for line in text.splitlines() if line.startswith(RUN)]
    assert len(commands) == 2
    with ExitStack() as stack:
        here = f" --host 127.0.0.1 --port {port}"
        stack.enter_context(process(services["scheduler"], services["scheduler"]["command"] + here))
        for _ in range(services["worker"]["deploy"]["replicas"]):
            stack.enter_context(process(services["worker"], services["worker"]["command"]))
        for command in commands:
            with process(services["sarwater"], f"{services['sarwater']['entrypoint']} {command}") as done:
                assert done.wait() == 0
    assert "lake_water.tif" in [key.rpartition("/")[2] for key in s3.keys("masks")]
