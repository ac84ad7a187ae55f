"""Output of hits: exclusive options, NUL, copies, links, pictures on a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import cies
from cies.reports.hits import choose_output, copy_hits, print_hits, show_hits
from query.hits import Hit, Hits, Query


@pytest.fixture
def hits(world: Path) -> Hits:
    """Eleven hits whose files are pictures of the world."""
    paths = sorted((world / "images").iterdir())[:11]
    found = [Hit(n, "", str(p), 1 - n / 20, 50.0, "red", 0.9) for n, p in enumerate(paths, 1)]
    return Hits(Query("q.jpg", "color", "", True, "red", 0.9), tuple(found))


@pytest.mark.parametrize(
    ("given", "form"),
    [
        ({}, "table"),
        ({"as_json": True}, "json"),
        ({"as_jsonl": True}, "jsonl"),
        ({"quiet": True}, "paths"),
        ({"print0": True}, "paths0"),
        ({"quiet": True, "print0": True}, "paths0"),
    ],
)
def test_the_options_choose_one_form(given: dict[str, bool], form: str) -> None:
    assert choose_output(**given).form == form


def test_forms_exclude_one_another() -> None:
    for given in ({"as_json": True, "quiet": True}, {"as_jsonl": True, "print0": True}):
        with pytest.raises(cies.UsageError, match="exclude one another"):
            choose_output(**given)
    with pytest.raises(cies.UsageError, match="--pictures shows them in a table"):
        choose_output(pictures=True, as_json=True)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"where": "price > 9"}, "passes --where 'price > 9'"),
        ({"exclude_same": "sku"}, "passes --exclude-same sku"),
        ({}, "no other picture in the gallery"),
    ],
)
def test_no_hits_say_why(
    asked: dict[str, str], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    print_hits(Hits(Query("a.png", "color", "", True, "", 0.0, **asked), ()), "table")
    assert said in capfd.readouterr().err


def test_names_with_newlines_survive_nul(capfd: pytest.CaptureFixture[str]) -> None:
    paths = ["/a b.jpg", "/new\nline.jpg"]
    found = tuple(Hit(n, "", path, 0.5, 50.0, "", 0.0) for n, path in enumerate(paths, 1))
    print_hits(Hits(Query("q", "color", "", True, "", 0.0), found), "paths0")
    sys.stdout.flush()
    assert capfd.readouterr().out.split("\0") == [*paths, ""]


def test_copies_are_the_files_and_nothing_is_overwritten(
    hits: Hits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "copies"
    assert copy_hits(hits, folder) == 11
    names = sorted(path.name for path in folder.iterdir())
    assert names[0].startswith("01-") and names[-1].startswith("11-")
    for hit, name in zip(hits, names, strict=True):
        assert (folder / name).read_bytes() == Path(hit.path).read_bytes()
    (folder / names[3]).write_text("mine")
    with pytest.raises(cies.UsageError, match=r"nothing is overwritten.*--copy-to"):
        copy_hits(hits, folder)
    assert (folder / names[3]).read_text() == "mine"
    assert capsys.readouterr().out == ""


def test_links_point_to_the_files_and_other_hits_are_named(
    hits: Hits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = [
        Hit(12, "", "s3://bucket/a.jpg", 0.1, 1.0, "", 0.0),
        Hit(13, "", "/x/shard.tar!/a.jpg", 0.1, 1.0, "", 0.0),
        Hit(14, "", str(tmp_path / "gone.jpg"), 0.1, 1.0, "", 0.0),
    ]
    whole = Hits(hits.query, (*hits.hits, *odd))
    show_hits(whole, choose_output(quiet=True, link_to=tmp_path / "links"))
    told = capsys.readouterr()
    links = sorted((tmp_path / "links").iterdir())
    assert [str(link.readlink()) for link in links] == [hit.path for hit in hits]
    assert "s3://bucket/a.jpg: it is at an address" in told.err
    assert "shard.tar!/a.jpg: it is in an archive, and a link cannot point there" in told.err
    assert "gone.jpg: the file does not exist" in told.err and "11 links made" in told.err
    assert told.out.splitlines() == [hit.path for hit in whole]


def test_a_folder_that_cannot_be_written_is_one_sentence(hits: Hits, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(cies.CiesError, match=r"Cannot write to .*file.*--copy-to"):
        copy_hits(hits, tmp_path / "file")


def test_pictures_in_a_pipe_are_refused_with_a_reason(
    hits: Hits, capsys: pytest.CaptureFixture[str]
) -> None:
    print_hits(hits, "table")
    silent = capsys.readouterr()
    print_hits(hits, "table", pictures=True)
    told = capsys.readouterr()
    assert silent.err == "" and silent.out == told.out
    assert told.err == "Without pictures: this is not a terminal; write a page with --html FILE.\n"


def _on_a_terminal(code: str, **environment: str) -> str:
    """The output of a program on a pseudo-terminal that answers its queries."""
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-c", code], {**os.environ, **environment})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 3000, 1000))
    shown = b""
    while select.select([terminal], [], [], 120)[0]:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # on Linux: the other end is closed
            break
        if not part:
            break
        shown += part
        if part.endswith(b"\x1b[c"):
            os.write(terminal, b"\x1b[?62;1c")  # a VT220 without Sixel
    os.waitpid(child, 0)
    return shown.decode("utf-8", "replace")


def test_a_terminal_shows_pictures_in_the_table(hits: Hits) -> None:
    code = (
        "from query.hits import *; from cies.reports.hits import print_hits\n"
        f"hit = Hit(1, '', {hits[0].path!r}, 0.5, 50.0, '[red]', 0.9)\n"
        "lost = Hit(2, '', '/nowhere.jpg', 0.4, 50.0, 'blue', 0.9)\n"
        "print_hits(Hits(Query('[b]q', 'color', '', True, '', 0.0), (hit, lost)), 'table', {})\n"
    )
    kind = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    drawn = _on_a_terminal(code.format(None), **kind)
    assert drawn.count("▀") >= 6 * 6
    # A picture has many colors.
    assert len(set(re.findall(r"38;2;(\d+;\d+;\d+)", drawn))) > 5
    assert "not readable now" in drawn and "[red]" in drawn and "[b]q" in drawn
    assert "▀" not in _on_a_terminal(code.format(False), **kind)
    plain = _on_a_terminal(code.format(True), TERM="dumb")
    assert "▀" not in plain and "Without pictures: this terminal shows no colors" in plain


def test_the_shell_completes_options_and_the_gallerys_conditions(
    world: Path, tmp_path: Path
) -> None:
    cies.ingest(cies.create(tmp_path / "g"), [world / "images" / "00001.jpg"], ["color", "shape"])
    (tmp_path / "cies.toml").write_text('gallery = "g"\n')
    command = Path(sys.executable).with_name("cies")
    script = subprocess.run(
        ["bash", "-c", f"{command} --show-completion bash; true"],
        capture_output=True,
        text=True,
    ).stdout
    assert "complete -o default -F _cies_completion cies" in script
    asked = (
        f'{script}\nask() {{ COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); '
        f'_cies_completion {command}; echo "${{COMPREPLY[@]}}"; }}\n'
        "ask cies search --con\nask cies export -c ''\nask cies export -g nowhere -c ''\n"
    )
    done = subprocess.run(["bash", "-c", asked], capture_output=True, text=True)
    assert done.stdout.splitlines() == ["--condition", "color shape", ""]
