"""Stores embedded pictures in a gallery. Nothing else adds rows to the vector tables."""

from __future__ import annotations

from typing import Sequence

from indexes.errors import GalleryMismatch
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.store.writer import Writer
from ingest.fill.embedding import EmbeddedBatch, vector_column


def commit(
    writer: Writer, embedded: Sequence[EmbeddedBatch], files: Sequence[FileRecord] = ()
) -> None:
    """Store embedded pictures and file records; everything is on the disk on return.

    Vectors are stored first, then image records, then file records, so that an interrupted run
    never records a file whose vectors are missing. Repeating a commit changes nothing.

    Args:
        writer: the writer of the gallery, from ``gallery.writer()``; there is only one at a time.
        embedded: results of :func:`ingest.fill.embedding.embed`, from any process; a picture may
            occur more than once.
        files: records of files, ``done`` only if their pictures are in ``embedded`` or stored
            already.

    Raises:
        GalleryError: if the disk is full or the gallery cannot be written.
        GalleryMismatch: if a condition was not declared, or its vectors were made differently
            than declared.
    """
    tables: dict[str, VectorTable] = {}
    images: dict[str, ImageRecord] = {}
    for batch in embedded:
        tables.update({table.table: table for table in batch.tables})
        images.update({image.key: image for image in batch.images})
    undeclared = [table.name for table in tables.values() if table.table not in writer.declared()]
    if undeclared:
        raise GalleryMismatch(
            f"The gallery has no condition '{undeclared[0]}' that was made in this way; declare "
            "it first, or embed with the gallery's own encoder."
        )
    for table in tables.values():
        column = vector_column(embedded, table)
        if column.keys:
            writer.put_vectors(
                table,
                column.keys,
                column.vectors,
                column.words,
                column.word_probabilities,
                column.norms,
            )
    writer.put_images(list(images.values()))
    writer.put_files(list({record.path: record for record in files}.values()))
