"""Finds files that were moved: their pictures are at new paths, and nothing is at the old ones."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from indexes.store.gallery import Gallery
from indexes.store.records import FILES, FileRecord, file_records, is_address
from ingest.sources.folders import is_absent


def moved_files(
    gallery: Gallery, seen: Callable[[Sequence[str]], Sequence[bool]]
) -> list[FileRecord]:
    """New records, with status ``gone``, of the files that were moved out of other sources.

    A file is moved if this run has seen a file with the same content elsewhere, has not looked for
    this one, and nothing is at its path now. That its drive may only be unplugged does no harm:
    when the file is seen again, it costs nothing.

    Args:
        gallery: the gallery, after the files of the run were recorded.
        seen: whether the run has seen files, by their stored paths.
    """
    files = gallery.read("files", FILES)
    done = files.filter(
        pc.and_(pc.equal(files.column("status"), "done"), pc.not_equal(files.column("key"), ""))
    )
    counts = pc.value_counts(done.column("key"))
    repeated = counts.field("values").filter(pc.greater(counts.field("counts"), 1))
    copies = done.filter(pc.is_in(done.column("key"), repeated)).combine_chunks()
    paths, keys = copies.column("path").to_pylist(), copies.column("key").to_pylist()
    new_path: dict[str, str] = {}
    rest: list[int] = []
    for row, (path, key, found) in enumerate(zip(paths, keys, seen(paths), strict=True)):
        if found:
            new_path[key] = min(path, new_path.get(key, path))
        else:
            rest.append(row)
    moved = [
        row
        for row in rest
        if keys[row] in new_path
        and not is_address(paths[row])
        and is_absent(paths[row], gallery.root)
    ]
    now = int(time.time())
    return [
        replace(
            record,
            status="gone",
            reason=f"moved: the same picture is at {new_path[record.key]}",
            gone_at=now,
        )
        for record in file_records(copies.take(pa.array(np.array(moved, dtype=np.int64))))
    ]
