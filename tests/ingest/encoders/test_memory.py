"""Running out of memory: batches are halved, finished work is kept, errors are one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny_reference import CONDITIONS, furthest

from indexes.errors import ModelError
from ingest.encoders.devices import is_out_of_memory
from ingest.encoders.methods.dior import DiorEncoder

CPU_WORDS = "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: 9"
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError(CPU_WORDS),
    RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
    MemoryError(),
]


@pytest.fixture
def tight(
    qwen: DiorEncoder, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int, BaseException], list[int]]]:
    """Make the model run out of memory above a batch size; returns the sizes that ran."""
    before = qwen.runner.batch_size

    def limit(most: int, error: BaseException) -> list[int]:
        sizes: list[int] = []
        real = type(qwen.lvlm).last_states

        def run(self: Any, features: Any, prompts: Any, count: int, *more: Any) -> Any:
            if count > most:
                raise error
            sizes.append(count)
            return real(self, features, prompts, count, *more)

        monkeypatch.setattr(type(qwen.lvlm), "last_states", run)
        return sizes

    yield limit
    qwen.runner.batch_size = before


def many(pictures: list[Image.Image], count: int) -> list[Image.Image]:
    """Pictures of one size and some of another, all different."""
    sizes = [(96, 96), (96, 96), (96, 96), (140, 96)]
    return [pictures[n % len(pictures)].resize(sizes[n % 4]).rotate(7 * n) for n in range(count)]


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "mps", "python"])
def test_batches_are_halved_until_they_fit(
    error: BaseException,
    qwen: DiorEncoder,
    tight: Callable[[int, BaseException], list[int]],
    pictures: list[Image.Image],
) -> None:
    images = many(pictures, 22)
    want = qwen.embed(images, CONDITIONS)
    sizes = tight(3, error)
    got = qwen.embed(images, CONDITIONS)
    assert furthest(got.vectors, want.vectors) < 2e-5
    assert got.words == want.words
    assert np.abs(got.word_probabilities - want.word_probabilities).max() < 1e-4
    # Every picture ran exactly once, and 32 was not tried again.
    assert sum(sizes) == len(images) and max(sizes) <= 3
    assert qwen.runner.batch_size == max(sizes) == 2
    del sizes[:]
    qwen.encode(images[:5], CONDITIONS)
    assert sizes == [2, 2, 1]


def test_one_picture_that_does_not_fit(
    qwen: DiorEncoder,
    tight: Callable[[int, BaseException], list[int]],
    pictures: list[Image.Image],
) -> None:
    tight(0, ERRORS[0])
    with pytest.raises(ModelError, match=r"one picture; .*--max-side \(it is 700\).*--model.*cpu"):
        qwen.encode(many(pictures, 3), CONDITIONS)


def test_other_errors_are_not_taken_for_it(
    qwen: DiorEncoder,
    tight: Callable[[int, BaseException], list[int]],
    pictures: list[Image.Image],
) -> None:
    sizes = tight(0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        qwen.encode(pictures, CONDITIONS)
    assert not sizes and qwen.runner.batch_size == 32
    assert not is_out_of_memory(ValueError("out of memory"))


def test_memory_that_really_runs_out_on_a_cpu() -> None:
    with pytest.raises(RuntimeError) as raised:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(raised.value)
