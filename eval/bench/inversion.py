"""Textual inversion: whether a picture's word finds the picture, and the time of a query."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from eval.world.factors import sample_scenes
from eval.world.render import render
from indexes.vectors import Vectors
from ingest.encoders.dual.encoder import DualEncoder
from ingest.encoders.inversion.encoder import OPTIMISED, Inversion
from ingest.encoders.inversion.networks import NETWORKS
from ingest.encoders.inversion.oti import invert
from ingest.encoders.inversion.pseudo_words import PLACE

#: Side of a picture in pixels; the networks were trained on smaller ones.
SIZE = 160

#: The change of the timed queries.
CHANGE = "the same in green"

#: The word of the plain text queries in the place of the picture's word.
_WORD = "heart"


@dataclass(frozen=True)
class InversionQuality:
    """The figures of one composer.

    Attributes:
        composer: its name.
        first: share of the pictures that a sentence with only their word finds first.
        ten: share that it finds among the first ten.
        cosine: mean cosine of that sentence with the picture.
        length: mean length of the words' vectors.
        own_length: mean length of the model's own words.
        loss_first: mean loss of the first ten steps of the optimisation; ``None`` for networks.
        loss_last: mean loss of its last ten steps.
        query_ms: median time of a query with the word of a picture.
        text_ms: median time of a plain text query with a word in its place.
        ratio: median of the ratios of neighbouring queries.
    """

    composer: str
    first: float
    ten: float
    cosine: float
    length: float
    own_length: float
    loss_first: float | None
    loss_last: float | None
    query_ms: float
    text_ms: float
    ratio: float


def measure(
    clip: str,
    pictures: int,
    seed: int,
    rounds: int,
    composers: Sequence[str] = (),
    progress: Callable[[str], None] = lambda line: None,
) -> list[InversionQuality]:
    """Measure composers on rendered pictures that no network was trained on.

    Args:
        clip: a dual encoder's name.
        pictures: number of pictures.
        seed: the seed of the pictures; one that no network was trained on.
        rounds: number of timed queries, in turn with plain text queries.
        composers: the composers to measure; all by default.
        progress: called with the name of each step.

    Raises:
        ModelError: if the model or a network is not available.
    """
    dual = DualEncoder.load(clip)
    inversion = Inversion.of(dual)
    names = list(composers or (OPTIMISED, *NETWORKS))
    progress(f"rendering {pictures} pictures")
    drawn = [render(scene, SIZE) for scene in sample_scenes(pictures, seed)]
    base = dual.encode_images(drawn)
    own = float(inversion.words.word_embeddings(inversion.phrases.concepts).norm(dim=-1).mean())
    found = []
    for name in names:
        progress(f"measuring {name}")
        losses = None
        if name == OPTIMISED:
            made = invert(inversion.words, inversion.phrases, base)
            tokens, losses = made.tokens, made.losses
        else:
            tokens = inversion.tokens(name, base)
        cosines = inversion.encode(inversion.image_text(name), tokens) @ base.T
        better = (cosines > np.diag(cosines)[:, None]).sum(1)
        # The word of searle-oti is computed once and kept, as a picture's vector is.
        query, text = _timed(inversion, dual, base, name, tokens, rounds)
        found.append(
            InversionQuality(
                name,
                float(np.mean(better == 0)),
                float(np.mean(better < 10)),
                float(np.diag(cosines).mean()),
                float(np.linalg.norm(tokens, axis=1).mean()),
                own,
                None if losses is None else float(losses[:10].mean()),
                None if losses is None else float(losses[-10:].mean()),
                1000 * float(np.median(query)),
                1000 * float(np.median(text)),
                float(np.median(np.array(query) / np.array(text))),
            )
        )
    return found


def _timed(
    inversion: Inversion,
    dual: DualEncoder,
    base: Vectors,
    name: str,
    tokens: Vectors,
    rounds: int,
) -> tuple[list[float], list[float]]:
    """Seconds of queries and of plain text queries, in turn, after a few warm-up queries."""
    sentence = inversion.query_text(name, CHANGE)
    plain = sentence.replace(PLACE, _WORD)

    def ask(number: int) -> None:
        seen = base[number % len(base)][None]
        kept = tokens[number % len(base)][None]
        token = kept if name == OPTIMISED else inversion.tokens(name, seen)
        (base @ inversion.encode(sentence, token)[0]).argmax()

    def read(number: int) -> None:
        (base @ dual.encode_texts([plain])[0]).argmax()

    times: tuple[list[float], list[float]] = ([], [])
    for number in range(-5, rounds):
        both = list(zip(times, (ask, read), strict=True))
        # The order alternates, so that it does not matter.
        for kept, work in both if number % 2 else both[::-1]:
            started = time.perf_counter()
            work(number)
            if number >= 0:
                kept.append(time.perf_counter() - started)
    return times


#: Columns of the table: heading, and the format of a figure.
_COLUMNS: tuple[tuple[str, Callable[[InversionQuality], str]], ...] = (
    ("composer", lambda one: one.composer),
    ("itself first", lambda one: f"{one.first:.3f}"),
    ("in ten", lambda one: f"{one.ten:.3f}"),
    ("cosine", lambda one: f"{one.cosine:.3f}"),
    ("length", lambda one: f"{one.length:.2f}"),
    ("loss, first steps", lambda one: "" if one.loss_first is None else f"{one.loss_first:.3f}"),
    ("loss, last", lambda one: "" if one.loss_last is None else f"{one.loss_last:.3f}"),
    ("query, ms", lambda one: f"{one.query_ms:.2f}"),
    ("text, ms", lambda one: f"{one.text_ms:.2f}"),
    ("ratio", lambda one: f"{one.ratio:.2f}"),
)


def table(found: Sequence[InversionQuality]) -> list[list[str]]:
    """The headings, then a row for each composer."""
    head = [heading for heading, _ in _COLUMNS]
    return [head, *([write(one) for _, write in _COLUMNS] for one in found)]


def as_markdown(found: Sequence[InversionQuality]) -> str:
    """The table of docs/compose.md."""
    head, *rows = table(found)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
