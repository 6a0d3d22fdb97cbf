"""The contract that training, export and runtime share: errors, manifests, tiling, metrics."""

__version__ = "0.1.0"
