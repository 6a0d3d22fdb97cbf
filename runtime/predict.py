"""`python -m runtime.predict`: see runtime/commands/predict.py."""

from __future__ import annotations

import sys

from runtime.commands.predict import cli

if __name__ == "__main__":
    sys.exit(cli())
