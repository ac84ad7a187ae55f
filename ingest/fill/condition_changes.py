"""Removes and renames the conditions of a gallery."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from indexes.errors import UnknownCondition, UsageError
from indexes.geometry import RESIDUAL
from indexes.store.gallery import Gallery
from indexes.store.records import VectorTable, titles
from indexes.store.writer import Writer
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.fill.vector_sources import VectorSource, chosen_vector_source, vector_sources


@dataclass(frozen=True)
class ConditionChange:
    """What happens to a condition.

    Attributes:
        name: the condition as the gallery names it.
        titles: its tables, for people.
        pictures: number of vectors in these tables.
        new_name: its new name; empty if it is removed.
        has_words: whether the gallery has a list of words of its own for it.
    """

    name: str
    titles: tuple[str, ...]
    pictures: int
    new_name: str = ""
    has_words: bool = False


def remove_condition(
    gallery: Gallery, writer: Writer | None, name: str, method: str | None = None
) -> ConditionChange:
    """Remove a condition with its vectors, of all methods and models that have it.

    The vectors stay on the disk for an hour, because a search may be reading them; until then an
    ingest of the same condition takes them up again.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery; ``None`` to change nothing.
        name: the condition as the user typed it.
        method: ``METHOD`` or ``METHOD:MODEL``, to remove the vectors of these only.

    Raises:
        UnknownCondition: if the gallery has no such condition.
        UsageError: if there is no such method, or other conditions are computed from this one.
    """
    tables = _tables(gallery, name, method)
    found = tables[0].name
    if gallery.geometry == RESIDUAL and same_name(found, UNCONDITIONAL):
        raise UsageError(
            f"'{found}' cannot be removed: this gallery is residual, and subtracts it from the "
            "vectors of all other conditions."
        )
    change = ConditionChange(
        found,
        _titles(gallery, tables),
        sum(len(gallery.stored_keys(table)) for table in tables),
        has_words=any(same_name(words, found) for words in gallery.words()),
    )
    if writer is not None:
        for table in tables:
            writer.remove_condition(table)
            shutil.rmtree(gallery.indexes / table.table, ignore_errors=True)
        writer.maintain(due_only=False)
    return change


def rename_condition(
    gallery: Gallery, writer: Writer | None, old: str, new: str, method: str | None = None
) -> ConditionChange:
    """Rename a condition and its list of words; no vector changes.

    The question that the model is asked about new pictures stays as it was.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery; ``None`` to change nothing.
        old: the condition as the user typed it.
        new: its new name.
        method: ``METHOD`` or ``METHOD:MODEL``, to rename it for these only.

    Raises:
        UnknownCondition: if the gallery has no such condition.
        UsageError: if the new name is taken, or cannot be one.
    """
    tables = _tables(gallery, old, method)
    found, name = tables[0].name, Condition.parse(new).name
    if any(same_name(one, UNCONDITIONAL) for one in (found, name)):
        raise UsageError(f"The name '{UNCONDITIONAL}' has a fixed meaning; it is not renamed.")
    for source in vector_sources(gallery):
        if any(table in source.tables for table in tables):
            taken = [t.name for t in source.tables if t not in tables and same_name(t.name, name)]
            if taken:
                raise UsageError(
                    f"The gallery at {gallery.path} has a condition '{taken[0]}' already; choose "
                    "another name, or remove that one first with `cies conditions remove`."
                )
    words = {} if method else {n: e for n, e in gallery.words().items() if same_name(n, found)}
    if not same_name(found, name) and any(same_name(other, name) for other in gallery.words()):
        words = {}
    pictures = sum(len(gallery.stored_keys(table)) for table in tables)
    change = ConditionChange(found, _titles(gallery, tables), pictures, name, bool(words))
    if writer is not None:
        words = {stored: entry for stored, entry in words.items() if stored != name}
        for entry in words.values():
            writer.put_words(name, entry)
        for table in tables:
            writer.rename_condition(table, name)
        for stored in words:
            writer.forget_words(stored)
    return change


def _tables(gallery: Gallery, name: str, method: str | None) -> list[VectorTable]:
    """The tables of a condition: those with exactly this name, else those in another spelling."""
    sources: list[VectorSource] = vector_sources(gallery)
    if method is not None:
        sources = [chosen_vector_source(gallery, method)]
    tables = [table for source in sources for table in source.tables]
    exact = [table for table in tables if table.name == name]
    found = exact or [table for table in tables if same_name(table.name, name)]
    if not found:
        existing = ", ".join(dict.fromkeys(table.name for table in tables)) or "none"
        raise UnknownCondition(
            f"The gallery at {gallery.path} has no condition {name!r} (it has: {existing}); name "
            "one of those."
        )
    return found


def _titles(gallery: Gallery, tables: list[VectorTable]) -> tuple[str, ...]:
    every = titles(gallery.conditions())
    return tuple(every[table.table] for table in tables)
