"""Which label belongs to which image, and what a label's values mean."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from osgeo import gdal

from sarwater.classes import LAND, NODATA, WATER
from sarwater.errors import DataError, UsageError
from sarwater.scenes.labels import LABEL_WORDS, Coding, Label, find_files, settle_coding, stem
from tests.support.rasters import lake_scene, write_geotiff

CODES = np.array([[0, 1], [1, 0]], np.int16)


def label(path: Path, values: object, dtype: type = np.uint8, nodata: float | None = None) -> Path:
    return write_geotiff(path, np.array([values], dtype), nodata=nodata)


def truth_of(path: Path, given: str | None = None) -> list[int]:
    coding = settle_coding([path], Coding.parse(given) if given else None)
    opened = Label(path)
    return coding.truth(opened.read(0, 0, opened.width_px, 1), opened.nodata)[0].tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("values", "dtype", "nodata", "expected"),
    [
        ([0, 255], np.uint8, None, [LAND, WATER]),
        ([0, 1], np.uint8, None, [LAND, WATER]),
        ([0, 1, 255], np.uint8, None, [LAND, WATER, NODATA]),
        ([-1, 0, 1], np.int16, None, [NODATA, LAND, WATER]),
        ([-1, 0, 1], np.int8, None, [NODATA, LAND, WATER]),
        ([0, 1, 7], np.uint8, 7, [LAND, WATER, NODATA]),
        ([0, 255, 3], np.uint8, 3, [LAND, WATER, NODATA]),
        ([0.0, 1.0, np.nan], np.float32, None, [LAND, WATER, NODATA]),
        ([0.0, 1.0, np.nan], np.float32, np.nan, [LAND, WATER, NODATA]),
        ([0.0, 255.0], np.float64, None, [LAND, WATER]),
        ([0.0, 1.0, -9999.0], np.float32, -9999, [LAND, WATER, NODATA]),
        ([0, 0], np.uint8, None, [LAND, LAND]),
    ],
)
def test_usual_codings_are_understood(
    tmp_path: Path, values: list[float], dtype: type, nodata: float | None, expected: list[int]
) -> None:
    assert truth_of(label(tmp_path / "a.tif", values, dtype, nodata)) == expected


@pytest.mark.parametrize(
    ("values", "dtype"),
    [([0, 1, 2], np.uint8), ([1, 2], np.uint8), ([0, 100], np.uint8), ([0.0, 0.5], np.float32), ([0, -5], np.int16)],
)
def test_values_that_nobody_declared_are_refused_with_the_option_that_does(
    tmp_path: Path, values: list[float], dtype: type
) -> None:
    path = label(tmp_path / "a.tif", values, dtype)
    with pytest.raises(DataError, match=r"a\.tif: label values .* not declared; .*--labels land=VALUE"):
        truth_of(path)


def test_a_declared_coding_is_taken(tmp_path: Path) -> None:
    path = label(tmp_path / "a.tif", [1, 2, 0])
    assert truth_of(path, "land=1,water=2,ignore=0") == [LAND, WATER, NODATA]
    with pytest.raises(DataError, match="of which 0 is not declared; expected land=1,water=2"):
        truth_of(path, "land=1,water=2")


@pytest.mark.parametrize(
    ("values", "nodata", "lack"),
    [([0, 1], 0, "land"), ([0, 255], 255, "water"), ([0, 255], 0, "land"), ([0], 0, "land")],
)
def test_nodata_that_is_a_class_is_refused_until_it_is_said(
    tmp_path: Path, values: list[int], nodata: int, lack: str
) -> None:
    """GDAL's rasterizer declares 0, whatever that means."""
    path = label(tmp_path / "a.tif", values, nodata=nodata)
    with pytest.raises(DataError, match=rf"declares {nodata} as nodata, and no label has {lack}.*--labels land=VALUE"):
        truth_of(path)
    expected = [LAND if value == 0 else WATER for value in values]
    assert truth_of(path, f"land=0,water={max(values) or 1}") == expected


def test_nodata_that_is_declared_beside_land_and_water_is_left_out(tmp_path: Path) -> None:
    assert truth_of(label(tmp_path / "a.tif", [0, 1, 255], nodata=255)) == [LAND, WATER, NODATA]
    assert truth_of(label(tmp_path / "b.tif", [1, 2, 0], nodata=0), "land=1,water=2") == [LAND, WATER, NODATA]
    dry = [label(tmp_path / "c.tif", [0, 0], nodata=255), label(tmp_path / "d.tif", [0, 1], nodata=255)]
    assert settle_coding(dry).water == (1,)


def painted(path: Path, values: list[int], colours: list[tuple[int, int, int]], driver: str) -> Path:
    source = gdal.GetDriverByName("MEM").Create("", len(values), 1, 1, gdal.GDT_Byte)
    table = gdal.ColorTable()
    for index, colour in enumerate(colours):
        table.SetColorEntry(index, colour)
    source.GetRasterBand(1).SetColorTable(table)
    source.GetRasterBand(1).WriteArray(np.array([values], np.uint8))
    gdal.GetDriverByName(driver).CreateCopy(str(path), source)
    return path


@pytest.mark.parametrize("driver", ["GTiff", "PNG"])
def test_a_palette_counts_by_its_indices_unless_its_background_is_another(tmp_path: Path, driver: str) -> None:
    black, blue, green = (0, 0, 0), (0, 0, 255), (0, 255, 0)
    suffix = {"GTiff": ".tif", "PNG": ".png"}[driver]
    assert truth_of(painted(tmp_path / f"a{suffix}", [0, 1], [black, blue], driver)) == [LAND, WATER]
    assert truth_of(painted(tmp_path / f"b{suffix}", [0, 1], [green, blue], driver)) == [LAND, WATER]
    three = painted(tmp_path / f"c{suffix}", [0, 1, 2], [black, green, blue], driver)
    assert truth_of(three, "land=1,water=2,ignore=0") == [NODATA, LAND, WATER]
    swapped = painted(tmp_path / f"d{suffix}", [0, 1], [blue, black], driver)
    with pytest.raises(DataError, match=r"shows 1 as black and 0 as a colour.*--labels"):
        truth_of(swapped)
    assert truth_of(swapped, "land=1,water=0") == [WATER, LAND]


def test_one_coding_is_settled_for_all_labels_of_a_data_set(tmp_path: Path) -> None:
    """A tile without water does not tell by itself."""
    first, second = label(tmp_path / "a.tif", [0, 255]), label(tmp_path / "b.tif", [0, 1])
    assert settle_coding([first]).water == (255,)
    assert settle_coding([first, second]).ignore == (255, -1)


def test_a_picture_of_a_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="3 bands"):
        Label(write_geotiff(tmp_path / "rgb.tif", np.zeros((3, 4, 4), np.uint8)))


def test_a_png_is_read(tmp_path: Path) -> None:
    source = label(tmp_path / "a.tif", [0, 255, 255])
    gdal.Translate(str(tmp_path / "a.png"), str(source), format="PNG")
    assert truth_of(tmp_path / "a.png") == [LAND, WATER, WATER]


@pytest.mark.parametrize("damage", ["absent", "text", "empty"])
def test_a_damaged_label_is_a_data_error(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.tif"
    if damage != "absent":
        path.write_bytes(b"Dear Sir" if damage == "text" else b"")
    with pytest.raises(DataError, match=r"a\.tif"):
        Label(path)


class TestCoding:
    meanings = st.dictionaries(
        st.integers(-100, 300), st.sampled_from(["land", "water", "ignore"]), min_size=2, max_size=8
    ).filter(lambda found: {"land", "water"} <= set(found.values()))

    @given(meanings)
    def test_what_is_parsed_means_what_was_written(self, meanings: dict[int, str]) -> None:
        coding = Coding.parse(",".join(f"{meaning}={value}" for value, meaning in meanings.items()))
        assert Coding.parse(str(coding)) == coding
        expected = {"land": LAND, "water": WATER, "ignore": NODATA}
        values = np.array(list(meanings))
        assert coding.truth(values).tolist() == [expected[meanings[value]] for value in values.tolist()]
        assert coding.truth(np.array([1000.0]))[0] == NODATA, "what is in no coding"

    @given(st.text(alphabet="landwterigo=,0123456789. -", max_size=30))
    def test_any_text_is_a_coding_or_a_usage_error(self, text: str) -> None:
        coding = None
        with contextlib.suppress(UsageError):
            coding = Coding.parse(text)
        assert coding is None or (coding.land and coding.water)

    @pytest.mark.parametrize("text", ["", "land=0", "water=1", "land=0,water=0", "land=0,water=x", "sea=1,land=0"])
    def test_half_a_coding_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="--labels"):
            Coding.parse(text)


class TestPairs:
    def folder(self, path: Path, images: list[str], labels: list[str]) -> Path:
        for name in images:
            (path / "img").mkdir(parents=True, exist_ok=True)
            write_geotiff(path / "img" / name, lake_scene(4, 4))
        for name in labels:
            (path / "mask").mkdir(exist_ok=True)
            write_geotiff(path / "mask" / name, np.zeros((4, 4), np.uint8))
        return path

    def test_a_name_is_never_taken_for_the_beginning_of_another(self, tmp_path: Path) -> None:
        data = self.folder(tmp_path, ["a_1.tif", "a_10.tif"], ["a_1_label.tif", "a_10_label.tif"])
        found = {pair.image.name: pair.label.name for pair in find_files(str(data))}
        assert found == {"a_1.tif": "a_1_label.tif", "a_10.tif": "a_10_label.tif"}

    def test_a_missing_label_is_said_although_a_longer_name_is_there(self, tmp_path: Path) -> None:
        data = self.folder(tmp_path, ["a_1.tif"], ["a_10_label.tif"])
        with pytest.raises(DataError, match=r"a_1\.tif: no mask; expected one, .*a_1_label\.tif"):
            find_files(str(data))

    def test_two_labels_of_one_image_are_refused(self, tmp_path: Path) -> None:
        data = self.folder(tmp_path, ["a.tif"], ["a_label.tif", "a_mask.tif"])
        with pytest.raises(DataError, match=r"2 labels \(a_label\.tif, a_mask\.tif\)"):
            find_files(str(data))

    words = st.lists(st.text(alphabet="abc019", min_size=1, max_size=4), min_size=1, max_size=4).filter(
        lambda words: not {word.lower() for word in words} & set(LABEL_WORDS)
    )

    @given(words, st.sampled_from(LABEL_WORDS), st.integers(0, 4))
    def test_a_label_word_changes_no_stem_wherever_it_stands(self, words: list[str], word: str, at: int) -> None:
        labelled = [*words[:at], word.upper(), *words[at:]]
        assert stem(Path("_".join(labelled) + ".tif")) == stem(Path("_".join(words) + ".png"))

    @given(words, words)
    def test_stems_are_equal_only_where_names_are(self, one: list[str], other: list[str]) -> None:
        first, second = (stem(Path("_".join(words) + ".tif")) for words in (one, other))
        assert (first == second) == (one == other)


def test_codes_beyond_a_label_are_not_water() -> None:
    assert Coding().truth(CODES).tolist() == [[LAND, NODATA], [NODATA, LAND]]
