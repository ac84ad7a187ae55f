"""An embedding function of LanceDB with the condition as a parameter, named ``cies``.

>>> from lancedb.embeddings import get_registry
>>> import cies.integrations.lancedb
>>> color = get_registry().get("cies").create(condition="color")
"""

from __future__ import annotations

from typing import Any

from lancedb.embeddings import EmbeddingFunction, register

from cies.encoder import Encoder


@register("cies")
class CiesEmbeddings(EmbeddingFunction):  # type: ignore[misc]
    """Embeds pictures of a LanceDB table under one condition.

    A source column holds paths, addresses or bytes of pictures. A query is one of these or, as
    ``{"text": words}``, a text.

    Attributes:
        model: as for :meth:`cies.Encoder.load`.
        method: as for :meth:`cies.Encoder.load`.
        condition: in which respect pictures are compared.
        device: where the model runs.
    """

    model: str = "tiny-lvlm"
    method: str = "dior"
    condition: str = "unconditional"
    device: str = "auto"

    def ndims(self) -> int:
        """The length of a vector."""
        return self._loaded().dimension

    def compute_source_embeddings(self, images: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """The vectors of pictures, as lists of numbers."""
        pictures = images.to_pylist() if hasattr(images, "to_pylist") else images
        if isinstance(pictures, (str, bytes)) or not isinstance(pictures, (list, tuple)):
            pictures = [pictures]
        found: list[Any] = self._loaded().encode(list(pictures), self.condition).tolist()
        return found

    def compute_query_embeddings(self, query: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """The vector of a picture, or of ``{"text": words}``, in a list."""
        if isinstance(query, dict) and set(query) == {"text"}:
            found: list[Any] = self._loaded().encode_text([query["text"]], self.condition).tolist()
            return found
        return self.compute_source_embeddings([query])

    def _loaded(self) -> Encoder:
        key = (self.model, self.method, self.device)
        if key not in _LOADED:
            _LOADED[key] = Encoder.load(self.model, method=self.method, device=self.device)
        return _LOADED[key]


#: Functions that differ by their condition share one model.
_LOADED: dict[tuple[str, str, str], Encoder] = {}
