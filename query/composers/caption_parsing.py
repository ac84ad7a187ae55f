"""Extracts a caption from the answer of a language model, and recognises refusals.

Answers come with labels ("Edited Description: ..."), in code fences, as JSON, after a polite
opening, in quotes, with colons of their own; or as a refusal, or empty.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from query.composers.base import WrittenCaption
from query.composers.modification import MAX_CHARACTERS

#: Labels before the wanted sentence, the most reliable first.
_LABELS = ("edited description", "target caption", "edited caption", "description", "caption")

#: JSON members that contain it.
_MEMBERS = ("caption", "target_caption", "edited_description", "description", "target", "answer")
_MUST = ("must", "must_exist", "must exist", "required", "existent", "include")
_MUST_NOT = ("must_not", "must_not_exist", "must not exist", "forbidden", "nonexistent", "exclude")

#: The most objects that are taken from an answer.
_MOST_OBJECTS = 12

#: A sentence of at least this many words, of which one word makes more than a third, is rejected.
_REPETITIVE = 9

_REFUSAL = re.compile(
    r"^\W*((i'?m|i am|we'?re) (sorry|afraid|unable|not able)|sorry\b|"
    r"(i|we) (can'?t|can ?not|won'?t|do not|don'?t (have|see))|as an? (ai|language)|"
    r"unfortunately|my apologies|apologies)",
    re.IGNORECASE,
)

_OPENING = re.compile(
    r"^(sure|certainly|of course|okay|ok|here('s| is| are)|the edited)\b.*:$", re.I
)


def parse_caption(answer: str, change: str, model: str) -> WrittenCaption:
    """The caption in an answer, or the change itself with a note if there is none.

    Args:
        answer: the model's answer.
        change: the change that was asked for.
        model: the model's name, for the note.
    """
    plain = _plain(answer)
    document = _json(plain)
    must: tuple[str, ...] = ()
    must_not: tuple[str, ...] = ()
    if document is not None:
        text = _member(document, _MEMBERS)
        sentence = _line(text if isinstance(text, str) else "")
        must, must_not = (_objects(_member(document, names)) for names in (_MUST, _MUST_NOT))
    else:
        sentence = _sentence(plain)
    if not sentence:
        what = "answered nothing" if not plain else "gave no description"
        return WrittenCaption(change, must, must_not, _fallback(model, what))
    words = sentence.lower().split()
    if len(words) >= _REPETITIVE and max(map(words.count, words)) > len(words) / 3:
        return WrittenCaption(
            change, (), (), _fallback(model, f"repeated itself ('{sentence[:60]}')")
        )
    if _REFUSAL.match(sentence):
        return WrittenCaption(change, (), (), _fallback(model, f"refused ('{sentence[:60]}')"))
    return WrittenCaption(sentence, must, must_not)


def _fallback(model: str, what: str) -> str:
    return f"{model} {what}; the words of --modify are searched for as they are."


def _plain(answer: str) -> str:
    """An answer without reasoning, code fences, bold type and control characters."""
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"^\s*```\w*\s*$", "", text, flags=re.MULTILINE).replace("**", "")
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept).strip()


def _json(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text, if there is one."""
    decoder = json.JSONDecoder()
    for start in (match.start() for match in re.finditer(r"\{", text)):
        try:
            found, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {str(name).strip().lower(): value for name, value in found.items()}
    return None


def _member(document: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        for spelling in (name, name.replace("_", " ")):
            if spelling in document:
                return document[spelling]
    return None


def _objects(value: Any) -> tuple[str, ...]:
    """The different short texts in a list, or in a line with commas."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        return ()
    lines = [_line(part) for part in parts if isinstance(part, str)]
    found = [line for line in lines if line and line.lower() not in ("none", "n/a", "nothing")]
    return tuple(dict.fromkeys(found))[:_MOST_OBJECTS]


def _sentence(text: str) -> str:
    """The text after a label, with its own colons; or else the first line with a description."""
    if text.startswith(("{", "[")):
        return ""  # invalid JSON
    for label in _LABELS:
        found = re.search(rf"(?:^|\n)\W*{label}\s*:[ \t]*", text, re.IGNORECASE)
        if found:
            rest = text[found.end() :].lstrip()
            return _line(re.split(r"\n\s*\n|\n", rest)[0])
    for line in text.splitlines():
        if line.strip() and not _OPENING.match(line.strip()):
            return _line(line)
    return ""


def _line(text: str) -> str:
    """A text in one line, without surrounding quotes, cut at the allowed length."""
    line = " ".join(text.split())
    while len(line) > 1 and line[0] in "\"'“‘`" and line[-1] in "\"'”’`":
        line = line[1:-1].strip()
    if not re.search(r"\w", line):
        return ""
    return line if len(line) <= MAX_CHARACTERS else line[:MAX_CHARACTERS].rsplit(" ", 1)[0]
