"""Names are printed without anything that a terminal or a spreadsheet program obeys."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest

from indexes.printable import plain_cell, printable


def test_no_control_or_bidirectional_character_is_left() -> None:
    every = "".join(map(chr, range(0x11000)))
    left = printable("".join(c for c in every if not 0xD800 <= ord(c) < 0xE000))
    for character in left:
        assert unicodedata.category(character) not in ("Cc", "Zl", "Zp"), hex(ord(character))
        # Unicode's own classes of the explicit bidirectional formatting characters.
        assert unicodedata.bidirectional(character) not in (
            *("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI", "B", "S"),
        ), hex(ord(character))
    assert not set("\u061c\u200e\u200f") & set(left)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a b/ü漢.png", "a b/ü漢.png"),
        ("esc\x1b[31mred.png", "esc\\x1b[31mred.png"),
        ("two\nlines\t.png", "two\\nlines\\t.png"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("C:\\photos\\a.png", "C:\\photos\\a.png"),
        ("\udcfc.png", "\udcfc.png"),
    ],
)
def test_names(name: str, shown: str) -> None:
    assert printable(name) == shown


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t=", "\r@"])
def test_no_cell_is_a_formula(start: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([plain_cell(start + 'cmd|"/c calc"!A1')])
    cell = next(csv.reader(io.StringIO(file.getvalue())))[0]
    assert cell.strip()[0] not in "=+-@" and "cmd" in cell
