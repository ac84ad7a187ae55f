"""DIOR and generative on a model that runs in a server, ``--model openai:URL#NAME``."""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from indexes.errors import GalleryMismatch, ModelError, UsageError
from indexes.vectors import unit
from ingest.conditions import Condition, PromptTemplate, prompt_template, with_stored_words
from ingest.encoders.base import BaseEncoder, Embeddings, EncoderSpec, check_text
from ingest.encoders.options import AS_LOADED, BUFFERS, EncoderChoice
from ingest.encoders.served.names import ServedName
from ingest.encoders.served.server import Messages, ModelServer, ServedAnswer
from ingest.encoders.vlm.words import CUT, find_word
from ingest.read.images import reduced

if TYPE_CHECKING:
    from ingest.encoders.dual.encoder import DualEncoder
    from ingest.encoders.dual.sentences import SentenceModel

#: Tokens in which a word ends, as for models that are loaded.
_WORD_TOKENS = 12

#: Characters around an answer that are not part of it.
_AROUND = " .\"'“”‘’"

#: Pictures asked about at once: at first, and at most.
_FIRST, _MOST = 4, 64

#: Throughput must rise by this factor for more pictures at once.
_GAIN = 1.1

#: Numbers that are stored of the vector of the test picture, and the least cosine of two of them.
_PROBE_NUMBERS, _SAME = 64, 0.98

_PROBE = Condition("content", "content")

#: The answer to one picture or text under all conditions: vectors, words, probabilities.
_Row = tuple[list[NDArray[np.float32]], list[str], list[float]]


def load_served(choice: EncoderChoice) -> BaseEncoder:
    """Connect to a served model.

    Raises:
        UsageError: if the method needs the model itself, or an option does not apply.
        ModelError: if the server cannot be used.
        GalleryMismatch: if the server has another model now than when the gallery was filled.
    """
    kinds = {kind.METHOD: kind for kind in (ServedEncoder, ServedGenerativeEncoder)}
    if choice.method not in kinds:
        raise UsageError(
            f"The method {choice.method} needs the model itself and not a server of it; give "
            f"--method {' or '.join(kinds)}, or --model ORG/NAME."
        )
    for option, value, default in (
        ("--dtype", choice.dtype, "auto"),
        ("--device", choice.device, "auto"),
        ("--device-map", choice.device_map, None),
    ):
        if value != default:
            raise UsageError(f"{option} does not apply to a served model; leave it out.")
    return kinds[choice.method](choice)


class ServedEncoder(BaseEncoder):
    """DIOR by a server that embeds chat messages with a picture.

    The conditions of a picture are asked one after the other, so that the server's prefix cache has
    the picture's tokens after the first; several pictures are asked about at once.
    """

    METHOD = "dior"
    CHOICES: tuple[str, ...] = ("max_side", "system", "words")

    def __init__(self, choice: EncoderChoice):
        """Connect to the server, and find out what it offers; see :func:`load_served`."""
        choice.options.check_for(self.METHOD, self.CHOICES)
        self._template: PromptTemplate = with_stored_words(
            prompt_template(choice.prompt), choice.stored
        )
        self._options = choice.options
        self._server = ModelServer(ServedName.parse(choice.model))
        self._at_once, self._best_rate = _FIRST, 0.0
        self._server.check_model()
        self._connect(choice.stored)

    def _connect(self, stored: Mapping[str, Any] | None) -> None:
        """Find the interface, the dimension, and whether it is the model of before."""
        url = self._server.name.url
        probe = self._messages(_probe_picture(), self._question(_PROBE))
        if not self._server.find_interface(probe):
            raise ModelError(
                f"The server at {url} embeds no chat messages with a picture; start vLLM with "
                "--runner pooling, or give --method generative, which needs answers only."
            )
        vector = unit(self._server.vector(probe)[None])[0]
        self._dimension = len(vector)
        self._fingerprint = _fingerprint(vector)
        before = (stored or {}).get("probe")
        if isinstance(before, str):
            if not _is_same(
                before, self._fingerprint, int((stored or {}).get("length", 0)), vector
            ):
                raise GalleryMismatch(
                    f"The server at {url} gives another vector for a test picture than when the "
                    f"gallery was filled, so it runs another model as '{self._server.name.model}' "
                    "now; run that model again, or ingest into a new gallery."
                )
            self._fingerprint = before
        if not self._options.words:
            return
        if not self._server.generates(probe):
            if isinstance(before, str):
                raise ModelError(
                    f"The gallery has the model's words, and the server at {url} generates no "
                    "answers now; start it as before, or ingest into a new gallery with --no-words."
                )
            self._options = replace(self._options, words=False)

    @property
    def spec(self) -> EncoderSpec:
        """See :class:`BaseEncoder`."""
        settings = {
            "prompt": self._template.name,
            "template": [self._template.conditional, self._template.unconditional],
            **self._options.settings(),
            **self._served(),
        }
        return EncoderSpec(self.METHOD, str(self._server.name), "served", settings)

    def _served(self) -> dict[str, Any]:
        """What the server decides about the vectors."""
        return {
            "interface": self._server.interface,
            "length": self._dimension,
            "probe": self._fingerprint,
        }

    @property
    def dimension(self) -> int:
        """See :class:`BaseEncoder`."""
        return self._dimension

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        words = "" if self._options.words else ", no words, since it generates no answers"
        name = self._server.name
        return f"{name.model}, served at {name.url}, by /{self._server.interface}{words}"

    @property
    def device(self) -> str:
        """See :class:`BaseEncoder`."""
        return "server"

    def check(self, conditions: Sequence[Condition]) -> None:
        """See :class:`BaseEncoder`."""
        for condition in conditions:
            self._template.text(condition)

    def embed(
        self, images: Sequence[Image.Image], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`.

        Raises:
            ModelError: if the server fails, after several attempts.
            ValueError: if the server does not accept a picture.
        """
        self.check(conditions)
        started = time.monotonic()

        def row(image: Image.Image) -> _Row:
            shown = reduced(image, self._options.max_side)
            data = _data_address(shown)
            return self._row(
                [_turns(self._options.system, data, self._question(c)) for c in conditions], words
            )

        rows = self._at_once_over(row, images)
        self._add_timing(len(conditions), len(images), started)
        return self._embeddings(rows, len(conditions))

    def embed_text(
        self, texts: Sequence[str], conditions: Sequence[Condition], words: bool = True
    ) -> Embeddings:
        """See :class:`BaseEncoder`: the text stands above the question, in place of the image."""
        self.check(conditions)
        for text in texts:
            check_text(text)

        def row(text: str) -> _Row:
            asked = [f"{text}\n{self._question(condition)}" for condition in conditions]
            return self._row([_turns(self._options.system, "", one) for one in asked], words)

        return self._embeddings(self._at_once_over(row, texts), len(conditions))

    def _question(self, condition: Condition) -> str:
        return self._template.text(condition)

    def _messages(self, image: Image.Image, question: str) -> Messages:
        return _turns(self._options.system, _data_address(image), question)

    def _row(self, asked: Sequence[Messages], words: bool) -> _Row:
        """The vectors and words of one picture, one condition after the other."""
        vectors, texts, probabilities = [], [], []
        for messages in asked:
            vector = self._server.vector(messages)
            if len(vector) != self.dimension:
                raise ModelError(
                    f"The server at {self._server.name.url} gave a vector of {len(vector)} "
                    f"numbers, and {self.dimension} before, so it runs another model now; what was "
                    "stored is kept: run the first model again, and the same command."
                )
            vectors.append(vector)
            word, probability = "", 0.0
            if words and self._options.words:
                word, probability = _first_word(self._server.answer(messages, _WORD_TOKENS))
            texts.append(word)
            probabilities.append(probability)
        return vectors, texts, probabilities

    def _embeddings(self, rows: Sequence[_Row], conditions: int) -> Embeddings:
        shape = (len(rows), conditions, self.dimension)
        vectors = np.array([row[0] for row in rows], dtype=np.float32).reshape(shape)
        if vectors.size:
            vectors = unit(vectors)
        chances = np.array([row[2] for row in rows], dtype=np.float32).reshape(shape[:2])
        return Embeddings(vectors, [row[1] for row in rows], chances)

    def _at_once_over(self, row: Callable[[Any], _Row], items: Sequence[Any]) -> list[_Row]:
        """Ask about several pictures or texts at once; more at once while that is faster."""
        if not items:
            return []
        self._server.stopped.clear()
        started = time.monotonic()
        with ThreadPoolExecutor(min(self._at_once, len(items)), "served") as threads:
            futures = [threads.submit(row, item) for item in items]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
                failed = next((f for f in futures if f.done() and f.exception()), None)
                if failed is not None:
                    failed.result()
                rows = [future.result() for future in futures]
            except BaseException:
                self._server.stopped.set()
                for future in futures:
                    future.cancel()
                raise
        if len(items) >= self._at_once:
            rate = len(items) / max(time.monotonic() - started, 1e-9)
            if rate > _GAIN * self._best_rate:
                self._best_rate, self._at_once = rate, min(2 * self._at_once, _MOST)
        return rows


class ServedGenerativeEncoder(ServedEncoder):
    """The answers of a served model, embedded by a sentence encoder on this machine."""

    METHOD = "generative"
    CHOICES = ("max_side", "system", "sentences", "answer_tokens", "temperature")

    _sentences: DualEncoder | SentenceModel

    def _connect(self, stored: Mapping[str, Any] | None) -> None:
        from ingest.encoders.dual.sentences import load_sentences

        self._sentences = load_sentences(self._options.sentences)
        self._dimension = self._sentences.dimension
        if not self._server.generates(self._messages(_probe_picture(), self._question(_PROBE))):
            raise ModelError(
                f"The server at {self._server.name.url} answers no questions about a picture; "
                "start it with a model that reads pictures, or give --method dior if it embeds."
            )

    def _served(self) -> dict[str, Any]:
        served = {
            "interface": "answers",
            "answer_tokens": self._answer_tokens,
            "sentences": self._sentences.source.name,
            "sentences_revision": self._sentences.revision,
            "sentences_dtype": self._sentences.dtype,
        }
        return served | ({f"sentences_{BUFFERS}": AS_LOADED} if self._sentences.mixed else {})

    @property
    def _answer_tokens(self) -> int:
        return self._options.answer_tokens or 16

    @property
    def description(self) -> str:
        """See :class:`BaseEncoder`."""
        name = self._server.name
        return (
            f"{name.model}, served at {name.url}, by its answers; answers embedded by "
            f"{self._sentences.source.name}"
        )

    def _row(self, asked: Sequence[Messages], words: bool) -> _Row:
        answers = [
            _full_answer(
                self._server.answer(messages, self._answer_tokens, self._options.temperature)
            )
            for messages in asked
        ]
        return [], [text for text, _ in answers], [chance for _, chance in answers]

    def _embeddings(self, rows: Sequence[_Row], conditions: int) -> Embeddings:
        different = sorted({text for _, texts, _ in rows for text in texts})
        number_of = {text: number for number, text in enumerate(different)}
        embedded = self._sentences.encode_texts(different)
        filled: list[_Row] = [
            ([embedded[number_of[text]] for text in texts], texts, chances)
            for _, texts, chances in rows
        ]
        return super()._embeddings(filled, conditions)


def _turns(system: str, picture: str, question: str) -> Messages:
    """A conversation: a system turn if there is one, and a question about a picture."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if picture:
        content.insert(0, {"type": "image_url", "image_url": {"url": picture}})
    turns = [{"role": "system", "content": system}] if system else []
    return [*turns, {"role": "user", "content": content}]


def _data_address(image: Image.Image) -> str:
    """A picture as an address that contains it, without loss."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _probe_picture() -> Image.Image:
    """A small picture with a gradient of colors."""
    gradient = Image.linear_gradient("L").resize((64, 48))
    return Image.merge("RGB", (gradient, gradient.rotate(180), gradient))


def _fingerprint(vector: NDArray[np.float32]) -> str:
    """A short form of a unit vector: random projections, float16, as base64."""
    random = np.random.default_rng(0).normal(size=(len(vector), _PROBE_NUMBERS))
    return base64.b64encode((vector @ random).astype("<f2").tobytes()).decode("ascii")


def _is_same(before: str, now: str, dimension: int, vector: NDArray[np.float32]) -> bool:
    """Whether two fingerprints are of one model, except for rounding."""
    try:
        first, second = (
            np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float64)
            for text in (before, now)
        )
    except ValueError:
        return False
    if dimension != len(vector) or first.shape != second.shape:
        return False
    lengths = np.linalg.norm(first) * np.linalg.norm(second)
    return bool(lengths > 0 and first @ second / lengths >= _SAME)


def _first_word(answer: ServedAnswer) -> tuple[str, float]:
    """The first word of an answer, and the product of its tokens' probabilities."""
    found = find_word(answer.text)
    if not found.text:
        return "", 0.0
    probability, said = 1.0, ""
    for text, chance in answer.tokens:
        probability *= chance
        said += text
        if find_word(said).text == found.text:
            break
    whole = answer.complete or found.ends
    return found.text if whole else found.text + CUT, probability


def _full_answer(answer: ServedAnswer) -> tuple[str, float]:
    """The answer without the quotation marks around it, and its probability."""
    plain = " ".join(answer.text.split()).strip(_AROUND)
    probability = float(np.prod([chance for _, chance in answer.tokens]))
    return plain, probability if plain else 0.0
