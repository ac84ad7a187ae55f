"""Opens a condition's table for search, from cached rows where they are up to date.

When the gallery has changed, keys and checksums tell which rows are new and which were deleted.
New rows are searched in addition to the cached ones; when there are many, all rows are cached
again.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np

from indexes.errors import UsageError
from indexes.search.base import Index
from indexes.search.cache_folder import ConditionCaches, warn_once
from indexes.search.compact_columns import Keys, Words, positions, prefixes
from indexes.search.factory import choose, find_kind
from indexes.search.file_keys import FileKeys
from indexes.search.index_files import IndexProperties, build_index, load_index, stored_indexes
from indexes.search.multi_vector import MultiVectorTable, usable_index_kind
from indexes.search.open_table import OpenTable, SearchRows, search_rows_in_memory
from indexes.search.row_cache import DamagedCache, RowCache, transformed_rows
from indexes.search.snapshot import (
    RowDigest,
    RowTransform,
    Snapshot,
    VectorTransform,
    WordSource,
)
from indexes.store.gallery import Gallery
from indexes.store.records import VectorColumn, VectorTable

#: Smaller tables are read without a cache, which takes no longer.
CACHED_FROM = 10_000

#: Share of rows that may change before all rows are cached again: new rows are searched without
#: an index. It is higher where an index takes minutes to build.
_CHANGED = 0.05
_CHANGED_SLOW = 0.25

#: Attempts at building an index whose rows another process replaces.
_TRIES = 5

_logger = logging.getLogger("cies")


class TableLoader(ConditionCaches):
    """Opens one condition's table of a gallery, and manages its indexes."""

    def __init__(
        self,
        gallery: Gallery,
        table: VectorTable,
        space: str,
        basis: str,
        transform: VectorTransform,
        gone: bool = False,
        files: FileKeys | None = None,
        stored: VectorTable | None = None,
        words: WordSource | None = None,
    ):
        """Store the arguments; nothing is read yet.

        Args:
            gallery: the gallery of the table.
            table: the condition's entry.
            space: the way in which vectors are compared, such as the geometry; part of the names
                of caches.
            basis: identifies everything else that ``transform`` and ``words`` depend on.
            transform: transforms stored vectors into the space in which they are compared.
            gone: whether to include pictures that had no file left at the last scan.
            files: the pictures to include, with the same ``gone``; read if they are not given.
            stored: the table whose vectors are transformed, if ``table`` has none of its own.
            words: returns words for stored vectors, which replace the stored words.
        """
        self._table = table
        self._stored = stored or table
        self._has_parts = table.parts_per_row > 1
        self._table_class = MultiVectorTable if self._has_parts else OpenTable
        self._files = files
        self._gone = gone
        label = f"{space}_gone" if gone else space
        fingerprint = f"{table.dimension} {gone} {space} {basis}"
        row_transform = RowTransform(transform, table.dimension, words)
        super().__init__(gallery, table, row_transform, label, fingerprint)

    def pictures(self) -> int:
        """The number of pictures in the condition's table."""
        return len(self._snapshot())

    def in_use(self) -> str:
        """The kind of index that answers searches now."""
        if self.choice != "auto":
            return self.choice
        built = {index.kind for index in self.known()}
        return self._usable(self._suited(self.pictures()), built)

    def _snapshot(self) -> Snapshot:
        files = self._files or FileKeys(self._gallery.frozen("files"), self._gone)
        return Snapshot(self._gallery, self._stored, files)

    # -- opening ---------------------------------------------------------------------------

    def open(self, kind: str = "auto", before: OpenTable | None = None) -> OpenTable:
        """Open the table for search.

        Args:
            kind: the kind of index; by default the one that was chosen for the condition.
            before: the table in an earlier state; then only what has changed since is read, if
                that is little.

        Raises:
            GalleryError: if the gallery cannot be read.
            CiesError: if FAISS is needed and not installed.
            UsageError: if there is no such index.
        """
        snapshot = self._snapshot()
        chosen = "exact" if self._has_parts else kind if kind != "auto" else self.choice
        way = f"{self._prefix} {chosen}"
        if before is not None and before.rows.way == way and before.state == snapshot.state:
            return before
        if len(snapshot) < CACHED_FROM and not self._has_choice():
            return self._open_in_memory(snapshot, chosen, way)
        is_quick = chosen == "auto" or find_kind(chosen).is_quick
        share = _CHANGED if is_quick else _CHANGED_SLOW
        rows = None
        try:
            if before is not None and before.rows.way == way:
                rows = self._grown(before.rows, snapshot, share)
            if rows is None:
                cache, digest = self._read_similar(snapshot, share)
                rows = self._search_rows(snapshot, cache, digest, chosen)
        except ValueError:
            # Keys that are not checksums, which CIES never writes.
            return self._open_in_memory(snapshot, chosen, way)
        rows.way = way
        return self._table_class(self._table, rows)

    def _open_in_memory(self, snapshot: Snapshot, kind: str, way: str) -> OpenTable:
        column = snapshot.column()
        vectors = self._transform.vectors(column.keys, column.vectors)
        words, chances = column.words, column.word_probabilities
        if self._transform.words:
            words, chances = self._transform.words(column.vectors)
        column = VectorColumn(column.keys, vectors, words, chances)
        rows = search_rows_in_memory(column, kind, snapshot.state)
        rows.way = way
        return self._table_class(self._table, rows)

    def _grown(self, before: SearchRows, snapshot: Snapshot, share: float) -> SearchRows | None:
        """The rows of an earlier state with those that were added since.

        Returns:
            ``None`` if rows were changed or removed, or more than a share of those that are
            cached.
        """
        cache = before.cache
        if cache is None or before.snapshot is None:
            return None
        added = snapshot.added_since(before.snapshot)
        if added is None:
            return None
        count, new = len(before.keys), len(added.keys)
        fresh = len(before.matrix) - len(cache)
        if len(cache) + 2 * (fresh + new) - (count + new) > share * len(cache):
            return None
        assert isinstance(before.keys, Keys) and isinstance(before.words, Words)
        vectors = np.empty((new, cache.dimension), dtype=np.float32)
        chances, codes = np.zeros(new, dtype=np.float32), np.zeros(new, dtype=np.uint32)
        code_of = {word: code for code, word in enumerate(before.words.dictionary)}
        batches = snapshot.take(added.row_ids)
        for rows, moved, _ in transformed_rows(snapshot, batches, self._transform):
            places = positions(added.keys, rows.keys)
            vectors[places] = moved
            chances[places] = rows.probabilities
            codes[places] = rows.words.recoded(code_of)
        at = np.searchsorted(prefixes(before.keys.raw), prefixes(added.keys))
        order = np.arange(count) if before.order is None else before.order
        return replace(
            before,
            keys=Keys(np.insert(before.keys.raw, at, added.keys, axis=0)),
            words=Words(np.insert(before.words.codes, at, codes), list(code_of)),
            word_probabilities=np.insert(before.word_probabilities, at, chances),
            matrix=before.matrix.with_more(vectors, lambda: self._read_again(snapshot, cache)),
            order=np.insert(order, at, len(before.matrix) + np.arange(new)),
            state=snapshot.state,
            snapshot=snapshot,
        )

    def _search_rows(
        self, snapshot: Snapshot, cache: RowCache, digest: RowDigest | None, kind: str
    ) -> SearchRows:
        """Combine cached rows with those that are new in a snapshot."""
        keys, order, fresh = cache.keys, None, None
        words = Words(cache.codes, cache.dictionary)
        chances = cache.probabilities
        if digest is not None:
            keys = digest.keys
            order = positions(cache.keys, keys)
            same = (order >= 0) & (cache.checksums[order] == digest.checksums)
            new = np.flatnonzero(~same)
            order[new] = len(cache) + np.arange(len(new))
            fresh = np.empty((len(new), cache.dimension), dtype=np.float32)
            code_of = {word: code for code, word in enumerate(cache.dictionary)}
            codes = np.concatenate([cache.codes, np.zeros(len(new), dtype=np.uint32)])
            chances = np.concatenate([chances, np.zeros(len(new), dtype=np.float32)])
            batches = snapshot.take(digest.row_ids[new])
            for rows, vectors, _ in transformed_rows(snapshot, batches, self._transform):
                places = positions(keys[new], rows.keys)
                fresh[places] = vectors
                chances[len(cache) + places] = rows.probabilities
                codes[len(cache) + places] = rows.words.recoded(code_of)
            words = Words(codes[order], list(code_of))
            chances = chances[order]
        index, name = self._index(snapshot, cache, kind)
        return SearchRows(
            keys=Keys(keys),
            words=words,
            word_probabilities=chances,
            matrix=self._matrix(snapshot, cache, fresh),
            order=order,
            pairs=cache.pairs,
            index=index,
            indexed=len(cache) if index is not None else 0,
            kind=name,
            state=snapshot.state,
            cache=cache,
            snapshot=snapshot,
        )

    # -- indexes ---------------------------------------------------------------------------

    def build(self, kind: str = "auto") -> IndexProperties | None:
        """Build an index over all rows, and choose it.

        Args:
            kind: one of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.

        Returns:
            The measured properties of the index; ``None`` for exact search.

        Raises:
            GalleryError: if the gallery cannot be read.
            CiesError: if FAISS is needed and not installed.
            UsageError: if there is no such index, there is nothing to index, or the gallery
                cannot be written to.
        """
        kind = usable_index_kind(self._table, kind)
        for attempt in range(_TRIES):
            try:
                built = self._build(kind)
                break
            except ValueError as error:
                raise UsageError(
                    f"The table of condition '{self._table.name}' cannot be cached: {error}."
                ) from error
            except FileNotFoundError as error:
                # Another process has replaced the rows in the meantime.
                if attempt + 1 == _TRIES:
                    raise self._unwritable(error) from error
            except OSError as error:
                raise self._unwritable(error) from error
        self.choose(kind)
        return built

    def _build(self, kind: str) -> IndexProperties | None:
        snapshot = self._snapshot()
        cache = self._read(snapshot)
        if cache is None:
            cache = self._write(snapshot)
        if not len(cache):
            raise UsageError(f"There is no picture under '{self._table.name}' to index.")
        name = self._suited(len(cache)) if kind == "auto" else kind
        if name == "exact":
            return None
        return build_index(cache, self._matrix(snapshot, cache), name)[1]

    def _suited(self, count: int) -> str:
        """The kind that suits this number of rows, among the installed kinds."""
        kind = choose(count, self._table.dimension)
        if not find_kind(kind).is_installed():
            warn_once(
                f"FAISS is not installed, so that all {count} vectors are compared one by one "
                "(slow); install it with `pip install 'cies[cpu]'`."
            )
            return "exact"
        return kind

    def _usable(self, kind: str, built: set[str]) -> str:
        """The kind that a search uses instead of one that is not built.

        A search builds only what takes seconds. It builds nothing over vectors that are computed
        from those of another table, which are short.
        """
        if kind in built:
            return kind
        if self._stored is not self._table or self._has_parts:
            return "exact"
        return find_kind(kind).fallback or kind

    def _index(self, snapshot: Snapshot, cache: RowCache, kind: str) -> tuple[Index | None, str]:
        """The index to use, loaded or built, and its kind; ``None`` for exact search."""
        name = kind
        if kind == "auto":
            built = {one.kind for one in stored_indexes(cache.folder)} if cache.folder else set()
            name = self._usable(self._suited(len(cache)), built)
        if name == "exact" or not len(cache):
            return None, "exact"
        try:
            loaded = load_index(cache, name)
            if loaded is not None:
                return loaded[0], name
        except DamagedCache as error:
            _logger.warning("An index is damaged and is built again: %s", error)
        matrix = self._matrix(snapshot, cache)
        try:
            return build_index(cache, matrix, name)[0], name
        except OSError as error:
            if cache.folder is not None and cache.folder.is_dir():
                self._warn_unwritable(error)
            if find_kind(name).storage == "folder":
                return None, "exact"
            return build_index(replace(cache, folder=None), matrix, name)[0], name
