"""Plots as SVG, drawn here so that a page needs nothing else. Colors come from the page's style."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cies.html.style import text

#: Classes of series, in order; :data:`STYLE` has their colors.
SERIES = 12

STYLE = """
:root { --s0: #1f5fbf; --s1: #b3541e; --s2: #1a7f4b; --s3: #8a3ea8; --s4: #a3323f; --s5: #4f6b7a;
  --s6: #8a6d00; --s7: #0b7285;
  --s8: #d6336c; --s9: #5c940d; --s10: #6741d9; --s11: #868e96;
  --cool: #1f5fbf; --hot: #b3541e; --on: #fff; }
@media (prefers-color-scheme: dark) { :root { --s0: #7fb0ff; --s1: #f0a06a; --s2: #5fd39a;
  --s3: #d49cf0; --s4: #f08a96; --s5: #a9c3d2; --s6: #e0c04a; --s7: #66d1e0;
  --s8: #faa2c1; --s9: #a9e34b; --s10: #b197fc; --s11: #ced4da;
  --cool: #3f7fdf;
  --hot: #d9773a; --on: #fff; } }
svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: var(--text); }
svg .quiet { fill: var(--quiet); }
svg .axis { stroke: var(--line); stroke-width: 1; fill: none; }
svg .whisker { stroke: var(--text); stroke-width: 1.2; }
svg .chance { stroke: var(--text); stroke-width: 1.5; stroke-dasharray: 3 2; }
svg .line { fill: none; stroke-width: 2; }
""" + "".join(
    f".f{n} {{ fill: var(--s{n}); }} .l{n} {{ stroke: var(--s{n}); }}\n" for n in range(SERIES)
)


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        value: 0 to 1.
        low: lower end of its interval.
        high: upper end.
        chance: a dashed line is drawn here.
    """

    value: float
    low: float
    high: float
    chance: float


def _x(value: float) -> str:
    return f"{value:.1f}"


def _short(value: float) -> str:
    """Two places, and no sign before a zero."""
    return f"{value:.2f}".replace("-0.00", "0.00")


def key(names: Sequence[str]) -> str:
    """Which color is which series, as HTML."""
    items = "".join(
        f'<li><svg width="14" height="14" aria-hidden="true"><rect width="14" height="14" rx="3" '
        f'class="f{n % SERIES}"/></svg>{text(name)}</li>'
        for n, name in enumerate(names)
    )
    return f'<ul class="key">{items}</ul>'


def bars(rows: Sequence[str], series: Sequence[Sequence[Bar | None]], about: str) -> str:
    """Horizontal bars with intervals, grouped by row.

    Args:
        rows: names of the groups.
        series: of each system, a bar for each row, or ``None``.
        about: what a reader who does not see it is told.
    """
    thick, gap, left, width = 11, 14, 150, 620
    group = thick * len(series) + gap
    height = group * len(rows) + 26
    scale = width - left - 40
    parts = []
    for tick in range(0, 11, 2):
        x = left + scale * tick / 10
        parts.append(f'<path class="axis" d="M{_x(x)} 0V{height - 22}"/>')
        parts.append(
            f'<text class="quiet" x="{_x(x)}" y="{height - 6}" text-anchor="middle">'
            f"{tick / 10:.1f}</text>"
        )
    for number, row in enumerate(rows):
        top = number * group + gap / 2
        middle = top + thick * len(series) / 2 + 4
        shown = row if len(row) <= 22 else row[:21] + "…"
        parts.append(
            f'<text x="{left - 8}" y="{_x(middle)}" text-anchor="end">{text(shown)}'
            f"<title>{text(row)}</title></text>"
        )
        for at, of in enumerate(series):
            bar = of[number]
            if bar is None:
                continue
            y = top + at * thick
            parts.append(
                f'<rect class="f{at % SERIES}" x="{left}" y="{_x(y + 1)}" '
                f'width="{_x(max(0.0, bar.value) * scale)}" height="{thick - 2}" rx="2">'
                f"<title>{text(row)}: {bar.value:.3f} [{bar.low:.3f}, {bar.high:.3f}], chance "
                f"{bar.chance:.3f}</title></rect>"
            )
            parts.append(
                f'<path class="whisker" d="M{_x(left + bar.low * scale)} {_x(y + thick / 2)}'
                f'H{_x(left + bar.high * scale)}"/>'
            )
        first = next((of[number] for of in series if of[number] is not None), None)
        if first is not None:
            x = left + first.chance * scale
            parts.append(f'<path class="chance" d="M{_x(x)} {_x(top)}v{thick * len(series)}"/>')
    return _svg(width, height, about, parts)


def heat(
    rows: Sequence[str], columns: Sequence[str], cells: Sequence[Sequence[float | None]], about: str
) -> str:
    """A matrix of figures from 0 (chance) to 1: the diagonal should be dark, all else light.

    Args:
        rows: what was searched under.
        columns: what it was judged by.
        cells: row by row, ``None`` where there is nothing.
        about: what a reader who does not see it is told.
    """
    side, left, top = 46, 130, 92
    width, height = left + side * len(columns) + 10, top + side * len(rows) + 6
    parts = []
    for number, column in enumerate(columns):
        x, y = left + side * (number + 0.5), top - 8
        parts.append(
            f'<text x="{_x(x)}" y="{y}" transform="rotate(-40 {_x(x)} {y})">'
            f"{text(column[:18])}</text>"
        )
    for i, row in enumerate(rows):
        y = top + side * i
        parts.append(
            f'<text x="{left - 8}" y="{_x(y + side / 2 + 4)}" text-anchor="end">'
            f"{text(row[:20])}</text>"
        )
        for j, column in enumerate(columns):
            value = cells[i][j]
            if value is None:
                continue
            shade = min(1.0, max(0.0, value))
            color = "cool" if row == column else "hot"
            dark = ' style="fill:var(--on)"' if shade > 0.45 else ""
            parts.append(
                f'<g><rect x="{left + side * j}" y="{y}" width="{side - 2}" height="{side - 2}" '
                f'rx="4" style="fill:var(--{color});fill-opacity:{0.05 + 0.95 * shade:.2f}"/>'
                f'<text x="{_x(left + side * (j + 0.5) - 1)}" y="{_x(y + side / 2 + 3)}" '
                f'text-anchor="middle"{dark}>{_short(value)}</text>'
                f"<title>{text(row)} judged by {text(column)}: {value:.3f} over chance</title></g>"
            )
    return _svg(width, height, about, parts)


def curves(series: Sequence[Sequence[tuple[int, float, float]]], about: str) -> str:
    """Share of queries with a right answer among the first k, by k on a logarithmic axis.

    Args:
        series: of each system, places, value and chance level.
        about: what a reader who does not see it is told.
    """
    import math

    width, height, left, bottom = 620, 300, 44, 34
    places = sorted({k for one in series for k, _, _ in one})
    if not places:
        return ""
    most = math.log(max(places[-1], 2))

    def at(k: int, value: float) -> str:
        x = left + (width - left - 20) * math.log(k) / most
        return f"{_x(x)} {_x(8 + (height - bottom - 8) * (1 - value))}"

    parts = []
    for tick in range(0, 11, 2):
        y = at(1, tick / 10).split()[1]
        parts.append(f'<path class="axis" d="M{left} {y}H{width - 20}"/>')
        parts.append(
            f'<text class="quiet" x="{left - 6}" y="{float(y) + 4:.1f}" text-anchor="end">'
            f"{tick / 10:.1f}</text>"
        )
    for k in places:
        x = at(k, 0).split()[0]
        parts.append(
            f'<text class="quiet" x="{x}" y="{height - 14}" text-anchor="middle">{k}</text>'
        )
    longest = max(series, key=len)
    chance = "L".join(at(k, level) for k, _, level in longest)
    parts.append(f'<path class="line chance" d="M{chance}"><title>chance</title></path>')
    for number, one in enumerate(series):
        if one:
            line = "L".join(at(k, value) for k, value, _ in one)
            parts.append(f'<path class="line l{number % SERIES}" d="M{line}"/>')
    return _svg(width, height, about, parts)


def _svg(width: float, height: float, about: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{text(about)}">{"".join(parts)}</svg>'
    )
