from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sarwater.errors import DataError, UsageError
from tests.support.lakes import lake, write_lakes, write_raster
from train.data.labelled import LabelledScene, find_labelled
from train.data.split import Counts, Split, check_apart, choose_split, split_sources


def tiles_of(folder: Path, count: int = 4, *, apart: bool = True) -> list[LabelledScene]:
    return find_labelled(str(write_lakes(folder, count, 32, apart=apart)))


def split_tiles(tiles: list[LabelledScene], holdout: list[str]) -> Split:
    return split_sources([tiles], holdout)[0]


def one_tile(folder: Path) -> list[LabelledScene]:
    amplitude, label = lake(64, 0)
    return find_labelled(f"{write_raster(folder / 'a.tif', amplitude)}:{write_raster(folder / 'b.tif', label)}")


def test_a_named_tile_is_held_out(tmp_path: Path) -> None:
    split = split_tiles(tiles_of(tmp_path), ["WTR2"])
    assert [tile.name for tile in split.training] == ["WTR0", "WTR1", "WTR3"]
    assert [tile.name for tile in split.held_out] == ["WTR2"]


@pytest.mark.parametrize("item", ["a@25", "25%"])
def test_the_lower_part_of_a_large_tile_is_held_out(tmp_path: Path, item: str) -> None:
    split = split_tiles(one_tile(tmp_path), [item])
    assert [tile.rows for tile in split.training] == [(0, 48)]
    assert [tile.rows for tile in split.held_out] == [(48, 64)]


def test_the_halves_of_a_georeferenced_tile_do_not_overlap(tmp_path: Path) -> None:
    split = split_tiles(tiles_of(tmp_path, 1), ["WTR0@30"])
    check_apart([split])
    assert len(split.training) == len(split.held_out) == 1


def test_a_training_tile_on_the_ground_of_a_held_out_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"WTR1_K5_T\.tif overlaps the held-out .*WTR0_K5_T\.tif on the ground"):
        check_apart([split_tiles(tiles_of(tmp_path, 2, apart=False), ["WTR0"])])


def test_the_same_ground_in_two_sources_is_refused(tmp_path: Path) -> None:
    first, second = (find_labelled(str(write_lakes(tmp_path / name, 1, 32))) for name in ("one", "two"))
    with pytest.raises(DataError, match="on the ground"):
        check_apart([Split((), tuple(first)), Split(tuple(second), ())])


def test_a_name_is_held_out_from_every_source_that_has_it(tmp_path: Path) -> None:
    sources = [tiles_of(tmp_path / "one", 2), tiles_of(tmp_path / "two", 3)]
    splits = split_sources(sources, ["WTR0", "WTR2"])
    assert [[tile.name for tile in split.held_out] for split in splits] == [["WTR0"], ["WTR0", "WTR2"]]


def test_tiles_side_by_side_are_apart(tmp_path: Path) -> None:
    check_apart([split_tiles(tiles_of(tmp_path), ["WTR1"])])


def test_a_region_takes_the_south_and_drops_what_straddles_its_border(tmp_path: Path) -> None:
    for index, north in enumerate((6_000_000.0, 6_000_032.0, 6_000_048.0, 6_000_200.0)):
        amplitude, label = lake(32, index)
        write_raster(tmp_path / "img" / f"T{index}.tif", amplitude, west_north=(500_000.0, north))
        write_raster(tmp_path / "mask" / f"T{index}.tif", label)
    split = split_tiles(find_labelled(str(tmp_path)), ["50%"])
    assert [tile.name for tile in split.held_out] == ["T0", "T1"]
    assert [tile.name for tile in split.dropped] == ["T2"]
    assert [tile.name for tile in split.training] == ["T3"]


def test_a_region_of_tiles_without_georeference_goes_by_name(tmp_path: Path) -> None:
    for index in range(4):
        amplitude, label = lake(32, index)
        write_raster(tmp_path / "img" / f"T{index}.tif", amplitude)
        write_raster(tmp_path / "mask" / f"T{index}.tif", label)
    assert {tile.name for tile in split_tiles(find_labelled(str(tmp_path)), ["50%"]).held_out} == {"T2", "T3"}


def test_what_a_val_list_names_is_held_out(tmp_path: Path) -> None:
    write_lakes(tmp_path, 2, 32)
    (tmp_path / "train.txt").write_text("img/WTR0_K5_T.tif mask/WTR0_K5_T_label.tif\n")
    (tmp_path / "val.txt").write_text("img/WTR1_K5_T.tif mask/WTR1_K5_T_label.tif\n")
    split = split_tiles(find_labelled(str(tmp_path)), [])
    assert [tile.name for tile in split.held_out] == ["WTR1"]


@pytest.mark.parametrize(
    ("item", "complaint"),
    [("WTR9", "no such tile; there are WTR0, WTR1"), ("WTR0@all", "number of percent"), ("120%", "number of percent")],
)
def test_an_impossible_holdout_is_refused(tmp_path: Path, item: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        split_tiles(tiles_of(tmp_path, 2), [item])


def counts_of(tiles: list[LabelledScene]) -> dict[str, Counts]:
    return {tile.name: np.array([(tile.truth() == value).sum(axis=1) for value in (1, 0)]) for tile in tiles}


def write_tile(folder: Path, name: str, water_rows: slice, north_m: float, side_px: int = 64) -> None:
    """A georeferenced tile whose left half is water in `water_rows`."""
    label = np.zeros((side_px, side_px), np.uint8)
    label[water_rows, : side_px // 2] = 255
    write_raster(folder / "img" / f"{name}.tif", label // 5 + 1, west_north=(500_000.0, north_m))
    write_raster(folder / "mask" / f"{name}.tif", label, west_north=(500_000.0, north_m))


def chosen(folder: Path) -> Split:
    tiles = find_labelled(str(folder))
    return choose_split(tiles, counts_of(tiles), 16)


def test_the_southern_region_is_chosen_where_it_has_water_and_land(tmp_path: Path) -> None:
    for index in range(5):
        write_tile(tmp_path, f"T{index}", slice(None), 6_000_000.0 + 100 * index)
    assert [tile.name for tile in chosen(tmp_path).held_out] == ["T0"]


def test_a_larger_region_is_chosen_where_the_south_is_dry(tmp_path: Path) -> None:
    for index in range(5):
        write_tile(tmp_path, f"T{index}", slice(None) if index > 1 else slice(0), 6_000_000.0 + 100 * index)
    assert [tile.name for tile in chosen(tmp_path).held_out] == ["T0", "T1", "T2"]


def test_rows_are_held_out_where_only_one_tile_has_water(tmp_path: Path) -> None:
    write_tile(tmp_path, "DRY", slice(0), 6_000_000.0)
    write_tile(tmp_path, "WET", slice(None), 6_000_100.0)
    split = chosen(tmp_path)
    assert [(tile.name, tile.rows) for tile in split.held_out] == [("WET", (45, 64))]
    assert [(tile.name, tile.rows) for tile in split.training] == [("DRY", (0, 64)), ("WET", (0, 45))]


def test_a_choice_that_shares_ground_with_training_is_never_made(tmp_path: Path) -> None:
    write_tile(tmp_path, "DATE1", slice(None), 6_000_000.0)
    write_tile(tmp_path, "DATE2", slice(None), 6_000_000.0)
    with pytest.raises(DataError, match=r"2 tile\(s\), and none of them, nor a part of one, can be held out"):
        chosen(tmp_path)


def test_what_a_list_names_is_held_out(tmp_path: Path) -> None:
    for index in range(3):
        write_tile(tmp_path, f"T{index}", slice(None), 6_000_000.0 + 100 * index)
    lines = [f"img/T{index}.tif, mask/T{index}.tif\n" for index in range(3)]
    (tmp_path / "train.txt").write_text("".join(lines[:2]))
    (tmp_path / "val.txt").write_text(lines[2])
    assert [tile.name for tile in chosen(tmp_path).held_out] == ["T2"]


def test_a_region_with_a_drop_of_water_is_no_proof(tmp_path: Path) -> None:
    write_tile(tmp_path, "SOUTH", slice(0, 2), 6_000_000.0)
    write_tile(tmp_path, "MIDDLE", slice(None), 6_000_100.0)
    write_tile(tmp_path, "NORTH", slice(None), 6_000_200.0)
    assert [tile.name for tile in chosen(tmp_path).held_out] == ["SOUTH", "MIDDLE"]
