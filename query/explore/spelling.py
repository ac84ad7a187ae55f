"""Recognises forms of the same English word: grey and gray, stripes and striped.

Forms are compared by keys. Two forms of one word have the same key, which need not be a word.
Words of other languages have keys of their own. Such rules also give different words the same key
(``short`` and ``shorts``), so :mod:`query.explore.facets` compares the pictures as well.
"""

from __future__ import annotations

import re
import unicodedata

#: Spellings that no rule below covers, and plurals that are not regular.
_OTHERS = {
    "grey": "gray",
    "jewellery": "jewelry",
    "moustache": "mustache",
    "pyjama": "pajama",
    "pyjamas": "pajama",
    "aluminium": "aluminum",
    "aeroplane": "airplane",
    "yoghurt": "yogurt",
    "doughnut": "donut",
    "tyre": "tire",
    "mould": "mold",
    "cosy": "cozy",
    "men": "man",
    "women": "woman",
    "people": "person",
    "children": "child",
    "feet": "foot",
    "teeth": "tooth",
    "geese": "goose",
    "mice": "mouse",
    "leaves": "leaf",
    "shelves": "shelf",
    "knives": "knife",
    "wolves": "wolf",
}

_VOWEL = re.compile(r"[aeiouy]")


def plain(word: str) -> str:
    """A word in lower case, with letters and digits only."""
    folded = unicodedata.normalize("NFKC", word).casefold()
    return re.sub(r"[^\w]|_", "", folded) or folded


def stem(word: str) -> str:
    """The key of an English word: spelling, plural, ``-ed`` and ``-ing`` are normalised.

    Plurals follow the S-stemmer (Harman, "How effective is suffixing?", JASIS 42(1), 1991), with
    ``-es`` after a sibilant removed completely.
    """
    key = plain(word)
    if not key.isascii() or not key.isalpha():
        return key
    key = _OTHERS.get(key, key)
    key = _OTHERS.get(_singular(key), _singular(key))
    key = re.sub(r"(?<=[lbvnmrd])our(?=$|ed$|ing$|ful$)", "or", key)
    key = re.sub(r"is(?=e$|ed$|ing$|ation$)", "iz", key)
    key = re.sub(r"(?<=[tb])re$", "er", key)
    return _uninflected(key)


def _singular(word: str) -> str:
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y" if len(word) > 4 else word[:-1]
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1]


def _uninflected(word: str) -> str:
    for ending in ("ed", "ing"):
        start = word.removesuffix(ending)
        if start != word and len(start) > 2 and _VOWEL.search(start):
            # dotted, dot; but not filled, fill.
            doubled = start[-1] == start[-2] and start[-1] not in "lsz"
            return start[:-1] if doubled else start.removesuffix("e")
    return word.removesuffix("e") if len(word) > 3 else word
