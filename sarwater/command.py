"""How every command ends: exit 0, or one clear line on stderr and the error's own exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from sarwater.errors import SarwaterError

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as shells report it."""


def run_command(main: Callable[[Sequence[str] | None], int], argv: Sequence[str] | None = None) -> int:
    """Run `main(argv)`; turn the errors of `sarwater.errors` into one line and their exit code.

    Anything else is a bug and keeps its traceback.
    """
    try:
        return main(argv)
    except SarwaterError as error:
        print(f"{_program()}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{_program()}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) went away; point stdout elsewhere so that the interpreter's
        # flush at exit does not raise again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _program() -> str:
    return os.path.basename(sys.argv[0]).removesuffix(".py")
