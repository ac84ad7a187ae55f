"""Questions with their right answers, checked against the gallery they are asked in."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from eval.protocols.published import Published
from eval.tasks import Part, Query


def asked_in(
    data: Published,
    where: Path,
    name: str,
    queries: Sequence[Query],
    gallery: Sequence[str],
    there: Collection[str],
) -> Part:
    """One part of a task.

    Where pictures are missing and a subset will do, questions without their reference or without
    any right answer are left out, and it is noted.

    Args:
        data: published files.
        where: the file that the questions are of, for messages.
        name: of the part.
        queries: as published.
        gallery: ids that are ranked for questions without a gallery of their own, as published.
        there: ids of pictures that exist.

    Raises:
        DataError: if an id stands twice, or a right answer is not in its gallery, or is the
            question's own reference.
    """
    data.unique("question", (query.id for query in queries), where)
    data.unique("gallery picture", gallery, where)
    ranked = set(gallery)
    kept = []
    for query in queries:
        own = ranked if query.gallery is None else set(query.gallery)
        for answer in query.relevant:
            if answer not in own:
                raise data.wrong(
                    f"{where}, question {query.id}: its right answer {answer} is not in the gallery"
                )
        if query.image and query.image in query.relevant:
            raise data.wrong(
                f"{where}, question {query.id}: its reference {query.image} is its own answer"
            )
        found = _of_those_there(query, there)
        if found is not None:
            kept.append(found)
    if len(kept) < len(queries):
        data.notes.append(
            f"{len(queries) - len(kept):,} of {len(queries):,} questions"
            + (f" of {name}" if name else "")
            + " lack their pictures and are left out."
        )
    if not kept:
        raise data.wrong(f"{where} has no question whose pictures are there")
    return Part(name, tuple(kept), tuple(key for key in gallery if key in there))


def _of_those_there(query: Query, there: Collection[str]) -> Query | None:
    """The question with the pictures that exist, or nothing if they do not make one."""
    relevant = {key: gain for key, gain in query.relevant.items() if key in there}
    if (query.image and query.image not in there) or (query.relevant and not relevant):
        return None
    return replace(
        query,
        relevant=relevant,
        gallery=None
        if query.gallery is None
        else tuple(key for key in query.gallery if key in there),
        exclude=tuple(key for key in query.exclude if key in there),
        group=tuple(key for key in query.group if key in there),
    )
