"""How something is installed into the environment that this process runs in."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

_PIP = re.compile(r"(CPPFLAGS=\S+(?: -c '[^']*'\))? )?(?<!-m )(?<!uv )\bpip install")
_PYTHON = re.compile(r"(?<![\w/.-])python(?= -c )")


def for_this_environment(advice: str) -> str:
    """`advice` with its `pip` and `python` as they have to be typed here: those of an environment that is not activated
    have a path, one that is not this user's wants sudo, and one of uv has no pip. Another one's would change something
    else, or fetch another package of the same name."""
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.prefix) / "bin":
        return advice
    python = shlex.quote(sys.executable)
    install = f"{python} -m pip install" if importlib.util.find_spec("pip") else f"uv pip install --python {python}"
    sudo = "" if os.access(sys.prefix, os.W_OK) else "sudo "

    def here(found: re.Match[str]) -> str:
        variable = found[1] or ""
        return f"{sudo}{'env ' if sudo and variable else ''}{variable}{install}"

    return _PYTHON.sub(lambda _: python, _PIP.sub(here, advice))
