"""Speed of a new condition on a gallery of base vectors."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from eval.bench.search.vectors import write_generated
from indexes.store.records import VectorTable
from indexes.vectors import unit
from ingest.conditions import UNCONDITIONAL, Condition
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec
from ingest.encoders.projections.base import PROJECTIONS
from ingest.fill.vector_sources import BASE
from query.engine import Engine

#: Conditions of the queries, with word lists of different lengths.
CONDITIONS = ("color", "mood", "weather", "animal", "texture")

#: The text model of CLIP ViT-B/32: maximum tokens, vocabulary, width, layers, heads.
_TOKENS, _VOCABULARY, _WIDTH, _LAYERS, _HEADS = 77, 49_408, 512, 12, 8


@dataclass(frozen=True)
class ProjectionSpeed:
    """Times of one method in milliseconds: medians over conditions, and the slowest.

    Attributes:
        method: the projection.
        words_ms: to embed a condition's words; part of the next figure.
        first_ms: to the first hits under a new condition: words embedded, projection fitted, all
            vectors projected and kept, ten hits found.
        first_worst_ms: the same of the slowest condition.
        first_processor_ms: processor time of all cores for it, which other work on the machine does
            not change.
        again_ms: time of the next query under the condition.
        opened_ms: to the first hits of a new engine, with the kept projection.
        opened_worst_ms: the same of the slowest condition.
    """

    method: str
    words_ms: float
    first_ms: float
    first_worst_ms: float
    first_processor_ms: float
    again_ms: float
    opened_ms: float
    opened_worst_ms: float


class RandomTextEncoder(BaseEncoder):
    """A text encoder of CLIP ViT-B/32's size with random weights, and no image encoder.

    It is as fast as the real one; its vectors mean nothing.
    """

    def __init__(self, dimension: int):
        """Draw the weights.

        Args:
            dimension: the dimension of the vectors.
        """
        import torch
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        torch.manual_seed(0)
        self._dimension = dimension
        self._model: Any = CLIPTextModelWithProjection(
            CLIPTextConfig(
                vocab_size=_VOCABULARY,
                hidden_size=_WIDTH,
                intermediate_size=4 * _WIDTH,
                projection_dim=dimension,
                num_hidden_layers=_LAYERS,
                num_attention_heads=_HEADS,
                max_position_embeddings=_TOKENS,
            )
        ).eval()
        self.seconds: list[float] = []

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        return EncoderSpec(BASE, "random", "", {"dimension": self._dimension})

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        return "a text encoder of CLIP ViT-B/32's size with random weights"

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`."""

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """It has no image encoder.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`; one token a word, as CLIP has for most words."""
        import torch

        began = time.perf_counter()
        # A begin token, one token a word, and an end token.
        rows = [[hash(word) % (_VOCABULARY - 2) for word in text.split()] for text in texts]
        longest = max(map(len, rows)) + 2
        tokens = torch.full((len(rows), longest), _VOCABULARY - 1)
        for number, row in enumerate(rows):
            tokens[number, 0] = _VOCABULARY - 2
            tokens[number, 1 : len(row) + 1] = torch.tensor(row)
        with torch.inference_mode():
            vectors = unit(self._model(input_ids=tokens).text_embeds.numpy())
        self.seconds.append(time.perf_counter() - began)
        shape = len(texts), len(conditions)
        repeated = np.repeat(vectors[:, None], len(conditions), axis=1)
        return Embeddings(repeated, [[""] * shape[1]] * shape[0], np.zeros(shape, dtype=np.float32))


def bench_projections(
    size: int,
    dimension: int,
    seed: int,
    folder: Path,
    methods: Sequence[str] = tuple(PROJECTIONS),
    conditions: Sequence[str] = CONDITIONS,
    progress: Callable[[str], None] = lambda line: None,
) -> list[ProjectionSpeed]:
    """Measure projections on a gallery of generated base vectors.

    The engine has already answered a query by the base vectors, and the text encoder has embedded a
    text, so that the figures are what a new condition adds.

    Args:
        size: number of vectors.
        dimension: the dimension of each vector.
        seed: the seed of the vectors.
        folder: the folder of the gallery.
        methods: projections to measure.
        conditions: the conditions of the queries, with shipped word lists.
        progress: called with the name of each step.

    Raises:
        GalleryError: if the disk is full.
    """
    encoder = RandomTextEncoder(dimension)
    plain = Condition.parse(UNCONDITIONAL)
    table = VectorTable(UNCONDITIONAL, dimension, encoder.spec.made_by(plain))
    progress(f"Writing a gallery of {size} vectors of {dimension}")
    gallery = write_generated(folder, size, dimension, seed, [table])
    with gallery.writer() as writer:
        writer.put_statistics({table.table: gallery.computed_statistics(table)})
    engine = Engine(gallery, lambda spec: encoder)
    keys = engine.opened(UNCONDITIONAL).keys
    random = np.random.default_rng(seed)

    def asked(engine: Engine, condition: str, method: str) -> float:
        key = keys[int(random.integers(len(keys)))]
        began = time.perf_counter()
        engine.search(key, condition, 10, method=method)
        return 1000 * (time.perf_counter() - began)

    asked(engine, UNCONDITIONAL, BASE)
    encoder.encode_text(["a text"], [plain])
    found = []
    for method in methods:
        progress(f"Measuring {method}")
        encoder.seconds.clear()
        worked = time.process_time()
        first = [asked(engine, condition, method) for condition in conditions]
        worked = 1000 * (time.process_time() - worked) / len(conditions)
        words = [1000 * seconds for seconds in encoder.seconds]
        again = [asked(engine, condition, method) for condition in conditions for _ in range(5)]
        opened = []
        for condition in conditions:
            fresh = Engine(gallery, lambda spec: encoder)
            asked(fresh, UNCONDITIONAL, BASE)
            opened.append(asked(fresh, condition, method))
        median = statistics.median
        found.append(
            ProjectionSpeed(
                method,
                median(words),
                median(first),
                max(first),
                worked,
                median(again),
                median(opened),
                max(opened),
            )
        )
    return found
