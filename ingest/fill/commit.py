"""The one way rows get into a gallery."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from indexes.errors import GalleryMismatch
from indexes.store.records import FileRecord, ImageRecord, VectorTable
from indexes.store.writer import Writer
from ingest.fill.embedding import Embedded


def commit(writer: Writer, embedded: Sequence[Embedded], files: Sequence[FileRecord] = ()) -> None:
    """Store embedded pictures and what became of files; all of it is on the disk on return.

    Vectors are stored first, then what is known of the pictures, then the files, so that a run
    that dies in between never claims a picture whose vectors are not there. Doing it again
    changes nothing.

    Args:
        writer: of the gallery, from ``gallery.writer()``; there is only one at a time.
        embedded: from :func:`ingest.fill.embedding.embed`, wherever that ran; a picture may come more
            than once.
        files: records of files, ``done`` only if their pictures are among those or stored before.

    Raises:
        GalleryError: if the disk is full or the gallery cannot be written.
        GalleryMismatch: if a condition was not declared, or was made otherwise than declared.
    """
    tables: dict[str, VectorTable] = {}
    for part in embedded:
        tables.update({table.table: table for table in part.tables})
    undeclared = [table.name for table in tables.values() if table.table not in writer.declared()]
    if undeclared:
        raise GalleryMismatch(
            f"The gallery has no condition '{undeclared[0]}' that was made in this way; declare "
            "it first, or embed with the gallery's own encoder."
        )
    for table in tables.values():
        _put_vectors(writer, table, embedded)
    images: dict[str, ImageRecord] = {}
    for part in embedded:
        images.update({image.key: image for image in part.images})
    writer.put_images(list(images.values()))
    writer.put_files(list({record.path: record for record in files}.values()))


def _put_vectors(writer: Writer, table: VectorTable, embedded: Sequence[Embedded]) -> None:
    keys: list[str] = []
    words: list[str] = []
    vectors, chances = [], []
    seen: set[str] = set()
    for part in embedded:
        if part.reading is None or table not in part.tables:
            continue
        column = part.tables.index(table)
        for row, key in enumerate(part.keys):
            if key in seen:
                continue
            seen.add(key)
            keys.append(key)
            vectors.append(part.reading.vectors[row, column])
            words.append(part.reading.words[row][column])
            chances.append(part.reading.word_probabilities[row, column])
    if keys:
        sure = np.array(chances, dtype=np.float32)
        writer.put_vectors(table, keys, np.stack(vectors), words, sure)
