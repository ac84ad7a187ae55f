"""Reads what language models answer, whatever they wrap it in, and knows a refusal when it is one.

Answers come with labels ("Edited Description: ..."), in code fences, as JSON, after a polite
opening, in quotes, with colons of their own; or as a refusal, or not at all.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from query.composers.base import MAX_CHARACTERS, WrittenCaption

#: Labels before the sentence that is wanted, the surest first.
_LABELS = ("edited description", "target caption", "edited caption", "description", "caption")

#: JSON members that hold it.
_MEMBERS = ("caption", "target_caption", "edited_description", "description", "target", "answer")
_MUST = ("must", "must_exist", "must exist", "required", "existent", "include")
_MUST_NOT = ("must_not", "must_not_exist", "must not exist", "forbidden", "nonexistent", "exclude")

#: Objects that are taken of an answer.
_MOST_OBJECTS = 12

#: From so many words on, a sentence of which one word makes more than a third is none.
_BABBLE = 9

_REFUSAL = re.compile(
    r"^\W*((i'?m|i am|we'?re) (sorry|afraid|unable|not able)|sorry\b|"
    r"(i|we) (can'?t|can ?not|won'?t|do not|don'?t (have|see))|as an? (ai|language)|"
    r"unfortunately|my apologies|apologies)",
    re.IGNORECASE,
)

_OPENING = re.compile(
    r"^(sure|certainly|of course|okay|ok|here('s| is| are)|the edited)\b.*:$", re.I
)


def written(answer: str, change: str, who: str) -> WrittenCaption:
    """The sentence in an answer; the change itself, with a note, if there is none.

    Args:
        answer: as the model gave it.
        change: what was asked for.
        who: the model, for the note.
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
        return WrittenCaption(change, must, must_not, _fallback(who, what))
    words = sentence.lower().split()
    if len(words) >= _BABBLE and max(map(words.count, words)) > len(words) / 3:
        return WrittenCaption(change, (), (), _fallback(who, f"babbled ('{sentence[:60]}')"))
    if _REFUSAL.match(sentence):
        return WrittenCaption(change, (), (), _fallback(who, f"refused ('{sentence[:60]}')"))
    return WrittenCaption(sentence, must, must_not)


def _fallback(who: str, what: str) -> str:
    return f"{who} {what}; the words of --modify are searched for as they are."


def _plain(answer: str) -> str:
    """Without thoughts, fences, bold type and control characters."""
    text = re.sub(r"<think>.*?</think>", "", answer, flags=re.DOTALL | re.IGNORECASE)
    text = re.sub(r"^\s*```\w*\s*$", "", text, flags=re.MULTILINE).replace("**", "")
    kept = (c for c in text if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    return "".join(kept).strip()


def _json(text: str) -> dict[str, Any] | None:
    """The first JSON object in a text, if there is one."""
    decoder = json.JSONDecoder()
    for place in (match.start() for match in re.finditer(r"\{", text)):
        try:
            found, _ = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            return {str(name).strip().lower(): value for name, value in found.items()}
    return None


def _member(document: dict[str, Any], names: tuple[str, ...]) -> Any:
    for name in names:
        for written_as in (name, name.replace("_", " ")):
            if written_as in document:
                return document[written_as]
    return None


def _objects(value: Any) -> tuple[str, ...]:
    """Short texts of a list, or of a line with commas; each once."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list):
        return ()
    lines = [_line(part) for part in parts if isinstance(part, str)]
    found = [line for line in lines if line and line.lower() not in ("none", "n/a", "nothing")]
    return tuple(dict.fromkeys(found))[:_MOST_OBJECTS]


def _sentence(text: str) -> str:
    """What follows a label, colons of its own included; else the first line that says something."""
    if text.startswith(("{", "[")):
        return ""  # meant as JSON, and none
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
    """One line, without quotes around it, no longer than can be asked for."""
    one = " ".join(text.split())
    while len(one) > 1 and one[0] in "\"'“‘`" and one[-1] in "\"'”’`":
        one = one[1:-1].strip()
    if not re.search(r"\w", one):
        return ""
    return one if len(one) <= MAX_CHARACTERS else one[:MAX_CHARACTERS].rsplit(" ", 1)[0]
