"""HTML and SVG of the status page. All that comes from outside goes through `text`, which escapes it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.daemon.status import seconds, size

_BAR_PX = 340
_LABEL_PX = 80
_ROW_PX = 22
_MESSAGE_CHARACTERS = 160


def text(value: object) -> str:
    """Fit for content and for quoted attributes."""
    return html.escape("" if value is None else str(value), quote=True)


def moment(utc: str | None) -> str:
    """`2026-11-30 12:00:00 UTC`."""
    return f"{utc[:19].replace('T', ' ')} UTC" if utc else ""


def document(title: str, live: str, rest: str = "") -> str:
    """A whole page. `live` is what its script renews."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n"
        '<link rel="stylesheet" href="/style.css">\n<link rel="icon" href="data:,">\n'
        '<script src="/page.js" defer></script>\n</head>\n<body>\n'
        '<a class="skip" href="#live">To the content</a>\n'
        '<header><a href="/">sarwater</a><span id="said" class="bad" role="status"></span></header>\n'
        f'<main>\n<div id="live">\n{live}\n</div>\n{rest}\n</main>\n</body>\n</html>\n'
    )


def facts(pairs: Mapping[str, object]) -> str:
    """What is None is left out."""
    rows = (f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs.items() if value not in (None, ""))
    return f'<dl class="facts">{"".join(rows)}</dl>'


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already. It scrolls by itself where it is too wide."""
    body = "".join(f"<tr>{''.join(f'<td class=name>{cell}</td>' for cell in row)}</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f'<th scope="col">{text(column)}</th>' for column in columns)
    return (
        f'<h2>{text(title)}</h2>\n<div class="wide" tabindex="0" role="region" aria-label="{text(title)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def scene_link(row: Mapping[str, Any]) -> str:
    return f'<a href="/scene/{int(row["job"])}">{text(row["name"])}</a>'


def waterfall(stages_s: Mapping[str, float]) -> str:
    """Where the time went, one bar a stage, each beginning where the one before ends."""
    total_s = sum(stages_s.values())
    if total_s <= 0:
        return ""
    bars, begun_s = [], 0.0
    for row, (name, lasted_s) in enumerate(stages_s.items()):
        y, x = row * _ROW_PX, _LABEL_PX + _BAR_PX * begun_s / total_s
        width = max(1.0, _BAR_PX * lasted_s / total_s)
        left = x + width > _LABEL_PX + _BAR_PX * 0.85
        place = f'x="{x - 6:.1f}" text-anchor="end"' if left else f'x="{x + width + 6:.1f}"'
        bars.append(
            f'<text x="0" y="{y + 16}">{text(name)}</text>'
            f'<rect class="bar" x="{x:.1f}" y="{y + 4}" width="{width:.1f}" height="{_ROW_PX - 8}"></rect>'
            f'<text {place} y="{y + 16}">{text(seconds(lasted_s))}</text>'
        )
        begun_s += lasted_s
    label = f"Latency: {', '.join(f'{name} {seconds(lasted_s)}' for name, lasted_s in stages_s.items())}"
    width_px, height_px = _LABEL_PX + _BAR_PX + 10, len(stages_s) * _ROW_PX + 6
    place = f'viewBox="0 0 {width_px} {height_px}" role="img" aria-label="{text(label)}"'
    return f'<h2>Where the time went: {text(seconds(total_s))}</h2><svg class="waterfall" {place}>{"".join(bars)}</svg>'


def overview(found: Mapping[str, Any], footprints: str, pictures: str) -> str:
    """What is live on the first page."""
    bad = found["state"] in ("down", "silent", "paused")
    queue, day, quarantine = found["queue"], found["day"], found["quarantine"]
    parts = [
        f'<h1>The daemon is <span class="{"bad" if bad else "good"}">{text(found["state"])}</span></h1>',
        f"<p>{text(found['why'])}</p>" if found["why"] else "",
        _at_work(found["scene"]),
        facts(
            {
                "since": moment(found["since_utc"]),
                "model": _model(found["model"]),
                **_activation(found["model"] or {}),
                "held up": found["note"],
                "queue": f"{queue['waiting']} waiting, {queue['claimed']} claimed",
                "oldest": seconds(queue["oldest_s"]),
                "24 hours": f"{day['published']} published",
                "p50, p95": f"{seconds(day['p50_s'])}, {seconds(day['p95_s'])}" if day["published"] else None,
                **{f"disk {disk['folder']}": _disk(disk) for disk in found["disk"]},
                **{
                    f"to tell {name}": f"{told['waiting']} {told['error'] or ''}"
                    for name, told in found["outbox"].items()
                },
            }
        ),
        footprints,
        pictures,
        table(
            f"Quarantine: {quarantine['count']}",
            ("scene", "reason", "message", "since"),
            (
                (scene_link(row), text(row["reason"]), _begin(row["message"]), text(seconds(row["age_s"])))
                for row in quarantine["scenes"]
            ),
        ),
        table(
            "Queue",
            ("scene", "status", "size", "since"),
            (
                (scene_link(row), text(row["status"]), text(size(row["size_bytes"])), text(seconds(row["age_s"])))
                for row in queue["scenes"]
            ),
        ),
        table(
            "Last results",
            ("scene", "status", "took", "water", "ended"),
            (
                (
                    scene_link(row),
                    text(row["status"]),
                    text(seconds(row["total_s"])),
                    text(f"{row['water_km2']:,.3f} km²" if row["water_km2"] is not None else ""),
                    text(f"{seconds(row['age_s'])} ago"),
                )
                for row in found["last"]
            ),
        ),
    ]
    return "\n".join(filter(None, parts))


def decision_forms(job: int, decisions: Sequence[str]) -> str:
    """One for each of `requeue` and `drop`, with a field for the token."""
    return "\n".join(
        f'<form method="post" action="/scene/{job}/{what}"><label>Token <input type="password" name="token" required '
        f'autocomplete="current-password"></label><button>{text(label)}</button></form>'
        for what, label in (("requeue", "Send it round again"), ("drop", "Delete it for good"))
        if what in decisions
    )


def _at_work(scene: Mapping[str, Any] | None) -> str:
    if not scene:
        return ""
    share = scene["share"]
    bar = f'<progress max="1" value="{share:g}"></progress> {share:.0%}' if share is not None else ""
    left = f", about {seconds(scene['eta_s'])} left" if scene["eta_s"] is not None else ""
    return f"<p>{scene_link(scene)}: {text(scene['stage'])} {bar}{text(left)}</p>"


def _begin(message: str | None) -> str:
    """Enough to tell the cases apart; the scene's own page has all of it."""
    whole = message or ""
    return text(whole if len(whole) <= _MESSAGE_CHARACTERS else f"{whole[:_MESSAGE_CHARACTERS]}…")


def _model(model: Mapping[str, Any] | None) -> str | None:
    return f"{model['name']} {model['precision']} {model['sha256'][:12]} on {model['device']}" if model else None


def _activation(model: Mapping[str, Any]) -> dict[str, str | None]:
    left = model.get("first_scenes_left")
    return {
        "new": f"activated {moment(model['activated_utc'])}, {left} of its first scenes to come" if left else None,
        "rolled back": model.get("rolled_back"),
    }


def _disk(disk: Mapping[str, Any]) -> str:
    free = disk.get("error") or f"{size(disk['free_bytes'])} of {size(disk['size_bytes'])} free"
    return f"{free}, {disk['path']}"
