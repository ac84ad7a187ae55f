"""``cies conditions``, ``words`` and ``edit`` as a user types them."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from cies.cli.app import app
from indexes.errors import CiesError, GalleryLocked, GalleryMissing, ModelError, UsageError
from indexes.store.gallery import Gallery
from ingest.encoders.vlm.value_lists import LvlmWordLister
from ingest.vocabularies import shipped_vocabularies, vocabulary_of


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]):
    """Run a command in this process; returns what it prints on stdout and on stderr."""

    def run(*words: object) -> tuple[str, str]:
        capsys.readouterr()
        app([str(word) for word in words], standalone_mode=False)
        out, err = capsys.readouterr()
        return out, err

    return run


def edit(typed, gallery: Gallery, *words: object) -> dict:
    out, _ = typed("conditions", "edit", *words, "-g", gallery.path, "--json")
    return json.loads(out)


def test_words_lists_all_that_come_with_cies(typed) -> None:
    document = json.loads(typed("conditions", "words", "--json")[0])
    assert [one["condition"] for one in document["lists"]] == list(shipped_vocabularies())
    out, _ = typed("conditions", "words")
    assert len(out.splitlines()) == 1 + len(shipped_vocabularies())


def test_words_of_one_are_lines_for_a_pipe(typed) -> None:
    out, err = typed("conditions", "words", "HUE")
    assert tuple(out.splitlines()) == shipped_vocabularies()["color"].vocabulary.words
    assert "shipped" in err and "a {word} object" in err
    with pytest.raises(UsageError, match=r"known for 'colr'.*did you mean 'color'"):
        typed("conditions", "words", "colr")
    with pytest.raises(GalleryMissing):
        typed("conditions", "words", "-g", "nowhere")


def test_an_edit_is_stored_shown_and_reset(typed, gallery: Gallery) -> None:
    document = edit(typed, gallery, "Mood", "--words", "happy, sad,Happy ; calm")
    assert document["condition"] == "mood" and document["source"] == "edited"
    assert document["words"] == ["happy", "sad", "calm"]
    assert document["template"] == shipped_vocabularies()["mood"].vocabulary.template
    assert vocabulary_of("atmosphere", Gallery.open(gallery.path)).words == ("happy", "sad", "calm")
    out, _ = typed("conditions", "-g", gallery.path, "edit", "vibe", "--show")
    assert out == "happy\nsad\ncalm\n"
    first = json.loads(typed("conditions", "words", "-g", gallery.path, "--json")[0])["lists"]
    assert first[0] == {k: v for k, v in document.items() if k not in ("schema_version", "gallery")}
    assert len(first) == len(shipped_vocabularies())
    _, err = typed("conditions", "edit", "mood", "-g", gallery.path, "--words", "happy,sad,calm")
    assert "Nothing was changed" in err
    assert edit(typed, gallery, "mood", "--template", "{word}!")["words"] == [
        "happy",
        "sad",
        "calm",
    ]
    _, err = typed("conditions", "edit", "mood", "-g", gallery.path, "--reset")
    assert "are its words again" in err
    assert edit(typed, gallery, "mood", "--show")["source"] == "shipped"
    assert Gallery.open(gallery.path).words() == {}


def test_a_new_condition(typed, gallery: Gallery) -> None:
    with pytest.raises(UsageError, match="No list of words is known for 'fizziness'"):
        edit(typed, gallery, "fizziness", "--show")
    with pytest.raises(UsageError, match="A template alone makes no list"):
        edit(typed, gallery, "fizziness", "--template", "a {word} drink")
    edit(typed, gallery, "Fizziness", "--words", "flat, fizzy", "--template", "a {word} drink")
    assert vocabulary_of("fizziness", gallery).texts == ["a flat drink", "a fizzy drink"]
    assert edit(typed, gallery, "fizziness", "--reset")["source"] == "none"
    with pytest.raises(UsageError, match="No list of words"):
        edit(typed, gallery, "fizziness", "--reset")


def test_words_from_a_file_and_from_stdin(
    typed, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "moods.txt"
    file.write_bytes("\ufeff# moods\nhappy, sad\ncalm\n".encode())
    assert edit(typed, gallery, "mood", "--from", file)["words"] == ["happy", "sad", "calm"]
    stdin = io.TextIOWrapper(io.BytesIO(b"red\nblue\n"))
    monkeypatch.setattr(sys, "stdin", stdin)
    assert edit(typed, gallery, "color", "--from", "-")["words"] == ["red", "blue"]
    file.write_bytes(b"\xff\xfe\x00")
    (tmp_path / "long.txt").write_bytes(b"a," * 2**20)
    for name, message in [
        (file, "is not text in UTF-8"),
        (tmp_path / "long.txt", "more than a megabyte"),
        (tmp_path, "Cannot read"),
        (tmp_path / "no.txt", "no such file"),
    ]:
        with pytest.raises(UsageError, match=message):
            edit(typed, gallery, "mood", "--from", name)
    assert vocabulary_of("mood", gallery).words == ("happy", "sad", "calm")


def test_a_model_lists_the_words(typed, gallery: Gallery, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = ", ".join(f"mood {n}" for n in range(12))
    monkeypatch.setattr(LvlmWordLister, "answer", lambda self, condition: (answer, True))
    document = edit(typed, gallery, "mood", "--ask", "org/model")
    assert document["source"] == "made by org/model" and len(document["words"]) == 12
    with pytest.raises(ModelError, match="cannot list the values of 'mood'"):
        edit(typed, gallery, "mood", "--ask", "tiny-lvlm")


def editor(tmp_path: Path, code: str) -> str:
    """A command that takes the place of an editor: a Python program with the file's path."""
    script = tmp_path / "an editor.py"
    script.write_text(f"import sys, pathlib\nfile = pathlib.Path(sys.argv[1])\n{code}\n")
    return f"'{sys.executable}' '{script}'"


def test_the_words_are_edited_in_the_editor(
    typed, gallery: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "text = file.read_text()\nassert 'crimson' in text\nfile.write_text(text + 'blurple')"
    monkeypatch.setenv("EDITOR", editor(tmp_path, code))
    monkeypatch.delenv("VISUAL", raising=False)
    words = edit(typed, gallery, "color")["words"]
    assert words == [*shipped_vocabularies()["color"].vocabulary.words, "blurple"]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("file.write_text('# nothing')", r"has 0 different words.*What you wrote is in .*--from"),
        ("sys.exit(3)", "exited with code 3; nothing was changed"),
        (None, "No editor is named; set EDITOR"),
        ("", "cannot be run; set EDITOR"),
    ],
)
def test_an_editor_that_fails_changes_nothing(
    code: str | None,
    message: str,
    typed,
    gallery: Gallery,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("EDITOR", raising=False)
    if code is not None:
        monkeypatch.setenv("EDITOR", editor(tmp_path, code) if code else "no-such-program")
    with pytest.raises(UsageError, match=message):
        edit(typed, gallery, "mood")
    assert gallery.words() == {}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["mood", "--words", "a,b", "--reset"], UsageError),
        (["mood", "--words", "a,b", "--from", "x"], UsageError),
        (["mood", "--template", "{word}", "--show"], UsageError),
        (["mood", "--words", "one"], UsageError),
        (["mood", "--words", "a,b", "--template", "no place"], UsageError),
        (["unconditional", "--words", "a,b"], UsageError),
        ([" ", "--words", "a,b"], UsageError),
        (["x" * 501, "--words", "a,b"], UsageError),
    ],
)
def test_wrong_words_are_one_sentence(
    words: list[str], error: type[CiesError], typed, gallery: Gallery
) -> None:
    with pytest.raises(error) as caught:
        edit(typed, gallery, *words)
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")
    assert gallery.words() == {}


def test_without_a_gallery_or_while_another_writes(typed, gallery: Gallery) -> None:
    with pytest.raises(GalleryMissing):
        typed("conditions", "edit", "mood", "--words", "a,b", "-g", "nowhere")
    assert not Path("nowhere").exists()
    with gallery.writer(), pytest.raises(GalleryLocked):
        typed("conditions", "edit", "mood", "--words", "a,b", "-g", gallery.path)


def test_conditions_lists_those_of_the_gallery(typed, gallery: Gallery) -> None:
    out, _ = typed("conditions", "-g", gallery.path, "--json")
    assert json.loads(out)["conditions"] == []
    out, _ = typed("conditions", "-g", gallery.path)
    assert out.startswith("condition\tpictures")
