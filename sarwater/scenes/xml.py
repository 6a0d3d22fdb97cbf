"""XML that came with a scene: plain, of a bounded size, without entities."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from sarwater.errors import SceneUnreadable, SceneUnsafe

MAX_BYTES = 64 << 20


def read_xml(path: Path, max_bytes: int = MAX_BYTES) -> ElementTree.Element:
    """The root element. Raises SceneUnreadable, and SceneUnsafe for a large file or one that defines entities."""
    try:
        with path.open("rb") as file:
            text = file.read(max_bytes + 1)
    except OSError as error:
        raise SceneUnreadable(f"{path.name}: cannot be read ({error.strerror}); send the product again") from error
    return parse_xml(text, path.name, max_bytes)


def parse_xml(text: bytes, name: str, max_bytes: int = MAX_BYTES) -> ElementTree.Element:
    """The root element of what `name` holds. Raises as `read_xml`."""
    if len(text) > max_bytes or b"<!" in text.replace(b"<!--", b""):
        raise SceneUnsafe(f"{name}: is larger than {max_bytes:,} bytes or defines entities; expected plain XML")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneUnreadable(f"{name}: not readable XML ({error}); send the product again") from error
