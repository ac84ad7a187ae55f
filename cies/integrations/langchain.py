"""A retriever of LangChain over a gallery; needs the extra ``cies[langchain]``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict

from cies.gallery_search import SearchableGallery


class CiesRetriever(BaseRetriever):  # type: ignore[misc]
    """Pictures of a gallery that are alike under a condition, as documents.

    >>> retriever = CiesRetriever(gallery=cies.open("photos.cies"), condition="color", k=5)
    >>> retriever.invoke("photos/mug.jpg")  # a picture file, or the key of a picture
    >>> retriever.invoke("red mug")  # a text, for methods that embed texts

    A document's content is the model's word, or the path where there is none; its metadata has
    ``path``, ``key``, ``score``, ``percentile``, ``word`` and the user's columns.

    Attributes:
        gallery: the open gallery.
        condition: in which respect pictures are compared.
        k: how many documents.
        where: a filter, such as ``price < 9``.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    gallery: SearchableGallery
    condition: str
    k: int = 4
    where: str | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **_: Any
    ) -> list[Document]:
        if self._is_picture(query):
            hits = self.gallery.search(query, self.condition, k=self.k, where=self.where)
        else:
            hits = self.gallery.search_text(query, self.condition, k=self.k, where=self.where)
        return [
            Document(
                page_content=hit.word or hit.path,
                metadata={
                    **hit.columns,
                    "path": hit.path,
                    "key": hit.key,
                    "score": hit.score,
                    "percentile": hit.percentile,
                    "word": hit.word,
                },
            )
            for hit in hits
        ]

    def _is_picture(self, query: str) -> bool:
        """Whether a query is a picture: a file, or the key of one of the gallery."""
        try:
            return self.gallery.has(query) or Path(query).is_file()
        except (OSError, ValueError):  # a text that cannot be a path
            return False
