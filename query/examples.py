"""What a question is asked with, found in the gallery or embedded for the occasion."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from indexes.store.gallery import Gallery
from indexes.store.paths import Paths
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.read.images import FileBytes, UnreadableImage, decode, read_bytes
from query.question import Picture, Region, as_image, shortened
from query.resolver import ConditionResolver, Opened

_KEY = re.compile(r"[0-9a-f]{64}")

#: Gives the encoder of a spec.
Loader = Callable[[EncoderSpec], BaseEncoder]


@dataclass(frozen=True)
class Example:
    """Something alike which is looked for, under each condition of a question.

    Attributes:
        shown: its path or key as given, or ``image`` for one in memory; empty for a text.
        key: SHA-256 of its bytes if known, else empty.
        in_gallery: whether its stored vectors are used, so that no model is needed.
        vectors: float32 [dim] for each condition, of unit length.
        words: the model's word for it, [conditions].
        word_probabilities: how sure the model was, [conditions].
    """

    shown: str
    key: str
    in_gallery: bool
    vectors: Sequence[NDArray[np.float32]]
    words: Sequence[str]
    word_probabilities: Sequence[float]


class Examples:
    """Makes examples of pictures and texts, by the gallery's vectors or by its model."""

    def __init__(
        self, gallery: Gallery, paths: Paths, resolver: ConditionResolver, encoder: Loader
    ):
        """Look at nothing yet.

        Args:
            gallery: where pictures are known.
            paths: of the gallery, content key to stored paths.
            resolver: knows how new vectors are moved to where those of a table lie.
            encoder: gives the encoder of a spec.
        """
        self._gallery = gallery
        self._paths = paths
        self._servings = resolver
        self._encoder = encoder
        self._readings: dict[tuple[object, str], Embeddings] = {}

    def text(self, text: str, tables: Sequence[Opened]) -> Example:
        """A text as an example.

        Raises:
            UsageError: if the text cannot be read.
            ModelError: if the model cannot be had or was not schooled on texts.
        """
        return self._read(
            "",
            "",
            tables,
            lambda encoder, asked: encoder.embed_text([text], asked),
            text,
            text=True,
        )

    def picture(self, given: Picture, region: Region | None, tables: Sequence[Opened]) -> Example:
        """A picture, or a part of one, as an example.

        One that is asked for again, as when a table has grown, is not embedded again.

        Args:
            given: see :data:`query.question.Picture`.
            region: the part that is meant; it is always embedded anew.
            tables: the conditions, at least one.

        Raises:
            UsageError: if the picture cannot be read.
            ModelError: if it must be embedded and the model cannot be had.
        """
        # The question holds on to what is given, so that this stays its own.
        own = id(given)
        if isinstance(given, np.ndarray):
            given = as_image(given)
        if isinstance(given, Image.Image):
            whole = given.convert("RGB")
            return self._embedded("image", "", lambda side: whole, region, tables, own)
        if isinstance(given, bytes):
            content = FileBytes(given, hashlib.sha256(given).hexdigest(), len(given), 0)
            return self._of_content("image", content, "", region, tables, own)
        shown = str(given)
        key = self._known_key(shown)
        if key is not None and region is None:
            return self._stored(shown, key, tables)
        content = self._content(shown, key)
        return self._of_content(shown, content, Path(shown).suffix.lower(), region, tables, own)

    def image(self, given: Picture, region: Region | None) -> Image.Image:
        """A picture itself, or the part of it that is meant, for models that look at it.

        Raises:
            UsageError: if the picture cannot be read.
        """
        if isinstance(given, np.ndarray):
            given = as_image(given)
        if isinstance(given, Image.Image):
            whole = given.convert("RGB")
        else:
            shown = "image" if isinstance(given, bytes) else str(given)
            if isinstance(given, bytes):
                data, suffix = given, ""
            else:
                data = self._content(shown, self._known_key(shown)).data
                suffix = Path(shown).suffix.lower()
            try:
                whole = decode(data, None, suffix).image
            except UnreadableImage as error:
                raise _unreadable(shown, error) from error
        return region.of(whole) if region else whole

    def otherwise(
        self,
        given: Picture,
        region: Region | None,
        tables: Sequence[Opened],
        read: Callable[[BaseEncoder, Image.Image, list[Condition]], Embeddings],
    ) -> Example:
        """A picture as an example, embedded otherwise than a gallery's pictures are.

        Args:
            given: as of :meth:`picture`.
            region: as of :meth:`picture`.
            tables: as of :meth:`picture`.
            read: embeds it by a table's encoder.

        Raises:
            UsageError: if the picture cannot be read.
            ModelError: if the model cannot be had.
        """
        memory = isinstance(given, (bytes, Image.Image, np.ndarray))
        shown = "image" if memory else str(given)
        key = "" if memory else self._known_key(shown) or ""
        image = self.image(given, region)
        return self._read(shown, key, tables, lambda encoder, asked: read(encoder, image, asked))

    def _known_key(self, name: str) -> str | None:
        """The key of a picture named by key or by path, as long as the file is unchanged."""
        if _KEY.fullmatch(name) and name in self._paths:
            return name
        path = Path(name)
        key = self._paths.key_of(self._gallery.stored(path)) or self._paths.key_of(name)
        if key is None:
            return None
        if not path.exists():
            return key
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        return key if content == key else None

    def _stored(self, shown: str, key: str, tables: Sequence[Opened]) -> Example:
        rows = [one.table.row(key) for one in tables]
        for one, row in zip(tables, rows, strict=True):
            if row is None:
                name = one.resolved.stored.name
                raise UsageError(
                    f"{shown} is in the gallery but not embedded under '{name}'; run "
                    f'`cies ingest` on it with `--condition "{name}"` first.'
                )
        found = [(one.table, row) for one, row in zip(tables, rows, strict=True) if row is not None]
        return Example(
            shown,
            key,
            True,
            [table.vectors(np.array([row]))[0] for table, row in found],
            [table.words[row] for table, row in found],
            [float(table.word_probabilities[row]) for table, row in found],
        )

    def _content(self, shown: str, key: str | None) -> FileBytes:
        try:
            if "\0" in shown:
                raise UnreadableImage("vanished", "no file's name holds a NUL character")
            if key is None:
                return read_bytes(Path(shown))
            from ingest.sources.factory import located

            return located(self._gallery.location(self._paths[key][0])).read()
        except (UnreadableImage, UsageError, OSError) as error:
            raise _unreadable(shown, error) from error

    def _of_content(
        self,
        shown: str,
        content: FileBytes,
        suffix: str,
        region: Region | None,
        tables: Sequence[Opened],
        own: object,
    ) -> Example:
        """A picture's bytes: by the stored vectors if these are the gallery's, else embedded."""
        if region is None and all(one.table.row(content.key) is not None for one in tables):
            return self._stored(shown, content.key, tables)

        def image(side: int | None) -> Image.Image:
            try:
                # A part is taken of the whole picture, so that none of its detail is lost before.
                return decode(content.data, None if region else side, suffix).image
            except UnreadableImage as error:
                raise _unreadable(shown, error) from error

        return self._embedded(shown, content.key, image, region, tables, own)

    def _embedded(
        self,
        shown: str,
        key: str,
        image: Callable[[int | None], Image.Image],
        region: Region | None,
        tables: Sequence[Opened],
        own: object,
    ) -> Example:
        def read(encoder: BaseEncoder, asked: list[Condition]) -> Embeddings:
            whole = image(encoder.spec.max_side)
            return encoder.embed([region.of(whole) if region else whole], asked)

        return self._read(shown, key, tables, read, own)

    def _read(
        self,
        shown: str,
        key: str,
        tables: Sequence[Opened],
        read: Callable[[BaseEncoder, list[Condition]], Embeddings],
        given: object = None,
        text: bool = False,
    ) -> Example:
        """Embed under all conditions, in one pass of each encoder; once, if ``given`` names it."""
        found: dict[int, tuple[NDArray[np.float32], str, float]] = {}
        for spec in [one.resolved.spec for one in tables]:
            own = [
                i for i, one in enumerate(tables) if one.resolved.spec == spec and i not in found
            ]
            if not own:
                continue
            asked: list[Condition] = []
            for i in own:
                if tables[i].resolved.asked not in asked:
                    asked.append(tables[i].resolved.asked)
            takes_away = any(self._servings.takes_away(tables[i].resolved) for i in own)
            if takes_away and all(condition.phrase for condition in asked):
                asked.append(Condition.parse(UNCONDITIONAL))
            at_once = given, f"{spec} {asked}"
            if given is None or at_once not in self._readings:
                self._readings[at_once] = read(self._encoder(spec), asked)
            reading = self._readings[at_once]
            plain = [i for i, condition in enumerate(asked) if not condition.phrase][:1]
            beside = reading.vectors[0, plain]
            for i in own:
                resolved = tables[i].resolved
                at = asked.index(resolved.asked)
                vector = reading.vectors[0, at : at + 1]
                moved = self._servings.moved(resolved, vector, beside, text)[0]
                word, sure = reading.words[0][at], float(reading.word_probabilities[0, at])
                if resolved.view is not None:
                    said = ([""], [0.0]) if text else resolved.view.said(vector)
                    word, sure = said[0][0], float(said[1][0])
                found[i] = moved, word, sure
        vectors, words, probabilities = zip(*(found[i] for i in range(len(tables))), strict=True)
        return Example(shown, key, False, vectors, words, probabilities)


def _unreadable(shown: str, error: Exception) -> UsageError:
    reason = error.reason if isinstance(error, UnreadableImage) else str(error)
    name = shown if shown.isprintable() and len(shown) <= 300 else shortened(shown)
    if isinstance(error, OSError):
        reason = (error.strerror or reason).lower()
    return UsageError(
        f"Cannot read the query {name}: {reason}; name a picture file, or a path or key of the "
        "gallery."
    )
