"""What makes two runs the same: the input's hash, the mask's key, and the name that products begin with.

Needs neither GDAL nor a network: a supervisor uses it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path

from sarwater import __version__
from sarwater.errors import SceneMissing, SceneUnreadable, SceneUnsafe
from sarwater.regular import open_regular
from sarwater.request import Request

MASK_SUFFIX = "_water.tif"
_MAX_STEM_BYTES = 120
_ARCHIVED = re.compile(r"(.+?)(?:\.(?:safe|tiff?|h5|ntf|nitf))?(?:\.tar\.gz|\.tar|\.tgz|\.zip|\.gz)", re.I | re.DOTALL)
_CHUNK_BYTES = 4 << 20


def input_sha256(
    root: Path, members: Sequence[Path], progress: Callable[[], None] | None = None, name: str | None = None
) -> str:
    """The sha256 of a scene. Of one file, of its bytes; of several, of the sorted lines `<sha256>  <relative path>`.

    `members` are the files of the scene, as its reader names them (`sarwater.scenes.members`): in the folder `root`, or
    beside the file `root`. `progress` is called after every few MB; `name` is what a message calls a file that was
    renamed. Links and whatever else is no regular
    file are never followed.

    Raises SceneMissing, SceneUnreadable, SceneUnsafe; OSError where the disk fails.
    """
    if list(members) == [root]:
        return _file_sha256(root, name or root.name, progress)
    if len(members) == 1:
        return _file_sha256(members[0], members[0].name, progress)
    home = root if all(member.is_relative_to(root) for member in members) else root.parent
    names = {member.relative_to(home).as_posix(): member for member in members}
    lines = (f"{_file_sha256(names[name], name, progress)}  {name}\n" for name in sorted(names))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def mask_key(input_sha256: str, model_sha256: str, request: Request) -> str:
    """The identity of a mask: one visible mask per key, whatever happens. Side products are not part of it."""
    settings = request.mask_settings() | {"software": __version__}
    document = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(f"{input_sha256}\n{model_sha256}\n{document}\n".encode()).hexdigest()


def name_of(path: Path) -> str:
    """What a scene is called that nobody renamed: its file's or folder's name, of `.` too."""
    return os.path.basename(os.path.abspath(path))


def stem_of(name: str | Path) -> str:
    """The start of every product's name: the scene's own without suffixes (`X.SAFE.zip` is `X`), reduced to letters,
    digits, `_`, `-` and `.`."""
    packed = _ARCHIVED.fullmatch(Path(name).name)
    stem = unicodedata.normalize("NFC", packed[1] if packed else Path(name).stem)
    cleaned = re.sub(r"[^\w.-]+", "_", stem).lstrip(".-")
    return cleaned.encode()[:_MAX_STEM_BYTES].decode(errors="ignore") or "scene"


def mask_name(stem: str) -> str:
    return stem + MASK_SUFFIX


def _file_sha256(path: Path, name: str, progress: Callable[[], None] | None) -> str:
    try:
        file = open_regular(path, os.O_NOFOLLOW)
    except FileNotFoundError:
        raise SceneMissing(f"{name}: no such file; expected a SAR scene") from None
    except PermissionError:
        raise SceneUnreadable(f"{name}: may not be read by this user; grant read permission on it") from None
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO, errno.EINVAL):  # a link, a socket, another special file
            raise SceneUnsafe(f"{name}: a link or a special file; send the file itself") from None
        raise
    digest = hashlib.sha256()
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            if progress is not None:
                progress()
    return digest.hexdigest()
