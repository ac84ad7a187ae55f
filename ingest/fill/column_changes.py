"""Lists, removes and renames the user's columns of a gallery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from indexes.errors import UsageError
from indexes.store.attributes import TYPES, column_name, user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import LISTINGS
from indexes.store.writer import Writer
from ingest.sources.values import without_type


@dataclass(frozen=True)
class UserColumn:
    """One column of the user's tables.

    Attributes:
        name: its name in filters.
        type: one of :data:`indexes.store.attributes.TYPES`.
        values: number of files that have a value.
    """

    name: str
    type: str
    values: int


def list_columns(gallery: Gallery) -> list[UserColumn]:
    """The user's columns, in the order in which they were added."""
    rows = gallery.read("listings", LISTINGS)
    type_names = {kind: name for name, kind in TYPES.items()}
    return [
        UserColumn(
            field.name,
            type_names.get(field.type, str(field.type)),
            rows.num_rows - rows.column(field.name).null_count,
        )
        for field in rows.schema
        if field.name in user_columns(gallery)
    ]


def remove_columns(gallery: Gallery, writer: Writer | None, names: Sequence[str]) -> list[str]:
    """Remove columns with their values. Later ingests leave them out, until ``--columns`` names
    them again.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery; ``None`` to change nothing.
        names: the columns, as in the gallery or as the user's table writes them.

    Returns:
        The names in the gallery.

    Raises:
        UsageError: if there is no such column.
    """
    found = list(dict.fromkeys(_existing(gallery, name) for name in names))
    if writer is not None and found:
        changes = gallery.column_changes()
        removing = {*found, *(old for old, new in changes.items() if new in found)}
        # A column that was renamed is removed under the name that its table gives it.
        kept = {old: new for old, new in changes.items() if new not in found}
        removed = {old: None for old, new in changes.items() if new in found}
        others = {name: None for name in found if name not in changes.values()}
        writer.put_column_changes(kept | removed | others)
        for source, entry in gallery.sources().items():
            # What `cies ingest` without arguments takes from a table.
            asked = entry.get("columns")
            if asked is not None:
                left = [text for text in asked if column_name(without_type(text)) not in removing]
                if left != asked:
                    had = gallery.source_columns().get(source, ())
                    writer.put_source(source, {**entry, "columns": left}, had)
        writer.change_columns(dict.fromkeys(found))
        writer.maintain(due_only=False)
    return found


def rename_column(gallery: Gallery, writer: Writer | None, old: str, new: str) -> tuple[str, str]:
    """Rename a column. Later ingests store the same column of a table under its new name.

    Args:
        gallery: the gallery.
        writer: the writer of the same gallery; ``None`` to change nothing.
        old: the column, as in the gallery or as the user's table writes it.
        new: the new name; it is simplified as the names of a table's columns are.

    Returns:
        The old and the new name in the gallery.

    Raises:
        UsageError: if there is no such column, or the new name is taken.
    """
    found, name = _existing(gallery, old), column_name(new)
    if name == found:
        return found, name
    if name in user_columns(gallery):
        raise UsageError(
            f"The gallery at {gallery.path} has a column '{name}' already; choose another name, or "
            "remove that one first with `cies columns remove`."
        )
    if writer is not None:
        changes = gallery.column_changes()
        renamed = [given for given, stored in changes.items() if stored == found] or [found]
        changes |= dict.fromkeys(renamed, name)
        # The mapping is stored first: after a crash, the same command continues.
        writer.put_column_changes({k: v for k, v in changes.items() if k != v})
        writer.change_columns({found: name})
    return found, name


def _existing(gallery: Gallery, name: str) -> str:
    """A column's name in the gallery.

    Raises:
        UsageError: if there is none.
    """
    columns = user_columns(gallery)
    for candidate in (name, column_name(name)):
        if candidate in columns:
            return candidate
    near = get_close_matches(column_name(name), columns, 1)
    meant = f" Did you mean '{near[0]}'?" if near else ""
    raise UsageError(
        f"The gallery at {gallery.path} has no column {name!r} of yours (it has: "
        f"{', '.join(columns) or 'none'}); name one of those.{meant}"
    )
