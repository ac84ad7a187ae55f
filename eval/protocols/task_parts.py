"""Makes a part of a task: queries with their right answers, checked against the gallery."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from eval.protocols.data_folder import BenchmarkFolder
from eval.tasks import TaskPart, TaskQuery


def build_part(
    data: BenchmarkFolder,
    where: Path,
    name: str,
    queries: Sequence[TaskQuery],
    gallery: Sequence[str],
    present: Collection[str],
) -> TaskPart:
    """Return one part of a task.

    If pictures are missing and a subset is accepted, queries without their reference or without
    any right answer are left out, and it is noted.

    Args:
        data: the benchmark's folder.
        where: the file of the queries, for messages.
        name: the name of the part.
        queries: as published.
        gallery: ids that are ranked for queries without a gallery of their own, as published.
        present: ids of pictures that exist.

    Raises:
        DataError: if an id is repeated, or a right answer is not in its gallery or is the query's
            own reference.
    """
    data.check_unique("question", (query.id for query in queries), where)
    data.check_unique("gallery picture", gallery, where)
    shared = set(gallery)
    kept = []
    for query in queries:
        candidates = shared if query.gallery is None else set(query.gallery)
        for answer in query.relevant:
            if answer not in candidates:
                raise data.error(
                    f"{where}, question {query.id}: its right answer {answer} is not in the gallery"
                )
        if query.image and query.image in query.relevant:
            raise data.error(
                f"{where}, question {query.id}: its reference {query.image} is its own answer"
            )
        if (reduced := _without_missing(query, present)) is not None:
            kept.append(reduced)
    if len(kept) < len(queries):
        data.notes.append(
            f"{len(queries) - len(kept):,} of {len(queries):,} questions"
            + (f" of {name}" if name else "")
            + " lack their pictures and are left out."
        )
    if not kept:
        raise data.error(f"{where} has no question whose pictures exist")
    return TaskPart(name, tuple(kept), tuple(key for key in gallery if key in present))


def _without_missing(query: TaskQuery, present: Collection[str]) -> TaskQuery | None:
    """Return a query without missing pictures, or ``None`` if a needed one is missing."""
    relevant = {key: gain for key, gain in query.relevant.items() if key in present}
    if (query.image and query.image not in present) or (query.relevant and not relevant):
        return None
    return replace(
        query,
        relevant=relevant,
        gallery=None
        if query.gallery is None
        else tuple(key for key in query.gallery if key in present),
        exclude=tuple(key for key in query.exclude if key in present),
        group=tuple(key for key in query.group if key in present),
    )
