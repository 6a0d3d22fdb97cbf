"""Products: one list from which everything else is derived, and what each knows of a file that is there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import runtime.products
from runtime.backends.base import FinishedRows
from runtime.backends.fake import FakeBackend
from runtime.pipeline import process_scene
from runtime.products import PRODUCTS, Product, chosen
from runtime.products.base import Making
from runtime.products.publish import publish
from runtime.products.stac import StacItem
from sarwater.errors import SettingInvalid
from sarwater.request import REQUEST_FIELDS, Request
from tests.support.rasters import lake_scene, write_geotiff


class RowCount(Product):
    """What a new product takes: this class, and one line in PRODUCTS."""

    name = "rows"
    suffix = "_rows.txt"
    help = "how many rows there are"
    asset_name = "rows"
    asset = {"type": "text/plain", "title": "Rows", "roles": ["data"]}  # noqa: RUF012

    count = 0

    @classmethod
    def tags_in(cls, path: Path) -> Mapping[str, str]:
        return {}

    def write(self, finished: FinishedRows) -> None:
        self.count += len(finished.mask)

    def finish(self, making: Making) -> None:
        self.path.write_text(f"{self.count}\n")

    def close(self) -> None:
        """Nothing is held open."""


def make(path: Path, out: Path, **options: object) -> dict[str, Path]:
    staged = process_scene(path, FakeBackend(), out, Request(**options))
    publish(staged, overwrite=True)
    return {product.name: out / product.file_name(path.stem) for product in chosen(Request(**options).products)}


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_geotiff(tmp_path / "a.tif", lake_scene(90, 64))


def test_a_new_product_is_one_class_and_one_line(scene: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.products, "PRODUCTS", (*PRODUCTS, RowCount))
    files = make(scene, out)
    assert files["rows"].read_text() == "90\n"
    assert json.loads(files["stac"].read_text())["assets"]["rows"]["title"] == "Rows"
    assert sorted(make(scene, out / "b", products=("rows",))) == ["mask", "rows"]


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_every_product_says_what_it_is(product: type[Product]) -> None:
    assert product.name
    assert product.suffix
    assert product.help
    assert bool(product.asset) == bool(product.asset_name)
    assert set(product.settings) <= set(REQUEST_FIELDS)


def test_names_and_suffixes_are_not_used_twice() -> None:
    for attribute in ("name", "suffix"):
        assert len({getattr(product, attribute) for product in PRODUCTS}) == len(PRODUCTS)


def test_the_mask_is_chosen_always_and_an_unknown_product_never() -> None:
    assert chosen(None) == PRODUCTS
    assert [product.name for product in chosen(("stac",))] == ["mask", "stac"]
    assert [product.name for product in chosen(())] == ["mask"]
    with pytest.raises(SettingInvalid, match="did you mean 'polygons'"):
        chosen(("polygon",))
    with pytest.raises(SettingInvalid, match="expected one of: mask, confidence"):
        chosen(("cake",))


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda product: product.name)
def test_a_file_is_current_for_its_own_key_and_settings_only(scene: Path, out: Path, product: type[Product]) -> None:
    asked = {"simplify_m": 2.0}
    staged = process_scene(scene, FakeBackend(), out, Request(**asked))
    publish(staged)
    path, key = out / product.file_name("a"), staged.mask_key
    assert product.is_current(path, key, Request(**asked))
    assert not product.is_current(path, "0" * 64, Request(**asked))
    assert product.is_current(path, key, Request(simplify_m=3.0)) == ("simplify_m" not in product.settings)
    path.write_bytes(b"of another program")
    assert not product.is_current(path, key, Request(**asked))
    path.unlink()
    assert not product.is_current(path, key, Request(**asked))


def test_an_item_is_current_only_if_it_lists_what_is_asked_for(scene: Path, out: Path) -> None:
    staged = process_scene(scene, FakeBackend(), out, Request(products=("mask", "stac")))
    publish(staged)
    item = out / StacItem.file_name("a")
    assert StacItem.is_current(item, staged.mask_key, Request(products=("stac",)))
    assert not StacItem.is_current(item, staged.mask_key, Request())
