"""Collections as examples: ``@NAME`` stands for the pictures of a collection of the gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from query.question import Picture, Question, shortened, similar_names

if TYPE_CHECKING:
    from query.open_gallery import OpenGallery


class UnknownCollection(UsageError):
    """The gallery has no collection of this name."""


def with_collections(opened: OpenGallery, question: Question) -> Question:
    """A question in which the names of collections are replaced by their pictures.

    Raises:
        UsageError: if there is no collection of a name, or it is empty.
    """
    given = question.pictures, question.like, question.dislike
    if not any(_is_name(one) for some in given for one in some):
        return question
    pictures, like, dislike = (_expanded(opened, some) for some in given)
    return replace(question, pictures=pictures, like=like, dislike=dislike)


def collection_keys(gallery: Gallery, name: str) -> list[str]:
    """The keys of a collection's pictures that the gallery still has, in the order of adding.

    Args:
        gallery: the gallery.
        name: the collection's name, with or without ``@``.

    Raises:
        UnknownCollection: if there is no such collection.
    """
    collections = gallery.collections()
    name = name.removeprefix("@")
    if name not in collections:
        raise UnknownCollection(
            f"There is no collection {shortened(name)} in the gallery at {gallery.path}"
            f"{similar_names(name, collections)}; `cies collections list` shows all."
        )
    return collections[name]


def _expanded(opened: OpenGallery, given: Sequence[Picture]) -> tuple[Picture, ...]:
    found: list[Picture] = []
    for one in given:
        if not _is_name(one):
            found.append(one)
            continue
        keys = [key for key in collection_keys(opened.gallery, one) if key in opened.paths]
        if not keys:
            raise UsageError(f"No picture of the collection {one} is in the gallery now.")
        found += keys
    return tuple(found)


def _is_name(given: Picture) -> TypeGuard[str]:
    """Whether a picture is given as a collection's name. A file of that name comes first."""
    return isinstance(given, str) and given.startswith("@") and not Path(given).exists()
