"""Stores vectors that another program made: each picture is read for its key, none is embedded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice

import numpy as np

from indexes.errors import UsageError
from indexes.geometry import RESIDUAL
from indexes.store.attributes import user_columns
from indexes.store.gallery import Gallery
from indexes.store.records import FILES, LISTINGS, FileRecord, ImageRecord, VectorTable
from indexes.store.writer import Writer
from indexes.vectors import unit
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.encoders.methods.imported import imported_spec
from ingest.fill.pipeline import Progress
from ingest.read.readers import Readers, ReadResult
from ingest.scan.known_files import KnownFiles, KnownListings
from ingest.scan.metadata import ColumnUpdater, apply_column_changes, unify_column_types
from ingest.sources.base import SourceFile
from ingest.sources.vector_files import VectorRows

#: Rows of one commit.
_ROWS = 2048

#: Pictures are decoded only to learn their size and format.
_SIDE = 64


@dataclass
class ImportReport:
    """What an import did.

    Attributes:
        name: what made the vectors.
        condition: under which they are stored.
        dimension: their length.
        rows: how many the file has.
        stored: pictures with a vector of the file.
        repeated: rows of pictures that an earlier row had already.
        failed: rows whose picture could not be read, with reasons.
        notes: sentences for the user.
    """

    name: str
    condition: str
    dimension: int
    rows: int
    stored: int = 0
    repeated: int = 0
    failed: list[FileRecord] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def import_vectors(
    gallery: Gallery,
    source: VectorRows,
    name: str,
    condition: Condition,
    progress: Callable[[Progress], None] = lambda state: None,
) -> ImportReport:
    """Store the vectors of a file under a condition, as the method ``imported``.

    The file of each picture is read for its key, its size and its format. What is stored is on the
    disk; after an interruption the same call goes on, and reads no file again that has not changed.
    The first row of a picture counts. A vector that the gallery has of an earlier import by the
    same name is replaced.

    Args:
        gallery: the gallery.
        source: the vectors, already checked.
        name: what made the vectors, as the user calls it.
        condition: under which they are stored.
        progress: called after each commit.

    Raises:
        UsageError: if the name cannot be used, or the gallery has vectors of this name with
            another length.
        GalleryLocked: if another process is writing.
    """
    spec = imported_spec(name, source.dimension)
    table = _table(gallery, VectorTable(condition.name, source.dimension, spec.made_by(condition)))
    report = ImportReport(name, table.name, source.dimension, len(source))
    apply_column_changes([source], gallery.column_changes())
    unify_column_types([source], user_columns(gallery))
    with gallery.writer() as writer:
        writer.put_root(gallery.root)
        known_table = any(other == table for other in gallery.conditions())
        if not known_table:
            # Until all is stored, the table is partial: a killed run leaves nothing that seems
            # whole.
            writer.declare(replace(table, partial=True))
        run = _Import(gallery, writer, source, table, report)
        for done in run.rows():
            progress(Progress(done, len(source), report.stored, len(report.failed)))
        writer.put_statistics({table.table: gallery.computed_statistics(table)})
        if not known_table or any(t == table and t.partial for t in gallery.conditions()):
            writer.declare(table)
        note = writer.maintain(due_only=False)
        if note:
            report.notes.append(note)
    return report


def _table(gallery: Gallery, wanted: VectorTable) -> VectorTable:
    """The table that the vectors go to: one of the gallery, or the one given.

    Raises:
        UsageError: if the gallery has vectors of the same name and condition with another length,
            or compares vectors in a way that imported ones cannot be compared.
    """
    if gallery.geometry == RESIDUAL and not same_name(wanted.name, UNCONDITIONAL):
        raise UsageError(
            f"The gallery at {gallery.path} subtracts each picture's unconditional vector, which "
            "imported vectors need not have; import into another gallery with --gallery, or under "
            f"--condition {UNCONDITIONAL}."
        )
    for table in gallery.conditions():
        same = table.imported and table.made_by["model"] == wanted.made_by["model"]
        if not (same and same_name(table.name, wanted.name)):
            continue
        if table.dimension != wanted.dimension:
            raise UsageError(
                f"The gallery at {gallery.path} has vectors of {table.made_by['model']} with "
                f"{table.dimension} numbers under '{table.name}', and these have "
                f"{wanted.dimension}; give another --name."
            )
        return table
    return wanted


@dataclass(frozen=True)
class _Keyed:
    """A row with the key of its picture; empty if that could not be read.

    Attributes:
        file: the picture's file.
        key: its content key.
        result: the file as it was read; ``None`` if the gallery has it already.
    """

    file: SourceFile
    key: str
    result: ReadResult | None = None


class _Import:
    """The rows of one import on their way into a gallery."""

    def __init__(
        self,
        gallery: Gallery,
        writer: Writer,
        source: VectorRows,
        table: VectorTable,
        report: ImportReport,
    ):
        self._writer = writer
        self._source = source
        self._table = table
        self._report = report
        self._files = KnownFiles(gallery.read("files", FILES))
        self._images = gallery.image_keys()
        listings = KnownListings(gallery.read("listings", LISTINGS))
        self._columns = ColumnUpdater(listings, writer, False, {})
        self._stored: set[str] = set()

    def rows(self) -> Iterator[int]:
        """Store everything; yields the number of rows done after each commit."""
        done = 0
        batch: list[_Keyed] = []
        for row in self._keyed():
            batch.append(row)
            if len(batch) == _ROWS:
                done += self._store(batch)
                yield done
                batch = []
        done += self._store(batch)
        self._columns.flush()
        yield done

    def _keyed(self) -> Iterator[_Keyed]:
        """The rows with the keys of their pictures, in order; files that changed are read."""
        waiting: deque[tuple[SourceFile, str]] = deque()

        def unread() -> Iterator[SourceFile]:
            scan = self._source.scan()
            while files := list(islice(scan, _ROWS)):
                for file, key in zip(files, self._known_keys(files), strict=True):
                    waiting.append((file, key))
                    if not key:
                        yield file

        readers: Readers[SourceFile] = Readers(lambda key: key not in self._images, _SIDE)
        with closing(readers.read_all(unread())) as results:
            for result in results:
                while waiting[0][1]:
                    yield _Keyed(*waiting.popleft())
                file, _ = waiting.popleft()
                key = result.record.key if result.record.status == "done" else ""
                yield _Keyed(file, key, result)
        while waiting:
            yield _Keyed(*waiting.popleft())

    def _store(self, batch: Sequence[_Keyed]) -> int:
        """Store some rows in one commit of each table; returns how many they are.

        Vectors come first and the records of files last, as in an ingest.
        """
        images: dict[str, ImageRecord] = {}
        records: dict[str, FileRecord] = {}
        rows: dict[str, int] = {}
        for row in batch:
            if row.result is not None:
                self._add(row.result, images, records)
            if row.key in self._stored:
                self._report.repeated += 1
            elif row.key:
                self._stored.add(row.key)
                rows[row.key] = row.file.position
        if rows:
            self._put(rows)
        self._writer.put_images(list(images.values()))
        self._writer.put_files(list(records.values()))
        self._images.update(images)
        named = [row.file for row in batch if row.key] if self._source.columns else []
        self._columns.update(self._source, named, [False] * len(named))
        return len(batch)

    def _known_keys(self, files: Sequence[SourceFile]) -> list[str]:
        """The key of each file that the gallery has and that has not changed; else empty."""
        found = self._files.rows([file.path for file in files])
        keys = [""] * len(files)
        same = [
            number
            for number, (file, row) in enumerate(zip(files, found, strict=True))
            if row >= 0
            and not file.status
            and file.mtime_ns
            and self._files.done[row]
            and (self._files.sizes[row], self._files.mtimes[row]) == (file.size, file.mtime_ns)
        ]
        for number, key in zip(same, self._files.keys(found[same]), strict=True):
            if key in self._images:
                keys[number] = key
        return keys

    def _add(
        self, result: ReadResult, images: dict[str, ImageRecord], records: dict[str, FileRecord]
    ) -> None:
        """Add a file that was read to the records to store."""
        record, picture = result.record, result.picture
        records[record.path] = record
        if record.status != "done":
            self._report.failed.append(record)
        elif picture is not None:
            images[record.key] = ImageRecord(
                record.key, *picture.size, picture.format, picture.taken_at, picture.orientation
            )

    def _put(self, rows: dict[str, int]) -> None:
        """Store the vectors of some rows by key."""
        numbers = list(rows.values())
        words = self._source.words
        self._writer.put_vectors(
            self._table,
            list(rows),
            unit(self._source.vectors(numbers)),
            [""] * len(numbers) if words is None else [words[number] for number in numbers],
            self._source.word_probabilities[np.array(numbers)],
        )
        self._report.stored += len(numbers)
