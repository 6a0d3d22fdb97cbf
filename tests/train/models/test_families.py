"""sarwater/families.py is the only place that lists the families and their variants."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import sarwater
from sarwater.families import FAMILIES, Family, model_name
from train.models import Segmenter, architecture
from train.models.preprocessing import CELL_PX

CHECKOUT = Path(sarwater.__file__).resolve().parents[1]
VARIANTS = [(family.name, variant) for family in FAMILIES.values() for variant in family.variants]


@pytest.mark.parametrize(("family", "variant"), VARIANTS)
def test_the_network_of_a_family_accepts_every_variant_listed(family: str, variant: str) -> None:
    with torch.device("meta"):
        arch = architecture(model_name(family, variant))
        network = Segmenter(arch)
    assert arch.name == model_name(family, variant)
    assert sum(parameter.numel() for parameter in network.parameters()) > 0


@pytest.mark.parametrize("family", FAMILIES.values(), ids=lambda family: family.name)
def test_tiles_of_other_sizes_suit_the_network_and_what_tells_it_of_surroundings(family: Family) -> None:
    assert family.tile_step_px % family.stride_px == 0
    assert family.tile_step_px % CELL_PX == 0


def test_nothing_else_lists_the_families() -> None:
    listing = re.compile(r"""["'](fcn|unet|deepunet|hrnet)["'],\s*["'](fcn|unet|deepunet|hrnet)["']""")
    found = [
        path.relative_to(CHECKOUT).as_posix()
        for package in ("sarwater", "train", "export", "runtime")
        for path in (CHECKOUT / package).rglob("*.py")
        if listing.search(path.read_text())
    ]
    assert found == []
