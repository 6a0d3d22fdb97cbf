"""XML that came with a scene: plain, of a bounded size, without entities."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
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
    if len(text) > max_bytes or b"<!" in text.replace(b"<!--", b""):
        raise SceneUnsafe(f"{path.name}: is larger than {max_bytes:,} bytes or defines entities; expected plain XML")
    try:
        return ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise SceneUnreadable(f"{path.name}: not readable XML ({error}); send the product again") from error


def file_named(reference: str | None) -> str:
    """The bare name of a file that a product's XML refers to: whatever folder it says, the product's layout tells where
    the file lies, so no reference leads out of the product. "" where there is none."""
    name = PurePosixPath((reference or "").strip().replace("\\", "/")).name
    return "" if name == ".." else name
