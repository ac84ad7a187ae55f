"""A report as one page: figures, plots and contact sheets inside, nothing is fetched."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence

from cies.html import plots
from cies.html.style import STYLE, text
from eval.reports.markdown import (
    PUBLISHED_HEADS,
    encoder_rows,
    headline_rows,
    matrix_columns,
    other_rows,
    published_rows,
    run_lines,
    wording_rows,
)
from eval.reports.report import Column, Report, Section, definition
from eval.reports.worst import Shown, Worst
from eval.runs.abstention import SHARED
from eval.runs.pictures import loader
from eval.tasks import QueryTask, Task
from indexes.errors import CiesError
from query.explore.thumbnails import as_jpeg

#: Longest side in pixels of a picture on a contact sheet.
_SIDE = 128

_STYLE = """
.scroll { overflow-x: auto; margin: .6rem 0 1rem; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .7rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; }
td + td, th + th { white-space: nowrap; }
.wrap td, .wrap th { white-space: normal; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
.key { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .85rem; margin: .3rem 0; }
.key li { display: flex; gap: .4rem; align-items: center; }
.plot { margin: .5rem 0 1.2rem; overflow-x: auto; }
.sheet { display: grid; gap: .6rem; margin: .5rem 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); }
.sheet .asked img, .sheet .asked .none { outline: 3px solid var(--link); outline-offset: -3px; }
.sheet .right img, .sheet .right .none { outline: 3px solid #1a7f4b; outline-offset: -3px; }
"""


def report_page(report: Report, title: str) -> str:
    """The document ``report.html``."""
    about = "".join(f"<p>{text(line)}</p>" for line in run_lines(report))
    encoders = _table(
        ["encoder", "model", "revision", "settings", "device", "seconds"],
        encoder_rows(report),
        "wrap",
    )
    sections = "".join(_section(section) for section in report.sections)
    contents = "".join(
        f'<li><a href="#t{n}">{text(section.task.name)}</a></li>'
        for n, section in enumerate(report.sections)
    )
    for number, section in enumerate(report.sections):
        name = text(section.task.name)
        sections = sections.replace(f"<h2>{name}</h2>", f'<h2 id="t{number}">{name}</h2>', 1)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{text(title)}</title><style>{STYLE}{plots.STYLE}{_STYLE}</style></head>"
        '<body><a class="skip" href="#content">Skip to the content</a>'
        f'<main id="content"><h1>{text(title)}</h1><ul class="key">{contents}</ul>'
        f"{sections}<h2>How it was made</h2>{about}{encoders}</main>"
        "<footer>Bars and tables: means over queries with 95 % bootstrap intervals; chance is the "
        "expectation under a random ranking; equal scores count in expectation.</footer>"
        "</body></html>\n"
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], style: str = "") -> str:
    top = "".join(f'<th scope="col">{text(cell)}</th>' for cell in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="table"><table class="{style}">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _section(section: Section) -> str:
    task = section.task
    parts = [
        f"<h2>{text(task.name)}</h2>",
        f'<p class="quiet">{text(task.source.title)}; licence: {text(task.source.licence)}. '
        f"{len(task.images):,} pictures.</p>",
        *(f"<p>{text(note)}</p>" for note in task.notes),
        f"<p><b>{text(section.headline)}</b>: {text(definition(section.headline))}</p>",
        _bars(section),
        _table(*headline_rows(section, section.headline)),
    ]
    head, rows = other_rows(section)
    if rows:
        parts.append("<h3>Other metrics, means</h3>")
        parts += [f"<p><b>{text(n)}</b>: {text(definition(n))}</p>" for n in head[1:]]
        parts.append(_table(head, rows))
    if shared := wording_rows(section):
        parts.append(f"<h3>Wordings</h3><p>{text(definition(SHARED))}</p>")
        parts.append(_table(["system", "wording", "first wording", "shared", "chance"], shared))
    parts += [_matrix(section, column) for column in matrix_columns(section)]
    parts.append(_curves(section))
    if section.published:
        parts.append(
            "<h3>Published</h3>" + _table(PUBLISHED_HEADS, published_rows(section), "wrap")
        )
    if section.worst:
        parts.append(_sheets(section))
    return "".join(parts)


def _bars(section: Section) -> str:
    shown = [c for c in section.columns if c.own(section.headline)]
    series = []
    for column in shown:
        figures = {f.row: f for f in column.own(section.headline)}
        series.append(
            [
                plots.Bar(f.value, f.low, f.high, f.chance) if (f := figures.get(row)) else None
                for row in section.rows
            ]
        )
    if not shown:
        return ""
    rows = [row or "all" for row in section.rows]
    about = f"{section.headline} of {len(shown)} systems, with intervals; the table below has it"
    names = [column.name for column in shown]
    return f'{plots.key(names)}<div class="plot">{plots.bars(rows, series, about)}</div>'


def _matrix(section: Section, column: Column) -> str:
    cells = [
        [
            None if (cell := column.cell(row, judge, "MAP@R")) is None else cell.corrected
            for judge in section.rows
        ]
        for row in section.rows
    ]
    leak = section.leakage(column)
    return (
        f"<h3>Leakage: {text(column.name)}</h3><p>MAP@R over chance of a search under each "
        "condition (rows), judged by each label (columns). The diagonal is what was asked for; "
        f"the rest leaks, {leak or 0:.3f} in the mean.</p>"
        f'<div class="plot">{plots.heat(section.rows, section.rows, cells, "the matrix")}</div>'
    )


def _curves(section: Section) -> str:
    shown = [(c, section.curve(c)) for c in section.columns]
    shown = [(c, curve) for c, curve in shown if len(curve) > 1]
    if not shown:
        return ""
    drawn = plots.curves([curve for _, curve in shown], "recall by number of answers looked at")
    return (
        "<h3>Recall</h3><p>Share of queries with a right answer among the first k (hit rate), "
        "mean over conditions or parts; dashed: chance.</p>"
        f'{plots.key([c.name for c, _ in shown])}<div class="plot">{drawn}</div>'
    )


def _sheets(section: Section) -> str:
    address = _addresses(section.task)
    sheets = "".join(_sheet(worst, address) for worst in section.worst)
    return (
        f"<h3>Worst queries of {text(section.worst_of)}</h3><p>The worst of each condition or "
        "part. Blue: the query; green: right; beside each answer its cosine and what it is.</p>"
        f"{sheets}"
    )


def _sheet(worst: Worst, address: Callable[[str], str]) -> str:
    asked = f"{worst.row}: " if worst.row else ""
    picture = (
        f'<figure class="asked">{address(worst.image)}<figcaption><b>{text(worst.words)}</b>'
        "the query</figcaption></figure>"
        if worst.image
        else ""
    )
    answers = "".join(_figure(one, address) for one in worst.answers)
    return (
        f'<p class="quiet">{text(asked + worst.words)}; {worst.value:.3f}</p>'
        f'<div class="sheet">{picture}{answers}</div>'
    )


def _figure(one: Shown, address: Callable[[str], str]) -> str:
    kind = ' class="right"' if one.right else ""
    return (
        f"<figure{kind}>{address(one.id)}<figcaption><b>{text(one.words)}</b>"
        f"{one.score:.2f}</figcaption></figure>"
    )


def _addresses(task: Task) -> Callable[[str], str]:
    """Ids to pictures as HTML, each read once."""
    cuts = task.cuts if isinstance(task, QueryTask) else {}
    load = loader(task.images, cuts, None)
    known: dict[str, str] = {}

    def of(key: str) -> str:
        if key not in known:
            name = text(key.rsplit("/", 1)[-1])
            try:
                image = load([key])[0]
                image.thumbnail((_SIDE, _SIDE))
                data = base64.b64encode(as_jpeg(image)).decode("ascii")
                known[key] = f'<img src="data:image/jpeg;base64,{data}" alt="{name}">'
            except CiesError:
                known[key] = f'<div class="none">{name} is not readable now</div>'
        return known[key]

    return of
