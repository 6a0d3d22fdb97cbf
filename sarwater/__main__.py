"""`python -m sarwater` is `sarwater`."""

from __future__ import annotations

import sys

from sarwater.cli import cli

sys.exit(cli())
