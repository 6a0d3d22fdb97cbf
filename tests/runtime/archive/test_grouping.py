"""What a listing tells of scenes by names alone, held against the readers, which look into the files."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.archive.grouping import is_product, scenes_among
from runtime.archive.local import LocalStore
from runtime.archive.store import Entry
from sarwater.scenes.readers import members
from tests.support.deliveries import write_k5_flat
from tests.support.rasters import lake_scene
from tests.test_one_reader import KINDS


def groups(folder: Path) -> dict[str, list[str]]:
    found = scenes_among(LocalStore(str(folder)).list())
    return {group.path: [entry.key for entry in group.members] for group in found}


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_of_every_kind_is_one_group_with_all_files_that_its_reader_wants(kind: str, tmp_path: Path) -> None:
    path = KINDS[kind](tmp_path)
    wanted = {str(file.relative_to(tmp_path)) for file in members(path)}
    found = [keys for keys in groups(tmp_path).values() if wanted & set(keys)]
    assert len(found) == 1
    assert wanted <= set(found[0])


def test_loose_files_of_two_products_are_two_scenes(tmp_path: Path) -> None:
    names = [f"K5_2024072609153{number}_000000_12345_D_ES19_HH_{{}}_B_L1D" for number in range(2)]
    gim = lake_scene(20, 20).astype("uint8")
    for name in names:
        write_k5_flat(tmp_path / "a", name.format("GTC"), name.format("GIM"), lake_scene(20, 20), gim)
    found = groups(tmp_path)
    assert list(found) == [f"a/{name.format('GTC')}.tif" for name in names]
    assert [len(keys) for keys in found.values()] == [3, 3]


def test_a_folder_of_products_may_be_called_like_their_mission() -> None:
    product = "K5_20190716093112_000001_12345_D_ES04_HH_GTC_B_L1D"
    keys = ("K5_2019/a.tif", "K5_2019/b.tif", f"K5_2019/{product}/image.h5", "RS2_lakes/c.tif")
    found = scenes_among(Entry(key, 1, "v", 0.0) for key in keys)
    assert [group.path for group in found] == [f"K5_2019/{product}", *keys[:2], keys[3]]
    assert not is_product("K5_2019", ["a.tif"])


def test_names_that_differ_in_case_only_are_two_scenes() -> None:
    listed = [Entry(key, 1, "v", 0.0) for key in ("a/S1.tif", "a/s1.TIF", "a/notes.txt", "a/.hidden/x.tiff")]
    assert [group.path for group in scenes_among(listed[:3])] == ["a/S1.tif", "a/s1.TIF"]
