"""Opens a condition's table for search, by what is cached of it wherever that still holds.

A gallery's folder ``indexes`` has a folder a condition, with its rows as a search reads them
(:mod:`indexes.search.row_cache`) and indexes over them (:mod:`indexes.search.files`). They are never changed.
When the gallery has changed, keys and checksums tell which rows are new and which are no more;
those are searched beside the cached ones, and once they are many, everything is made anew.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from indexes.errors import UsageError
from indexes.search.base import Index
from indexes.search.compact_columns import Keys, Words, positions
from indexes.search.factory import choose
from indexes.search.faiss import installed
from indexes.search.files import Built, build_index, built_over, load_index, remove_index
from indexes.search.matrix import Matrix
from indexes.search.open_table import OpenTable, Rows, rows_in_memory
from indexes.search.parted import PartedTable, parts_of, served_by
from indexes.search.row_cache import (
    HEADER,
    DamagedCache,
    RowCache,
    base_in_memory,
    moved_parts,
    read_base,
    read_checked,
    write_base,
    write_checked,
)
from indexes.search.snapshot import Digest, Snapshot
from indexes.search.transform import Move, Say, Space
from indexes.store.gallery import Gallery
from indexes.store.records import VectorColumn, VectorTable
from indexes.vectors import Vectors

#: Smaller tables are read as they are, which takes no longer than looking for a cache.
CACHED_FROM = 10_000

#: Rows that changed, as a share of the cached ones, after which they are cached anew: what is
#: new is compared one by one. Where an index takes minutes to build, more is borne.
_CHANGED = 0.05
_CHANGED_SLOW = 0.25
_QUICK = frozenset({"auto", "exact", "faiss"})

_CHOICE = "choice.json"

#: Times a build is begun again because the rows under it were replaced.
_TRIES = 5

_logger = logging.getLogger("cies")
_said: set[str] = set()


class TableLoader:
    """Opens one condition's table of a gallery in one geometry."""

    def __init__(
        self,
        gallery: Gallery,
        table: VectorTable,
        geometry: str,
        basis: str,
        move: Move,
        gone: bool = False,
        stored: VectorTable | None = None,
        say: Say | None = None,
    ):
        """Say what is to be opened; nothing is read yet.

        Args:
            gallery: whose table it is.
            table: the condition's entry.
            geometry: names the way in which vectors are compared, for caches.
            basis: names all else that ``move`` and ``say`` depend on.
            move: takes stored vectors into the space they are compared in.
            gone: whether pictures count of which no file was left at the last scan.
            stored: whose vectors are moved, if ``table`` has none of its own.
            say: gives words for stored vectors, in place of the stored ones.
        """
        self._gallery = gallery
        self._table = table
        self._stored = stored or table
        self._space = Space(move, table.dimension, say)
        self._parted = parts_of(table) > 1
        self._kind_of_table = PartedTable if self._parted else OpenTable
        self._gone = gone
        #: What has the same label is made for the same purpose; one replaces the other.
        self._label = f"{geometry}_gone" if gone else geometry
        content = f"{table.dimension} {gone} {geometry} {basis}".encode()
        self._basis = f"{self._label}-{hashlib.sha256(content).hexdigest()[:16]}"
        #: Where this condition's caches lie.
        self.folder = gallery.indexes / table.table

    # -- the choice of an index ------------------------------------------------------------

    @property
    def choice(self) -> str:
        """The kind of index that was chosen for this condition, or ``auto``."""
        try:
            kind = read_checked(self.folder / _CHOICE)["kind"]
        except (DamagedCache, KeyError):
            return "auto"
        return kind if isinstance(kind, str) else "auto"

    def choose(self, kind: str) -> None:
        """Remember the kind of index to use from now on.

        Raises:
            UsageError: if the gallery cannot be written to.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_checked(self.folder / _CHOICE, {"kind": kind})
        except OSError as error:
            raise self._unwritable(error) from error

    # -- opening ---------------------------------------------------------------------------

    def open(self, kind: str = "auto") -> OpenTable:
        """Open the table for search.

        Args:
            kind: of index, for this time; the one that was chosen for the condition by default.

        Raises:
            GalleryError: if the gallery cannot be read.
            CiesError: if FAISS is needed and not installed.
            UsageError: if there is no such index.
        """
        held = Snapshot(self._gallery, self._stored, self._gone)
        chosen = "exact" if self._parted else kind if kind != "auto" else self.choice
        if len(held) < CACHED_FROM and not (self.folder / _CHOICE).is_file():
            return self._in_memory(held, chosen)
        try:
            base, digest = self._base(held, chosen)
        except ValueError:
            # Keys that are no checksums, as no gallery of ours has; all is done in memory.
            return self._in_memory(held, chosen)
        return self._kind_of_table(self._table, self._rows(held, base, digest, chosen))

    def build(self, kind: str = "auto") -> Built | None:
        """Build an index anew over all rows, and choose it.

        Args:
            kind: any of :data:`indexes.search.factory.KINDS`, or a FAISS factory string.

        Returns:
            What was measured; ``None`` for an exact search, which needs none.

        Raises:
            GalleryError: if the gallery cannot be read.
            CiesError: if FAISS is needed and not installed.
            UsageError: if there is no such index, there is nothing to index, or the gallery
                cannot be written to.
        """
        kind = served_by(self._table, kind)
        for attempt in range(_TRIES):
            try:
                built = self._built(kind)
                break
            except ValueError as error:
                raise UsageError(
                    f"The table of condition '{self._table.name}' cannot be cached: {error}."
                ) from error
            except FileNotFoundError as error:
                # Another process replaced the rows meanwhile.
                if attempt + 1 == _TRIES:
                    raise self._unwritable(error) from error
            except OSError as error:
                raise self._unwritable(error) from error
        self.choose(kind)
        return built

    def _built(self, kind: str) -> Built | None:
        held = Snapshot(self._gallery, self._stored, self._gone)
        base = self._exactly(held)
        if base is None:
            base = self._written(held)
        if not len(base):
            raise UsageError(f"There is no picture under '{self._table.name}' to index.")
        wanted = self._suited(len(base)) if kind == "auto" else kind
        if wanted == "exact":
            return None
        return build_index(base, self._matrix(held, base, None), wanted)[1]

    def _unwritable(self, error: OSError) -> UsageError:
        return UsageError(
            f"Cannot write to {self.folder} ({(error.strerror or str(error)).lower()}), so that no "
            "index can be kept; searching is possible all the same."
        )

    def known(self) -> list[Built]:
        """The indexes that lie ready for the newest cached rows."""
        bases = self._folders()
        return built_over(bases[0]) if bases else []

    def pictures(self) -> int:
        """How many pictures the condition's table holds."""
        return len(Snapshot(self._gallery, self._stored, self._gone))

    def rows_bytes(self) -> int:
        """Bytes on the disk of the newest cached rows, indexes left out."""
        files = [path for folder in self._folders()[:1] for path in folder.iterdir()]
        return sum(p.stat().st_size for p in files if not p.name.startswith("index-"))

    def in_use(self) -> str:
        """The kind of index that answers searches now."""
        chosen = self.choice
        if chosen != "auto":
            return chosen
        pictures = self.pictures()
        return self._ready(self._suited(pictures), {built.kind for built in self.known()})

    def _suited(self, count: int) -> str:
        """The kind for so many rows, among those that can be had."""
        kind = choose(count, self._table.dimension)
        if kind in ("faiss", "ivf") and not installed():
            _say_once(
                f"FAISS is not installed, so that all {count} vectors are compared one by one "
                "(slow); install it with `pip install 'cies[cpu]'`."
            )
            return "exact"
        return kind

    def _ready(self, kind: str, ready: set[str]) -> str:
        """What a search uses for a kind: on the way to an answer only what takes seconds is
        built, and nothing over vectors worked out of others, which are short.
        """
        if kind in ready:
            return kind
        if self._stored is not self._table or self._parted:
            return "exact"
        return {"ivf": "faiss", "lance": "exact"}.get(kind, kind)

    def forget(self, kinds: Iterable[str]) -> None:
        """Remove indexes from beside the newest cached rows."""
        for folder in self._folders()[:1]:
            for kind in kinds:
                remove_index(folder, kind)

    def _in_memory(self, held: Snapshot, kind: str) -> OpenTable:
        column = held.column()
        moved = self._space.move(column.keys, column.vectors)
        words, sure = column.words, column.word_probabilities
        if self._space.say:
            words, sure = self._space.say(column.vectors)
        column = VectorColumn(column.keys, moved, words, sure)
        return self._kind_of_table(self._table, rows_in_memory(column, kind, held.state))

    # -- the rows --------------------------------------------------------------------------

    def _folders(self) -> list[Path]:
        """Folders of rows on this basis, the newest first."""
        with suppress(OSError):
            found = list(self.folder.glob(f"{self._basis}-*"))
            return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)
        return []

    def _exactly(self, held: Snapshot) -> RowCache | None:
        """The cached rows of this very state."""
        path = self.folder / f"{self._basis}-{held.state}"
        try:
            return read_base(path) if path.is_dir() else None
        except DamagedCache as error:
            _logger.warning("A cache is damaged and is made anew: %s", error)
        return None

    def _base(self, held: Snapshot, kind: str) -> tuple[RowCache, Digest | None]:
        """Cached rows, and the rows there are now if these are others.

        Raises:
            ValueError: if the keys are not such as a cache can hold.
        """
        exactly = self._exactly(held)
        if exactly is not None:
            return exactly, None
        digest = held.digest()
        limit = _CHANGED if kind in _QUICK else _CHANGED_SLOW
        for path in self._folders():
            with suppress(DamagedCache):
                base = read_base(path)
                places = positions(base.keys, digest.keys)
                same = int((base.sums[places] == digest.sums)[places >= 0].sum())
                changed = len(base) + len(digest.keys) - 2 * same
                if changed <= limit * len(base):
                    return base, digest
        try:
            return self._written(held), None
        except OSError as error:
            self._say_unwritable(error)
            return base_in_memory(held, self._space), None

    def _written(self, held: Snapshot) -> RowCache:
        """Cache the rows of a state; a disk that garbles what it is given counts as full."""
        name = f"{self._basis}-{held.state}"
        try:
            return write_base(held, self._space, self.folder, name, self._label)
        except DamagedCache as error:
            raise OSError(str(error)) from error

    def _matrix(self, held: Snapshot, base: RowCache, fresh: Vectors | None) -> Matrix:
        if fresh is None:
            fresh = np.empty((0, base.dimension), dtype=np.float32)
        return Matrix(base, fresh, lambda: self._anew(held, base))

    def _anew(self, held: Snapshot, base: RowCache) -> Vectors:
        """The vectors of cached rows, read from the gallery since the cache is damaged."""
        _logger.warning("A cache is damaged and is read no more: %s", base.folder)
        if base.folder is not None:
            with suppress(OSError):
                (base.folder / HEADER).unlink()
        wide = np.zeros((len(base), base.dimension), dtype=np.float32)
        for whole in held.parts():
            places = positions(base.keys, whole.keys)
            same = np.flatnonzero((places >= 0) & (base.sums[places] == whole.sums))
            if len(same):
                stored = held.unit(whole.halves[same])
                wide[places[same]] = self._space.move(Keys(whole.keys[same]), stored)
        return wide

    def _index(self, held: Snapshot, base: RowCache, kind: str) -> tuple[Index | None, str]:
        """The index that answers, read or built, and its name; ``None`` to search exactly."""
        name = kind
        if kind == "auto":
            ready = {built.kind for built in built_over(base.folder)} if base.folder else set()
            name = self._ready(self._suited(len(base)), ready)
        if name == "exact" or not len(base):
            return None, "exact"
        try:
            loaded = load_index(base, name)
            if loaded is not None:
                return loaded[0], name
        except DamagedCache as error:
            _logger.warning("An index is damaged and is built anew: %s", error)
        matrix = self._matrix(held, base, None)
        try:
            return build_index(base, matrix, name)[0], name
        except OSError as error:
            if base.folder is not None and base.folder.is_dir():
                self._say_unwritable(error)
            if name == "lance":
                return None, "exact"
            return build_index(replace(base, folder=None), matrix, name)[0], name

    def _say_unwritable(self, error: OSError) -> None:
        _say_once(
            f"The gallery at {self._gallery.path} cannot be written to "
            f"({(error.strerror or str(error)).lower()}), so that what makes searches start "
            "quickly is made again each time."
        )

    def _rows(self, held: Snapshot, base: RowCache, digest: Digest | None, kind: str) -> Rows:
        if digest is None:
            matrix = self._matrix(held, base, None)
            index, name = self._index(held, base, kind)
            words = Words(base.codes, base.dictionary)
            return Rows(
                Keys(base.keys), words, base.probabilities, matrix, None, base.pairs,
                index, len(base) if index is not None else 0, name, held.state,
            )  # fmt: skip
        places = positions(base.keys, digest.keys)
        same = (places >= 0) & (base.sums[places] == digest.sums)
        new = np.flatnonzero(~same)
        order = places
        order[new] = len(base) + np.arange(len(new))
        fresh = np.empty((len(new), base.dimension), dtype=np.float32)
        dictionary = list(base.dictionary)
        known = {word: code for code, word in enumerate(dictionary)}
        codes = np.concatenate([base.codes, np.zeros(len(new), dtype=np.uint32)])
        sure = np.concatenate([base.probabilities, np.zeros(len(new), dtype=np.float32)])
        for part, vectors in moved_parts(held, held.some(digest.numbers[new]), self._space):
            at = positions(digest.keys[new], part.keys)
            fresh[at] = vectors
            sure[len(base) + at] = part.probabilities
            into = [known.setdefault(word, len(known)) for word in part.words.dictionary]
            codes[len(base) + at] = np.array(into, dtype=np.uint32)[part.words.codes]
        matrix = self._matrix(held, base, fresh)
        index, name = self._index(held, base, kind)
        words = Words(codes[order], list(known))
        return Rows(
            Keys(digest.keys), words, sure[order], matrix, order, base.pairs,
            index, len(base) if index is not None else 0, name, held.state,
        )  # fmt: skip


def _say_once(line: str) -> None:
    """Tell people what is worse than it could be, once in a process."""
    if line not in _said:
        _said.add(line)
        _logger.warning(line)
