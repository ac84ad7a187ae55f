"""Deals prepared pictures out to a model in batches, or to its copies on several devices.

Pictures of one layout share a batch. Where memory runs out for a batch it is halved, and stays
so; what was done is kept. Copies take batches as they become free, so that a slower device does
less; which of them served a picture does not matter, since all hold the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from queue import SimpleQueue
from typing import Any

import torch

from indexes.errors import ModelError
from ingest.encoders.memory import ran_out, release
from ingest.encoders.vlm.lvlm import LastStates, Lvlm
from ingest.encoders.vlm.processors import Prepared
from ingest.read.prefetch import ahead

#: Some pictures by their numbers, and what became of them.
Served = tuple[list[int], LastStates]

_Batch = list[tuple[int, Prepared]]


class Runner:
    """Runs prepared pictures, or texts, through one model or several copies of it."""

    def __init__(self, copies: Sequence[Lvlm], batch_size: int, too_large: str):
        """Take the models.

        Args:
            copies: the same model, once a device.
            batch_size: most pictures in one forward pass.
            too_large: what to say when memory does not suffice for a single picture.
        """
        self.batch_size = batch_size
        self._too_large = too_large
        self._free: SimpleQueue[Lvlm] = SimpleQueue()
        for copy in copies:
            self._free.put(copy)
        self._count = len(copies)
        self._threads = ThreadPoolExecutor(self._count, thread_name_prefix="device")

    def run(self, prepared: Iterable[Prepared], words: bool) -> Iterator[Served]:
        """Run them all, in batches of one layout.

        Args:
            prepared: taken one by one, while the model is at work on those before.
            words: whether the words are wanted.

        Raises:
            ModelError: if there is no memory for a single one.
        """

        def serve(batch: _Batch) -> list[Served]:
            return list(self._serve(batch, words))

        batches = self._batches(prepared)
        if self._count == 1:
            return chain.from_iterable(map(serve, batches))
        return chain.from_iterable(ahead(self._threads, serve, batches, self._count + 1))

    def _batches(self, prepared: Iterable[Prepared]) -> Iterator[_Batch]:
        """Together what shares layout and prompts; full batches as soon as they are full."""
        waiting: dict[Any, _Batch] = {}
        for number, picture in enumerate(prepared):
            alike = waiting.setdefault(picture.bucket, [])
            alike.append((number, picture))
            if len(alike) >= self.batch_size:
                yield waiting.pop(picture.bucket)
        yield from waiting.values()

    def _serve(self, batch: _Batch, words: bool) -> Iterator[Served]:
        while batch:
            part = batch[: self.batch_size]
            last = self._last_states([picture for _, picture in part], words)
            if last is None:
                # Another thread may have halved it meanwhile.
                self.batch_size = min(self.batch_size, len(part) // 2)
                release()
                continue
            batch = batch[len(part) :]
            yield [number for number, _ in part], last

    def _last_states(self, batch: Sequence[Prepared], words: bool) -> LastStates | None:
        """Run a batch of one layout; ``None`` if there was no memory for so many pictures.

        Raises:
            ModelError: if there was none for a single one.
        """
        lvlm = self._free.get()
        first = batch[0]
        try:
            features = {
                name: torch.cat([picture.features[name] for picture in batch])
                for name in first.features
            }
            last = lvlm.last_states(features, first.prompts, len(batch), words, first.tails)
            return LastStates(last.states.cpu(), last.tokens.cpu(), last.probabilities.cpu())
        except (MemoryError, RuntimeError) as error:
            if not ran_out(error):
                raise
            if len(batch) > 1:
                return None
            raise ModelError(self._too_large) from error
        finally:
            self._free.put(lvlm)
