"""Runs prepared images through a model in batches, or through its copies on several devices.

Images of one layout share a batch. Where memory runs out for a batch, the batch size is halved for
good; finished results are kept. Copies take batches as they become free, so a slower device does
less; the copies hold the same weights, so it does not matter which one runs an image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from queue import SimpleQueue
from typing import Any

import torch

from indexes.errors import ModelError
from ingest.encoders.devices import free_cached_memory, is_out_of_memory
from ingest.encoders.vlm.lvlm import Lvlm
from ingest.encoders.vlm.processors import Prepared
from ingest.encoders.vlm.states import LastStates
from ingest.read.prefetch import prefetch

#: Numbers of some images, and their states.
BatchResult = tuple[list[int], LastStates]

_Batch = list[tuple[int, Prepared]]


class Runner:
    """Runs prepared images, or texts, through one model or several copies of it."""

    def __init__(self, copies: Sequence[Lvlm], batch_size: int, memory_error: str):
        """Use some models.

        Args:
            copies: the same model, once for each device.
            batch_size: most images in one forward pass.
            memory_error: the error message if there is not enough memory for a single image.
        """
        self.batch_size = batch_size
        self._memory_error = memory_error
        self._free: SimpleQueue[Lvlm] = SimpleQueue()
        for copy in copies:
            self._free.put(copy)
        self._copy_count = len(copies)
        self._threads = ThreadPoolExecutor(self._copy_count, thread_name_prefix="device")

    def run(
        self, prepared: Iterable[Prepared], words: bool, layers: Sequence[int] | None = None
    ) -> Iterator[BatchResult]:
        """Run all images, in batches of one layout.

        Args:
            prepared: consumed one by one, while the model runs on earlier ones.
            words: whether words are needed.
            layers: as for :meth:`ingest.encoders.vlm.lvlm.Lvlm.last_states`.

        Raises:
            ModelError: if there is not enough memory for a single image.
        """

        def run_batch(batch: _Batch) -> list[BatchResult]:
            return list(self._run_batch(batch, words, layers))

        batches = self._batches(prepared)
        if self._copy_count == 1:
            return chain.from_iterable(map(run_batch, batches))
        return chain.from_iterable(
            prefetch(self._threads, run_batch, batches, self._copy_count + 1)
        )

    def _batches(self, prepared: Iterable[Prepared]) -> Iterator[_Batch]:
        """Batches of images with the same layout and prompts, each as soon as it is full."""
        waiting: dict[Any, _Batch] = {}
        for number, image in enumerate(prepared):
            batch = waiting.setdefault(image.bucket, [])
            batch.append((number, image))
            if len(batch) >= self.batch_size:
                yield waiting.pop(image.bucket)
        yield from waiting.values()

    def _run_batch(
        self, batch: _Batch, words: bool, layers: Sequence[int] | None
    ) -> Iterator[BatchResult]:
        while batch:
            part = batch[: self.batch_size]
            last = self._last_states([image for _, image in part], words, layers)
            if last is None:
                # Another thread may have halved it already.
                self.batch_size = min(self.batch_size, len(part) // 2)
                free_cached_memory()
                continue
            batch = batch[len(part) :]
            yield [number for number, _ in part], last

    def _last_states(
        self, batch: Sequence[Prepared], words: bool, layers: Sequence[int] | None
    ) -> LastStates | None:
        """Run a batch of one layout; ``None`` if there is not enough memory for all of its images.

        Raises:
            ModelError: if it does not suffice for a single one.
        """
        lvlm = self._free.get()
        prompts, tails = batch[0].prompts, batch[0].tails
        try:
            last = lvlm.last_states(join_features(batch), prompts, len(batch), words, tails, layers)
            return LastStates(last.states.cpu(), last.tokens.cpu(), last.probabilities.cpu())
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch) > 1:
                return None
            raise ModelError(self._memory_error) from error
        finally:
            self._free.put(lvlm)


def join_features(batch: Sequence[Prepared]) -> dict[str, torch.Tensor]:
    """The tensors of images of one layout, joined along the first dimension.

    MiniCPM-V, which alone gives target sizes, has the patches of all images side by side instead.
    """
    names = batch[0].features
    side_by_side = {"pixel_values"} if "target_sizes" in names else set()
    return {
        name: torch.cat([i.features[name] for i in batch], -1 if name in side_by_side else 0)
        for name in names
    }
