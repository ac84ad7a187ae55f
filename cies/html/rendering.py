"""Fills the templates of the pages: one environment, one escaping rule, one style sheet.

Every value is escaped when a template prints it. Only HTML that a template made is not.
"""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2

#: The folder of the templates and of the style sheet.
TEMPLATES = Path(__file__).parent / "templates"

#: The style sheet: a template that is put into single pages, and a file beside a gallery's pages.
STYLE_NAME = "style.css"


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: its file name in ``cies/html/templates``.
        values: what it names. A value that it names and does not get is an error.

    Returns:
        The text of the page.
    """
    return _environment().get_template(template).render(values)


@cache
def _environment() -> jinja2.Environment:
    import jinja2  # here, because only commands that write pages need it

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_valid_unicode,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        auto_reload=False,
    )
    environment.filters["counted"] = counted
    environment.filters["columns"] = columns
    environment.filters["px"] = "{:.1f}".format
    return environment


def _valid_unicode(value: Any) -> Any:
    """Replace with a question mark what UTF-8 cannot store, as in some names of files."""
    # HTML that is already escaped has `__html__`, and no such characters.
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return value.encode("utf-8", "replace").decode("utf-8")
    return value


def counted(count: int, plural: str = "pictures") -> str:
    """A count with its noun: ``1 picture``, ``1,500 pictures``."""
    return f"{count:,} {plural.removesuffix('s') if count == 1 else plural}"


#: Columns that fit at most into a row of tiles, from the narrowest page to the widest, as the style
#: sheet has them: pictures, and cards of groups.
_MOST_COLUMNS = {"pictures": (3, 4, 6, 8, 10), "groups": (2, 2, 3, 4, 5)}


def columns(count: int, kind: str = "pictures") -> str:
    """The style of a list of tiles: for each width of a page, how many columns fill its rows.

    Of the numbers of columns near the most that suit the width, the one is taken that leaves the
    fewest places of the last row empty.

    Args:
        count: number of tiles.
        kind: one of :data:`_MOST_COLUMNS`.
    """
    chosen = []
    for most in _MOST_COLUMNS[kind]:
        # One or two tiles are not made as wide as the page.
        near = range(most // 2, most + 2) if count > most else [max(count, min(most, 3))]
        chosen.append(min(near, key=lambda number: (-count % number, abs(number - most))))
    return "; ".join(f"--w{width}: {number}" for width, number in enumerate(chosen))


def jpeg_address(data: bytes) -> str:
    """The bytes of a JPEG as an address that a page can hold instead of a link to a file."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
