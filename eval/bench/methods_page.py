"""The tables of ``cies bench methods``, for terminals and for docs/methods.md alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from eval.bench.methods import MEASURED, OWN, SHIPPED, Comparison
from eval.bench.methods_sets import SetScores

Rows = tuple[list[str], list[list[str]]]

#: What stands between these marks is kept when a page is written anew.
_FROM = "<!-- Written by hand; kept when the page is written anew. -->"
_TO = "<!-- Up to here. -->"


def quality_rows(found: Comparison, words: str | None = None) -> Rows:
    """MAP@R of every method by condition, and chance.

    Args:
        found: what was measured.
        words: of which views are shown; ``None`` for both kinds.
    """
    names = list(found.judged[0].cells)
    columns = ["method", "words", *names, "mean", "leakage"]
    rows = []
    for one in found.judged:
        if words is not None and one.words not in ("", words):
            continue
        own = [one.cells[name][name].value for name in names]
        figures = [*own, one.own, one.leakage]
        rows.append([one.method, one.words, *(f"{figure:.3f}" for figure in figures)])
    chance = [found.judged[0].cells[name][name].chance for name in names]
    figures = [*chance, float(np.mean(chance)), 0.0]
    rows.append(["chance", "", *(f"{figure:.3f}" for figure in figures)])
    return columns, rows


def cost_rows(found: Comparison) -> Rows:
    """What every method cost."""
    columns = ["method", "model", "pictures/s, 1 condition", "pictures/s, all at once"]
    columns += ["s for a new condition", "ms a query", "numbers in a vector"]
    rows = [
        [
            cost.method,
            cost.model,
            f"{cost.one_rate:.3g}",
            f"{cost.all_rate:.3g} ({cost.conditions})" if cost.conditions > 1 else "",
            f"{cost.condition_seconds:.2g}" if cost.condition_seconds else "0",
            f"{cost.query_ms:.2g}" if cost.query_ms < 100 else f"{cost.query_ms:.0f}",
            str(cost.dimension),
        ]
        for cost in found.costs
    ]
    return columns, rows


def set_rows(one: SetScores) -> Rows:
    """Triplet accuracy of every method on one set, and the means."""
    columns = ["pair", "condition", "asked as", *MEASURED]
    rows = []
    for row in one.rows:
        asked = row.asked if row.asked != row.condition else ""
        rows.append([row.pair, row.condition, asked, *(_share(row.methods, m) for m in MEASURED)])
    means = {m: one.mean(m) for m in MEASURED}
    rows.append(
        ["mean", "", "", *(_share({k: v for k, v in means.items() if v}, m) for m in means)]
    )
    return columns, rows


def _share(figures: Mapping[str, float | None], method: str) -> str:
    value = figures.get(method)
    return "" if value is None or math.isnan(value) else f"{value:.2f}"


def markdown(table: Rows, numbers: int) -> str:
    """A table of a page; columns from ``numbers`` on are set flush right."""
    columns, rows = table
    marks = ["---" if place < numbers else "--:" for place in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def _without(table: Rows, name: str) -> Rows:
    columns, rows = table
    at = columns.index(name)
    return columns[:at] + columns[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]


def page(
    found: Comparison,
    sets: Sequence[SetScores],
    lvlm: str,
    clip: str,
    asked: Mapping[str, str],
    by_hand: str = "",
) -> str:
    """The whole of docs/methods.md.

    Args:
        found: on rendered pictures; may be empty.
        sets: of the user's own; may be none.
        lvlm: the LVLM's name.
        clip: the dual encoder's name.
        asked: condition of the sets to how it was asked for.
        by_hand: of :func:`written_by_hand`, what follows from the figures.
    """
    parts = [
        "# What each method is worth, and costs",
        "Written by `cies bench methods --write FILE`; what the methods are and when to use which "
        "is said by `cies methods`. LVLM: "
        f"{lvlm}; CLIP: {clip}. Stored methods keep vectors for each condition (`clip` once for "
        "all); `indirect`, `crl` and `clay` are views, worked out from those of `clip` and from a "
        "list of words.",
    ]
    if found.judged:
        parts += _rendered(found)
    if by_hand:
        parts.append(f"{_FROM}\n\n{by_hand}\n\n{_TO}")
    if sets:
        parts += _real(sets, asked)
    return "\n\n".join(parts) + "\n"


def written_by_hand(page: str) -> str:
    """The part of a page that no command writes, between two marks; empty if it has none."""
    _, start, rest = page.partition(_FROM)
    part, end, _ = rest.partition(_TO)
    return part.strip() if start and end else ""


def _rendered(found: Comparison) -> list[str]:
    about = (
        f"MAP@R of every condition under its own label, {found.pictures:,} rendered pictures of "
        f"seed {found.seed} that no model was schooled on; leakage is MAP@R over chance under the "
        "other labels, in the mean. The models were schooled on this world, though on other "
        "pictures of it, so that the figures compare methods, and say nothing of photographs."
    )
    return [
        "## Rendered pictures",
        about,
        "**A stranger's words**: views are worked out from the lists that come with CIES, which "
        "were written for the world at large (53 colors, not these twelve)." + _factors(found),
        markdown(_without(quality_rows(found, SHIPPED), "words"), 1),
        "**The world's own values**: the same, with the values that occur, in the phrasings the "
        "CLIP was schooled with. That is what a list made for one's own pictures is worth "
        "(`cies conditions edit`).",
        markdown(_without(quality_rows(found, OWN), "words"), 1),
        "## Costs",
        f"Measured in the same run on {found.costs[0].threads} processor thread"
        f"{'s' if found.costs[0].threads > 1 else ''} ({found.costs[0].device}, "
        f"{found.costs[0].dtype}). Other work that the machine had counts in them. "
        "A new condition is taken over all "
        f"{found.pictures:,} pictures: a pass of the model, or the fit of a view (words embedded, "
        "map learned, vectors moved; the median over the conditions). A query is one picture "
        "embedded and all others ranked, everything loaded. In brackets, conditions asked at once.",
        markdown(cost_rows(found), 2),
    ]


def _factors(found: Comparison) -> str:
    """What the views make of color, if that was measured."""
    clip = [one for one in found.judged if one.method == "clip" and "color" in one.cells]
    views = [one for one in found.judged if one.words == SHIPPED and "color" in one.cells]
    if not clip or not views:
        return ""
    plain = clip[0].cells["color"]["color"].value
    factors = [
        f"{one.cells['color']['color'].value / plain:.1f} by `{one.method}`" for one in views
    ]
    return f" Under color, MAP@R is that of plain `clip` times {', '.join(factors)}."


def _real(sets: Sequence[SetScores], asked: Mapping[str, str]) -> list[str]:
    names = ", ".join(f"{name} as {how}" for name, how in sorted(asked.items()))
    parts = [
        "## Real pictures",
        "By `--triplets`. Triplet accuracy: the share of triplets whose positive, which shares the "
        "value of the condition with the query and not that of the pair's other one, is nearer "
        "than the negative, of which the reverse is true. A similarity that ignores the condition "
        "has 0.50. Nothing was trained or tuned on these pictures, and the built-in models were "
        "schooled on rendered pictures alone. Views by the lists that come with CIES; where there "
        "is none for a condition, no figure."
        + (f" Conditions asked by another name: {names}." if names else ""),
    ]
    for one in sets:
        parts.append(f"**{one.name}**, {one.pictures:,} pictures:")
        parts.append(markdown(_without(set_rows(one), "asked as"), 2))
    return parts
