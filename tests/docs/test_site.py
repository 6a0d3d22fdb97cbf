"""The documentation site: built strictly, so that every link leads somewhere, and whole without a network."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sarwater.cli import COMMANDS
from sarwater.request import REQUEST_FIELDS
from tests.conftest import CHECKOUT
from tests.docs.pages import PAGES, blocks_of, name_of

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs: pip install sarwater[docs]"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        capture_output=True, text=True, cwd=CHECKOUT, timeout=250, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def site_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("site_of_docs", CHECKOUT / "docs" / "site.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_every_page_of_the_repository_is_on_it(site: Path) -> None:
    for page in (CHECKOUT / "docs").rglob("*.md"):
        shown = (site / page.relative_to(CHECKOUT / "docs")).with_suffix(".html")
        assert shown.is_file(), page
        assert f'href="{shown.relative_to(site)}"' in text_of(site / "index.html"), f"{page}: not in the navigation"


def test_every_block_of_code_is_shown_as_one(site: Path) -> None:
    """After a list, indented lines are text of its last entry."""
    elsewhere = {source: page for page, source in site_module().ELSEWHERE.items()}
    for page in PAGES:
        path = elsewhere.get(name_of(page), name_of(page).removeprefix("docs/"))
        if not (site / path).with_suffix(".html").is_file():
            continue
        found = re.findall(r"<pre.*?</pre>", text_of((site / path).with_suffix(".html")), re.DOTALL)
        shown = html.unescape(re.sub(r"<[^>]+>", "", "\n".join(found)))
        for block in blocks_of(page):
            assert block.text.splitlines()[0].strip() in shown, (page, block.text)


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    loaded = re.compile(
        r"<(?:script|img|iframe)[^>]* src=\"?https?:|<link[^>]* rel=\"?(?:stylesheet|preconnect)[^>]*https?:"
    )
    for page in site.rglob("*.html"):
        assert not loaded.search(text_of(page)), page


def test_every_command_and_every_setting_has_its_place(site: Path) -> None:
    commands, settings = text_of(site / "commands.html"), text_of(site / "settings.html")
    for name in COMMANDS:
        assert f"sarwater {name}" in commands
    for name in REQUEST_FIELDS:
        assert f"<code>{name}</code>" in settings


def test_a_setting_says_its_kind_and_default(site: Path) -> None:
    settings = text_of(site / "settings.html")
    for name, kind, default in (
        ("sieve_px", "whole number", "0"), ("off_level", "note</code> or <code>refuse", "note"),
        ("read_only_inbox", "true or false", "false"),
    ):  # fmt: skip
        assert re.search(
            rf"<code>{name}</code><br ?/?>(<code>)?{kind}(</code>)?<br ?/?><code>{default}</code>", settings
        ), name


def test_the_api_has_what_the_front_door_offers(site: Path) -> None:
    text = text_of(site / "api.html")
    for name in ("predict", "open_model", "open_scene", "Prediction", "OpenModel", "Scene", "Georeference"):
        assert re.search(rf'id="sarwater\.[\w.]+\.{name}"', text), name
