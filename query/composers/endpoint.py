"""Asks an OpenAI-compatible chat endpoint for one answer.

The key comes from the environment alone (``REWRITER_API_KEY``), so that it is in no file and no
list of processes. Without one, none is sent.
"""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from indexes.errors import ModelError, UsageError

KEY_VARIABLE = "REWRITER_API_KEY"

#: The longest response that is read. An answer is a sentence or a small JSON object.
_MOST_BYTES = 2**20


@dataclass(frozen=True)
class Endpoint:
    """The address of a language model.

    Attributes:
        url: the URL of the API, such as ``http://localhost:11434/v1``.
        model: as the endpoint names it.
        timeout: seconds to wait for an answer.
    """

    url: str
    model: str
    timeout: float = 30.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: if a value is not allowed; the message says what to do.
        """
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"--rewriter {self.url!r} is not an address; give one such as "
                "http://localhost:11434/v1."
            )
        if parts.username or parts.password:
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
        headers = {"Content-Type": "application/json"}
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if key:
            headers["Authorization"] = f"Bearer {key}"
        address = self.url.rstrip("/")
        if not address.endswith("/chat/completions"):
            address += "/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=self.timeout) as response:
                data = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            raise self._failed(_refused(error)) from error
        except TimeoutError as error:
            raise self._failed(f"gave no answer within {self.timeout:g} s") from error
        except urllib.error.URLError as error:
            slow = isinstance(error.reason, TimeoutError)
            why = f"gave no answer within {self.timeout:g} s" if slow else _why(error.reason)
            raise self._failed(why) from error
        except (OSError, ValueError, UnicodeError) as error:
            raise self._failed(_why(error)) from error
        return self._read(data)

    def _read(self, data: bytes) -> str:
        try:
            if len(data) > _MOST_BYTES:
                raise ValueError("too long")
            content: Any = json.loads(data)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            raise self._failed("answered in another form than chat completions") from error
        if isinstance(content, list):  # some endpoints answer in parts
            content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
        return content if isinstance(content, str) else ""

    def _failed(self, why: str) -> ModelError:
        return ModelError(
            f"The rewriter at {self.url} {why}; check --rewriter, or leave it out to let the LVLM "
            "rewrite."
        )


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, since the key is for this address only."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def _refused(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return f"refused the key (HTTP {error.code}; it is read from {KEY_VARIABLE})"
    return f"refused with HTTP {error.code}"


def _why(reason: object) -> str:
    text = getattr(reason, "strerror", None) or str(reason)
    return f"cannot be reached ({' '.join(str(text).split()).lower()[:120]})"
