"""Output that cannot be written, names that must not be printed as they are, odd terminals."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support.commands import run
from support.stand_in import StandIn
from support.stand_in_fill import fill

from indexes.store.gallery import Gallery

#: Names that a terminal would obey, that its encoding may not have, and one that is not UTF-8.
NAMES = ["a.png", "über漢.png", "esc\x1b[31mred.png", "\u202egnp.png", "new\nline.png", "=1+1.png"]
LATIN = os.fsdecode(b"caf\xe9.png")

#: A program that prints hits as ``cies search`` does.
PROGRAM = f"""
import sys
from cies.streams import close_output, open_streams
open_streams()
from cies.reports.hits import print_hits
from query.hits import Hit, Hits, Query
names = {[*NAMES, LATIN]!r}
hits = [Hit(n, "", name, 0.5, 50.0, "red", 0.9) for n, name in enumerate(names, 1)]
print_hits(Hits(Query("q\\x1b[2J.png", "color", "", True, "", 0.0), tuple(hits)), sys.argv[1])
sys.exit(close_output(0))
"""


def shell(line: str, *words: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a shell line in which ``cies`` is this one and ``hits`` prints hits."""
    defined = (
        f'cies() {{ {sys.executable} -m cies "$@"; }}; '
        f'hits() {{ {sys.executable} -c "$PROGRAM" "$@"; }}; {line}'
    )
    return subprocess.run(
        ["bash", "-c", defined, "bash", *words],
        capture_output=True,
        env={**os.environ, "PROGRAM": PROGRAM, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("form", ["table", "paths"])
def test_control_characters_of_names_are_escaped(form: str) -> None:
    out = shell(f"hits {form}").stdout
    assert b"\x1b" not in out and "\u202e".encode() not in out
    assert b"esc\\x1b[31mred.png" in out and b"new\\nline.png" in out
    assert os.fsencode(LATIN) in out and "über漢.png".encode() in out


def test_with_nul_names_are_as_the_file_system_has_them() -> None:
    wanted = [os.fsencode(name) for name in [*NAMES, LATIN]]
    assert shell("hits paths0").stdout.split(b"\0") == [*wanted, b""]
    assert shell("hits paths0", PYTHONIOENCODING="ascii").stdout.split(b"\0") == [*wanted, b""]


@pytest.mark.parametrize("form", ["table", "paths", "json"])
def test_a_name_outside_the_encoding_is_replaced(form: str) -> None:
    done = shell(f"hits {form}", PYTHONIOENCODING="ascii")
    assert done.returncode == 0 and b"Traceback" not in done.stderr
    assert b"\\xfcber\\u6f22.png" in done.stdout or b"\\u00fcber\\u6f22.png" in done.stdout


def test_messages_escape_names_too(tmp_path: Path) -> None:
    done = shell("cies status -g $'no\\x1b[31m.cies'")
    assert (
        done.returncode == 4 and b"no\\x1b[31m.cies" in done.stderr and b"\x1b" not in done.stderr
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("line", ["cies config --all", "cies methods --json", "cies --help"])
def test_a_full_disk_is_one_sentence(line: str) -> None:
    done = shell(line + " > /dev/full")
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert b"Error: Cannot write to standard output: no space left on device" in done.stderr
    assert done.stderr.count(b"Error") == 1


def test_a_closed_output_is_one_sentence_and_matters_only_if_it_is_used(tmp_path: Path) -> None:
    done = shell("cies config --all >&-")
    assert done.returncode == 1 and b"Traceback" not in done.stderr
    assert b"Cannot write to standard output: it is closed" in done.stderr
    done = shell('cies world "$1" -n 2 >&- <&-', str(tmp_path / "w"))
    assert done.returncode == 0 and b"2 pictures" in done.stderr
    assert len(list((tmp_path / "w" / "images").iterdir())) == 2


@pytest.mark.parametrize("where", ["2>&-", "2>/dev/full"])
def test_messages_that_cannot_be_written_never_end_a_command(where: str) -> None:
    # This command prints on both; no message lands among the data.
    done = shell(f"cies config {where}")
    assert done.returncode == 0 and done.stdout.splitlines()[0].startswith(b"command")


def test_a_reader_that_ends_early_is_no_error() -> None:
    done = shell("set -o pipefail; cies conditions words --json | true")
    assert done.returncode == 0 and done.stderr == b""


@pytest.mark.skipif(shutil.which("script") is None, reason="needs util-linux's script")
@pytest.mark.parametrize("size", ["cols 0 rows 0", "cols 100 rows 40", "cols 1 rows 1"])
def test_a_terminal_without_size_or_answers_gets_the_table(size: str) -> None:
    # This terminal has no pixels and answers no query.
    inner = f'stty {size}; {sys.executable} -c "$PROGRAM" table; echo code $?'
    done = subprocess.run(
        ["script", "-qec", inner, "/dev/null"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, "PROGRAM": PROGRAM, "TERM": "xterm-256color"},
    )
    shown = done.stdout.decode("utf-8", "replace")
    assert "Traceback" not in shown and "code 0" in shown and "Failed to get" not in shown
    assert "0.5000" in shown or size == "cols 1 rows 1"
    assert "\x1b[31mred" not in shown


def test_cells_of_a_csv_file_are_no_formulas(tmp_path: Path) -> None:
    for number, name in enumerate(("a.png", "b.png")):
        Image.new("RGB", (32, 32), (99 * number, 0, 0)).save(tmp_path / name)
    table = tmp_path / "notes.csv"
    table.write_text("file,note,price\na.png,=cmd|' /c calc'!A1,-3\nb.png,@SUM(A1),4\n")
    fill(Gallery.create(tmp_path / "g.cies"), table, "color", StandIn())
    done = run("export", "-g", "g.cies", "-c", "color", "-o", "out.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        cells = {row["note"]: row["price"] for row in csv.DictReader(file)}
    # Numbers stay numbers.
    assert cells == {"'=cmd|' /c calc'!A1": "-3", "'@SUM(A1)": "4"}
