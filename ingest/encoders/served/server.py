"""Asks a server with an OpenAI-compatible interface for vectors and answers about pictures.

vLLM's pooling runner embeds chat messages with a picture on ``/v1/embeddings``, or on ``/pooling``
beside it: the state of the last token after the model's final norm, which is DIOR's vector. The
request asks for the opening of the assistant's turn, because that state is read there.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexes.errors import ModelError
from indexes.printable import printable
from ingest.encoders.served.http_client import RequestFailed, send_json
from ingest.encoders.served.names import KEY_VARIABLE, ServedName

#: Turns of a conversation, as the interface takes them.
Messages = Sequence[Mapping[str, Any]]

#: Seconds for one answer; attempts; seconds for all of them; the first pause, which doubles.
ANSWER_SECONDS, ATTEMPTS, TOTAL_SECONDS, PAUSE = 120.0, 6, 300.0, 0.5

#: Asks a chat template for no thoughts, as vLLM and SGLang take it.
_NO_THOUGHTS: Mapping[str, Any] = {"chat_template_kwargs": {"enable_thinking": False}}

#: The longest response that is read.
_MOST_BYTES = 32 * 2**20

#: Statuses of an address, or of a request, that the server does not know.
_NOT_OFFERED = (400, 404, 405, 415, 422, 501)

#: Statuses of a request that the server does not accept, as for too many tokens.
_NOT_ACCEPTED = (400, 413, 422)


@dataclass(frozen=True)
class ServedAnswer:
    """A generated answer.

    Attributes:
        text: the answer.
        complete: whether the model ended it; false if the limit of tokens did.
        tokens: the text and the probability of each token; empty if the server does not say.
    """

    text: str
    complete: bool
    tokens: tuple[tuple[str, float], ...] = ()


class ModelServer:
    """One model of one server. Thread-safe."""

    def __init__(self, name: ServedName):
        """Store the name; nothing is asked yet."""
        self.name = name
        self.stopped = threading.Event()
        #: Where vectors come from: ``embeddings``, ``pooling``, or empty for nowhere.
        self.interface = ""
        #: What is added to requests so that a model of thoughts answers at once; not all servers
        #: accept it.
        self._vector_extras = self._answer_extras = dict(_NO_THOUGHTS)

    def check_model(self) -> None:
        """Refuse a name that the server does not have, if it lists its models.

        Raises:
            ModelError: if it has other models only, or cannot be reached.
        """
        try:
            listed = self._ask("/models", None, "a list of models")
        except RequestFailed as error:
            if error.status in _NOT_OFFERED:
                return
            raise self.failed(error) from None
        data = listed.get("data") if isinstance(listed, dict) else None
        names = [one.get("id") for one in data or () if isinstance(one, dict)]
        known = [name for name in names if isinstance(name, str)]
        if known and self.name.model not in known:
            shown = ", ".join(printable(name) for name in known[:8])
            raise ModelError(
                f"The server at {self.name.url} has no model '{self.name.model}' (it has: "
                f"{shown}); correct --model."
            )

    def find_interface(self, messages: Messages) -> str:
        """Find where the server embeds messages with a picture, and remember it.

        Args:
            messages: a question about a small picture.

        Returns:
            ``embeddings``, ``pooling``, or empty if the server embeds none.

        Raises:
            ModelError: if the server fails in another way than by not offering it.
        """
        for interface in ("embeddings", "pooling"):
            for extras in (_NO_THOUGHTS, {}):
                self.interface, self._vector_extras = interface, dict(extras)
                try:
                    self._vector(messages)
                except RequestFailed as error:
                    if error.status not in _NOT_OFFERED:
                        raise self.failed(error) from None
                    continue
                return interface
        self.interface = ""
        return ""

    def generates(self, messages: Messages) -> bool:
        """Whether the server answers questions about pictures.

        Raises:
            ModelError: if the server fails in another way than by not offering it.
        """
        for extras in (_NO_THOUGHTS, {}):
            self._answer_extras = dict(extras)
            try:
                self._answer(messages, 1, 0.0)
            except RequestFailed as error:
                if error.status not in _NOT_OFFERED:
                    raise self.failed(error) from None
                continue
            return True
        return False

    def vector(self, messages: Messages) -> NDArray[np.float32]:
        """The vector of one question, of any length: float32 [dim].

        Raises:
            ModelError: if the server gives none.
            ValueError: if the server does not accept this picture or question.
        """
        try:
            return self._vector(messages)
        except RequestFailed as error:
            self._refuse_input(error)
            raise self.failed(error) from None

    def answer(self, messages: Messages, tokens: int, temperature: float = 0.0) -> ServedAnswer:
        """The answer to one question.

        Args:
            messages: the question, with its picture.
            tokens: the most that are generated.
            temperature: 0 for the most probable answer.

        Raises:
            ModelError: if the server gives none.
            ValueError: if the server does not accept this picture or question.
        """
        try:
            return self._answer(messages, tokens, temperature)
        except RequestFailed as error:
            self._refuse_input(error)
            raise self.failed(error) from None

    def failed(self, error: RequestFailed) -> ModelError:
        """The sentence for a request that failed."""
        if error.status == 404:
            return ModelError(
                f"The server at {self.name.url} does not know the model '{self.name.model}' or the "
                "address (HTTP 404); correct --model."
            )
        said = f" and says: {error.explanation}" if error.explanation else ""
        return ModelError(
            f"The server at {self.name.url} {error.why}{said}; what was stored is kept, so start "
            "the server again and run the same command to continue."
        )

    @staticmethod
    def _refuse_input(error: RequestFailed) -> None:
        if error.status in _NOT_ACCEPTED:
            said = f": {error.explanation}" if error.explanation else ""
            raise ValueError(f"the server refused it with HTTP {error.status}{said}")

    def _vector(self, messages: Messages) -> NDArray[np.float32]:
        body = {
            "model": self.name.model,
            "messages": list(messages),
            # vLLM adds no opening of the answer to messages that it embeds unless it is asked to.
            "add_generation_prompt": True,
            "encoding_format": "float",
            **self._vector_extras,
        }
        path = "/embeddings" if self.interface == "embeddings" else "/pooling"
        document = self._ask(path, body, "embeddings")
        try:
            found = document["data"][0]
            values = found["embedding" if self.interface == "embeddings" else "data"]
            vector = np.asarray(values, dtype=np.float32)
            if vector.ndim == 2:  # the states of all tokens
                vector = vector[-1]
            usable = vector.ndim == 1 and len(vector) > 0 and bool(np.isfinite(vector).all())
        except (LookupError, TypeError, ValueError):
            usable = False
        if not usable or not vector.any():
            raise RequestFailed("answered in another form than embeddings")
        return vector

    def _answer(self, messages: Messages, tokens: int, temperature: float) -> ServedAnswer:
        body = {
            "model": self.name.model,
            "messages": list(messages),
            "max_tokens": tokens,
            "temperature": temperature,
            "seed": 0,
            "logprobs": True,
            **self._answer_extras,
        }
        document = self._ask("/chat/completions", body, "chat completions")
        try:
            choice = document["choices"][0]
            text = choice["message"]["content"] or ""
            complete = choice.get("finish_reason") != "length"
        except (LookupError, TypeError, AttributeError):
            text = None
        if not isinstance(text, str):
            raise RequestFailed("answered in another form than chat completions")
        return ServedAnswer(text, complete, _tokens_of(choice))

    def _ask(self, path: str, body: dict[str, Any] | None, form: str) -> Any:
        """The JSON of an answer, after as many attempts as are worth while.

        Raises:
            RequestFailed: if none succeeds, or the encoder was stopped.
        """
        # vLLM serves /pooling beside /v1 and not below it.
        base = self.name.url.removesuffix("/v1") if path == "/pooling" else self.name.url
        ends, pause = time.monotonic() + TOTAL_SECONDS, PAUSE
        for attempt in range(1, ATTEMPTS + 1):
            if self.stopped.is_set():
                raise RequestFailed("is not asked any more")
            limit = max(min(ANSWER_SECONDS, ends - time.monotonic()), 0.001)
            try:
                return send_json(
                    base + path, body, KEY_VARIABLE, limit, _MOST_BYTES, form, self.stopped
                )
            except RequestFailed as error:
                wait = max(pause, error.wait)
                late = time.monotonic() + wait >= ends
                if not error.may_pass or attempt == ATTEMPTS or late:
                    raise
            self.stopped.wait(wait)
            pause *= 2
        raise AssertionError("the last attempt returns or raises")


def _tokens_of(choice: Mapping[str, Any]) -> tuple[tuple[str, float], ...]:
    """The tokens of an answer with their probabilities; empty if the server does not say."""
    try:
        tokens = [(one["token"], math.exp(one["logprob"])) for one in choice["logprobs"]["content"]]
    except (LookupError, TypeError, ValueError, OverflowError):
        return ()
    return tuple(tokens) if all(isinstance(text, str) for text, _ in tokens) else ()
