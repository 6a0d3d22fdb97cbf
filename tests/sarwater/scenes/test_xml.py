from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sarwater.errors import SceneError, SceneUnreadable, SceneUnsafe
from sarwater.scenes.xml import MAX_DEPTH, MAX_ELEMENTS, read_xml


def read(content: bytes, max_bytes: int = 1 << 20) -> ElementTree.Element:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.xml"
        path.write_bytes(content)
        return read_xml(path, max_bytes)


NAMES = st.sampled_from(["a", "Root", "GIM", "calibrationVector"])
TREES = st.recursive(
    st.tuples(NAMES, st.text(st.characters(categories=["L", "N", "Zs"]), max_size=9)),
    lambda inner: st.tuples(NAMES, st.lists(inner, max_size=4)),
    max_leaves=12,
)


def element(tree: tuple[str, object]) -> ElementTree.Element:
    found = ElementTree.Element(tree[0])
    if isinstance(tree[1], str):
        found.text = tree[1]
    elif isinstance(tree[1], list):
        found.extend(map(element, tree[1]))
    return found


@settings(deadline=None)
@given(TREES, st.sampled_from(["utf-8", "utf-16"]))
def test_plain_xml_is_read_as_it_is(tree: tuple[str, object], encoding: str) -> None:
    wanted = element(tree)
    found = read(ElementTree.tostring(wanted, encoding))
    assert ElementTree.tostring(found) == ElementTree.tostring(wanted)


def test_text_may_be_quoted_whole() -> None:
    assert read(b"<!-- of a mission --><a><![CDATA[1 < 2]]></a>").text == "1 < 2"


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300) | st.text("<>&;!/[]ab \"'=?", max_size=60).map(str.encode))
def test_nothing_else_ever_comes_of_it(content: bytes) -> None:
    with contextlib.suppress(SceneError):
        read(content)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp037", "iso-8859-1"])
def test_no_encoding_hides_a_document_type(encoding: str) -> None:
    declared = f'<?xml version="1.0" encoding="{encoding}"?>'
    body = '<!DOCTYPE a [<!ENTITY b "bb">]><a>&b;</a>'
    content = (declared + body).encode(encoding) if encoding == "utf-16" else declared.encode() + body.encode(encoding)
    with pytest.raises(SceneUnsafe if encoding != "cp037" else SceneError):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"<a>" * (MAX_DEPTH + 1) + b"</a>" * (MAX_DEPTH + 1),
        b"<a>" * 100_000,
        b"<a>" + b"<b/>" * MAX_ELEMENTS + b"</a>",
    ],
    ids=["deep", "brackets", "many"],
)
def test_more_than_a_product_says_is_refused(content: bytes) -> None:
    with pytest.raises(SceneUnsafe, match="expected the XML of one product"):
        read(content, 1 << 30)


def test_a_large_file_is_not_parsed() -> None:
    with pytest.raises(SceneUnsafe, match="larger than 10 bytes"):
        read(b"<a>" + b" " * 99, 10)


def test_a_missing_file_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(SceneUnreadable, match="cannot be read"):
        read_xml(tmp_path / "x.xml")
