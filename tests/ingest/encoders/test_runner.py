"""Preparing ahead of the model, and copies on several devices: the same results, in order."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from support.tiny_reference import CONDITIONS, furthest

from indexes.errors import ModelError, UsageError
from ingest.encoders.devices import parse_devices
from ingest.encoders.methods.dior import DiorEncoder
from ingest.encoders.options import EncoderChoice
from ingest.encoders.vlm.lvlm import Lvlm
from ingest.read.prefetch import prefetch

CLOSE = 2e-5


def many(pictures: list[Image.Image], count: int) -> list[Image.Image]:
    """Different pictures of several sizes."""
    return [pictures[n % len(pictures)].rotate(7 * n) for n in range(count)]


# -- ahead -------------------------------------------------------------------------------------


def test_ahead_keeps_order_and_bounds() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        results = prefetch(pool, lambda number: number**2, items(), 5)
        for number in range(20):
            assert next(results) == number**2
            assert len(taken) <= number + 5
        assert list(results) == []


def test_ahead_raises_in_turn_and_begins_nothing_after() -> None:
    begun: list[int] = []

    def work(number: int) -> int:
        begun.append(number)
        return 1 // (2 - number)

    with ThreadPoolExecutor(1) as pool:
        results = prefetch(pool, work, range(100), 4)
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
    assert max(begun) < 10


# -- preparing ---------------------------------------------------------------------------------


def test_pictures_are_prepared_while_the_model_is_at_work(
    qwen: DiorEncoder, pictures: list[Image.Image], monkeypatch: pytest.MonkeyPatch
) -> None:
    images = many([pictures[0]], 8)
    want = qwen.encode(images, CONDITIONS)
    monkeypatch.setattr(qwen.runner, "batch_size", 2)
    prepared, all_prepared = [], threading.Event()
    real_prepare, real_run = type(qwen)._reduced, Lvlm.last_states

    def reduced(self: Any, image: Image.Image) -> Image.Image:
        prepared.append(threading.current_thread().name)
        if len(prepared) >= 5:
            all_prepared.set()
        return real_prepare(self, image)

    def run(self: Any, *given: Any) -> Any:
        # The first batch has two pictures; more must be prepared while it runs.
        assert all_prepared.wait(20)
        return real_run(self, *given)

    monkeypatch.setattr(type(qwen), "_reduced", reduced)
    monkeypatch.setattr(Lvlm, "last_states", run)
    assert furthest(qwen.encode(images, CONDITIONS), want) < CLOSE
    assert all(name.startswith("preparer") for name in prepared)


def test_a_picture_that_cannot_be_prepared_is_raised(
    qwen: DiorEncoder, pictures: list[Image.Image]
) -> None:
    with pytest.raises(ValueError, match="aspect ratio"):
        qwen.encode([pictures[0], Image.new("RGB", (600, 2))], CONDITIONS)
    # The threads still work.
    assert qwen.encode(pictures, CONDITIONS).shape[0] == len(pictures)


# -- copies ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair(qwen_folder: Path) -> DiorEncoder:
    """The tiny Qwen2.5-VL on two devices that are both the processor."""
    return DiorEncoder.load(EncoderChoice("dior", str(qwen_folder), device="cpu,cpu"))


def test_two_devices_give_what_one_gives(
    pair: DiorEncoder,
    qwen: DiorEncoder,
    pictures: list[Image.Image],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = many(pictures, 14)
    want = qwen.embed(images, CONDITIONS)
    monkeypatch.setattr(pair.runner, "batch_size", 1)
    served: list[int] = []
    both = threading.Barrier(2, timeout=20)
    real = Lvlm.last_states

    def run(self: Any, *given: Any) -> Any:
        served.append(id(self))
        if len(served) <= 2:
            # Two copies must run at the same time to pass this barrier.
            both.wait()
        return real(self, *given)

    monkeypatch.setattr(Lvlm, "last_states", run)
    got = pair.embed(images, CONDITIONS)
    assert furthest(got.vectors, want.vectors) < CLOSE
    assert got.words == want.words
    assert len(served) == len(images) and len(set(served)) == 2
    assert pair.spec == qwen.spec
    assert pair.device == "2 cpu" and pair.description.endswith("on 2 devices")
    texts = ["red circle", "green"]
    assert furthest(pair.encode_text(texts, CONDITIONS), qwen.encode_text(texts, CONDITIONS)) < (
        CLOSE
    )


def test_two_devices_share_what_memory_teaches(
    pair: DiorEncoder, qwen: DiorEncoder, pictures: list[Image.Image], monkeypatch: Any
) -> None:
    images = many([pictures[0]], 12)
    want = qwen.encode(images, CONDITIONS)
    monkeypatch.setattr(pair.runner, "batch_size", 4)
    sizes: list[int] = []
    real = Lvlm.last_states

    def run(self: Any, features: Any, prompts: Any, count: int, *more: Any) -> Any:
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sizes.append(count)
        return real(self, features, prompts, count, *more)

    monkeypatch.setattr(Lvlm, "last_states", run)
    assert furthest(pair.encode(images, CONDITIONS), want) < CLOSE
    assert sizes == [1] * 12 and pair.runner.batch_size == 1


@pytest.mark.parametrize(
    ("device", "error", "message"),
    [
        ("cpu,cuda:0", UsageError, "several kinds of devices"),
        ("auto,auto", UsageError, "several kinds of devices"),
        ("cpu,", UsageError, "several kinds"),
        ("tpu,tpu", UsageError, "no --device 'tpu'"),
        ("cuda:0,cuda:1", ModelError, "sees no GPU"),
    ],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is said where there is no GPU")
def test_devices_that_are_not_there(device: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        parse_devices(device)
