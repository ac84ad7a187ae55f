"""Finds the neighbours of a picture under a condition."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import GalleryError, UnknownCondition, UsageError
from indexes.gallery import Gallery
from indexes.geometry import GEOMETRIES, RESIDUAL, Statistics, residual
from indexes.open_table import OpenTable
from indexes.opening import Opener
from indexes.paths import Paths
from indexes.records import VectorColumn, VectorTable
from indexes.vectors import Vectors
from ingest.conditions import UNCONDITIONAL, Condition, same_name
from ingest.encoders.base import Encoder, EncoderSpec, Reading
from ingest.images import UnreadableImage, decode, read_bytes
from query.hits import Hit, Hits, Query

_KEY = re.compile(r"[0-9a-f]{64}")


class Engine:
    """A gallery that can be asked. Tables are read when first needed and kept."""

    def __init__(
        self,
        gallery: Gallery,
        load: Callable[[EncoderSpec], Encoder],
        index: str = "auto",
        geometry: str | None = None,
        gone: bool = False,
    ):
        """Open nothing yet.

        Args:
            gallery: what is searched.
            load: gives the encoder of a spec; called when a new picture must be embedded.
            index: one of :data:`indexes.factory.KINDS`, or a FAISS factory string.
            geometry: one of :data:`indexes.geometry.GEOMETRIES`; the gallery's own by default.
            gone: whether pictures are found of which no file was left at the last scan.

        Raises:
            UsageError: if there is no such geometry.
        """
        if geometry is not None and geometry not in GEOMETRIES:
            raise UsageError(
                f"There is no geometry '{geometry}'; choose one of {', '.join(GEOMETRIES)}."
            )
        self._geometry = geometry or gallery.geometry
        self.gallery = gallery
        self._load = load
        self._index = index
        self._gone = gone
        self._conditions: dict[str, OpenTable] = {}
        self._statistics: dict[str, Statistics] = {}
        self._encoder: Encoder | None = None

    @cached_property
    def _paths(self) -> Paths:
        return self.gallery.paths(self._gone)

    def table(self, condition: str) -> VectorTable:
        """The table of a condition; color finds colour.

        Raises:
            UnknownCondition: naming those there are.
        """
        tables = self.gallery.conditions()
        for table in sorted(tables, key=lambda table: table.name != condition):
            if same_name(table.name, condition):
                return table
        names = ", ".join(table.name for table in tables) or "none"
        raise UnknownCondition(
            f"The gallery at {self.gallery.path} has no condition '{condition}' (it has: "
            f'{names}); add it with `cies ingest FOLDER --condition "{condition}"`.'
        )

    def _condition(self, condition: str) -> OpenTable:
        table = self.table(condition)
        if table.table not in self._conditions:
            self._conditions[table.table] = self.opener(condition).open(self._index)
        return self._conditions[table.table]

    def opener(self, condition: str) -> Opener:
        """What opens a condition's table in the gallery's geometry, and keeps its indexes.

        Raises:
            UnknownCondition: naming those there are.
        """
        table = self.table(condition)
        statistics = self.gallery.statistics(table)
        if statistics is None:
            moved_by_them = self._geometry not in ("raw", RESIDUAL)
            parts = self.gallery.vector_parts(table) if moved_by_them else iter(())
            statistics = Statistics.of_parts(parts, table.dimension)
        self._statistics[table.table] = statistics
        basis = statistics.basis(self._geometry)
        away = self._takes_away(table)
        if away:
            basis += self._condition(UNCONDITIONAL).state

        def move(keys: Sequence[str], vectors: Vectors) -> Vectors:
            moved = statistics.apply(vectors, self._geometry)
            return residual(moved, self._beside(keys)) if away else moved

        return Opener(self.gallery, table, self._geometry, basis, move, self._gone)

    def _takes_away(self, table: VectorTable) -> bool:
        """Whether a table's vectors are compared less their unconditional part."""
        return self._geometry == RESIDUAL and bool(table.made_by["phrase"])

    def _beside(self, keys: Sequence[str]) -> Vectors:
        """The unconditional vectors of some pictures: float32 [n, dim], unit rows.

        Raises:
            UnknownCondition: if the gallery has none.
            GalleryError: if it has not those of all these pictures.
        """
        known = self._condition(UNCONDITIONAL)
        rows = [row for key in keys if (row := known.row(key)) is not None]
        missing = len(keys) - len(rows)
        if missing:
            raise GalleryError(
                f"{missing} pictures of the gallery at {self.gallery.path} are not embedded under "
                f"'{UNCONDITIONAL}', which comparing them {RESIDUAL} needs; run `cies ingest` on "
                "them again."
            )
        return known.vectors(np.array(rows, dtype=np.int64))

    def stored(self, condition: str) -> VectorColumn:
        """The vectors of a condition as they were stored, of the pictures that have a file.

        Raises:
            UnknownCondition: naming those there are.
        """
        column = self.gallery.column(self.table(condition))
        rows = [row for row, key in enumerate(column.keys) if key in self._paths]
        if len(rows) == len(column.keys):
            return column
        return VectorColumn(
            [column.keys[row] for row in rows],
            column.vectors[rows],
            [column.words[row] for row in rows],
            column.word_probabilities[rows],
        )

    def vectors(self, condition: str) -> VectorColumn:
        """All vectors and words of a condition, in the gallery's geometry.

        Raises:
            UnknownCondition: naming those there are.
        """
        return self._condition(condition).column

    def path(self, key: str) -> str:
        """Where a picture lies on this machine; the first in path order if there are copies."""
        paths = self._paths.get(key)
        return self.gallery.location(paths[0]) if paths else ""

    def search(self, image: str | Path | Image.Image, condition: str, k: int = 10) -> Hits:
        """The pictures most like one, in one respect.

        A picture of the gallery is recognised by its path, its key or its bytes; then its stored
        vector is used, no model is loaded, and the picture itself is not among the hits.

        Args:
            image: a file, a picture's path in the gallery, a key, or a picture in memory.
            condition: one the gallery was embedded under.
            k: how many hits, at least 1.

        Raises:
            UnknownCondition: naming the conditions there are.
            UsageError: if the picture cannot be read, or ``k`` is below 1.
            ModelError: if a new picture is given and the model cannot be had.
        """
        loaded = self._asked(condition, k)
        query, vector = self._query(image, loaded)
        return self._hits(query, vector, loaded, k)

    def search_text(self, text: str, condition: str, k: int = 10) -> Hits:
        """The pictures that suit a text, in one respect: "red heart" under "color".

        The model that embedded the gallery reads the text in a picture's place. Texts and
        pictures lie apart in the space of its states, so that scores and percentiles are lower
        than between pictures; their order is what counts.

        Args:
            text: what is looked for.
            condition: one the gallery was embedded under.
            k: how many hits, at least 1.

        Raises:
            UnknownCondition: naming the conditions there are.
            UsageError: if the text cannot be read, or ``k`` is below 1.
            ModelError: if the model cannot be had or was not schooled on texts.
        """
        loaded = self._asked(condition, k)
        query = Query("", loaded.table.name, "", False, "", 0.0, text)
        made = self._read(query, lambda encoder, asked: encoder.read_text([text], asked), loaded)
        return self._hits(*made, loaded, k)

    def _asked(self, condition: str, k: int) -> OpenTable:
        if k < 1:
            raise UsageError(f"-k must be at least 1, not {k}.")
        return self._condition(condition)

    def _hits(self, query: Query, vector: NDArray[np.float32], loaded: OpenTable, k: int) -> Hits:
        own = loaded.row(query.key)
        rows, scores = loaded.search(vector[None], k + (own is not None))
        found = [(r, s) for r, s in zip(rows[0], scores[0], strict=True) if r != own and r >= 0]
        percentiles = loaded.percentiles(np.array([score for _, score in found]))
        hits = [
            Hit(
                rank=rank,
                key=loaded.keys[row],
                path=self.path(loaded.keys[row]),
                score=float(score),
                percentile=float(percentiles[rank - 1]),
                word=loaded.words[row],
                word_probability=float(loaded.word_probabilities[row]),
            )
            for rank, (row, score) in enumerate(found[:k], start=1)
        ]
        return Hits(query, tuple(hits))

    def _query(
        self, image: str | Path | Image.Image, loaded: OpenTable
    ) -> tuple[Query, NDArray[np.float32]]:
        name = loaded.table.name
        if isinstance(image, Image.Image):
            return self._embed(image.convert("RGB"), "image", "", loaded)
        shown = str(image)
        key = self._known_key(shown)
        if key is None:
            try:
                content = read_bytes(Path(image))
                if loaded.row(content.key) is None:
                    spec = EncoderSpec.from_made_by(loaded.table.made_by)
                    picture = decode(content.data, spec.max_side, Path(image).suffix.lower()).image
                    return self._embed(picture, shown, content.key, loaded)
            except UnreadableImage as error:
                raise UsageError(
                    f"Cannot read the query {shown}: {error.reason}; name a picture file, or a "
                    "path or key of the gallery."
                ) from error
            key = content.key
        row = loaded.row(key)
        if row is None:
            raise UsageError(
                f"{shown} is in the gallery but not embedded under '{name}'; run "
                f'`cies ingest` on it with `--condition "{name}"` first.'
            )
        sure = float(loaded.word_probabilities[row])
        query = Query(shown, name, key, True, loaded.words[row], sure)
        return query, loaded.vectors(np.array([row]))[0]

    def _known_key(self, name: str) -> str | None:
        """The key of a picture named by key or by path, as long as the file is unchanged."""
        if _KEY.fullmatch(name) and name in self._paths:
            return name
        path = Path(name)
        key = self._paths.key_of(self.gallery.stored(path)) or self._paths.key_of(name)
        if key is None:
            return None
        if not path.exists():
            return key
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        return key if content == key else None

    def _embed(
        self, picture: Image.Image, shown: str, key: str, loaded: OpenTable
    ) -> tuple[Query, NDArray[np.float32]]:
        query = Query(shown, loaded.table.name, key, False, "", 0.0)
        return self._read(query, lambda encoder, asked: encoder.read([picture], asked), loaded)

    def _read(
        self,
        query: Query,
        read: Callable[[Encoder, list[Condition]], Reading],
        loaded: OpenTable,
    ) -> tuple[Query, NDArray[np.float32]]:
        """Embed what is asked for, and complete the query with the word for it."""
        table = loaded.table
        conditions = [Condition(table.name, str(table.made_by["phrase"]))]
        if self._takes_away(table):
            conditions.append(Condition.parse(UNCONDITIONAL))
        reading = read(self.encoder(table), conditions)
        vector = self._statistics[table.table].apply(reading.vectors[0, :1], self._geometry)
        if len(conditions) > 1:
            vector = residual(vector, reading.vectors[0, 1:])
        sure = float(reading.word_probabilities[0, 0])
        return replace(query, word=reading.words[0][0], word_probability=sure), vector[0]

    def encoder(self, table: VectorTable) -> Encoder:
        """The encoder that made a table, loaded once."""
        spec = EncoderSpec.from_made_by(table.made_by)
        if self._encoder is None or self._encoder.spec != spec:
            self._encoder = self._load(spec)
        return self._encoder
