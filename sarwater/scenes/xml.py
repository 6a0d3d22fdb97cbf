"""XML that came with a scene: plain, of a bounded size, without entities."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from sarwater.errors import SceneUnreadable, SceneUnsafe

MAX_BYTES = 64 << 20


def read_xml(path: Path, max_bytes: int = MAX_BYTES, without: tuple[str, str] | None = None) -> ElementTree.Element:
    """The root element. `without` is the tag and the name of an element that is long and not needed: it is not parsed.

    Raises SceneUnreadable, and SceneUnsafe for a large file or one that defines entities."""
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise SceneUnreadable(f"{path.name}: cannot be read ({error.strerror}); send the product again") from error
    return parse_xml(text, path.name, max_bytes, without)


def parse_xml(
    text: bytes, name: str, max_bytes: int = MAX_BYTES, without: tuple[str, str] | None = None
) -> ElementTree.Element:
    """The root element of what `name` holds; `without` as in `read_xml`. Raises as that."""
    if len(text) > max_bytes or b"<!" in text.replace(b"<!--", b""):
        raise SceneUnsafe(f"{name}: is larger than {max_bytes:,} bytes or defines entities; expected plain XML")
    if without is not None:
        text = _without(text, *(part.encode() for part in without))
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneUnreadable(f"{name}: not readable XML ({error}); send the product again") from error


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
