"""`python -m runtime.watch`: see runtime/commands/watch.py."""

from __future__ import annotations

import sys

from runtime.commands.watch import cli

if __name__ == "__main__":
    sys.exit(cli())
