"""Who may use the processors and the models, and for how long."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from cies.server.embedding_queue import EmbeddingQueue
from indexes.errors import GalleryError
from indexes.search.open_table import OpenTable
from ingest.conditions import Condition
from ingest.fill.pipeline import Progress
from query.open_gallery import OpenGallery
from query.ranking.reranker import Reranker, RerankingModel

#: Searches that compute at the same time; further ones wait.
COMPUTING = max(2, os.cpu_count() or 2)

#: Called with the progress of the question that is answered.
PROGRESS: ContextVar[Callable[[Progress], None] | None] = ContextVar("progress", default=None)

#: Whether the question that is answered may store vectors in the gallery.
MAY_STORE: ContextVar[bool] = ContextVar("may_store", default=False)


class Turns:
    """Lets a few threads compute at the same time, so that each is done soon.

    A thread that waits for the model lets another one compute.
    """

    def __init__(self, count: int = COMPUTING):
        """Nobody computes yet.

        Args:
            count: how many threads may compute at the same time.
        """
        self._free = threading.BoundedSemaphore(count)
        self._own = threading.local()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Compute in a ``with`` block, once it is this thread's turn."""
        with self._free:
            self._own.computes = True
            try:
                yield
            finally:
                self._own.computes = False

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Let others compute in a ``with`` block."""
        if not getattr(self._own, "computes", False):
            yield
            return
        self._own.computes = False
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()
            self._own.computes = True


class ServedReranker(Reranker):
    """Re-ranks for a client: round by round, so that other clients' pictures are embedded between,
    and without storing the vectors unless the client may change the gallery.
    """

    def __init__(
        self,
        queue: EmbeddingQueue,
        turns: Turns,
        opened: OpenGallery,
        model: RerankingModel,
        condition: Condition,
    ):
        """Store the arguments; nothing is embedded yet.

        Args:
            queue: whose models are used.
            turns: which are given back while a model is used.
            opened: see :class:`Reranker`, as the other arguments.
            model: see there.
            condition: see there.
        """
        super().__init__(opened, model, condition)
        self._queue = queue
        self._turns = turns

    def table(
        self, keys: Sequence[str], progress: Callable[[Progress], None] = lambda state: None
    ) -> OpenTable | None:
        """See :meth:`Reranker.table`."""
        with self._turns.given_back(), self._queue.using_model():
            return super().table(keys, progress)

    def _embed(self, keys: Sequence[str], progress: Callable[[Progress], None]) -> OpenTable:
        if not MAY_STORE.get():
            raise GalleryError("the server only reads the gallery (`--edit` lets it store them).")
        return super()._embed(keys, progress)
