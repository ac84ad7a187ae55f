"""Escapes what must not reach a terminal, a pipe or a cell of a table from a name.

File names, words of models and cells of tables are untrusted. Printed as they are, an escape
sequence in a name controls the terminal, a newline forges a line of output, and a bidirectional
control character shows a name in another order than it has (CVE-2021-42574).
"""

from __future__ import annotations

import re

#: Control characters (C0, DEL, C1), line and paragraph separators, and the characters with the
#: Unicode property Bidi_Control.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

#: A cell that begins with one of these is a formula for spreadsheet programs.
_FORMULA = ("=", "+", "-", "@")


def printable(text: str) -> str:
    r"""A text with control and bidirectional characters escaped: ``\x1b``, ``\n``, ``\u202e``.

    Bytes that are not UTF-8, which Python keeps as lone surrogates, are left to the stream.
    """
    return _UNSAFE.sub(lambda found: _escape(found[0]), text)


def _escape(character: str) -> str:
    number = ord(character)
    named = _NAMED.get(character)
    return named or (f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}")


def plain_cell(text: str) -> str:
    """A text as a cell of a CSV file that spreadsheet programs show and never run.

    Escaped as by :func:`printable`; a cell that would be a formula begins with an apostrophe.
    """
    cell = printable(text)
    return "'" + cell if cell.startswith(_FORMULA) else cell
