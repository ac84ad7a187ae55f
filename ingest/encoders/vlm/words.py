"""Finds the first word in a model's answer, and whether the answer shows where it ends."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

#: Follows a word that the model did not end within the tokens it was given.
CUT = "…"

#: Characters inside words that are not letters or digits: apostrophes, hyphens, and the joiners
#: of Indic and Arabic scripts.
_INSIDE = "'’-_\u200c\u200d"

#: What a decoder writes for the first bytes of a character whose last ones are not there yet.
_PART_OF_A_CHARACTER = "\ufffd"


@dataclass(frozen=True)
class FoundWord:
    """The first word of a text.

    Attributes:
        text: the word; empty if there is none.
        ends: whether something follows that is not part of the word.
    """

    text: str
    ends: bool


def find_word(text: str) -> FoundWord:
    """The first word of a text: a letter or digit, and all letters, digits and marks after it."""
    whole = text.rstrip(_PART_OF_A_CHARACTER)
    start = next((at for at, one in enumerate(whole) if one.isalnum()), len(whole))
    end = start
    while end < len(whole) and (end == start or _continues(whole[end])):
        end += 1
    return FoundWord(whole[start:end], start < end < len(whole))


def _continues(character: str) -> bool:
    # Vowel signs and accents are marks (M), which Python does not count as alphanumeric.
    return (
        character.isalnum()
        or character in _INSIDE
        or unicodedata.category(character).startswith("M")
    )
