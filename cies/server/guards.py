"""Protects the server: who may ask, from which pages, with how much data, and what a page may load.

A page of another site can make a browser send requests to a server on this machine. So the Host
header must name this server (against DNS rebinding), and a request that names another page as its
Origin is refused.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cies.server.problems import problem
from cies.server.running import LOCAL_HELLO, LOCAL_PATHS, LOCAL_SEARCH

_LOG = logging.getLogger("uvicorn.error")

#: The cookie in which a browser keeps the token after its first visit.
COOKIE = "cies_token"

#: Hosts that always name this machine.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

#: Addresses that take a picture as the body; all others take a JSON document.
_PICTURE_PATHS = ("/api/v1/uploads", LOCAL_SEARCH, "/mcp")

#: Bytes of a JSON document, and of all bodies that are read at the same time, in multiples of the
#: largest one.
MAX_JSON, _BODIES = 2**20, 4

#: Addresses that answer without a token, for load balancers.
OPEN_PATHS = ("/api/v1/health", "/api/v1/ready")

#: Pages that may be linked to from other sites.
LINKED_PATHS = ("/", "/docs")

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)

#: Headers of every answer.
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Who may use the server.

    Attributes:
        hosts: host names without a port that the Host header may have; empty for any.
        token: what a client must know; empty if nothing.
        max_body: the most bytes of a request.
        local_token: what the command line of the same user knows, from the file of the running
            server (:mod:`cies.server.running`); empty if it is not answered.
    """

    hosts: frozenset[str]
    token: str
    max_body: int
    local_token: str = ""


class Guard:
    """Refuses requests before the application sees them, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access):
        """Store the arguments."""
        self._app = app
        self._access = access
        #: Bytes of the bodies of all requests that are answered now.
        self._reading = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        length = _length(headers)
        refused = self._refusal(scope, headers, length)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        self._reading += length
        try:
            await self._app(scope, receive, send_guarded)
        except Exception:  # an error of the program; the client gets a document all the same
            _LOG.exception("A request of %s failed.", scope["path"][:200].encode())
            if started:
                raise
            answer = problem(500, "The server failed on this request; its log says why.")
            await answer(scope, receive, send_guarded)
        finally:
            self._reading -= length

    def _refusal(self, scope: Scope, headers: Headers, length: int) -> Response | None:
        """The answer to a request that is refused, or ``None``."""
        access = self._access
        if scope["http_version"] not in ("1.0", "1.1"):
            return problem(505, "Send the request in HTTP/1.1.")
        host = _host_name(headers.get("host", ""))
        if access.hosts and host not in access.hosts:
            return problem(
                421,
                f"This server is not named '{host[:80]}'; start it with `--allow-host NAME`.",
            )
        if self._is_of_another_site(scope, headers):
            return problem(403, "Requests from pages of other sites are refused.")
        if "transfer-encoding" in headers:
            return problem(411, "Send the request with its length, in the header Content-Length.")
        # The HTTP server reads no more than this length.
        limit = access.max_body if scope["path"] in _PICTURE_PATHS else MAX_JSON
        if length > limit:
            size = f"{limit / 2**20:g} MB"
            return problem(413, f"The request is larger than {size}; send less at once.")
        if self._reading + length > _BODIES * access.max_body:
            answer = problem(429, "Others are sending large pictures; try again in a few seconds.")
            answer.headers["retry-after"] = "2"
            return answer
        if scope["path"].startswith(LOCAL_PATHS):
            return self._check_local(scope, headers)
        if not access.token or scope["path"] in OPEN_PATHS:
            return None
        return self._check_token(scope, headers)

    def _is_of_another_site(self, scope: Scope, headers: Headers) -> bool:
        """Whether a page of another site makes a browser send the request.

        Links to the page from elsewhere are allowed: a colleague sends them.
        """
        origin = headers.get("origin")
        try:
            if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
                return True
        except ValueError:  # no address
            return True
        site = headers.get("sec-fetch-site", "none")
        return site not in ("same-origin", "none") and scope["path"] not in LINKED_PATHS

    def _check_local(self, scope: Scope, headers: Headers) -> Response | None:
        """``None`` for the command line of the same user; there is nothing here for others."""
        _, _, given = headers.get("authorization", "").partition(" ")
        own = self._access.local_token
        asks = scope["path"] == LOCAL_HELLO or _equal(given.strip(), own)
        if own and asks and "origin" not in headers:
            return None
        return problem(404, "Not Found")

    def _check_token(self, scope: Scope, headers: Headers) -> Response | None:
        """``None`` with the right token; a browser's link with it becomes a cookie."""
        query = QueryParams(scope["query_string"])
        if scope["path"] == "/" and self._right(query.get("token", "")):
            redirect = RedirectResponse("/", status_code=303)
            redirect.set_cookie(COOKIE, self._access.token, httponly=True, samesite="strict")
            return redirect
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._right(given.strip()):
            return None
        if self._right(_cookies(headers).get(COOKIE, "")):
            return None
        answer = problem(
            401,
            "This server needs a token: send the header `Authorization: Bearer TOKEN`, or open "
            "/?token=TOKEN in a browser.",
        )
        answer.headers["www-authenticate"] = "Bearer"
        return answer

    def _right(self, given: str) -> bool:
        """Whether a token is the right one."""
        return _equal(given, self._access.token)


def _equal(given: str, right: str) -> bool:
    """Whether two tokens are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), right.encode("utf-8"))


def _length(headers: Headers) -> int:
    """The length of a request's body."""
    given = headers.get("content-length", "0")
    return int(given) if given.isascii() and given.isdecimal() and len(given) < 20 else 2**63


def _host_name(host: str) -> str:
    """A Host header without the port."""
    name, _, port = host.rpartition(":")
    return (name if name and port.isdecimal() else host).lower()


def _cookies(headers: Headers) -> Mapping[str, str]:
    try:
        parsed: SimpleCookie = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}
