"""Asks an OpenAI-compatible chat endpoint for one answer.

The key comes from the environment alone (``REWRITER_API_KEY``), so that it is in no file and no
list of processes. Without one, none is sent.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from indexes.errors import ModelError, UsageError
from ingest.encoders.served.http_client import (
    RequestFailed,
    holds_password,
    is_address,
    send_json,
)

KEY_VARIABLE = "REWRITER_API_KEY"

#: The longest response that is read. An answer is a sentence or a small JSON object.
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Endpoint:
    """The address of a language model.

    Attributes:
        url: the URL of the API, such as ``http://localhost:11434/v1``.
        model: as the endpoint names it.
        timeout: seconds until the whole answer must be there.
    """

    url: str
    model: str
    timeout: float = 30.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: if a value is not allowed; the message says what to do.
        """
        if not is_address(self.url):
            raise UsageError(
                "--rewriter is not an address that begins with http:// or https://; give one such "
                "as http://localhost:11434/v1."  # what was given may hold a password
            )
        if holds_password(self.url):
            raise UsageError(
                f"--rewriter holds a password; set {KEY_VARIABLE} in the environment instead."
            )
        if not self.model.strip():
            raise UsageError("--rewriter needs --rewriter-model, as the endpoint names it.")
        if not 0 < self.timeout <= 3600:
            raise UsageError(f"--rewriter-timeout is {self.timeout:g}; give 1 to 3600 seconds.")

    def answer(self, question: str, most: int = 700) -> str:
        """One answer, at temperature 0.

        Args:
            question: the user's turn.
            most: tokens.

        Raises:
            ModelError: if the endpoint is down, slow, refuses, or answers in another format.
        """
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": most,
        }
        address = self.url.rstrip("/")
        if not address.endswith("/chat/completions"):
            address += "/chat/completions"
        failure = ""
        answer: Any = None
        try:
            answer = send_json(
                address, body, KEY_VARIABLE, self.timeout, _MOST_BYTES, "chat completions"
            )
        except RequestFailed as error:
            failure = error.why
        if failure:
            raise self._failed(failure)
        return self._read(answer)

    def _read(self, answer: Any) -> str:
        content: Any = None
        with suppress(LookupError, TypeError):
            content = [answer["choices"][0]["message"]["content"]]
        if content is None:
            raise self._failed("answered in another form than chat completions")
        [text] = content
        if isinstance(text, list):  # some endpoints answer in parts
            text = "".join(str(p.get("text", "")) for p in text if isinstance(p, dict))
        return text if isinstance(text, str) else ""

    def _failed(self, why: str) -> ModelError:
        return ModelError(
            f"The rewriter at {self.url.partition('?')[0]} {why}; check --rewriter, or leave it "
            "out to let the LVLM rewrite."
        )
