"""Which scenes a plan has, and what becomes of a plan that is not as it was written."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest

from runtime.archive.archive import Archive, Shard
from runtime.archive.listing import Filters, find_scenes
from runtime.archive.plan import Plan, PlanInvalid
from runtime.commands.archive import main
from sarwater.errors import ConfigurationError, HashMismatch, ModelNotFound, UsageError
from tests.runtime.archive.conftest import MakePlan
from tests.support.object_store import ObjectStore

DAYS = ("01", "02", "03")


def names(source: str | Path, **filters: object) -> list[str]:
    return [scene.name for scene in find_scenes(str(source), Filters(**filters))[1]]  # type: ignore[arg-type]


def scene_of(day: str) -> str:
    return f"K5_201907{day}091530_lake.tif"


def test_names_and_dates_choose_among_the_scenes_of_a_folder(scenes: Path) -> None:
    (scenes / "undated.tif").touch()
    assert names(scenes) == [*map(scene_of, DAYS), "undated.tif"]
    assert names(scenes, names=("K5_*02*", "undated*")) == [scene_of("02"), "undated.tif"]
    assert names(scenes, since=date(2019, 7, 2)) == [scene_of("02"), scene_of("03")]
    assert names(scenes, until=date(2019, 7, 1)) == [scene_of("01")]


def test_a_list_names_scenes_relative_to_itself_or_anywhere(scenes: Path, in_bucket: str) -> None:
    places = [f"2019/{scene_of('01')}", "", "# a comment", f"{in_bucket}/2019/{scene_of('02')}"]
    (scenes / "list.txt").write_text("\n".join(places))
    root, found = find_scenes(str(scenes / "list.txt"), Filters())
    assert (root, [scene.path for scene in found]) == (str(scenes), [places[0], places[3]])
    (scenes / "list.txt").write_text("2019/not-there.tif")
    with pytest.raises(ConfigurationError, match=r"it names 2019/not-there\.tif, not there"):
        find_scenes(str(scenes / "list.txt"), Filters())
    (scenes / "list.txt").write_text(f"\ufeff{places[0]}\r\n{scenes / places[0]}\r\n")  # twice the same
    assert names(scenes / "list.txt") == [scene_of("01")]


def test_a_scene_itself_is_an_archive_of_one(scenes: Path, in_bucket: str) -> None:
    for source in (scenes / "2019" / scene_of("01"), f"{in_bucket}/2019/{scene_of('01')}"):
        assert names(source) == [scene_of("01")]
    product = scenes / "renamed"
    (product / "measurement").mkdir(parents=True)
    for name in ("manifest.safe", "measurement/a-vv.tiff", "measurement/b-vh.tiff"):
        (product / name).touch()
    _, (found,) = find_scenes(str(product), Filters())
    assert (found.path, len(found.files)) == ("renamed", 3)


@pytest.mark.parametrize("path", ["a_20190702_vv.tif", "2019/07/02/a.tif", "20190702T001122.tif", "2019-07-02/a.tif"])
def test_a_day_is_in_the_name_or_on_the_way_to_it(path: str, tmp_path: Path) -> None:
    for each in (path, "a_20200702_vv.tif", "12345678_20191399.tif"):
        (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / each).touch()
    assert names(tmp_path, since=date(2019, 7, 1), until=date(2019, 7, 2)) == [Path(path).name]


def test_what_an_archive_made_is_no_scene_of_the_next(scenes: Path, plan_of: MakePlan) -> None:
    before = names(scenes)
    assert {result.outcome for result in Archive(plan_of(scenes, scenes / "2019" / "masks")).run()} == {"published"}
    assert names(scenes) == before


def stac_item(day: str, west: float) -> dict[str, object]:
    return {
        "type": "Feature",
        "id": day,
        "bbox": [west, 33.0, west + 1, 34.0],
        "properties": {"datetime": f"2019-07-{day}T09:15:30Z"},
        "assets": {
            "thumbnail": {"href": "./thumbnail.png", "roles": ["thumbnail"]},
            "image": {"href": f"../2019/{scene_of(day)}", "roles": ["data"]},
        },
        "links": [],
    }


def test_a_stac_collection_is_followed_to_its_items_and_filtered_by_place(scenes: Path) -> None:
    folder = scenes / "stac"
    folder.mkdir()
    links = [{"rel": "self", "href": "elsewhere"}]
    for number, day in enumerate(DAYS):
        (folder / f"{day}.json").write_text(json.dumps(stac_item(day, 126.0 + 2 * number)))
        links.append({"rel": "item", "href": f"./{day}.json"})
    (folder / "collection.json").write_text(json.dumps({"type": "Collection", "links": links}))
    source = folder / "collection.json"
    assert names(source) == [*map(scene_of, DAYS)]
    assert names(source, box=(127.5, 33.5, 128.5, 33.6), until=date(2019, 7, 2)) == [scene_of("02")]
    _, found = find_scenes(str(source), Filters())
    assert found[0].item == str(folder / "01.json")
    with pytest.raises(UsageError, match="--name, --since, --until and --box"):
        names(source, box=(0, 0, 1, 1))
    with pytest.raises(UsageError, match="--box is for a STAC"):
        names(scenes, box=(0, 0, 1, 1))


def catalogue(folder: Path, *items: dict[str, object]) -> str:
    """A collection of these items, each in a folder of its own."""
    links = []
    for number, item in enumerate(items):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "item.json").write_text(json.dumps(item))
        links.append({"rel": "item", "href": f"./{number}/item.json"})
    (folder / "collection.json").write_text(json.dumps({"type": "Collection", "links": links}))
    return str(folder / "collection.json")


def test_a_file_of_a_product_stands_for_the_product(tmp_path: Path) -> None:
    safe = "S1A_IW_GRDH_1SDV_20190716T093112_20190716T093137_028148_032DFF_5D1F.SAFE"
    (tmp_path / safe / "measurement").mkdir(parents=True)
    for name in ("manifest.safe", "measurement/s1a-vv.tiff", "measurement/s1a-vh.tiff"):
        (tmp_path / safe / name).touch()
    bands = {name: {"href": f"../../{safe}/measurement/s1a-{name}.tiff", "roles": ["data"]} for name in ("vv", "vh")}
    manifest = {"manifest": {"href": str(tmp_path / safe / "manifest.safe")}}
    items = [stac_item("01", 126) | {"assets": assets} for assets in (bands, manifest)]
    (tmp_path / "list.txt").write_text(f"{safe}/manifest.safe\n{safe}/measurement/s1a-vh.tiff\n")
    for source in (catalogue(tmp_path / "stac", *items), str(tmp_path / "list.txt")):
        _, (found,) = find_scenes(source, Filters())
        assert (found.name, len(found.files)) == (safe, 3)


@pytest.mark.parametrize(
    ("assets", "name"),
    [
        ({"notes": {"href": "../../notes.xml"}, "image": {"href": "../../a b.tif"}}, "a b.tif"),
        ({"m": {"href": "m.xml", "roles": ["data"]}, "im": {"href": "../../a b.tif", "roles": ["data"]}}, "a b.tif"),
        ({"image": {"href": "../../a%20b.tif"}, "look": {"href": "../../look.tif", "roles": ["overview"]}}, "a b.tif"),
        ({"image": {"href": "../../100%25.tif"}}, "100%25.tif"),
    ],
)
def test_the_asset_that_is_the_scene_is_found_among_several(
    assets: dict[str, object], name: str, tmp_path: Path
) -> None:
    for each in ("a b.tif", "100%25.tif", "look.tif", "notes.xml"):
        (tmp_path / each).touch()
    assert names(catalogue(tmp_path / "stac", stac_item("01", 126) | {"assets": assets})) == [name]


def test_items_that_name_no_scene_are_counted(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    without = stac_item("02", 126) | {"assets": {"a": {"href": "a.xml"}, "b": {"href": "b.json"}}}
    image = {"image": {"href": f"../../2019/{scene_of('01')}"}}
    assert names(catalogue(scenes / "stac", stac_item("01", 126) | {"assets": image}, without)) == [scene_of("01")]
    assert "items left out: 1" in caplog.text


def test_an_item_over_the_antimeridian_is_on_both_sides_of_it(scenes: Path) -> None:
    image = {"image": {"href": f"../../2019/{scene_of('01')}"}}
    source = catalogue(scenes / "stac", stac_item("01", 0) | {"assets": image, "bbox": [179, -10, -179, 10]})
    for box in ((179.5, 0, 180, 1), (-180, 0, -179.5, 1)):
        assert names(source, box=box) == [scene_of("01")]
    with pytest.raises(UsageError, match="let through"):
        names(source, box=(-10, 0, 10, 1))


def test_a_key_with_an_empty_part_is_fetched_as_it_is(bucket: str, s3: ObjectStore, plan_of: MakePlan) -> None:
    for key in ("in//a.tif", "in/b//c.tif"):
        s3.client.put_object(Bucket=bucket, Key=key, Body=b"scene")
    s3.client.put_object(Bucket=bucket, Key="list.txt", Body=b"in//a.tif\r\nin/b//c.tif\r\n")
    for source in (f"s3://{bucket}/in", f"s3://{bucket}/list.txt"):
        plan = plan_of(source, f"s3://{bucket}/out")
        places = [plan.source_of(path) for scene in plan.scenes for path, *_ in scene.files]
        assert sorted(f"{root}/{key}" for root, key in places) == [
            f"s3://{bucket}/in//a.tif",
            f"s3://{bucket}/in/b//c.tif",
        ]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"type": "FeatureCollection", "features": None}, "features: "),
        (stac_item("01", 126) | {"assets": None}, "assets: "),
        (stac_item("01", 126) | {"assets": {"image": {"href": 5}}}, "assets.image.href: "),
        (stac_item("01", 126) | {"bbox": [1, 2]}, "bbox: "),
        (stac_item("01", 126) | {"properties": {"datetime": "yesterday"}}, "properties.datetime: "),
        ({"type": "Collection", "links": [{"rel": "item"}]}, "links.0.href: "),
        ({"type": "Catalog", "links": [{"rel": "item", "href": "gone.json"}]}, "gone.json: no such file"),
        ({"type": "Thing"}, "no STAC"),
        ([], "no STAC"),
    ],
)
def test_stac_that_is_none_is_told_in_one_line(document: object, told: str, tmp_path: Path) -> None:
    (tmp_path / "stac.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=told) as caught:
        names(tmp_path / "stac.json")
    assert "\n" not in str(caught.value)


def test_a_plan_is_read_as_it_was_written(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    plan = plan_of(scenes, tmp_path / "out", threshold=0.4)
    plan.write(tmp_path / "run.json")
    assert Plan.read(tmp_path / "run.json") == plan
    assert len(plan.tokens()) == 3


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('"device": "fake"', '"device": "gpu"', "edited or damaged"),
        ('"software": "', '"software": "9.', "made by sarwater 9"),
        ("archive plan 1", "archive plan 7", "archive plan 7"),
        ('"format"', '"shape"', "no plan"),
        ("{", "", "cannot be read"),
    ],
)
def test_a_plan_that_is_not_as_it_was_written_is_refused(
    old: str, new: str, told: str, scenes: Path, tmp_path: Path, plan_of: MakePlan
) -> None:
    plan_of(scenes, tmp_path / "out").write(tmp_path / "run.json")
    text = (tmp_path / "run.json").read_text()
    assert old in text
    (tmp_path / "run.json").write_text(text.replace(old, new, 1))
    with pytest.raises(PlanInvalid, match=told) as caught:
        main(["status", str(tmp_path / "run.json")])
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_plan_whose_model_is_gone_or_another_one_is_refused(scenes: Path, tmp_path: Path, plan_of: MakePlan) -> None:
    plan = plan_of(scenes, tmp_path / "out")
    with pytest.raises(HashMismatch, match="the plan was made with"):
        Plan(**{**vars(plan), "model_sha256": "0" * 64}).check_model()
    with pytest.raises(ModelNotFound):
        Plan(**{**vars(plan), "model": str(tmp_path / "gone.onnx")}).check_model()


@pytest.mark.parametrize("text", ["0/4", "5/4", "3", "a/b", "1/0", "-1/4", "1/4/2"])
def test_a_shard_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected NUMBER/OF"):
        Shard.parse(text)


def test_plan_run_and_status_by_command(
    in_bucket: str, bucket: str, model_path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], s3: ObjectStore
) -> None:
    file = str(tmp_path / "run.json")
    plan = ["plan", in_bucket, "--to", f"s3://{bucket}/out", "--model", model_path, "--device", "fake", "-o", file]
    assert main([*plan, "--products", "mask", "--name", "*0[12]09*"]) == 0
    assert "2 scenes" in capsys.readouterr().out
    assert main(["run", file, "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["outcomes"] == {"published": 2}
    assert summary["plan"] == {"planned": 2, "done": 2, "failed": 0, "pending": 0, "reasons": {}}
    assert sum(summary["requests"].values()) == 10
    assert "out/collection.json" in s3.keys(bucket)
    assert main(["verify", file]) == main(["gc", file]) == main(["retry", file]) == main(["status", file]) == 0


@pytest.mark.slow
def test_a_hundred_thousand_scenes_are_planned_in_little_memory(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(100_000):
        (folder / f"K5_20190716093112_{number:06}_12345_D_ES04_HH_GTC_B_L1D.tif").touch()
    command = [sys.executable, "-m", "sarwater", "archive", "plan", str(folder), "--to", str(tmp_path / "out")]
    subprocess.run([*command, "-o", str(tmp_path / "run.json")], check=True)
    assert len(Plan.read(tmp_path / "run.json").scenes) == 100_000
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 500 << 10
