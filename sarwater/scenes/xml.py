"""XML that came with a scene: plain, of a bounded size, without a document type and the entities that one defines.

What it is made of is counted in a first pass, which keeps nothing, before a tree is built.
Source: XML 1.0, 2.8 and 4.3.3 (an encoding that is declared may hide what a search of the bytes would find).
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree
from xml.parsers import expat

from sarwater.errors import SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular

MAX_BYTES = 64 << 20
MAX_ELEMENTS = 500_000
"""A tree of them takes some 100 MB."""
MAX_DEPTH = 100


def read_xml(path: Path, max_bytes: int = MAX_BYTES, without: tuple[str, str] | None = None) -> ElementTree.Element:
    """The root element. `without` is the tag and the name of an element that is long and not needed: it is not parsed.

    Raises SceneUnreadable, and SceneUnsafe for a large file or one that defines entities."""
    try:
        with open_regular(path) as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise SceneUnreadable(f"{path.name}: cannot be read ({error.strerror}); send the product again") from error
    return parse_xml(text, path.name, max_bytes, without)


def parse_xml(
    text: bytes, name: str, max_bytes: int = MAX_BYTES, without: tuple[str, str] | None = None
) -> ElementTree.Element:
    """The root element of what `name` holds; `without` as in `read_xml`. Raises as that."""
    if len(text) > max_bytes:
        raise SceneUnsafe(f"{name}: is larger than {max_bytes:,} bytes; expected the XML of one product")
    if without is not None:
        text = _without(text, *(part.encode() for part in without))
    try:
        _check(name, text)
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise SceneUnreadable(f"{name}: not readable XML ({error}); send the product again") from error


def _check(name: str, text: bytes) -> None:
    """Raises SceneUnsafe, and ExpatError."""
    elements, depth = 0, 0

    def begin(tag: str, attributes: list[str]) -> None:
        nonlocal elements, depth
        elements, depth = elements + 1, depth + 1
        if elements > MAX_ELEMENTS or depth > MAX_DEPTH:
            raise SceneUnsafe(
                f"{name}: holds more than {MAX_ELEMENTS:,} elements, or some more than {MAX_DEPTH} deep; expected the "
                "XML of one product"
            )

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*arguments: object) -> None:
        raise SceneUnsafe(f"{name}: has a document type, which may define entities; expected plain XML")

    parser = expat.ParserCreate()
    parser.ordered_attributes = True
    parser.StartElementHandler, parser.EndElementHandler, parser.StartDoctypeDeclHandler = begin, end, refuse
    parser.Parse(text, True)


def _without(text: bytes, tag: bytes, name: bytes) -> bytes:
    """`text` without the first element `tag` called `name`, which may hold others of its tag."""
    start = text.find(b'<%s name="%s"' % (tag, name))
    depth = 0
    for found in re.finditer(rb"<(/?)%s\b[^<>]*?(/?)>" % re.escape(tag), text[start:] if start >= 0 else b""):
        depth += -1 if found[1] else 0 if found[2] else 1
        if depth <= 0:
            return text[:start] + text[start + found.end() :]
    return text


def file_named(reference: str | None) -> str:
    """The bare name of a file that a product's XML refers to: whatever folder it says, the product's layout tells where
    the file lies, so no reference leads out of the product. "" where there is none."""
    name = PurePosixPath((reference or "").strip().replace("\\", "/")).name
    return "" if name == ".." else name
