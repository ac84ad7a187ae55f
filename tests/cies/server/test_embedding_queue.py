"""Many threads share one model."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from cies.server.embedding_queue import EmbeddingQueue, ServerBusy
from indexes.errors import ModelError
from ingest.conditions import Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec

COLOR = [Condition.parse("color")]


class Sleeper(BaseEncoder):
    """Takes 5 ms a picture and 20 ms a call; the vector is the picture's first pixel."""

    spec = EncoderSpec("sleeper", "none", "1", {})
    dimension = 3
    description = "sleeps"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.alone = threading.Lock()

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        assert self.alone.acquire(blocking=False), "two calls at the same time"
        time.sleep(0.02 + 0.005 * len(images))
        self.batches.append(len(images))
        self.alone.release()
        if any(image.getpixel((0, 0)) == (255, 0, 0) for image in images):
            raise ModelError("The model does not like red.")
        pixels = np.array([image.getpixel((0, 0)) for image in images], dtype=np.float32)
        return Embeddings.without_words(np.repeat(pixels[:, None], len(conditions), axis=1))

    def check(self, conditions: Sequence[Condition]) -> None:
        pass


def plain(number: int) -> Image.Image:
    return Image.new("RGB", (4, 4), (number, 1, 1))


def test_concurrent_pictures_share_calls_and_get_their_own_vectors() -> None:
    encoder, queue = Sleeper(), EmbeddingQueue(100)
    with ThreadPoolExecutor(32) as pool:
        found = list(pool.map(lambda n: queue.embed(encoder, [plain(n)], COLOR), range(32)))
    assert [int(one.vectors[0, 0, 0]) for one in found] == list(range(32))
    assert sum(encoder.batches) == 32 and len(encoder.batches) <= 8
    # A picture that was embedded before does not need the model.
    assert queue.embed(encoder, [plain(7)], COLOR).vectors[0, 0, 0] == 7
    assert sum(encoder.batches) == 32
    queue.close()


def test_a_full_queue_refuses() -> None:
    encoder, queue = Sleeper(), EmbeddingQueue(2)
    outcomes: list[str] = []

    def ask(number: int) -> None:
        try:
            queue.embed(encoder, [plain(number)], COLOR)
            outcomes.append("done")
        except ServerBusy:
            outcomes.append("busy")

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(ask, range(20)))
    assert outcomes.count("done") >= 2 and outcomes.count("busy") >= 10
    assert queue.embed(encoder, [plain(100)], COLOR).vectors.shape == (1, 1, 3)
    queue.close()


def test_one_bad_picture_does_not_fail_the_others_of_its_call() -> None:
    encoder, queue = Sleeper(), EmbeddingQueue(100)

    def ask(number: int) -> str:
        image = Image.new("RGB", (4, 4), (255, 0, 0)) if number == 9 else plain(number)
        try:
            return str(queue.embed(encoder, [image], COLOR).vectors[0, 0, 0])
        except ModelError:
            return "refused"

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert found == ["refused" if n == 9 else f"{n}.0" for n in range(16)]
    queue.close()


def test_an_error_reaches_those_who_wait_and_the_queue_goes_on() -> None:
    encoder, queue = Sleeper(), EmbeddingQueue(10)
    with pytest.raises(ModelError, match="red"):
        queue.embed(encoder, [Image.new("RGB", (4, 4), (255, 0, 0))], COLOR)
    assert queue.embed(encoder, [plain(3)], COLOR).vectors[0, 0, 0] == 3
    queue.close()
    with pytest.raises(ServerBusy):
        queue.embed(encoder, [plain(4)], COLOR)
