"""Fixtures of the training tests."""

from __future__ import annotations

import torch

# The nets here are tiny: a second thread costs more in waiting than it gains, the more so beside other work.
torch.set_num_threads(1)
