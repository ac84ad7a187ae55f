"""Which descriptor answers a condition as the user named it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from ingest.conditions import UNCONDITIONAL, fold_name
from ingest.encoders.photo.settings import photo_settings
from ingest.vocabularies import shipped_vocabularies


@cache
def condition_names() -> Mapping[str, tuple[str, ...]]:
    """Each condition with all names that mean it: its own, those of word lists, and others."""
    lists = shipped_vocabularies()
    names: dict[str, tuple[str, ...]] = {}
    for condition, entry in photo_settings()["conditions"].items():
        found = [condition, *entry["names"]]
        for name in entry["lists"]:
            found += [name, *lists[name].aliases]
        names[condition] = tuple(dict.fromkeys(found))
    return names


@cache
def _conditions() -> Mapping[str, str]:
    return {
        fold_name(name): condition
        for condition, names in condition_names().items()
        for name in names
    }


def answered_by(name: str) -> str | None:
    """The condition of ``configs/photo.toml`` that a name means; ``None`` if there is none.

    Case, spelling (colour), an article and ``of the ...`` at the end do not matter: "the colour of
    the car" means color. ``unconditional`` means itself: the picture as a whole.
    """
    folded = fold_name(name)
    if folded == UNCONDITIONAL:
        return UNCONDITIONAL
    known = _conditions()
    for article in ("the ", "its "):
        folded = folded.removeprefix(article)
    short, of, _ = folded.partition(" of ")
    return known.get(folded) or (known.get(short) if of else None)
