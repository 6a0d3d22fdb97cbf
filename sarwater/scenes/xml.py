"""XML that came with a scene: plain, of a bounded size, without a document type and the entities that one defines.

What it is made of is counted in a first pass, which keeps nothing, before a tree is built.
Source: XML 1.0, 2.8 and 4.3.3 (an encoding that is declared may hide what a search of the bytes would find).
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from sarwater.errors import SceneUnreadable, SceneUnsafe

MAX_BYTES = 64 << 20
MAX_ELEMENTS = 500_000
"""A tree of them takes some 100 MB."""
MAX_DEPTH = 100


def read_xml(path: Path, max_bytes: int = MAX_BYTES) -> ElementTree.Element:
    """The root element. Raises SceneUnreadable, and SceneUnsafe for a large file or one that defines entities."""
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise SceneUnreadable(f"{path.name}: cannot be read ({error.strerror}); send the product again") from error
    if len(text) > max_bytes:
        raise SceneUnsafe(f"{path.name}: is larger than {max_bytes:,} bytes; expected the XML of one product")
    try:
        _check(path.name, text)
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise SceneUnreadable(f"{path.name}: not readable XML ({error}); send the product again") from error


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
