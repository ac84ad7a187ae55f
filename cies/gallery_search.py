"""The open gallery that :func:`cies.open` returns: the search engine with Python conveniences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cies.default_rerank import default_rerank
from indexes.errors import UsageError
from indexes.search.open_table import OpenTable
from indexes.store.records import VectorColumn
from query.engine import Engine
from query.hits import Hit, Hits
from query.question import Question

if TYPE_CHECKING:
    import pyarrow

    from indexes.merge import Merge
    from indexes.relocate import Relocation
    from indexes.verify import Finding
    from ingest.fill.prune import Removal


@dataclass(frozen=True)
class GalleryVectors(VectorColumn):
    """All vectors of a condition with keys, words and paths, in key order.

    Attributes:
        keys: SHA-256 of each picture's bytes, [n].
        vectors: float32 [n, dim], unit rows, in the gallery's geometry: the cosine of two rows is
            the score that a search returns.
        words: the model's word for each picture, or empty strings, [n].
        word_probabilities: the model's probability of that word, float32 [n].
        paths: where the pictures are on this machine; of several copies the first in path
            order, [n].
    """

    paths: list[str]

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class PictureGroup:
    """Pictures that belong together: those of a word, or near-duplicates.

    Attributes:
        word: the model's word for them; empty for duplicates.
        share: their share of all pictures, 0 to 1.
        keys: the content key of each, the most typical first.
        paths: the path of each on this machine; of equal files all.
        words: the words that were merged, that of the group first; empty for duplicates.
    """

    word: str
    share: float
    keys: list[str]
    paths: list[str]
    words: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


class SearchableGallery(Engine):
    """A gallery opened for search: ``search``, ``vectors``, ``conditions``.

    Tables are read at first use and kept in memory. A search for a picture of the gallery needs
    no model; the first search for a new picture loads it. What changes the gallery is written to
    the disk at once, and the object then answers from the new state.
    """

    @property
    def conditions(self) -> list[str]:
        """The names of the gallery's conditions, in the order they were added.

        A gallery with several methods or models lists those of the main one, or of the method
        that it was opened with.
        """
        self._at_newest()
        return self.names()

    @property
    def columns(self) -> dict[str, str]:
        """The user's columns, each with its type: string, int, float, bool, date or time."""
        from indexes.store.attributes import TYPES, user_columns

        names = {kind: name for name, kind in TYPES.items()}
        found = user_columns(self._at_newest().gallery)
        return {name: names.get(kind, str(kind)) for name, kind in found.items()}

    def attributes(self, where: str | None = None) -> pyarrow.Table:
        """A row for each file, or for each row of the user's tables that names it: path, key, size,
        width, height, format, EXIF date and orientation, and the user's columns.

        Args:
            where: a filter, as of a search without the model's words.

        Raises:
            UsageError: if the filter cannot be parsed.
        """
        from query.filters.where import matching

        table = self._at_newest().filters.files.table
        return table if where is None else table.filter(matching(table, where))

    def vectors(self, condition: str, method: str | None = None) -> GalleryVectors:
        """All vectors, words and paths of a condition.

        Raises:
            UnknownCondition: if the gallery has no such condition; the message lists those it has.
            UsageError: if there is no such method, or no word list for a projection.
        """
        self._at_newest()
        column = super().vectors(condition, method)
        return GalleryVectors(**vars(column), paths=[self.path(key) for key in column.keys])

    def ask(self, question: Question) -> Hits:
        """Answer a question. If it leaves ``rerank`` open, :func:`default_rerank` decides.

        Raises:
            CiesError: see :meth:`query.engine.Engine.ask`.
        """
        self._at_newest()
        if question.rerank is not None or question.modification is not None:
            return super().ask(question)
        count, note = default_rerank(self, question)
        hits = super().ask(replace(question, rerank=count))
        return replace(hits, notes=(*hits.notes, note)) if note else hits

    # -- the whole gallery ------------------------------------------------------------------

    def _table(
        self, condition: str, where: str | None, method: str | None
    ) -> tuple[OpenTable, NDArray[np.bool_] | None]:
        """A condition's table, and the rows that pass a filter."""
        opened = self._at_newest()
        table = opened.tables.open_table(opened.resolver.resolve(condition, method))
        if where is None:
            return table, None
        return table, opened.filters.allowed(table, where, None, {}).mask

    def _group(
        self, table: OpenTable, rows: Sequence[int], total: int, words: Sequence[str] = ()
    ) -> PictureGroup:
        keys = [table.keys[row] for row in rows]
        paths = [self.path(key) for key in keys]
        word = words[0] if words else ""
        return PictureGroup(word, len(rows) / max(1, total), keys, paths, tuple(words))

    def facets(
        self,
        condition: str,
        where: str | None = None,
        method: str | None = None,
        merge_below: float | None = None,
    ) -> list[PictureGroup]:
        """The pictures of each of the model's words, the most frequent first; words with one
        meaning are merged, and pictures without a word are left out.

        Args:
            condition: one of the gallery's conditions.
            where: a filter.
            method: the method whose words are counted; the gallery's main one by default.
            merge_below: see :func:`query.explore.facets.facets`.

        Raises:
            UnknownCondition: if the gallery has no such condition.
        """
        from query.explore.facets import SAME, facets

        limit = SAME if merge_below is None else merge_below
        table, allowed = self._table(condition, where, method)
        total = len(table) if allowed is None else int(allowed.sum())
        return [
            self._group(table, facet.rows.tolist(), total, [word.word for word in facet.words])
            for facet in facets(table, allowed, limit)
        ]

    def groups(
        self,
        condition: str,
        where: str | None = None,
        method: str | None = None,
        merge_below: float | None = None,
    ) -> list[PictureGroup]:
        """All pictures in groups named by the model's words, the largest first. Those without a
        sure word are in the group that they are nearest to, after the others.

        Args:
            condition: one of the gallery's conditions.
            where: a filter.
            method: the method whose words name the groups; the gallery's main one by default.
            merge_below: see :func:`query.explore.facets.facets`.

        Raises:
            UnknownCondition: if the gallery has no such condition.
            UsageError: if no picture has a word.
        """
        from query.explore.facets import SAME
        from query.explore.groups import groups

        limit = SAME if merge_below is None else merge_below
        table, allowed = self._table(condition, where, method)
        total = len(table) if allowed is None else int(allowed.sum())
        return [
            self._group(
                table,
                [*group.sure.tolist(), *group.likely.tolist()],
                total,
                [word.word for word in group.facet.words],
            )
            for group in groups(table, allowed, merge_below=limit)
        ]

    def outliers(
        self,
        condition: str,
        k: int = 20,
        neighbours: int | None = None,
        where: str | None = None,
        method: str | None = None,
    ) -> list[Hit]:
        """The pictures least like even their nearest ones, the least alike first.

        Args:
            condition: one of the gallery's conditions.
            k: how many, at least 1.
            neighbours: how many nearest pictures each is compared with, at least 1.
            where: a filter; only the pictures that pass it are compared.
            method: the method whose vectors are compared; the gallery's main one by default.

        Returns:
            Hits whose score is the mean cosine with the nearest pictures.

        Raises:
            UnknownCondition: if the gallery has no such condition.
            UsageError: if a number is below 1.
        """
        from query.explore.outliers import NEIGHBOURS, outliers

        neighbours = NEIGHBOURS if neighbours is None else neighbours
        if k < 1 or neighbours < 1:
            raise UsageError("k and neighbours must be at least 1.")
        table, allowed = self._table(condition, where, method)
        found = outliers(table, k, neighbours, allowed)
        percentiles = table.percentiles(np.array([one.score for one in found]))
        return [
            Hit(
                rank=rank,
                key=table.keys[one.row],
                path=self.path(table.keys[one.row]),
                score=one.score,
                percentile=float(percentiles[rank - 1]),
                word=table.words[one.row],
                word_probability=float(table.word_probabilities[one.row]),
            )
            for rank, one in enumerate(found, start=1)
        ]

    def copies(self) -> list[PictureGroup]:
        """Pictures that are in several files with equal bytes."""
        opened = self._at_newest()
        total = max(1, len(opened.paths))
        return [
            PictureGroup("", 1 / total, [key], [opened.gallery.location(path) for path in paths])
            for key, paths in opened.paths.items()
            if len(paths) > 1
        ]

    def duplicates(
        self, conditions: str | Sequence[str] = (), threshold: float | None = None
    ) -> list[PictureGroup]:
        """Groups of near-duplicates, the largest first.

        Args:
            conditions: under which they are alike; all of the gallery by default.
            threshold: the least cosine of two, above 0 and at most 1.

        Raises:
            UnknownCondition: if the gallery has no such condition.
            UsageError: if no cosine reaches the threshold, or some pictures are not embedded under
                all conditions.
        """
        from query.explore.duplicates import THRESHOLD, duplicate_groups

        opened = self._at_newest()
        given = [conditions] if isinstance(conditions, str) else list(conditions)
        tables = [
            opened.tables.open_table(opened.resolver.resolve(name))
            for name in given or opened.resolver.names()
        ]
        if any(list(table.keys) != list(tables[0].keys) for table in tables[1:]):
            raise UsageError(
                "Not all pictures are embedded under all of these conditions; run `cies ingest`, "
                "or name conditions that have all."
            )
        if not tables:
            return []
        found = duplicate_groups(tables, THRESHOLD if threshold is None else threshold)
        return [self._group(tables[0], rows, len(tables[0])) for rows in found]

    def export(self, condition: str, path: str | Path) -> int:
        """Write a condition's vectors, words and columns to a file, and return the number of rows.

        Args:
            condition: one of the gallery's conditions.
            path: ends in ``.parquet``, ``.csv`` or ``.npy``; see
                :data:`query.explore.export.FORMS`.

        Raises:
            UnknownCondition: if the gallery has no such condition.
            UsageError: if there is no such format, or the folder does not exist.
            CiesError: if the file cannot be written.
        """
        from query.explore.export import export

        self._at_newest()
        return export(self, condition, Path(path))

    # -- maintenance ------------------------------------------------------------------------

    def verify(self) -> list[Finding]:
        """Compare every file and every row with its checksum; what is damaged, or worth knowing.

        Each finding has ``damage``, whether something is lost, and a text. Nothing is changed.
        """
        from indexes.verify import verify

        return verify(self.gallery.path)

    def remove(
        self,
        names: str | Path | Sequence[str | Path] = (),
        where: str | None = None,
        dry_run: bool = False,
    ) -> Removal:
        """Remove files and pictures from the gallery; see :func:`cies.maintain.remove`.

        Raises:
            UsageError: if nothing is named, a name is not known, or the filter is wrong.
            GalleryLocked: if another process is writing.
        """
        from cies import maintain

        removal = maintain.remove(self.gallery, names, where, dry_run)
        self.refresh()
        return removal

    def prune(
        self,
        source: str | Path | None = None,
        where: str | None = None,
        dry_run: bool = False,
        yes: bool = False,
    ) -> Removal:
        """Forget files that are gone; see :func:`cies.maintain.prune`.

        Raises:
            UsageError: if that is a large part of the gallery and ``yes`` is not given.
            GalleryLocked: if another process is writing.
        """
        from cies import maintain

        removal = maintain.prune(self.gallery, source, where, dry_run, yes)
        self.refresh()
        return removal

    def remove_condition(self, name: str, method: str | None = None, dry_run: bool = False) -> None:
        """Remove a condition with its vectors; see :func:`cies.maintain.remove_condition`."""
        from cies import maintain

        maintain.remove_condition(self.gallery, name, method, dry_run)
        self.refresh()

    def rename_condition(
        self, old: str, new: str, method: str | None = None, dry_run: bool = False
    ) -> None:
        """Rename a condition; see :func:`cies.maintain.rename_condition`."""
        from cies import maintain

        maintain.rename_condition(self.gallery, old, new, method, dry_run)
        self.refresh()

    def remove_columns(self, names: str | Sequence[str], dry_run: bool = False) -> list[str]:
        """Remove columns of the user; see :func:`cies.maintain.remove_columns`."""
        from cies import maintain

        removed = maintain.remove_columns(self.gallery, names, dry_run)
        self.refresh()
        return removed

    def rename_column(self, old: str, new: str, dry_run: bool = False) -> None:
        """Rename a column of the user; see :func:`cies.maintain.rename_column`."""
        from cies import maintain

        maintain.rename_column(self.gallery, old, new, dry_run)
        self.refresh()

    def relocate(self, old: str | Path, new: str | Path, dry_run: bool = False) -> Relocation:
        """Change the paths of files that were moved; see :func:`cies.maintain.relocate`."""
        from cies import maintain

        relocation = maintain.relocate(self.gallery, old, new, dry_run)
        self.refresh()
        return relocation

    def merge(self, other: str | Path, dry_run: bool = False) -> Merge:
        """Add what another gallery has; see :func:`cies.maintain.merge`."""
        from cies import maintain

        merged = maintain.merge(self.gallery, other, dry_run)
        self.refresh()
        return merged

    def __len__(self) -> int:
        """The number of pictures with at least one existing file."""
        return len(self._at_newest().paths)

    def __repr__(self) -> str:
        names = ", ".join(self.conditions) or "none yet"
        return f"<gallery {self.gallery.path}: {len(self)} pictures; conditions: {names}>"
