"""Adds what one gallery has to another; no picture is read or embedded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexes.errors import GalleryError, GalleryMismatch, UsageError
from indexes.store.attributes import TYPES, user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import (
    FILES,
    IMAGES,
    LISTINGS,
    ROOT_OPTION,
    VectorTable,
    completed,
    file_records,
    is_address,
    titles,
    vector_schema,
    with_changed_columns,
)
from indexes.store.writer import Writer
from indexes.vectors import checksums, vector_checksums

#: Rows in one commit.
_ROWS = 20_000

#: Number types, from the narrowest on: a value of one is one of the next.
_NUMBERS = (TYPES["int"], TYPES["float"])


@dataclass(frozen=True)
class Merge:
    """What a merge adds to a gallery, or would add.

    Attributes:
        conditions: conditions whose vectors are added: title to the number of pictures.
        new_conditions: of these, those that the gallery did not have.
        left_out: conditions that the gallery cannot take, title to the reason.
        files: number of files that are added.
        pictures: number of pictures that the gallery did not have.
        columns: user's columns that are added.
        sources: sources that are added.
        collections: collections that get pictures.
        conflicts: what both galleries have with other content, a sentence each; the gallery's own
            is kept.
    """

    conditions: dict[str, int] = field(default_factory=dict)
    new_conditions: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    files: int = 0
    pictures: int = 0
    columns: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    collections: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Plan:
    """A merge with what it needs."""

    merge: Merge
    tables: list[VectorTable]
    files: pa.Table
    listings: pa.Table
    sources: Mapping[str, tuple[Mapping[str, Any], list[str]]]
    words: Mapping[str, Mapping[str, Any]]


def find_merge(gallery: Gallery, other: Gallery) -> Merge:
    """Find what a merge would add; nothing is changed.

    Raises:
        UsageError: if both are the same gallery, or a column has other values in each.
        GalleryMismatch: if no vectors of one can be compared with those of the other.
    """
    return _plan(gallery, other).merge


def merge(gallery: Gallery, writer: Writer, other: Gallery) -> Merge:
    """Add the files, pictures, vectors and columns of another gallery; all is on disk on return.

    Vectors are written first and files last, as by an ingest, and what is there is not written
    again: a merge that was interrupted is continued by the same call.

    Args:
        gallery: the gallery that gets everything.
        writer: the writer of it.
        other: the gallery that is read; it is not changed.

    Raises:
        UsageError: if both are the same gallery, or a column has other values in each.
        GalleryMismatch: if no vectors of one can be compared with those of the other.
        GalleryError: if the other gallery is damaged.
    """
    plan = _plan(gallery, other)
    own = {table.table for table in gallery.conditions()}
    for table in plan.tables:
        if table.table not in own:
            writer.declare(table)
        _copy_vectors(gallery, writer, other, table)
    images = other.read("images", IMAGES)
    known = pa.array(sorted(gallery.image_keys()), pa.string())
    new = images.filter(pc.invert(pc.is_in(images.column("key"), known)))
    for part in _parts(new.select(IMAGES.names)):
        writer.put_image_rows(part)
    for part in _parts(plan.listings):
        writer.put_listings(part)
    for part in _parts(plan.files):
        writer.put_files(file_records(part))
    for condition, entry in plan.words.items():
        writer.put_words(condition, entry)
    own_collections, theirs = gallery.collections(), other.collections()
    for name in plan.merge.collections:
        writer.put_collection(
            name, list(dict.fromkeys([*own_collections.get(name, ()), *theirs[name]]))
        )
    for source, (entry, columns) in plan.sources.items():
        writer.put_source(source, entry, columns)
    writer.put_statistics(gallery.outdated_statistics())
    writer.maintain(due_only=False)
    return plan.merge


def _parts(rows: pa.Table) -> Iterator[pa.Table]:
    for start in range(0, rows.num_rows, _ROWS):
        yield rows.slice(start, _ROWS)


# -- what is added -----------------------------------------------------------------------------


def _plan(gallery: Gallery, other: Gallery) -> _Plan:
    if gallery.path.resolve() == other.path.resolve():
        raise UsageError(f"{other.path} is the gallery itself; name another one to take from.")
    result = Merge()
    if gallery.geometry != other.geometry:
        result.conflicts.append(
            f"vectors are compared {gallery.geometry} here and {other.geometry} there; that here "
            "is kept"
        )
    tables = _matching_tables(gallery, other, result)
    own_keys = gallery.read_keys()
    keys: set[str] = set()
    every = titles(tables)
    own = {table.table: table for table in gallery.conditions()}
    for table in tables:
        theirs = other.keys(table)
        keys |= theirs
        added = theirs - (gallery.keys(table) if table.table in own else set())
        if added:
            result.conditions[every[table.table]] = len(added)
        if table.table not in own:
            result.new_conditions.append(every[table.table])
    files = _new_files(gallery, other, keys | own_keys, result)
    listings = _new_listings(gallery, other, result)
    collections = gallery.collections()
    for name, members in other.collections().items():
        if not set(members) <= set(collections.get(name, ())) or name not in collections:
            result.collections.append(name)
    added_keys = {key for key in files.column("key").to_pylist() if key}
    return _Plan(
        replace(result, files=files.num_rows, pictures=len(added_keys - own_keys)),
        tables,
        files,
        listings,
        _new_sources(gallery, other, result),
        _new_words(gallery, other, result),
    )


def _matching_tables(gallery: Gallery, other: Gallery, result: Merge) -> list[VectorTable]:
    """The other gallery's tables whose vectors can be compared with those of this one.

    Raises:
        GalleryMismatch: if there are tables on both sides and none can.
    """
    own, theirs = gallery.conditions(), other.conditions()
    encoders = [_encoder(table) for table in own]
    named = titles(theirs)
    found = []
    for table in theirs:
        same = next((t for t in own if t.table == table.table), None)
        if same is not None:
            found.append(same)
            if same.name != table.name:
                result.conflicts.append(
                    f"condition '{table.name}' is called '{same.name}' here; that name is kept"
                )
            continue
        title = named[table.table]
        if own and _encoder(table) not in encoders:
            result.left_out[title] = (
                f"made by {table.made_by.get('method')} of {table.made_by.get('model')} with "
                "settings that this gallery has no vectors of"
            )
        elif any(t.name == table.name and _encoder(t) == _encoder(table) for t in own):
            result.left_out[title] = "this gallery has another condition of that name"
        else:
            found.append(table)
    if own and theirs and not found:
        reasons = "; ".join(f"{title}: {why}" for title, why in result.left_out.items())
        raise GalleryMismatch(
            f"The gallery at {other.path} has no vectors that can be compared with those of "
            f"{gallery.path} ({reasons}); ingest its pictures here instead."
        )
    return found


def _encoder(table: VectorTable) -> dict[str, Any]:
    """What made a table, without the condition."""
    return {name: value for name, value in table.made_by.items() if name != "phrase"}


def _new_files(gallery: Gallery, other: Gallery, keys: set[str], result: Merge) -> pa.Table:
    """The other gallery's files that this one does not have, with paths as it stores them.

    Args:
        gallery: the gallery that gets them.
        other: the other gallery.
        keys: pictures that the gallery will have vectors of.
        result: gets the conflicts.
    """
    own, theirs = gallery.read("files", FILES), other.read("files", FILES).select(FILES.names)
    theirs = _with_paths(gallery, other, theirs, ("path",))
    records = dict(
        zip(
            own.column("path").to_pylist(),
            zip(own.column("key").to_pylist(), own.column("status").to_pylist(), strict=True),
            strict=True,
        )
    )
    chosen = []
    differing: list[str] = []
    columns = (theirs.column(name).to_pylist() for name in ("path", "key", "status"))
    for path, key, status in zip(*columns, strict=True):
        if status in ("done", "gone") and key and key not in keys:
            # Its vectors cannot be taken.
            chosen.append(False)
            continue
        known = records.get(path)
        if known is not None and known[0] != key and "done" in (known[1], status):
            differing.append(path)
        chosen.append(known is None or (known[1] != "done" and status == "done"))
    if differing:
        result.conflicts.append(
            f"{len(differing)} files have other content in each gallery, such as {differing[0]!r}; "
            "the record here is kept, and the next ingest compares it with the file"
        )
    return theirs.filter(pa.array(chosen, pa.bool_()))


def _with_paths(
    gallery: Gallery, other: Gallery, rows: pa.Table, names: tuple[str, ...]
) -> pa.Table:
    """Rows of the other gallery with paths as this one stores them."""
    if gallery.root == other.root:
        return rows
    for name in names:
        paths = [_path_here(gallery, other, path) for path in rows.column(name).to_pylist()]
        position = rows.schema.get_field_index(name)
        rows = rows.set_column(position, name, pa.array(paths, pa.string()))
    return rows


def _path_here(gallery: Gallery, other: Gallery, path: str) -> str:
    return path if is_address(path) else gallery.stored(other.absolute(path))


def _new_listings(gallery: Gallery, other: Gallery, result: Merge) -> pa.Table:
    """Rows of the user's tables that this gallery does not have, and those it completes.

    Raises:
        UsageError: if a column has a type in each that cannot hold the other's values.
    """
    theirs = _with_paths(gallery, other, other.read("listings", LISTINGS), ("path", "source"))
    if not theirs.num_rows:
        return theirs
    here, there = user_columns(gallery), user_columns(other)
    changes = {old: new for old, new in gallery.column_changes().items() if old in there}
    for old, new in changes.items():
        if new is None:
            result.conflicts.append(f"column '{old}' was removed here and is left out")
        elif new in there:
            raise UsageError(
                f"Column '{old}' is called '{new}' in {gallery.path}, and {other.path} has a "
                "column of that name too; rename one with `cies columns rename`."
            )
    theirs = with_changed_columns(theirs, changes)
    for name in [name for name in there if name not in changes] + list(
        filter(None, changes.values())
    ):
        kind = theirs.schema.field(name).type
        if name not in here:
            result.columns.append(name)
        elif kind != here[name]:
            if (kind, here[name]) != _NUMBERS:
                raise UsageError(
                    f"Column '{name}' holds {_type(here[name])} values in {gallery.path} and "
                    f"{_type(kind)} values in {other.path}; rename it in one of them with `cies "
                    f"columns rename {name} NAME`."
                )
            position = theirs.schema.get_field_index(name)
            theirs = theirs.set_column(position, name, theirs.column(name).cast(here[name]))
    mine = gallery.read("listings", LISTINGS)
    paths = mine.column("path").combine_chunks()
    is_known = pc.is_in(theirs.column("path"), paths)
    completed_rows = _completed_rows(mine, theirs.filter(is_known), result)
    fields = {field.name: field for field in [*mine.schema, *theirs.schema]}
    schema = pa.schema(list(fields.values()))
    new = completed(theirs.filter(pc.invert(is_known)), schema)
    return pa.concat_tables([new, pa.Table.from_pylist(completed_rows, schema=schema)])


def _completed_rows(mine: pa.Table, theirs: pa.Table, result: Merge) -> list[dict[str, Any]]:
    """Rows of this gallery that get values they lack; of files that both list."""
    both = theirs.column("path").combine_chunks()
    known = {
        row["path"]: row for row in mine.filter(pc.is_in(mine.column("path"), both)).to_pylist()
    }
    rows, differing = [], []
    for row in theirs.to_pylist():
        own = known[row["path"]]
        fresh = {k: v for k, v in row.items() if v is not None and own.get(k) is None}
        if any(v is not None and own.get(k) not in (None, v) for k, v in row.items()):
            differing.append(row["path"])
        if fresh:
            rows.append({**own, **fresh})
    if differing:
        result.conflicts.append(
            f"{len(differing)} files have other values in the columns of each gallery, such as "
            f"{differing[0]!r}; the values here are kept"
        )
    return rows


def _type(kind: pa.DataType) -> str:
    return next((name for name, other in TYPES.items() if other == kind), str(kind))


def _new_sources(
    gallery: Gallery, other: Gallery, result: Merge
) -> dict[str, tuple[Mapping[str, Any], list[str]]]:
    """The other gallery's sources that this one does not have, with options and columns."""
    own, columns = gallery.sources(), other.source_columns()
    changes = gallery.column_changes()
    found: dict[str, tuple[Mapping[str, Any], list[str]]] = {}
    for name, entry in other.sources().items():
        here = _path_here(gallery, other, name)
        root = entry.get(ROOT_OPTION)
        if isinstance(root, str):
            entry = {**entry, ROOT_OPTION: _path_here(gallery, other, root)}
        if here not in own:
            stored = [changes.get(column, column) for column in columns.get(name, ())]
            found[here] = entry, [column for column in stored if column is not None]
            result.sources.append(here)
        elif own[here] != entry:
            result.conflicts.append(
                f"source {here} is read with other options in each gallery; those here are kept"
            )
    return found


def _new_words(gallery: Gallery, other: Gallery, result: Merge) -> dict[str, Mapping[str, Any]]:
    own = gallery.words()
    for name, entry in other.words().items():
        if name in own and own[name] != entry:
            result.conflicts.append(f"the list of words of '{name}' differs; the list here is kept")
    return {name: entry for name, entry in other.words().items() if name not in own}


# -- vectors -----------------------------------------------------------------------------------


def _copy_vectors(gallery: Gallery, writer: Writer, other: Gallery, table: VectorTable) -> None:
    """Copy the vectors that this gallery lacks, as they are stored.

    Raises:
        GalleryError: if a vector or a word is not as it was written.
    """
    known = pa.array(sorted(gallery.keys(table)), pa.string())
    pending: list[pa.RecordBatch] = []

    def write() -> None:
        writer.put_vector_rows(table, pa.Table.from_batches(pending))
        pending.clear()
        writer.maintain()

    columns = vector_schema(table.dimension).names
    for batch in other.rows(table, columns):
        new = batch.filter(pc.invert(pc.is_in(batch.column("key"), known)))
        if not new.num_rows:
            continue
        if not _intact(new, table.dimension):
            raise GalleryError(
                f"Vectors of condition '{table.name}' in {other.path} are damaged; run `cies "
                f"repair -g {other.path}`, and then this again to continue."
            )
        pending.append(new)
        if sum(part.num_rows for part in pending) >= _ROWS:
            write()
    if pending:
        write()


def _intact(rows: pa.RecordBatch, dimension: int) -> bool:
    """Whether every row has the checksum with which it was written."""
    flat = np.asarray(rows.column("vector").flatten().to_numpy(zero_copy_only=False), np.float16)
    if len(flat) != rows.num_rows * dimension:
        return False
    half = flat.reshape(rows.num_rows, dimension)
    keys = [key or "" for key in rows.column("key").to_pylist()]
    words = [word or "" for word in rows.column("word").to_pylist()]
    probabilities = rows.column("word_probability").to_numpy(zero_copy_only=False)
    stored = rows.column("checksum").to_numpy(zero_copy_only=False)
    # The first galleries have checksums of the vectors alone.
    found = (stored == checksums(half, keys, words, probabilities.astype(np.float32))) | (
        stored == vector_checksums(half)
    )
    return bool(found.all() and np.isfinite(half.astype(np.float32)).all())
