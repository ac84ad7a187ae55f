"""Maintenance of a gallery from Python: what ``cies prune``, ``remove`` and others do.

Each function holds the writer's lock while it changes the gallery. What it has changed is on the
disk when it returns; if it is interrupted, the same call continues it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from indexes.errors import UsageError
from indexes.store.gallery import Gallery

if TYPE_CHECKING:
    from indexes.merge import Merge
    from indexes.relocate import Relocation
    from ingest.fill.column_changes import UserColumn
    from ingest.fill.condition_changes import ConditionChange
    from ingest.fill.prune import Matching, Removal


def remove(
    gallery: Gallery,
    names: str | Path | Iterable[str | Path] = (),
    where: str | None = None,
    dry_run: bool = False,
) -> Removal:
    """Remove files from a gallery, and pictures that have no other file, with their vectors.

    The picture files themselves are not touched. The next ingest adds a picture again if its file
    is still in one of the sources.

    Args:
        gallery: the gallery.
        names: keys of pictures, paths of files, or folders, tables and shards for all files in
            them; one or several.
        where: a filter, as of a search without the model's words; with names, only files that
            match both are removed.
        dry_run: change nothing.

    Returns:
        What was removed, or would be.

    Raises:
        UsageError: if nothing is named, a name is not known, or the filter is wrong.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.prune import delete_gone
    from ingest.fill.remove import find_chosen

    listed = [names] if isinstance(names, (str, Path)) else list(names)
    texts, matching = [str(name) for name in listed], _matching(where)
    if dry_run:
        return find_chosen(gallery, texts, matching)
    with gallery.writer() as writer:
        removal = find_chosen(gallery, texts, matching)
        if removal.paths or removal.keys:
            delete_gone(gallery, writer, removal)
    return removal


def prune(
    gallery: Gallery,
    source: str | Path | None = None,
    where: str | None = None,
    dry_run: bool = False,
    yes: bool = False,
) -> Removal:
    """Forget files that are gone, and pictures that have no other file, with their vectors.

    Also gives back the disk space of what was removed more than an hour ago.

    Args:
        gallery: the gallery.
        source: a folder, table or shard whose missing files count as gone although no ingest has
            marked them.
        where: a filter; only gone files that match it are forgotten. It may use ``gone_at``.
        dry_run: change nothing.
        yes: allow that more than a tenth of the pictures is lost.

    Returns:
        What was forgotten, or would be.

    Raises:
        UsageError: if more than a tenth of the pictures would be lost and ``yes`` is not given, or
            the gallery has no file from ``source``, or the filter is wrong.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.prune import LARGEST_SHARE, delete_gone, find_gone

    name, matching = None if source is None else str(source), _matching(where)
    if dry_run:
        return find_gone(gallery, name, matching)
    with gallery.writer() as writer:
        removal = find_gone(gallery, name, matching)
        if removal.share > LARGEST_SHARE and not yes:
            raise UsageError(
                f"{len(removal.keys)} of {removal.pictures} pictures would be lost, which is "
                f"{removal.share:.0%} of the gallery at {gallery.path}; if you mean it, and no "
                "drive is unplugged, add --yes."
            )
        delete_gone(gallery, writer, removal)
    return removal


def remove_condition(
    gallery: Gallery, name: str, method: str | None = None, dry_run: bool = False
) -> ConditionChange:
    """Remove a condition with its vectors; see
    :func:`ingest.fill.condition_changes.remove_condition`.

    Raises:
        UnknownCondition: if the gallery has no such condition.
        UsageError: if there is no such method, or other conditions are computed from this one.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.condition_changes import remove_condition as change

    if dry_run:
        return change(gallery, None, name, method)
    with gallery.writer() as writer:
        return change(gallery, writer, name, method)


def rename_condition(
    gallery: Gallery, old: str, new: str, method: str | None = None, dry_run: bool = False
) -> ConditionChange:
    """Rename a condition; see :func:`ingest.fill.condition_changes.rename_condition`.

    Raises:
        UnknownCondition: if the gallery has no such condition.
        UsageError: if the new name is taken, or cannot be one.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.condition_changes import rename_condition as change

    if dry_run:
        return change(gallery, None, old, new, method)
    with gallery.writer() as writer:
        return change(gallery, writer, old, new, method)


def columns(gallery: Gallery) -> list[UserColumn]:
    """The user's columns with their types, in the order in which they were added."""
    from ingest.fill.column_changes import list_columns

    return list_columns(gallery)


def remove_columns(
    gallery: Gallery, names: str | Iterable[str], dry_run: bool = False
) -> list[str]:
    """Remove columns of the user; see :func:`ingest.fill.column_changes.remove_columns`.

    Raises:
        UsageError: if there is no such column.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.column_changes import remove_columns as change

    listed = [names] if isinstance(names, str) else list(names)
    if dry_run:
        return change(gallery, None, listed)
    with gallery.writer() as writer:
        return change(gallery, writer, listed)


def rename_column(gallery: Gallery, old: str, new: str, dry_run: bool = False) -> tuple[str, str]:
    """Rename a column of the user; see :func:`ingest.fill.column_changes.rename_column`.

    Raises:
        UsageError: if there is no such column, or the new name is taken.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.column_changes import rename_column as change

    if dry_run:
        return change(gallery, None, old, new)
    with gallery.writer() as writer:
        return change(gallery, writer, old, new)


def relocate(
    gallery: Gallery, old: str | Path, new: str | Path, dry_run: bool = False
) -> Relocation:
    """Change the paths of files that were moved as a tree, without reading them.

    Args:
        gallery: the gallery.
        old: the folder before, as paths of hits begin.
        new: the folder now.
        dry_run: change nothing.

    Raises:
        UsageError: if the gallery has nothing below ``old``, or ``new`` has none of its files.
        GalleryLocked: if another process is writing.
    """
    from indexes import relocate as module

    if dry_run:
        return module.find_relocation(gallery, str(old), str(new))
    with gallery.writer() as writer:
        found = module.find_relocation(gallery, str(old), str(new))
        module.relocate(gallery, writer, found)
    return found


def merge(gallery: Gallery, other: Gallery | str | Path, dry_run: bool = False) -> Merge:
    """Add what another gallery has to this one, without reading or embedding a picture.

    Conditions are taken whose vectors were made by an encoder that this gallery has, with the same
    settings; into an empty gallery all are. Where both have something different, this gallery's
    own is kept, and the result says so. A merge that was interrupted is continued by the same
    call.

    Args:
        gallery: the gallery that gets everything.
        other: the gallery that is read; it is not changed.
        dry_run: change nothing.

    Raises:
        UsageError: if both are the same gallery, or a column has other values in each.
        GalleryMismatch: if no vectors of one can be compared with those of the other.
        GalleryError: if the other gallery is damaged.
        GalleryLocked: if another process is writing.
    """
    from indexes import merge as module

    source = other if isinstance(other, Gallery) else Gallery.open(other)
    if dry_run:
        return module.find_merge(gallery, source)
    with gallery.writer() as writer:
        return module.merge(gallery, writer, source)


def _matching(where: str | None) -> Matching | None:
    if where is None:
        return None
    from query.filters.where import matching

    return lambda rows: matching(rows, where)
