"""Sends JSON to a server of models and reads its JSON, with one time limit for the whole answer.

The key comes from the environment alone, so that it is in no file and no list of processes. Errors
hold no key: a response that repeats one has it replaced.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import threading
import urllib.error
import urllib.parse
import urllib.request
from contextlib import suppress
from typing import Any

from indexes.deadline import within
from indexes.errors import UsageError
from indexes.printable import printable

#: Responses after which the same request may succeed: too many requests, and a server that starts,
#: restarts or is overloaded.
_PASSING = (408, 425, 429, 500, 502, 503, 504)

#: Longest time that a server may ask to wait, in seconds.
_MAX_WAIT = 60.0

#: Characters of a server's own explanation that are repeated.
_EXPLANATION = 200


class RequestFailed(Exception):
    """A request without a usable answer.

    Attributes:
        why: continues a sentence that begins with the server, such as ``refused with HTTP 500``.
        status: the HTTP status; ``None`` if there was no response.
        may_pass: whether the same request may succeed later.
        wait: seconds after which the server asks to try again; 0 if it does not say.
        explanation: what the server says about it; empty if nothing.
    """

    def __init__(
        self,
        why: str,
        status: int | None = None,
        may_pass: bool = False,
        wait: float = 0.0,
        explanation: str = "",
    ):
        super().__init__(why)
        self.why = why
        self.status = status
        self.may_pass = may_pass
        self.wait = wait
        self.explanation = explanation


def is_address(url: str) -> bool:
    """Whether this is a plain address with http:// or https://."""
    try:
        parts = urllib.parse.urlsplit(url)
        _ = parts.port
    except ValueError:
        return False
    plain = url.isascii() and not re.search(r"[\x00-\x20\x7f]", url)
    return plain and parts.scheme in ("http", "https") and bool(parts.hostname)


def holds_password(url: str) -> bool:
    """Whether an address holds a user's name or password."""
    parts = urllib.parse.urlsplit(url)
    return bool(parts.username or parts.password)


def send_json(
    url: str,
    body: dict[str, Any] | None,
    key_variable: str,
    timeout: float,
    most_bytes: int,
    form: str,
    stopped: threading.Event | None = None,
) -> Any:
    """The JSON that a server answers a request with. Redirects are not followed.

    Args:
        url: the whole address.
        body: sent as JSON; ``None`` for a GET request.
        key_variable: the environment variable with the key; none is sent if it is not set.
        timeout: seconds until the whole answer must be there.
        most_bytes: the longest answer that is read.
        form: what the answer should be, for the message, such as ``chat completions``.
        stopped: once it is set, the answer is not waited for any more.

    Raises:
        RequestFailed: if there is no such answer.
        UsageError: if the key cannot be a header's value.
    """
    headers = {"Content-Type": "application/json", **_authorization(key_variable)}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method="GET" if body is None else "POST")
    # Errors hold the request, and with it the key, so that none of them is chained.
    answer, failure = _asked(request, key_variable, timeout, most_bytes, stopped)
    if answer is None:
        raise failure
    found: list[Any] = []
    if len(answer) <= most_bytes:
        with suppress(ValueError, RecursionError):
            found.append(json.loads(answer))
    if not found:
        raise RequestFailed(f"answered in another form than {form}")
    return found[0]


def _asked(
    request: urllib.request.Request,
    key_variable: str,
    timeout: float,
    most_bytes: int,
    stopped: threading.Event | None,
) -> tuple[bytes | None, RequestFailed]:
    """The bytes of the answer, or ``None`` and the failure."""
    opener = urllib.request.build_opener(_NoRedirect)
    late = RequestFailed(f"gave no answer within {timeout:g} s", may_pass=True)

    def ask() -> bytes | RequestFailed:
        try:
            with opener.open(request, timeout=timeout) as response:
                data: bytes = response.read(most_bytes + 1)
                return data
        except urllib.error.HTTPError as error:
            return _refused(error, key_variable)

    try:
        answer = within(timeout, ask, stopped)
        return (None, answer) if isinstance(answer, RequestFailed) else (answer, late)
    except TimeoutError:
        return None, late
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return None, late
        return None, RequestFailed(_why(error.reason), may_pass=True)
    except http.client.HTTPException as error:
        # A server that was killed leaves such a part of an answer.
        name = type(error).__name__
        return None, RequestFailed(f"answered in another form than HTTP ({name})", may_pass=True)
    except (OSError, ValueError) as error:
        return None, RequestFailed(_why(error), may_pass=isinstance(error, OSError))


def _authorization(key_variable: str) -> dict[str, str]:
    """The header with the key of the environment; none if there is no key.

    Raises:
        UsageError: if the key cannot be a header's value; the message does not repeat it.
    """
    key = os.environ.get(key_variable, "").strip()
    if not re.fullmatch(r"[\x21-\x7e]*", key):
        raise UsageError(
            f"{key_variable} holds a space, a newline or a character outside ASCII, which no key "
            "has; set it to the key alone."
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows no redirects, since the key is for this address only."""

    def redirect_request(self, *args: Any, **more: Any) -> None:
        return None


def _refused(error: urllib.error.HTTPError, key_variable: str) -> RequestFailed:
    """The failure of a response with an error's status, which is read and closed."""
    try:
        explanation = _explanation(error.read(64 * 1024), key_variable)
    except (OSError, http.client.HTTPException):
        explanation = ""
    finally:
        error.close()
    try:
        wait = min(max(float(error.headers.get("Retry-After") or 0), 0.0), _MAX_WAIT)
    except ValueError:
        wait = 0.0
    if error.code in (401, 403):
        why = f"refused the key (HTTP {error.code}; it is read from {key_variable})"
        return RequestFailed(why, error.code)
    why = f"refused with HTTP {error.code}"
    return RequestFailed(why, error.code, error.code in _PASSING, wait, explanation)


def _explanation(data: bytes, key_variable: str) -> str:
    """What a server says about an error, in a few words, without the key."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if isinstance(document, dict) and isinstance(document.get("error"), dict):
        document = document["error"]
    text = document.get("message") if isinstance(document, dict) else None
    if not isinstance(text, str):
        return ""
    key = os.environ.get(key_variable, "").strip()
    if key:
        text = text.replace(key, "...")
    return printable(" ".join(text.split()))[:_EXPLANATION].rstrip(". ")


def _why(reason: object) -> str:
    text = getattr(reason, "strerror", None) or type(reason).__name__
    return f"cannot be reached ({printable(' '.join(str(text).split())).lower()[:120]})"
