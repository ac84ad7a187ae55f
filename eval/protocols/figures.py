"""Published figures, to stand beside ours: read from ``configs/published.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

#: How a figure was read, the surest first.
SEEN = ("repository", "code", "second hand", "memory")


@dataclass(frozen=True)
class Figure:
    """A figure that somebody published.

    Attributes:
        protocol: its name in the registry.
        part: of the task, or the condition; ``mean`` for the mean of all parts, empty where a
            task has only one.
        metric: by its name, such as ``mAP@10``.
        value: 0 to 100, as printed.
        method: by its authors' name.
        model: the backbone; empty where what was read does not say.
        seen: one of :data:`SEEN`: how it was read.
        source: where it was read, and what must be known of it.
        split: where what was read does not say the split, that; else empty.
    """

    protocol: str
    part: str
    metric: str
    value: float
    method: str
    model: str
    seen: str
    source: str
    split: str


@cache
def published_figures() -> tuple[Figure, ...]:
    """All published figures, in the file's order."""
    text = resources.files("configs").joinpath("published.toml").read_text(encoding="utf-8")
    return tuple(
        Figure(
            protocol=table["protocol"],
            part=part,
            metric=metric,
            value=float(value),
            method=row["method"],
            model=row.get("model", table["model"]),
            seen=table["seen"],
            source=table["source"],
            split=table.get("split", ""),
        )
        for table in tomllib.loads(text)["table"]
        for row in table["rows"]
        for part, values in zip(table["parts"], row["values"], strict=True)
        for metric, value in zip(table["metrics"], values, strict=True)
    )


def figures_of(protocol: str) -> tuple[Figure, ...]:
    """Figures published for one protocol; none where none was found."""
    return tuple(figure for figure in published_figures() if figure.protocol == protocol)


def as_markdown(protocol: str) -> str:
    """A protocol's published figures as Markdown tables, one a source; empty if there is none."""
    tables: dict[tuple[str, str, str], list[Figure]] = {}
    for figure in figures_of(protocol):
        tables.setdefault((figure.source, figure.seen, figure.split), []).append(figure)
    lines = []
    for (source, seen, split), figures in tables.items():
        metrics = tuple(dict.fromkeys(figure.metric for figure in figures))
        lines += [
            f"Seen: {seen}. {source[0].upper()}{source[1:]}."
            + (f" Split: {split}." if split else ""),
            "",
            f"| method | model | part | {' | '.join(metrics)} |",
            "|---|---|---|" + "---|" * len(metrics),
        ]
        places = max(len(repr(figure.value).split(".")[1]) for figure in figures)
        rows: dict[tuple[str, str, str], dict[str, float]] = {}
        for figure in figures:
            row = rows.setdefault((figure.method, figure.model, figure.part), {})
            row[figure.metric] = figure.value
        for names, values in rows.items():
            cells = [f"{values[m]:.{places}f}" if m in values else "" for m in metrics]
            lines.append(f"| {' | '.join((*names, *cells))} |")
        lines.append("")
    return "\n".join(lines)
