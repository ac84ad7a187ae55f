"""Shows and edits the lists of words that views of a condition are worked out from."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from cies.cli.settings import find_gallery
from cies.console import print_json, print_table, say
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.vocabularies import (
    EDITED,
    Vocabulary,
    checked_template,
    checked_words,
    default_template,
    find_vocabulary,
    forget,
    gallery_vocabularies,
    generate_vocabulary,
    keep,
    list_name,
    shipped,
    split_words,
)
from query.hits import SCHEMA_VERSION

#: A longer file is no list of words.
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class Change:
    """What ``cies conditions edit`` is told; nothing of it opens the user's editor.

    Attributes:
        words: words with commas between.
        from_file: a file of words, or ``-``.
        ask: a model that lists them.
        template: a sentence with ``{word}``; may come alone or with one of the three above.
        reset: go back to the shipped list.
        show: change nothing.
    """

    words: str | None = None
    from_file: str | None = None
    ask: str | None = None
    template: str | None = None
    reset: bool = False
    show: bool = False

    def check(self) -> None:
        """Refuse what excludes one another.

        Raises:
            UsageError: naming it.
        """
        given = {
            "--words": self.words is not None,
            "--from": self.from_file is not None,
            "--ask": self.ask is not None,
            "--reset": self.reset,
            "--show": self.show,
        }
        chosen = [name for name, one in given.items() if one]
        if self.template is not None and (self.reset or self.show):
            chosen.insert(0, "--template")
        if len(chosen) > 1:
            raise UsageError(f"{' and '.join(chosen)} exclude one another; give one of them.")


def run_words(name: str | None, gallery: Path | None, as_json: bool) -> None:
    """List the lists there are, or show one.

    Args:
        name: a condition, or ``None`` for all.
        gallery: as for ``--gallery``; its own lists come in place of the shipped ones.
        as_json: print one document.

    Raises:
        UsageError: if there is no list of that name.
        GalleryError: if a gallery is named that is not there.
    """
    place = find_gallery(gallery)
    there = gallery is not None or (place / "manifest.lance").is_dir()
    opened = Gallery.open(place) if there else None
    if name is not None:
        found = find_vocabulary(name, opened)
        if found is None:
            raise UsageError(_no_list(list_name(name)))
        lists = [found]
    else:
        own = gallery_vocabularies(opened) if opened else []
        taken = {one.condition for one in own}
        lists = own + [s.vocabulary for n, s in shipped().items() if n not in taken]
    if as_json:
        document = {"schema_version": SCHEMA_VERSION, "lists": [_document(one) for one in lists]}
        print_json(document)
    elif name is not None:
        _print_words(lists[0])
    else:
        rows = [
            [
                one.condition,
                str(len(one.words)),
                one.source,
                ", ".join([*one.words[:4], *(["..."] if len(one.words) > 4 else [])]),
                ", ".join(_aliases(one)),
            ]
            for one in lists
        ]
        columns = ["condition", "words", "source", "such as", "also called"]
        print_table(columns, rows, numbers=["words"])


def _no_list(name: str) -> str:
    names = {alias: n for n, one in shipped().items() for alias in (n, *one.aliases)}
    close = get_close_matches(name.lower(), list(names), 1)
    hint = f"did you mean '{close[0]}'?" if close else "`cies conditions words` shows those known."
    return f"No list of words is known for '{name}', and `cies conditions edit` makes one; {hint}"


def run_edit(name: str, place: Path, change: Change, as_json: bool) -> None:
    """Change a condition's words in a gallery, or show them.

    Args:
        name: the condition; an alias means its list.
        place: the gallery's folder.
        change: what to do.
        as_json: print the list as it is then.

    Raises:
        UsageError: if the words or options are none.
        GalleryError: if there is no gallery, or it cannot be written to.
        ModelError: if the model that was asked lists nothing.
    """
    change.check()
    title = list_name(name)
    gallery = Gallery.open(place)
    before = find_vocabulary(title, gallery)
    if change.show:
        if before is None:
            raise UsageError(_no_list(title))
        after = before
    elif change.reset:
        after = _reset(gallery, title)
    else:
        after = _changed(title, before, change)
        if after != before:
            keep(gallery, after)
            say(
                f"{len(after.words)} words for '{after.condition}' are kept in {place}; what was "
                "worked out from others is made anew when it is next asked for."
            )
        else:
            say(f"Nothing was changed: '{title}' has these words.")
    if as_json:
        print_json(
            {"schema_version": SCHEMA_VERSION, "gallery": str(gallery.path), **_document(after)}
        )
    elif change.show:
        _print_words(after)


def _reset(gallery: Gallery, title: str) -> Vocabulary:
    one = shipped().get(title)
    was = forget(gallery, title)
    if one is None:
        if not was:
            raise UsageError(_no_list(title))
        say(f"The list of '{title}' is forgotten; none comes with CIES.")
        return Vocabulary(title, (), default_template(title), "none")
    done = "are its words again" if was else "were its words all along"
    say(f"The {len(one.vocabulary.words)} words of '{title}' that come with CIES {done}.")
    return one.vocabulary


def _changed(title: str, before: Vocabulary | None, change: Change) -> Vocabulary:
    """The list as it is to be."""
    template = before.template if before else default_template(title)
    if change.template is not None:
        template = checked_template(change.template)
    if change.ask is not None:
        from ingest.encoders.vlm.listing import Listing

        return replace(generate_vocabulary(title, Listing(change.ask)), template=template)
    if change.words is not None:
        words = checked_words(split_words(change.words), "--words")
    elif change.from_file is not None:
        words = checked_words(split_words(_read(change.from_file)), change.from_file)
    elif change.template is not None:
        if before is None:
            raise UsageError(
                f"A template alone makes no list, and none is known for '{title}'; give --words, "
                "too."
            )
        words = before.words
    else:
        words = _edited(title, before)
    changed = before is None or (words, template) != (before.words, before.template)
    if before is not None and not changed:
        return before
    return Vocabulary(before.condition if before else title, words, template, EDITED)


def _read(name: str) -> str:
    """A text file, or stdin.

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MAX_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise UsageError(f"{name} has more than a megabyte; give a list of words, not a text.")
        return data.decode("utf-8-sig")
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"Cannot read {name}: {reason}; give a text file of words.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not text in UTF-8; save it as such.") from error


def _edited(title: str, before: Vocabulary | None) -> tuple[str, ...]:
    """The words as the user's editor leaves them."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(
            f'No editor is named; set EDITOR, or write `cies conditions edit "{title}" --words '
            '"..., ..."`.'
        )
    lines = [f"# The words of '{title}', parted by lines or commas. Lines with # do not count."]
    lines += before.words if before else ["# happy", "# sad"]
    descriptor, name = tempfile.mkstemp(prefix="cies-words-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    try:
        code = subprocess.run([*shlex.split(editor), name]).returncode
    except (OSError, ValueError) as error:
        Path(name).unlink()
        raise UsageError(f"The editor {editor!r} cannot be run; set EDITOR to one.") from error
    if code:
        Path(name).unlink()
        raise UsageError(f"The editor {editor!r} left with code {code}; nothing was changed.")
    try:
        words = checked_words(split_words(_read(name)), "The list")
    except UsageError as error:
        raise UsageError(f"{error} What you wrote is in {name}; give it with --from.") from error
    Path(name).unlink()
    return words


def _print_words(one: Vocabulary) -> None:
    for word in one.words:
        print(word)
    say(f"{len(one.words)} words of '{one.condition}', {one.source}, said as: {one.template}")


def _aliases(one: Vocabulary) -> tuple[str, ...]:
    entry = shipped().get(one.condition)
    return entry.aliases if entry else ()


def _document(one: Vocabulary) -> dict[str, Any]:
    return {
        "condition": one.condition,
        "aliases": list(_aliases(one)),
        "source": one.source,
        "template": one.template,
        "words": list(one.words),
        "digest": one.digest,
    }
