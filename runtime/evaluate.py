"""`python -m runtime.evaluate`: see runtime/commands/evaluate.py."""

from __future__ import annotations

import sys

from runtime.commands.evaluate import cli

if __name__ == "__main__":
    sys.exit(cli())
