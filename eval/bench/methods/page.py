"""The tables of ``cies bench methods``, for terminals and for docs/methods.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from eval.bench.methods.compare import MEASURED, OWN, SHIPPED, MethodComparison
from eval.bench.methods.sets import SetScores

#: Columns and rows, as text.
TextTable = tuple[list[str], list[list[str]]]

#: The part of a page between these two marks is kept when the page is written again.
_FROM = "<!-- Written by hand; kept when the page is written again. -->"
_TO = "<!-- Up to here. -->"


def quality_rows(found: MethodComparison, words: str | None = None) -> TextTable:
    """MAP@R of every method by condition, and chance.

    Args:
        found: what was measured.
        words: the words of the projections that are shown; ``None`` for both kinds.
    """
    names = list(found.judged[0].matrix.conditions)
    columns = ["method", "words", *names, "mean", "leakage"]
    rows = []
    for one in found.judged:
        if words is not None and one.words not in ("", words):
            continue
        own = [one.matrix.cell(name, name).metrics["MAP@R"].value for name in names]
        figures = [*own, one.matrix.own, one.matrix.leakage]
        rows.append([one.method, one.words, *(f"{figure:.3f}" for figure in figures)])
    matrix = found.judged[0].matrix
    chance = [matrix.cell(name, name).metrics["MAP@R"].chance for name in names]
    figures = [*chance, float(np.mean(chance)), 0.0]
    rows.append(["chance", "", *(f"{figure:.3f}" for figure in figures)])
    return columns, rows


def interval_width(found: MethodComparison) -> float:
    """Half the width of the widest 95 % interval of a MAP@R under its own label."""
    cells = [cell for one in found.judged for cell in one.matrix.cells if cell.own]
    return max((c.metrics["MAP@R"].high - c.metrics["MAP@R"].low) / 2 for c in cells)


def text_rows(found: MethodComparison) -> TextTable:
    """Precision@10 of texts such as "red heart", by method and factor."""
    rows = [
        [
            one.method,
            factor,
            f"{mean.value:.3f}",
            f"{mean.low:.3f}-{mean.high:.3f}",
            f"{mean.chance:.3f}",
        ]
        for one in found.judged
        for factor, mean in one.texts.items()
    ]
    return ["method", "condition", "precision@10", "95 %", "chance"], rows


def cost_rows(found: MethodComparison) -> TextTable:
    """The cost of every method."""
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


def set_rows(one: SetScores) -> TextTable:
    """Triplet accuracy of every method on one set, and the means."""
    columns = ["pair", "condition", "asked as", *MEASURED]
    rows = []
    for row in one.rows:
        asked = row.asked if row.asked != row.condition else ""
        found = [row.methods.get(method) for method in MEASURED]
        shares = [f"{mean.value:.2f}" if mean else "" for mean in found]
        rows.append([row.pair, row.condition, asked, *shares])
    means = [one.mean(method) for method in MEASURED]
    rows.append(["mean", "", "", *("" if mean is None else f"{mean:.2f}" for mean in means)])
    return columns, rows


def markdown(table: TextTable, numbers: int) -> str:
    """A table of a page; columns from ``numbers`` on are set flush right."""
    columns, rows = table
    marks = ["---" if place < numbers else "--:" for place in range(len(columns))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (columns, marks, *rows))


def _without(table: TextTable, name: str) -> TextTable:
    columns, rows = table
    at = columns.index(name)
    return columns[:at] + columns[at + 1 :], [row[:at] + row[at + 1 :] for row in rows]


def page(
    found: MethodComparison,
    sets: Sequence[SetScores],
    lvlm: str,
    clip: str,
    asked: Mapping[str, str],
    by_hand: str = "",
) -> str:
    """The whole of docs/methods.md.

    Args:
        found: on rendered pictures; may be empty.
        sets: the sets of the user's own pictures; may be empty.
        lvlm: the LVLM's name.
        clip: the dual encoder's name.
        asked: condition of the sets to the condition that was asked for.
        by_hand: of :func:`written_by_hand`, what follows from the figures.
    """
    parts = [
        "# Quality and cost of the methods",
        "Written by `cies bench methods --write FILE`; `cies methods` says what the methods are "
        f"and when to use which. LVLM: {lvlm}; CLIP: {clip}. Stored methods keep vectors for each "
        "condition (`clip` once for all); `indirect`, `crl` and `clay` are projections, computed "
        "from the vectors of `clip` and from a list of words.",
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
    # Pages of earlier versions say "anew".
    _, start, rest = page.replace("written anew. -->", "written again. -->").partition(_FROM)
    part, end, _ = rest.partition(_TO)
    return part.strip() if start and end else ""


def _rendered(found: MethodComparison) -> list[str]:
    about = (
        f"MAP@R of every condition under its own label, {found.pictures:,} rendered pictures of "
        f"seed {found.seed}, which no model was trained on. Ties count in expectation; the 95 % "
        f"intervals over queries are at most ±{interval_width(found):.3f}. Leakage is the mean "
        "MAP@R over chance under the other labels. The models were trained on other pictures of "
        "this "
        "world: the figures compare methods, and do not say how good they are on photographs."
    )
    parts = [
        "## Rendered pictures",
        about,
        "**General word lists**: projections are fitted to the lists that come with CIES, which "
        "were not written for these pictures (53 colors, not these twelve)." + _factors(found),
        markdown(_without(quality_rows(found, SHIPPED), "words"), 1),
        "**The world's own values**: the same, fitted to the values that occur, in the phrasings "
        "the CLIP was trained with. A list made for one's own pictures (`cies conditions edit`) "
        "can reach this.",
        markdown(_without(quality_rows(found, OWN), "words"), 1),
    ]
    texts = text_rows(found)
    if texts[1]:
        parts += [
            '**Texts**: precision@10 of every text such as "red heart", judged by one of the two '
            "factors that it names.",
            markdown(texts, 2),
        ]
    return [
        *parts,
        "## Costs",
        f"Measured in the same run on {found.costs[0].threads} processor thread"
        f"{'s' if found.costs[0].threads > 1 else ''} ({found.costs[0].device}, "
        f"{found.costs[0].dtype}); other work on the machine counts too. A new condition is "
        f"measured over all {found.pictures:,} pictures: a pass of the model, or the fit of a "
        "projection (words embedded, map fitted, vectors projected; the median over the "
        "conditions). A query is one picture embedded and all others ranked, everything loaded. In "
        "brackets: conditions asked at once.",
        markdown(cost_rows(found), 2),
    ]


def _factors(found: MethodComparison) -> str:
    """How the projections change MAP@R under color, if that was measured."""
    color = {
        (one.method, one.words): cell.metrics["MAP@R"].value
        for one in found.judged
        for cell in one.matrix.cells
        if cell.condition == cell.label == "color"
    }
    factors = [
        f"{value / color['clip', '']:.1f} by `{method}`"
        for (method, words), value in color.items()
        if words == SHIPPED and ("clip", "") in color
    ]
    if not factors:
        return ""
    return f" Under color, MAP@R is that of plain `clip` times {', '.join(factors)}."


def _real(sets: Sequence[SetScores], asked: Mapping[str, str]) -> list[str]:
    names = ", ".join(f"{name} as {how}" for name, how in sorted(asked.items()))
    parts = [
        "## Real pictures",
        "By `--triplets`. Triplet accuracy: the share of triplets whose positive is nearer to the "
        "query than the negative, a tie one half. The positive shares the query's value of the "
        "condition and not that of the pair's other condition; for the negative it is the other "
        "way round. A similarity that ignores the condition has 0.50. Nothing was trained or tuned "
        "on these pictures, and the built-in models were trained on rendered pictures alone. "
        "Projections use the lists that come with CIES; a condition without a list has no figure."
        + (f" Conditions asked by another name: {names}." if names else ""),
    ]
    for one in sets:
        parts.append(f"**{one.name}**, {one.pictures:,} pictures:")
        parts.append(markdown(_without(set_rows(one), "asked as"), 2))
    return parts
