"""Embeds the pictures of concurrent requests together, and remembers the latest results.

One thread calls the model. While it works, requests wait in a bounded queue; those with the same
conditions are then embedded in one call. What else needs the model, such as for a text or a
composed query, waits until that thread does not use it: a model has state while it works.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotDone
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from indexes.errors import CiesError
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings

#: Pictures of one call of the model, and embedded pictures that are remembered.
MAX_BATCH, REMEMBERED = 16, 2048

#: Set if the client of the request that is answered has left.
CLIENT_LEFT: ContextVar[threading.Event | None] = ContextVar("client_left", default=None)

#: Seconds between two looks whether the client has left.
_LOOK_SECONDS = 0.25


class ClientLeft(CiesError):
    """Nobody waits for the answer any more."""


def check_client() -> None:
    """Stop working for a client that has left.

    Raises:
        ClientLeft: if it has.
    """
    left = CLIENT_LEFT.get()
    if left is not None and left.is_set():
        raise ClientLeft("The client has left.")


class ServerBusy(CiesError):
    """Too many pictures wait for the model."""

    def __init__(self, waiting: int):
        super().__init__(f"{waiting} pictures wait for the model; try again in a few seconds.")


@dataclass(eq=False)
class _Job:
    """A picture that waits.

    Attributes:
        encoder: embeds it.
        conditions: under which.
        image: the picture.
        memo: under which the result is remembered.
        result: gets the embeddings of this one picture.
    """

    encoder: BaseEncoder
    conditions: tuple[Condition, ...]
    image: Image.Image
    memo: tuple[str, ...]
    result: Future[Embeddings] = field(default_factory=Future)


class EmbeddingQueue:
    """Embeds pictures for many threads with one model.

    Attributes:
        embedded: how many pictures the model has embedded.
        calls: in how many calls.
    """

    def __init__(self, limit: int):
        """Start the thread.

        Args:
            limit: how many pictures may wait; further ones are refused with :class:`ServerBusy`.
        """
        self.embedded = 0
        self.calls = 0
        self._limit = limit
        self._jobs: deque[_Job] = deque()
        self._memory: OrderedDict[tuple[str, ...], Embeddings] = OrderedDict()
        self._ready = threading.Condition()
        self._closed = False
        self._model = threading.Lock()
        #: The thread that uses the model outside of the queue, and how many wait to do so.
        self._user: int | None = None
        self._users = 0
        self._thread = threading.Thread(target=self._work, name="cies-embedding", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many pictures wait for the model."""
        return len(self._jobs) + self._users

    def embed(
        self, encoder: BaseEncoder, images: Sequence[Image.Image], conditions: Sequence[Condition]
    ) -> Embeddings:
        """Embed pictures; waits until the model has done so.

        Args:
            encoder: the model.
            images: RGB images.
            conditions: at least one.

        Raises:
            ServerBusy: if too many pictures wait.
            ClientLeft: if nobody waits for the answer any more.
            CiesError: as the encoder.
        """
        if self._user == threading.get_ident():
            return encoder.embed(images, conditions)
        wanted = tuple(conditions)
        jobs = [_Job(encoder, wanted, image, _memo(encoder, image, wanted)) for image in images]
        with self._ready:
            known = [self._memory.get(job.memo) for job in jobs]
            new = [job for job, found in zip(jobs, known, strict=True) if found is None]
            if new and (self._closed or self.waiting + len(new) > self._limit):
                raise ServerBusy(self.waiting)
            self._jobs.extend(new)
            self._ready.notify()
        try:
            found = [
                _wait_for(job.result) if one is None else one
                for one, job in zip(known, jobs, strict=True)
            ]
        except ClientLeft:
            with self._ready:
                for job in new:
                    if job in self._jobs:
                        self._jobs.remove(job)
            raise
        return Embeddings(
            np.concatenate([one.vectors for one in found]),
            [words for one in found for words in one.words],
            np.concatenate([one.word_probabilities for one in found]),
        )

    @contextmanager
    def using_model(self) -> Iterator[None]:
        """Use the models in a ``with`` block, while nothing else does.

        Raises:
            ServerBusy: if too many wait.
            ClientLeft: if nobody waits for the answer any more.
        """
        if self._user == threading.get_ident():
            yield
            return
        with self._ready:
            if self._closed or self.waiting >= self._limit:
                raise ServerBusy(self.waiting)
            self._users += 1
        try:
            while not self._model.acquire(timeout=_LOOK_SECONDS):
                check_client()
        finally:
            with self._ready:
                self._users -= 1
        self._user = threading.get_ident()
        try:
            yield
        finally:
            self._user = None
            self._model.release()

    def close(self) -> None:
        """Stop the thread; waiting pictures are refused."""
        with self._ready:
            self._closed = True
            self._ready.notify()
        self._thread.join()

    def _work(self) -> None:
        while batch := self._next_batch():
            alone = len(batch) == 1
            if not self._embed(batch, keep_errors=alone) and not alone:
                # One of these pictures fails; the others must not.
                for job in batch:
                    self._embed([job], keep_errors=True)

    def _embed(self, batch: Sequence[_Job], keep_errors: bool) -> bool:
        """Embed pictures in one call; returns whether it succeeded.

        Args:
            batch: pictures with the same encoder and conditions.
            keep_errors: whether those who wait get the error.
        """
        first = batch[0]
        try:
            with self._model:
                made = first.encoder.embed([job.image for job in batch], first.conditions)
        except BaseException as error:  # noqa: BLE001 - goes to those who wait
            for job in batch if keep_errors else ():
                job.result.set_exception(error)
            return False
        self.embedded += len(batch)
        self.calls += 1
        for n, job in enumerate(batch):
            one = Embeddings(
                made.vectors[n : n + 1], [made.words[n]], made.word_probabilities[n : n + 1]
            )
            self._remember(job.memo, one)
            job.result.set_result(one)
        return True

    def _next_batch(self) -> list[_Job]:
        """The next jobs that go into one call; waits for some. Empty when closed."""
        with self._ready:
            while not self._jobs and not self._closed:
                self._ready.wait()
            if self._closed:
                for job in self._jobs:
                    job.result.set_exception(ServerBusy(len(self._jobs)))
                return []
            first = self._jobs[0]
            batch = [
                job
                for job in self._jobs
                if job.encoder is first.encoder and job.conditions == first.conditions
            ][:MAX_BATCH]
            for job in batch:
                self._jobs.remove(job)
            return batch

    def _remember(self, memo: tuple[str, ...], embeddings: Embeddings) -> None:
        with self._ready:
            self._memory[memo] = embeddings
            while len(self._memory) > REMEMBERED:
                self._memory.popitem(last=False)


def _wait_for(result: Future[Embeddings]) -> Embeddings:
    """A result, unless the client leaves.

    Raises:
        ClientLeft: if it has left.
    """
    while True:
        try:
            return result.result(_LOOK_SECONDS)
        except NotDone:
            if result.done():  # the work itself ran out of time
                raise
        check_client()


def _memo(
    encoder: BaseEncoder, image: Image.Image, conditions: Sequence[Condition]
) -> tuple[str, ...]:
    """What determines the embeddings of a picture."""
    pixels = hashlib.sha256(image.tobytes()).hexdigest()
    names = [f"{condition.name}\0{condition.phrase}" for condition in conditions]
    return (str(encoder.spec), pixels, str(image.size), *names)
