"""``cies conditions words`` and ``edit``: lists and edits the word lists of conditions."""

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

from cies import maintain
from cies.console import print_document, print_line, print_table, say
from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from ingest.fill.condition_changes import ConditionChange
from ingest.vocabularies import (
    EDITED,
    Vocabulary,
    checked_template,
    checked_words,
    default_template,
    delete_vocabulary,
    find_vocabulary,
    gallery_vocabularies,
    generate_vocabulary,
    list_name,
    shipped_vocabularies,
    split_words,
    store_vocabulary,
)

#: A longer file is not a word list.
_MAX_BYTES = 2**20


@dataclass(frozen=True)
class WordListEdit:
    """How ``cies conditions edit`` changes a word list; without any, the user's editor opens.

    Attributes:
        words: words separated by commas.
        from_file: a file of words, or ``-`` for stdin.
        ask: a model that lists the words.
        template: a sentence with ``{word}``; alone, or with one of the three above.
        reset: go back to the list that comes with CIES.
        show: change nothing.
    """

    words: str | None = None
    from_file: str | None = None
    ask: str | None = None
    template: str | None = None
    reset: bool = False
    show: bool = False

    def check(self) -> None:
        """Refuse options that exclude one another.

        Raises:
            UsageError: naming them.
        """
        given = {
            "--words": self.words is not None,
            "--from": self.from_file is not None,
            "--ask": self.ask is not None,
            "--reset": self.reset,
            "--show": self.show,
        }
        options = [name for name, is_given in given.items() if is_given]
        if self.template is not None and (self.reset or self.show):
            options.insert(0, "--template")
        if len(options) > 1:
            raise UsageError(f"{' and '.join(options)} exclude one another; give one of them.")


def run_words(name: str | None, gallery_path: Path, required: bool, as_json: bool) -> None:
    """Print all word lists, or the words of one.

    Args:
        name: a condition; ``None`` for all.
        gallery_path: the gallery's folder; its own lists replace those that come with CIES.
        required: whether the gallery must exist.
        as_json: print one JSON document.

    Raises:
        UsageError: if there is no list of that name.
        GalleryError: if the gallery must exist and does not.
    """
    exists = required or (gallery_path / "manifest.lance").is_dir()
    gallery = Gallery.open(gallery_path) if exists else None
    if name is not None:
        found = find_vocabulary(name, gallery)
        if found is None:
            raise UsageError(_no_list(list_name(name)))
        lists = [found]
    else:
        lists = gallery_vocabularies(gallery) if gallery else []
        replaced = {one.condition for one in lists}
        lists += [s.vocabulary for n, s in shipped_vocabularies().items() if n not in replaced]
    if as_json:
        print_document({"lists": [_document(one) for one in lists]})
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
    names = {alias: n for n, one in shipped_vocabularies().items() for alias in (n, *one.aliases)}
    close = get_close_matches(name.lower(), list(names), 1)
    hint = f"did you mean '{close[0]}'?" if close else "`cies conditions words` shows those known."
    return f"No list of words is known for '{name}', and `cies conditions edit` makes one; {hint}"


def run_edit(name: str, gallery_path: Path, edit: WordListEdit, as_json: bool) -> None:
    """Change the word list of a condition in a gallery, or show it.

    Args:
        name: the condition; an alias refers to the condition's list.
        gallery_path: the gallery's folder.
        edit: how to change the list.
        as_json: print the resulting list as JSON.

    Raises:
        UsageError: if the options exclude one another, or the words are not valid.
        GalleryError: if there is no gallery, or it cannot be written to.
        ModelError: if the model lists no words.
    """
    edit.check()
    title = list_name(name)
    gallery = Gallery.open(gallery_path)
    before = find_vocabulary(title, gallery)
    if edit.show:
        if before is None:
            raise UsageError(_no_list(title))
        after = before
    elif edit.reset:
        after = _reset(gallery, title)
    else:
        after = _edited(title, before, edit)
        if after != before:
            store_vocabulary(gallery, after)
            say(
                f"{len(after.words)} words for '{after.condition}' are stored in {gallery_path}; "
                "what was computed from other words is computed again at the next search."
            )
        else:
            say(f"Nothing was changed: '{title}' has these words.")
    if as_json:
        print_document({"gallery": str(gallery.path), **_document(after)})
    elif edit.show:
        _print_words(after)


def _reset(gallery: Gallery, title: str) -> Vocabulary:
    """Remove the gallery's own list; returns the one that comes with CIES, or an empty one."""
    default = shipped_vocabularies().get(title)
    removed = delete_vocabulary(gallery, title)
    if default is None:
        if not removed:
            raise UsageError(_no_list(title))
        say(f"The list of '{title}' is forgotten; CIES comes with none for it.")
        return Vocabulary(title, (), default_template(title), "none")
    state = "are its words again" if removed else "were its words already"
    say(f"The {len(default.vocabulary.words)} words of '{title}' that come with CIES {state}.")
    return default.vocabulary


def _edited(title: str, before: Vocabulary | None, edit: WordListEdit) -> Vocabulary:
    """The word list after an edit."""
    template = before.template if before else default_template(title)
    if edit.template is not None:
        template = checked_template(edit.template)
    if edit.ask is not None:
        from ingest.encoders.vlm.value_lists import LvlmWordLister

        return replace(generate_vocabulary(title, LvlmWordLister(edit.ask)), template=template)
    if edit.words is not None:
        words = checked_words(split_words(edit.words), "--words")
    elif edit.from_file is not None:
        words = checked_words(split_words(_read(edit.from_file)), edit.from_file)
    elif edit.template is not None:
        if before is None:
            raise UsageError(
                f"A template alone makes no list, and none is known for '{title}'; give --words, "
                "too."
            )
        words = before.words
    else:
        words = _words_from_editor(title, before)
    if before is not None and (words, template) == (before.words, before.template):
        return before
    return Vocabulary(before.condition if before else title, words, template, EDITED)


def _read(name: str) -> str:
    """The content of a text file, or of stdin.

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
        raise UsageError(f"{name} is not text in UTF-8; save it as UTF-8.") from error


def _words_from_editor(title: str, before: Vocabulary | None) -> tuple[str, ...]:
    """Open the user's editor on the words; returns the words that the user saved."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise UsageError(
            f'No editor is named; set EDITOR, or run `cies conditions edit "{title}" --words '
            '"..., ..."`.'
        )
    lines = [
        f"# The words of '{title}', separated by newlines or commas. Lines with # are ignored."
    ]
    lines += before.words if before else ["# happy", "# sad"]
    descriptor, name = tempfile.mkstemp(prefix="cies-words-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
    path = Path(name)
    try:
        code = subprocess.run([*shlex.split(editor), name]).returncode
    except (OSError, ValueError) as error:
        path.unlink()
        raise UsageError(f"The editor {editor!r} cannot be run; set EDITOR to one.") from error
    if code:
        path.unlink()
        raise UsageError(f"The editor {editor!r} exited with code {code}; nothing was changed.")
    try:
        words = checked_words(split_words(_read(name)), "The list")
    except UsageError as error:
        raise UsageError(f"{error} What you wrote is in {name}; give it with --from.") from error
    path.unlink()
    return words


def _print_words(vocabulary: Vocabulary) -> None:
    for word in vocabulary.words:
        print_line(word)
    say(
        f"{len(vocabulary.words)} words of '{vocabulary.condition}', {vocabulary.source}; "
        f"template: {vocabulary.template}"
    )


def _aliases(vocabulary: Vocabulary) -> tuple[str, ...]:
    entry = shipped_vocabularies().get(vocabulary.condition)
    return entry.aliases if entry else ()


def _document(vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        "condition": vocabulary.condition,
        "aliases": list(_aliases(vocabulary)),
        "source": vocabulary.source,
        "template": vocabulary.template,
        "words": list(vocabulary.words),
        "digest": vocabulary.digest,
    }


def run_remove(
    gallery_path: Path, name: str, method: str | None, dry_run: bool, as_json: bool
) -> None:
    """Remove a condition with its vectors.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UnknownCondition: if the gallery has no such condition.
    """
    gallery = Gallery.open(gallery_path)
    change = maintain.remove_condition(gallery, name, method, dry_run)
    if as_json:
        print_document(_change_document(gallery_path, change, not dry_run))
        return
    _say_change(change)
    if dry_run:
        say("Nothing was changed.")
        return
    say(
        f"Condition '{change.name}' is removed. Its vectors stay on the disk for an hour, because "
        "a search may be reading them; then the next `cies ingest` or `cies prune` deletes them."
    )
    if change.has_words:
        say(f'Its words are kept; `cies conditions edit "{change.name}" --reset` deletes them.')


def run_rename(
    gallery_path: Path, old: str, new: str, method: str | None, dry_run: bool, as_json: bool
) -> None:
    """Rename a condition.

    Raises:
        GalleryMissing: if there is no gallery.
        GalleryLocked: if another process is writing.
        UnknownCondition: if the gallery has no such condition.
        UsageError: if the new name is taken, or cannot be one.
    """
    change = maintain.rename_condition(Gallery.open(gallery_path), old, new, method, dry_run)
    if as_json:
        print_document(_change_document(gallery_path, change, not dry_run))
        return
    _say_change(change)
    words = ", with its words" if change.has_words else ""
    say(
        f"Nothing was changed; '{change.name}' would be '{change.new_name}'{words}."
        if dry_run
        else f"'{change.name}' is '{change.new_name}' now{words}. No vector changed, and new "
        "pictures are embedded as before."
    )


def _say_change(change: ConditionChange) -> None:
    for title in change.titles:
        say(f"condition: {title}")
    say(f"{change.pictures} vectors.")


def _change_document(gallery_path: Path, change: ConditionChange, done: bool) -> dict[str, Any]:
    return {
        "gallery": str(gallery_path),
        "done": done,
        "condition": change.name,
        "new_name": change.new_name,
        "tables": list(change.titles),
        "vectors": change.pictures,
    }
