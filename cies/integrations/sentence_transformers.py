"""An encoder with the methods of sentence-transformers; the prompt is the condition.

Needs no further library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cies.encoder import Encoder, Picture
from indexes.errors import UsageError
from indexes.vectors import unit
from ingest.conditions import UNCONDITIONAL

#: A picture as for :class:`cies.Encoder`, or ``{"image": picture}``, or ``{"text": words}``.
Item = Picture | Mapping[str, Any]


class ConditionalEncoder:
    """Embeds pictures and texts as ``sentence_transformers.SentenceTransformer`` does.

    >>> model = ConditionalEncoder("tiny-lvlm", prompts={"by-color": "color"})
    >>> model.encode(["a.jpg", {"text": "red heart"}], prompt="color").shape
    (2, 192)

    Attributes:
        prompts: names of prompts to conditions, for ``prompt_name``.
        default_prompt_name: the one that is used if none is named; ``None`` for no condition.
    """

    def __init__(
        self,
        model_name_or_path: str | Encoder = "tiny-lvlm",
        device: str | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        **options: Any,
    ):
        """Load a model.

        Args:
            model_name_or_path: as for :meth:`cies.Encoder.load`, or an encoder that is loaded.
            device: where it runs; chosen by default.
            prompts: names to conditions.
            default_prompt_name: one of them.
            options: further arguments of :meth:`cies.Encoder.load`, such as ``method``.

        Raises:
            UsageError: if there is no such prompt, method or device.
            ModelError: if the model cannot be loaded.
        """
        self.prompts = dict(prompts or {})
        self.default_prompt_name = default_prompt_name
        self._condition(None, None)
        if isinstance(model_name_or_path, Encoder):
            self._encoder = model_name_or_path
        else:
            self._encoder = Encoder.load(model_name_or_path, device=device or "auto", **options)

    def encode(
        self,
        sentences: Item | Sequence[Item],
        prompt_name: str | None = None,
        prompt: str | None = None,
        batch_size: int = 32,
        show_progress_bar: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = True,
        truncate_dim: int | None = None,
    ) -> Any:
        """Embed pictures, texts, or both in any mixture.

        Args:
            sentences: one or several; texts are written ``{"text": ...}``, since a plain string is
                the path or address of a picture.
            prompt_name: a name in ``prompts``.
            prompt: the condition itself, such as ``color``; goes before ``prompt_name``.
            batch_size: items per batch.
            show_progress_bar: show progress on stderr.
            convert_to_numpy: without it and without ``convert_to_tensor``, a list of arrays.
            convert_to_tensor: return a torch tensor.
            normalize_embeddings: must be true: all vectors of CIES have unit length.
            truncate_dim: keep the first numbers and scale to unit length again.

        Returns:
            float32 [n, dim], or [dim] for a single item.

        Raises:
            UsageError: if a picture cannot be read, or an argument cannot be served.
            ModelError: if the model does not support the condition, or reads no texts.
        """
        if not normalize_embeddings:
            raise UsageError("Vectors of CIES have unit length; leave normalize_embeddings out.")
        single = isinstance(sentences, (str, Path, bytes, Image.Image, np.ndarray, Mapping))
        items: list[Any] = [sentences] if single else list(sentences)  # type: ignore[arg-type]
        vectors = self._vectors(
            items, self._condition(prompt_name, prompt), batch_size, bool(show_progress_bar)
        )
        if truncate_dim is not None:
            if not 1 <= truncate_dim <= self._encoder.dimension:
                raise UsageError(
                    f"truncate_dim is {truncate_dim}; give 1 to {self._encoder.dimension}."
                )
            vectors = unit(vectors[:, :truncate_dim]) if len(vectors) else vectors
        if convert_to_tensor:
            import torch

            tensor = torch.from_numpy(vectors)
            return tensor[0] if single else tensor
        if single:
            return vectors[0]
        return vectors if convert_to_numpy else list(vectors)

    encode_query = encode
    encode_document = encode

    def similarity(self, first: Any, second: Any) -> NDArray[np.float32]:
        """Cosines of two sets of vectors: float32 [n, m]."""
        one, other = (
            np.atleast_2d(np.asarray(given, dtype=np.float32)) for given in (first, second)
        )
        cosines: NDArray[np.float32] = unit(one) @ unit(other).T
        return cosines

    def get_sentence_embedding_dimension(self) -> int:
        """The length of a vector."""
        return self._encoder.dimension

    def _condition(self, prompt_name: str | None, prompt: str | None) -> str:
        if prompt is not None:
            return prompt
        name = prompt_name or self.default_prompt_name
        if name is None:
            return UNCONDITIONAL
        if name not in self.prompts:
            raise UsageError(
                f"There is no prompt '{name}'; choose one of "
                f"{', '.join(self.prompts) or 'none'}, or give the condition as prompt."
            )
        return self.prompts[name]

    def _vectors(
        self, items: Sequence[Any], condition: str, batch_size: int, show: bool
    ) -> NDArray[np.float32]:
        """The vectors of pictures and texts, in order: float32 [n, dim]."""
        vectors = np.empty((len(items), self._encoder.dimension), dtype=np.float32)
        pictures: dict[int, Any] = {}
        texts: dict[int, str] = {}
        for number, item in enumerate(items):
            if not isinstance(item, Mapping):
                pictures[number] = item
            elif set(item) == {"image"}:
                pictures[number] = item["image"]
            elif set(item) == {"text"}:
                texts[number] = str(item["text"])
            else:
                raise UsageError(
                    f"Item {number} has the keys {', '.join(map(str, item)) or 'none'}; give "
                    "'image' or 'text' alone."
                )
        for part, encode in ((pictures, self._encoder.encode), (texts, self._encoder.encode_text)):
            if part:
                rows = encode(list(part.values()), condition, batch_size, show)
                vectors[list(part)] = rows
        return vectors
