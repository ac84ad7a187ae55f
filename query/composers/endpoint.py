"""Asks an OpenAI-compatible chat endpoint for one answer.

The key comes from the environment alone (``REWRITER_API_KEY``), so that it is in no file and no
list of processes. Without one, none is sent.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from indexes.deadline import within
from indexes.errors import ModelError, UsageError
from indexes.printable import printable

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
        try:
            parts = urllib.parse.urlsplit(self.url)
            _ = parts.port
        except ValueError:  # its text would repeat the address
            parts = urllib.parse.urlsplit("")
        if not self.url.isascii() or re.search(r"[\x00-\x20\x7f]", self.url):
            parts = urllib.parse.urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                "--rewriter is not an address that begins with http:// or https://; give one such "
                "as http://localhost:11434/v1."  # what was given may hold a password
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
        headers = {"Content-Type": "application/json", **_authorization()}
        address = self.url.rstrip("/")
        if not address.endswith("/chat/completions"):
            address += "/chat/completions"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
        # Errors hold the request, and with it the key, so that none of them is chained.
        data, why = self._asked(request)
        if data is None:
            raise self._failed(why)
        return self._read(data)

    def _asked(self, request: urllib.request.Request) -> tuple[bytes | None, str]:
        """The bytes of the answer, or ``None`` and the reason."""
        opener = urllib.request.build_opener(_NoRedirect)

        def ask() -> bytes:
            with opener.open(request, timeout=self.timeout) as response:
                data: bytes = response.read(_MOST_BYTES + 1)
                return data

        try:
            return within(self.timeout, ask), ""
        except urllib.error.HTTPError as error:
            error.close()
            return None, _refused(error)
        except TimeoutError:
            return None, f"gave no answer within {self.timeout:g} s"
        except urllib.error.URLError as error:
            slow = isinstance(error.reason, TimeoutError)
            late = f"gave no answer within {self.timeout:g} s"
            return None, late if slow else _why(error.reason)
        except http.client.HTTPException as error:
            return None, f"answered in another form than HTTP ({type(error).__name__})"
        except (OSError, ValueError) as error:
            return None, _why(error)

    def _read(self, data: bytes) -> str:
        content: Any = None
        try:
            if len(data) <= _MOST_BYTES:
                content = [json.loads(data)["choices"][0]["message"]["content"]]
        except (ValueError, LookupError, TypeError, RecursionError):
            pass
        if content is None:
            raise self._failed("answered in another form than chat completions")
        [answer] = content
        if isinstance(answer, list):  # some endpoints answer in parts
            answer = "".join(str(p.get("text", "")) for p in answer if isinstance(p, dict))
        return answer if isinstance(answer, str) else ""

    def _failed(self, why: str) -> ModelError:
        return ModelError(
            f"The rewriter at {self.url.partition('?')[0]} {why}; check --rewriter, or leave it "
            "out to let the LVLM rewrite."
        )


def _authorization() -> dict[str, str]:
    """The header with the key of the environment; none if there is no key.

    Raises:
        UsageError: if the key cannot be a header's value; the message does not repeat it.
    """
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise UsageError(
            f"{KEY_VARIABLE} holds a space, a newline or a character outside ASCII, which no key "
            "has; set it to the key alone."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, since the key is for this address only."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def _refused(error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return f"refused the key (HTTP {error.code}; it is read from {KEY_VARIABLE})"
    return f"refused with HTTP {error.code}"


def _why(reason: object) -> str:
    text = getattr(reason, "strerror", None) or type(reason).__name__
    return f"cannot be reached ({printable(' '.join(str(text).split())).lower()[:120]})"
