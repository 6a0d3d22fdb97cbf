"""Does what a refusal says, with the command in it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

_TRANSLATE = """
import sys
from osgeo import gdal
gdal.UseExceptions()
of, options = sys.argv[1], sys.argv[2].split()
gdal.Translate(sys.argv[4], sys.argv[3], format=of or None, creationOptions=options)
"""


def translated(message: str, folder: Path) -> Path:
    """What the first `gdal_translate` of `message` makes when it is run in `folder`, with GDAL's library: the program
    need not be there."""
    name = r"(?:'[^']*'|[^\s,)]+)"
    words = shlex.split(re.findall(rf"gdal_translate ((?:-\S+ \S+ )*{name} {name})", message)[0])
    options = list(zip(words[:-2:2], words[1:-2:2], strict=True))
    of, creation = ([value for flag, value in options if flag == wanted] for wanted in ("-of", "-co"))
    arguments = ["".join(of), " ".join(creation), *words[-2:]]
    subprocess.run([sys.executable, "-c", _TRANSLATE, *arguments], check=True, cwd=folder)
    return folder / words[-1]
