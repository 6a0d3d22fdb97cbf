"""What the documentation site has beyond docs/: pages that lie elsewhere in the repository, where the code host shows
them too, and pages that are made of the code, which cannot be out of date. MkDocs calls the functions `on_...`.
"""

from __future__ import annotations

import inspect
import logging
import os
import posixpath
import re
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from runtime.daemon.config import Config
from sarwater.cli import sarwater
from sarwater.command import Group
from sarwater.record import Record
from sarwater.request import Request

log = logging.getLogger("mkdocs.plugins.site")
ROOT = Path(__file__).resolve().parent.parent

ELSEWHERE = {
    "index.md": "README.md",
    "operate.md": "systemd/README.md",
    "model.md": "recipes/README.md",
    "accuracy.md": "benchmarks/accuracy.md",
    "families.md": "benchmarks/families.md",
    "speed.md": "benchmarks/README.md",
    "architecture.md": "ARCHITECTURE.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
}
"""Page of the site -> file in the repository."""
_PAGES = {source: page for page, source in ELSEWHERE.items()}
_LINK = re.compile(r"(!?\[[^\]]*\])\(([^)\s]+)\)")
_MORE = "More"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Pages in docs/ that the navigation does not name come at its end, so that none is out of reach."""
    assert config.nav is not None
    named = set(_named(config.nav))
    docs = Path(config.docs_dir)
    found = sorted(path.relative_to(docs).as_posix() for path in docs.rglob("*.md"))
    if rest := [page for page in found if page not in named]:
        config.nav.append({_MORE: rest})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    pages = {page: (ROOT / source).read_text(encoding="utf-8") for page, source in ELSEWHERE.items()}
    pages |= {"commands.md": commands_page(), "settings.md": settings_page()}
    for page, text in pages.items():
        if files.get_file_from_path(page) is None:
            files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links lead to the page of the file that they name; what has no page is named without a link."""
    uri = page.file.src_uri
    source = ELSEWHERE.get(uri, f"docs/{uri}")

    def relinked(found: re.Match[str]) -> str:
        text, target = found.groups()
        path, _, anchor = target.partition("#")
        if not path or ":" in path:
            return found[0]
        in_repository = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        to = _PAGES.get(in_repository, in_repository.removeprefix("docs/"))
        if files.get_file_from_path(to) is not None:
            relative = posixpath.relpath(to, posixpath.dirname(uri) or ".")
            return f"{text}({relative}{'#' if anchor else ''}{anchor})"
        if not (ROOT / in_repository).exists():
            log.warning("%s links to %s, which is not in the repository", source, target)
        return f"{text.lstrip('!')[1:-1]} (`{in_repository}`)"

    return _LINK.sub(relinked, markdown)


def commands_page() -> str:
    """What every command's `--help` says."""
    lines = ["# Commands", "", "What `--help` says of each. `sarwater.errors` has the reasons that a command may give."]
    for name, command in sorted(_commands(sarwater, "sarwater").items()):
        context = click.Context(command, info_name=name, max_content_width=100, terminal_width=100)
        lines += ["", f"## {name}", "", "```text", command.get_help(context).rstrip(), "```"]
    return "\n".join(lines) + "\n"


def settings_page() -> str:
    """The fields of the request, and those that the daemon adds."""
    lines = [
        "# Settings",
        "",
        "A setting is a key of `watch.toml`, an option of the commands (`--sieve-px`), a keyword in Python (`sieve_px`)"
        " and an environment variable of the daemon (`SARWATER_SIEVE_PX`); all of them are checked alike. Below each is"
        " its kind and its default.",
        "",
        "## Of a scene: commands, daemon and Python",
        "",
        *_table(Request, ()),
        "",
        "## Of the daemon",
        "",
        *_table(Config, Request.model_fields),
    ]
    return "\n".join(lines) + "\n"


def _named(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for entry in nav.values() if isinstance(nav, dict) else nav:
            yield from _named(entry)


def _commands(command: click.Command, name: str) -> dict[str, click.Command]:
    """All commands below and with this one, by what is typed."""
    found = {name: command}
    if isinstance(command, Group):
        context = click.Context(command, info_name=name)
        for sub in command.list_commands(context):
            below = command.get_command(context, sub)
            assert below is not None
            found |= _commands(below, f"{name} {sub}")
    return found


def _table(record: type[Record], leave_out: Any) -> Iterator[str]:
    yield "| setting | what it says |"
    yield "| --- | --- |"
    own = [name for kind in record.__mro__ for name in inspect.get_annotations(kind)]
    for name, field in sorted(record.model_fields.items(), key=lambda item: own.index(item[0])):
        if name not in leave_out:
            default = _plain(field.get_default(call_default_factory=True))
            known = "needed" if field.is_required() else f"`{default}`" if default else "none"
            said = " ".join((field.description or "").split())
            yield f"| `{name}`<br>{_kind(field.annotation)}<br>{known} | {said} |".replace("\\|", "|")


def _plain(value: Any) -> str:
    """As it is written in TOML; empty for none."""
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    if isinstance(value, bool):
        value = str(value).lower()
    return "" if value is None else str(value).replace("|", "/")


def _kind(annotation: Any) -> str:
    """`number`, `list of text`, one of these words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_kind(part) for part in arguments if part is not type(None))
    if origin is typing.Literal:
        return " or ".join(f"`{word}`" for word in arguments)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    names = {int: "whole number", float: "number", bool: "true or false", str: "text"}
    if isinstance(annotation, type) and issubclass(annotation, os.PathLike):
        return "path"
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
