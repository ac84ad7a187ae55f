"""Encoders of one's own: any object with ``encode`` as an encoder of this project."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from indexes.errors import ModelError, UsageError
from indexes.search.vectors import Vectors, unit
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, PlainEncoder, check_text

#: What a method may be called: the name is part of options and of stored JSON.
_METHOD_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


class CustomEncoder(BaseEncoder):
    """An object with ``encode``, as an encoder. Vectors are checked and scaled to unit length."""

    def __init__(self, source: PlainEncoder, method: str | None = None):
        """Read and check the object's attributes.

        Args:
            source: see :class:`ingest.encoders.base.PlainEncoder`.
            method: the method's name; by default the object's ``name``, or its class's.

        Raises:
            UsageError: if the object does not follow the protocol.
        """
        kind = type(source)
        if isinstance(source, type):
            raise UsageError(
                f"{source.__name__} is a class and not an encoder; make one of it first, such as "
                f"model={source.__name__}()."
            )
        if not callable(getattr(source, "encode", None)):
            raise UsageError(
                f"{kind.__name__} has no method encode(images, conditions), so it is not an "
                "encoder; add one."
            )
        self.source = source
        name = method or str(getattr(source, "name", kind.__name__))
        if not _METHOD_NAME.fullmatch(name):
            raise UsageError(
                f"An encoder cannot be named {name!r}; use letters, digits, '-', '_' and '.'."
            )
        settings = dict(getattr(source, "settings", {}))
        model = str(getattr(source, "model", f"{kind.__module__}.{kind.__qualname__}"))
        self._spec = EncoderSpec(name, model, str(getattr(source, "revision", "1")), settings)
        self._dimension: int | None = getattr(source, "dimension", None)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        return self._spec

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        if self._dimension is None:
            grey = Image.new("RGB", (32, 32), (127, 127, 127))
            whole = [Condition(UNCONDITIONAL, "")]
            self._dimension = int(np.shape(self.source.encode([grey], whole))[-1])
        return self._dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return f"{self.spec.model}, an encoder of your own"

    @property
    def conditional(self) -> bool:
        """See :class:`BaseEncoder`."""
        return bool(getattr(self.source, "conditional", True))

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`."""
        check: Callable[[Sequence[Condition]], None] | None = getattr(self.source, "check", None)
        if check is not None:
            check(conditions)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty."""
        self.check(conditions)
        return self._read(self.source.encode, images, conditions)

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; words are empty."""
        encode_text = getattr(self.source, "encode_text", None)
        if encode_text is None:
            return super().embed_text(texts, conditions, words)
        for text in texts:
            check_text(text)
        self.check(conditions)
        return self._read(encode_text, texts, conditions)

    def _read(
        self,
        encode: Callable[[Any, Sequence[Condition]], Any],
        items: Sequence[Any],
        conditions: Sequence[Condition],
    ) -> Embeddings:
        shape = (len(items), len(conditions), self.dimension)
        vectors: Vectors = np.zeros(shape, dtype=np.float32)
        if items and conditions:
            made = np.asarray(encode(items, conditions))
            if made.shape != shape:
                raise ModelError(
                    f"The encoder {self.spec.method} returned an array of shape {made.shape} in "
                    f"place of {shape}: [images, conditions, dimension]; correct its encode."
                )
            try:
                vectors = unit(made)
            except ValueError as error:
                raise ModelError(
                    f"The encoder {self.spec.method} returned vectors that have no direction: "
                    f"{error}; correct its encode."
                ) from error
        return Embeddings.without_words(vectors)
