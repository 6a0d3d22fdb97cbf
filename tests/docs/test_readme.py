"""README.md is read in two minutes."""

from __future__ import annotations

import re

from tests.conftest import CHECKOUT

TEXT = (CHECKOUT / "README.md").read_text(encoding="utf-8")


def test_it_has_at_most_450_words() -> None:
    assert len(TEXT.split()) <= 450


def test_it_begins_with_a_picture_that_is_there() -> None:
    first = re.match(r"!\[[^\]]{20,}\]\(([^)]+)\)", TEXT)
    assert first
    assert (CHECKOUT / first[1]).is_file()


def test_it_says_what_it_is_in_english_and_in_korean_in_a_sentence_each() -> None:
    _, title, english, korean = TEXT.split("\n\n")[:4]
    assert title == "# sarwater"
    assert english.count(". ") == korean.count(". ") == 0
    assert re.search("[가-힣]", korean)
    assert not re.search("[가-힣]", english)


def test_four_lines_of_shell_and_four_of_python_show_its_use() -> None:
    use = TEXT.split("## Use")[1].split("\n## ")[0]
    assert len(re.findall(r"^ {4}\S", use, re.MULTILINE)) == 4
    (block,) = re.findall(r"```python\n(.*?)```", use, re.DOTALL)
    assert len([line for line in block.splitlines() if line]) == 4


def test_the_accuracy_has_a_row_for_each_sensor_between_its_two_comments() -> None:
    table = TEXT.split("<!-- accuracy")[1].split("<!-- end -->")[0]
    rows = re.findall(r"^\| (\S[^|]*) \|((?:0\.\d{3}\|){5})$", table, re.MULTILINE)
    assert [sensor.split()[0].rstrip(",") for sensor, *_ in rows] == ["Sentinel-1"] * 3 + ["TerraSAR-X"]
