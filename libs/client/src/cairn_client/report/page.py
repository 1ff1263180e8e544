"""The page around the plots: no script, nothing loaded from anywhere, every value of the project's escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

_STYLE = """
:root { color-scheme: light dark; --bg: #fbfbfa; --card: #fff; --ink: #1c1e21; --ink-2: #5d636b; --line: #e4e5e7;
  --blue: #2f6fde; --orange: #d9730d; --green: #2b8a5b; --red: #cf3a3a; }
@media (prefers-color-scheme: dark) { :root { --bg: #16181b; --card: #1f2226; --ink: #e8e9eb; --ink-2: #9aa1a9;
  --line: #33373c; --blue: #6ea0ff; --orange: #ffa657; --green: #56c28b; --red: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 80px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 16px; margin: 0 0 4px; }
.sub, .note { color: var(--ink-2); margin: 4px 0 0; overflow-wrap: anywhere; }
.note { font-size: 13px; margin: 0 0 10px; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: 12px; margin: 28px 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 14px 18px; }
.tile b { display: block; font-size: 24px; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile span { color: var(--ink-2); font-size: 13px; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 480px), 1fr)); gap: 16px; }
.card { min-width: 0; } .wide { grid-column: 1 / -1; }
svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 5px 10px 5px 0; border-bottom: 1px solid var(--line); }
th { color: var(--ink-2); font-weight: 500; } td.n, th.n { text-align: right; }
td { overflow-wrap: anywhere; } .meter { display: inline-block; width: 110px; height: 6px; border-radius: 3px;
  background: var(--line); vertical-align: middle; margin-right: 8px; }
.meter i { display: block; height: 100%; border-radius: 3px; background: var(--blue); }
.good { color: var(--green); } .bad { color: var(--red); }
footer { color: var(--ink-2); font-size: 12px; margin-top: 32px; }
"""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Html:
    """Text that is markup already: made by this package from escaped values."""

    markup: str


Cell = str | int | float | Html


@dataclass(frozen=True, slots=True)
class Card:
    """A part of the page: a title, a remark, a plot or a table."""

    title: str
    note: str = ""
    body: Sequence[Html] = field(default_factory=tuple)
    wide: bool = False


def text(value: Cell) -> str:
    """A value as markup."""
    if isinstance(value, Html):
        return value.markup
    if isinstance(value, float):
        return escape(f"{value:.3f}")
    return escape(f"{value:,}" if isinstance(value, int) else value)


def percent(share: float | None, digits: int = 1) -> str:
    """A share in words."""
    return "–" if share is None else f"{share:.{digits}%}"


def meter(share: float) -> Html:
    """A small bar with its figure."""
    width = round(100 * min(1.0, max(0.0, share)))
    return Html(f'<span class="meter"><i style="width:{width}%"></i></span>{percent(share)}')


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> Html:
    """A table; numbers are set to the right."""
    numeric: set[int] = set()
    lines = []
    for row in rows:
        cells = []
        for place, value in enumerate(row):
            right = isinstance(value, int | float)
            numeric |= {place} if right else set()
            cells.append(f'<td class="n">{text(value)}</td>' if right else f"<td>{text(value)}</td>")
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(
        f'<th class="n">{escape(name)}</th>' if place in numeric else f"<th>{escape(name)}</th>"
        for place, name in enumerate(header)
    )
    return Html(f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>')


def page(
    title: str, subtitle: str, tiles: Iterable[tuple[str, str]], cards: Iterable[Card], footer: str
) -> str:
    """The whole document."""
    tile_markup = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in tiles
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)} – Cairn</title><style>{_STYLE}</style></head><body><main>"
        f'<header><h1>{escape(title)}</h1><p class="sub">{escape(subtitle)}</p></header>'
        f'<div class="tiles">{tile_markup}</div><div class="grid">{"".join(map(_card, cards))}</div>'
        f"<footer>{escape(footer)}</footer></main></body></html>\n"
    )


def _card(card: Card) -> str:
    wide = " wide" if card.wide else ""
    note = f'<p class="note">{escape(card.note)}</p>' if card.note else ""
    body = "".join(part.markup for part in card.body)
    return f'<section class="card{wide}"><h2>{escape(card.title)}</h2>{note}{body}</section>'
