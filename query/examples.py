"""The examples of a question, with vectors that the gallery stores or the model embeds now."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import UsageError
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings
from ingest.read.images import FileBytes, UnreadableImage, read_bytes
from ingest.read.pixels import PIXELS
from query.open_gallery import OpenGallery
from query.open_tables import OpenCondition, OpenTables
from query.question import NamedPicture, Picture, Question, Region, shortened

_KEY = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Example:
    """A picture or text that hits should be like, with its vector under each condition.

    Attributes:
        shown: its path or key as given, or ``image`` for a picture in memory; empty for a text.
        key: SHA-256 of its bytes if known, else empty.
        in_gallery: whether the vectors are stored ones, so that no model was needed.
        vectors: float32 [dim] for each condition, unit length.
        words: the model's word for it under each condition.
        word_probabilities: the probabilities of these words.
    """

    shown: str
    key: str
    in_gallery: bool
    vectors: Sequence[NDArray[np.float32]]
    words: Sequence[str]
    word_probabilities: Sequence[float]


@dataclass(frozen=True)
class _Source:
    """A picture as it is given.

    Attributes:
        shown: see :class:`Example`.
        key: SHA-256 of its bytes, or empty for pixels.
        known: whether the gallery knows it by its path or key.
        read: its picture in memory, or the content of its file.
        suffix: the suffix of its name in lower case.
    """

    shown: str
    key: str
    known: bool
    read: Callable[[], bytes | Image.Image | NDArray[Any]]
    suffix: str = ""

    def decode(self, side: int | None, pixels: int = PIXELS) -> Image.Image:
        """The picture as RGB, exactly as an ingest reads it.

        Args:
            side: pixels to which its longest side is reduced; ``None`` for full size.
            pixels: the version of the reading, see :data:`ingest.read.pixels.PIXELS`.

        Raises:
            UsageError: if it cannot be read.
        """
        from ingest.read.isolated import decode_isolated, picture_of

        try:
            given = self.read()
            if isinstance(given, bytes):
                return decode_isolated(given, side, self.suffix, pixels).image
            return picture_of(given, side, pixels).image
        except UnreadableImage as error:
            raise _unreadable(self.shown, error) from error


class ExampleEmbedder:
    """Gives pictures and texts their vectors: stored ones if the gallery has them, else new ones.

    A picture that is given twice, as when a table has grown meanwhile, is embedded once.
    """

    def __init__(self, opened: OpenGallery, tables: OpenTables | None = None):
        """Store the arguments; nothing is read yet.

        Args:
            opened: the gallery.
            tables: whose geometry new vectors are moved into; that of the search by default.
        """
        self._opened = opened
        self._tables = tables or opened.tables
        self._embeddings: dict[tuple[int, str], Embeddings] = {}

    def examples(self, question: Question, conditions: Sequence[OpenCondition]) -> list[Example]:
        """All examples of a question, moved by its rated pictures; see :meth:`text`,
        :meth:`picture` and :meth:`moved`.
        """
        if question.text:
            found = [self.text(question.text, conditions)]
        else:
            found = [self.picture(one, question.region, conditions) for one in question.pictures]
        vectors = [list(own) for own in zip(*(one.vectors for one in found), strict=True)]
        vectors = self.moved(question, conditions, vectors)
        return [
            replace(one, vectors=[own[number] for own in vectors])
            for number, one in enumerate(found)
        ]

    def moved(
        self,
        question: Question,
        conditions: Sequence[OpenCondition],
        vectors: Sequence[Sequence[NDArray[np.float32]]],
    ) -> list[list[NDArray[np.float32]]]:
        """Vectors of examples, moved by the pictures that the question likes and dislikes.

        Under conditions in which hits shall differ nothing is moved: that a picture is liked does
        not say that its color is the one to avoid.

        Args:
            question: the question.
            conditions: of the vectors.
            vectors: for each condition, float32 [dim] for each example, unit length.

        Raises:
            UsageError: if a rated picture cannot be read.
            ModelError: if one is new and the model cannot be loaded.
        """
        unchanged = [list(own) for own in vectors]
        alike = [number for number, one in enumerate(conditions) if one.weight > 0]
        if not alike or not (question.like or question.dislike):
            return unchanged
        from query.explore.feedback import moved, table_mean

        under = [conditions[number] for number in alike]
        liked, disliked = (
            [self.picture(one, None, under).vectors for one in rated]
            for rated in (question.like, question.dislike)
        )
        for position, number in enumerate(alike):
            mean = table_mean(conditions[number].table)
            good, bad = (
                np.stack([one[position] for one in rated])
                if rated
                else np.zeros((0, len(mean)), dtype=np.float32)
                for rated in (liked, disliked)
            )
            unchanged[number] = [
                moved(vector, good, bad, mean, question.feedback) for vector in vectors[number]
            ]
        return unchanged

    def keys(self, pictures: Sequence[Picture]) -> tuple[str, ...]:
        """The SHA-256 of each picture's bytes; empty for pixels.

        Raises:
            UsageError: if a picture cannot be read.
        """
        return tuple(self._source(one).key for one in pictures)

    def text(self, text: str, conditions: Sequence[OpenCondition]) -> Example:
        """A text as an example.

        Raises:
            UsageError: if the text cannot be embedded.
            ModelError: if the model cannot be loaded or was not trained on texts.
        """

        def embed(encoder: BaseEncoder, wanted: list[Condition]) -> Embeddings:
            return encoder.embed_text([text], wanted)

        return self._embed("", "", conditions, embed, is_text=True)

    def picture(
        self, given: Picture, region: Region | None, conditions: Sequence[OpenCondition]
    ) -> Example:
        """A picture, or a region of one, as an example.

        Args:
            given: see :data:`query.question.Picture`.
            region: the region to compare; a region is always embedded.
            conditions: at least one.

        Raises:
            UsageError: if the picture cannot be read.
            ModelError: if it must be embedded and the model cannot be loaded.
        """
        source = self._source(given)
        rows = [one.table.row(source.key) for one in conditions]
        if region is None and (source.known or all(row is not None for row in rows)):
            return self._stored(source, conditions)
        if isinstance(given, (str, Path, bytes)):
            from ingest.read.isolated import prepare_decoder

            prepare_decoder()  # It starts while the model is loaded.

        def embed(encoder: BaseEncoder, wanted: list[Condition]) -> Embeddings:
            # A region is cut from the picture at full size, so that no detail of it is lost.
            side, pixels = encoder.spec.max_side, _version(conditions, encoder)
            image = source.decode(None if region else side, pixels)
            image = region.of(image) if region else image
            return self._opened.encoders.embed_images(encoder, [image], wanted)

        # The question keeps a reference to what is given, so that no other object gets its id.
        return self._embed(source.shown, source.key, conditions, embed, memo=id(given))

    def image(self, given: Picture, region: Region | None) -> Image.Image:
        """The pixels of a picture or of a region of one, for models that look at them.

        Raises:
            UsageError: if the picture cannot be read.
        """
        image = self._source(given).decode(None)
        return region.of(image) if region else image

    def picture_embedded_by(
        self,
        given: Picture,
        region: Region | None,
        conditions: Sequence[OpenCondition],
        embed: Callable[[BaseEncoder, Image.Image, list[Condition]], Embeddings],
    ) -> Example:
        """A picture as an example, with vectors that a function makes in place of the encoder's
        usual ones.

        Args:
            given: see :meth:`picture`.
            region: see :meth:`picture`.
            conditions: see :meth:`picture`.
            embed: embeds the image with a table's encoder.

        Raises:
            UsageError: if the picture cannot be read.
            ModelError: if the model cannot be loaded.
        """
        source = self._source(given)

        def embed_region(encoder: BaseEncoder, wanted: list[Condition]) -> Embeddings:
            image = source.decode(None, _version(conditions, encoder))
            return embed(encoder, region.of(image) if region else image, wanted)

        return self._embed(
            source.shown, source.key if source.known else "", conditions, embed_region
        )

    def _source(self, given: Picture) -> _Source:
        """A picture as it is given, recognised if it is one of the gallery.

        Raises:
            UsageError: if it cannot be read.
        """
        if isinstance(given, (np.ndarray, Image.Image)):
            image = given
            return _Source("image", "", False, lambda: image)
        if isinstance(given, bytes):
            data, key = given, hashlib.sha256(given).hexdigest()
            return _Source("image", key, False, lambda: data)
        if isinstance(given, NamedPicture):
            return self._named_source(given)
        shown, suffix = str(given), Path(given).suffix.lower()
        known = self._known_key(shown)
        content = self._read(shown, None) if known is None else None

        def read() -> bytes:
            return (self._read(shown, known) if content is None else content).data

        key = content.key if content is not None else str(known)
        return _Source(shown, key, known is not None, read, suffix)

    def _named_source(self, given: NamedPicture) -> _Source:
        """As :meth:`_source` for the name, with the file as the other process has read it."""
        name, data, suffix = given.name, given.data, given.path.suffix.lower()
        known = self._key_by_name(name, given.path)
        if data is not None:
            content, key = data, hashlib.sha256(data).hexdigest()
            known_name = _KEY.fullmatch(name) is not None and known is not None
            if not known_name:
                return _Source(name, key, known == key, lambda: content, suffix)
        if known is None:
            raise _unreadable(name, UnreadableImage("vanished", "the file does not exist"))
        found = known
        return _Source(name, found, True, lambda: self._read(name, found).data, suffix)

    def _key_by_name(self, name: str, path: Path) -> str | None:
        """The key of a picture of the gallery, by key or by path, as it was ingested."""
        paths = self._opened.paths
        if _KEY.fullmatch(name) and name in paths:
            return name
        return paths.key_of(self._opened.gallery.stored(path)) or paths.key_of(name)

    def _known_key(self, name: str) -> str | None:
        """The key of a picture of the gallery, by key or by path, if its file is unchanged."""
        path = Path(name)
        key = self._key_by_name(name, path)
        if key is None or key == name:
            return key
        if not path.exists():
            return key
        try:
            return key if read_bytes(path.resolve()).key == key else None
        except UnreadableImage:
            return None  # It is another file by now, and reading it as a new picture says why.

    def _stored(self, source: _Source, conditions: Sequence[OpenCondition]) -> Example:
        """A picture of the gallery as an example, with its stored vectors."""
        vectors, words, probabilities = [], [], []
        for condition in conditions:
            table, row = condition.table, condition.table.row(source.key)
            if row is None:
                name = condition.resolved.stored.name
                raise UsageError(
                    f"{source.shown} is in the gallery but not embedded under '{name}'; run "
                    f'`cies ingest` on it with `--condition "{name}"` first.'
                )
            vectors.append(table.vectors(np.array([row]))[0])
            words.append(table.words[row])
            probabilities.append(float(table.word_probabilities[row]))
        return Example(source.shown, source.key, True, vectors, words, probabilities)

    def _read(self, shown: str, key: str | None) -> FileBytes:
        """The bytes of a picture file, from the gallery's source if the gallery knows it."""
        try:
            if "\0" in shown:
                raise UnreadableImage("vanished", "a file name cannot hold a NUL character")
            if key is None and shown.lower().startswith(("http://", "https://")):
                reason = "it is a web address; fetch it, and give its bytes"
                raise UnreadableImage("unsupported", reason)
            if key is None:
                return read_bytes(Path(shown))
            from ingest.sources.factory import file_at

            return file_at(self._opened.gallery.location(self._opened.paths[key][0])).read()
        except (UnreadableImage, UsageError, OSError) as error:
            raise _unreadable(shown, error) from error

    def _embed(
        self,
        shown: str,
        key: str,
        conditions: Sequence[OpenCondition],
        embed: Callable[[BaseEncoder, list[Condition]], Embeddings],
        memo: int | None = None,
        is_text: bool = False,
    ) -> Example:
        """Embed under all conditions, in one call of each encoder.

        Args:
            shown: see :class:`Example`.
            key: see :class:`Example`.
            conditions: at least one.
            embed: calls an encoder.
            memo: identifies the picture, so that it is embedded once; ``None`` for no memo.
            is_text: whether it is a text.
        """
        found: dict[int, tuple[NDArray[np.float32], str, float]] = {}
        for number, condition in enumerate(conditions):
            if number in found:
                continue
            spec = condition.resolved.spec
            same = [n for n, one in enumerate(conditions) if one.resolved.spec == spec]
            wanted: list[Condition] = []
            for n in same:
                if conditions[n].resolved.encoder_condition not in wanted:
                    wanted.append(conditions[n].resolved.encoder_condition)
            subtracts = any(
                self._tables.subtracts_unconditional(conditions[n].resolved) for n in same
            )
            if subtracts and all(one.phrase for one in wanted):
                wanted.append(Condition.parse(UNCONDITIONAL))
            embeddings = self._embeddings.get((memo, f"{spec} {wanted}")) if memo else None
            if embeddings is None:
                embeddings = embed(self._opened.encoders.of(spec), wanted)
                if memo:
                    self._embeddings[memo, f"{spec} {wanted}"] = embeddings
            plain = [n for n, one in enumerate(wanted) if not one.phrase][:1]
            unconditional = embeddings.vectors[0, plain]
            for n in same:
                resolved = conditions[n].resolved
                at = wanted.index(resolved.encoder_condition)
                vector = embeddings.vectors[0, at : at + 1]
                moved = self._tables.transform_new(resolved, vector, unconditional, is_text)[0]
                word, probability = embeddings.words[0][at], embeddings.word_probabilities[0, at]
                if resolved.projection is not None:
                    said = ([""], [0.0]) if is_text else resolved.projection.nearest_words(vector)
                    word, probability = said[0][0], said[1][0]
                found[n] = moved, word, float(probability)
        vectors, words, probabilities = zip(*(found[n] for n in range(len(found))), strict=True)
        return Example(shown, key, False, vectors, words, probabilities)


def _version(conditions: Sequence[OpenCondition], encoder: BaseEncoder) -> int:
    """The version of reading pictures that the vectors of an encoder's tables were made with."""
    specs = [one.resolved.spec for one in conditions]
    return next((spec.pixels for spec in specs if spec == encoder.spec), encoder.spec.pixels)


def _unreadable(shown: str, error: Exception) -> UsageError:
    reason = error.reason if isinstance(error, UnreadableImage) else str(error)
    name = shown if shown.isprintable() and len(shown) <= 300 else shortened(shown)
    if isinstance(error, OSError):
        reason = (error.strerror or reason).lower()
    return UsageError(
        f"Cannot read the query {name}: {reason}; name a picture file, or a path or key of the "
        "gallery."
    )
