"""Mosaics of a day, made of what is done; those of more scenes lie beside the old."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from runtime.archive.archive import Archive
from runtime.commands.archive import main
from tests.runtime.archive.conftest import MakePlan
from tests.support.rasters import lake_scene, write_geotiff


def test_each_day_has_its_mosaics_and_none_is_made_twice(
    scenes: Path, tmp_path: Path, plan_of: MakePlan, capsys: pytest.CaptureFixture[str]
) -> None:
    write_geotiff(scenes / "K5_20190702200000_lake.tif", lake_scene(70, 80, seed=9))
    write_geotiff(scenes / "undated.tif", lake_scene(70, 80, seed=8))
    plan = plan_of(scenes, tmp_path / "out")
    plan.write(tmp_path / "run.json")
    assert Counter(result.outcome for result in Archive(plan).run()) == {"published": 5}
    command = ["mosaic", str(tmp_path / "run.json"), "--grid", "EPSG:4326,0.0001,1", "--json"]
    assert main(command) == 0
    made = json.loads(capsys.readouterr().out)
    assert sorted((mosaic["place"].split("/")[-2], mosaic["scenes"]) for mosaic in made) == [
        ("2019-07-01", 1),
        ("2019-07-02", 2),
        ("2019-07-03", 1),
    ]
    assert {mosaic["outcome"] for mosaic in made} == {"made"}
    assert all(Path(mosaic["place"]).is_file() for mosaic in made)
    assert main(command) == 0
    assert {mosaic["outcome"] for mosaic in json.loads(capsys.readouterr().out)} == {"there"}
