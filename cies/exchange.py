"""Vectors of other programs: ``cies.import_vectors``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cies.gallery_search import SearchableGallery
from indexes.store.gallery import Gallery
from ingest.conditions import UNCONDITIONAL, Condition

if TYPE_CHECKING:
    from ingest.fill.imported_vectors import ImportReport
    from ingest.fill.pipeline import Progress
    from ingest.sources.base import SourceOptions


def import_vectors(
    gallery: Gallery | SearchableGallery | str | Path,
    source: str | Path,
    condition: str | Condition = UNCONDITIONAL,
    name: str | None = None,
    *,
    paths: str | Path | None = None,
    table: str | None = None,
    vector_column: str | None = None,
    word_column: str | None = None,
    image_column: str | None = None,
    root: str | Path | None = None,
    geometry: str | None = None,
    source_options: SourceOptions | None = None,
    progress: Callable[[Progress], None] = lambda state: None,
) -> ImportReport:
    """Store vectors that another program made, as the method ``imported``.

    They are searched, grouped and measured as those of any method. There is no model, so that only
    pictures of the gallery can be queries.

    Args:
        gallery: the gallery's folder, created if there is none, or the gallery itself.
        source: a ``.npy`` file with ``paths``, a Parquet or Arrow file, a folder that
            ``clip-retrieval inference`` wrote, or a LanceDB table or database.
        condition: under which they are stored.
        name: what made the vectors; the name of the file or folder by default.
        paths: for a ``.npy`` file, the file that names the picture of each row: one path a line, or
            a table.
        table: the table of a LanceDB database; needed if it has several.
        vector_column: the column of a table with the vectors; guessed if only one can be meant.
        word_column: the column with a word for each picture, for facets and groups; ``word`` if
            there is one.
        image_column: the column of a table that names or contains the picture.
        root: the folder that relative paths start from; that of the file by default.
        geometry: how a new gallery compares vectors: ``raw`` by default, which is the cosine of
            the vectors as they are.
        source_options: further options for reading the rows, such as the columns to store.
        progress: called after each commit.

    Returns:
        What was stored, and which pictures could not be read.

    Raises:
        UsageError: if a file is missing, damaged or holds something else, before anything is
            stored.
        GalleryLocked: if another process is writing.
    """
    from ingest.fill.imported_vectors import import_vectors as store
    from ingest.sources.base import SourceOptions
    from ingest.sources.vector_files import VectorOptions, open_vectors

    opened = gallery if isinstance(gallery, SearchableGallery) else None
    place = gallery.gallery if isinstance(gallery, SearchableGallery) else gallery
    options = source_options or SourceOptions()
    if image_column is not None:
        options = replace(options, image_column=image_column)
    if root is not None:
        options = replace(options, root=str(root))
    wanted = condition if isinstance(condition, Condition) else Condition.parse(condition)
    vectors = VectorOptions(
        None if paths is None else str(paths), table, vector_column, word_column
    )
    # What is wrong with the file is said before a gallery is made.
    base = place.root if isinstance(place, Gallery) else Path(place).absolute().parent
    rows = open_vectors(str(source), base, options, vectors)
    if isinstance(place, (str, Path)):
        place = _created(Path(place), geometry)
    report = store(place, rows, name or table or _name_of(source), wanted, progress)
    if opened is not None:
        opened.refresh()
    return report


def _created(path: Path, geometry: str | None) -> Gallery:
    """The gallery at a path; a new one compares vectors as they are."""
    from indexes.errors import GalleryMissing

    try:
        Gallery.open(path)
    except GalleryMissing:
        return Gallery.create(path, geometry or "raw")
    return Gallery.create(path, geometry)


def _name_of(source: str | Path) -> str:
    """A name for vectors, from that of their file: without characters that no name may have."""
    stem = Path(source).absolute().stem
    plain = "".join(c if c.isalnum() or c in "._-" else "-" for c in stem).lstrip("._-")
    return plain[:100] or "vectors"
