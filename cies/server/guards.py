"""Protects the server: who may ask, from which pages, with how much data, and what a page may load.

A page of another site can make a browser send requests to a server on this machine. So the Host
header must name this server (against DNS rebinding), and a request that names another page as its
Origin is refused.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cies.server.problems import problem

#: The cookie in which a browser keeps the token after its first visit.
COOKIE = "cies_token"

#: Hosts that always name this machine.
LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")

#: Addresses that answer without a token, for load balancers.
OPEN_PATHS = ("/api/v1/health", "/api/v1/ready")

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
    """

    hosts: frozenset[str]
    token: str
    max_body: int


class Guard:
    """Refuses requests before the application sees them, and adds headers to every answer."""

    def __init__(self, app: ASGIApp, access: Access):
        """Store the arguments."""
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    given.setdefault(name, value)
            await send(message)

        refused = self._refusal(scope, headers)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        await self._app(scope, receive, send_guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to a request that is refused, or ``None``."""
        access = self._access
        host = _host_name(headers.get("host", ""))
        if access.hosts and host not in access.hosts:
            return problem(
                421,
                f"This server is not named '{host[:80]}'; start it with `--allow-host NAME`.",
            )
        origin = headers.get("origin")
        if (
            origin is not None
            and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
        ):
            return problem(403, "Requests from pages of other sites are refused.")
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] != "GET":
            return problem(403, "Requests from pages of other sites are refused.")
        if "transfer-encoding" in headers:
            return problem(411, "Send the request with its length, in the header Content-Length.")
        # The HTTP server reads no more than this length.
        if int(headers.get("content-length", "0")) > access.max_body:
            limit = access.max_body // 2**20
            return problem(413, f"The request is larger than {limit} MB; send a smaller picture.")
        if not access.token or scope["path"] in OPEN_PATHS:
            return None
        return self._check_token(scope, headers)

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
        """Whether a token is the right one, in a time that does not depend on it."""
        return hmac.compare_digest(
            given.encode("utf-8", "replace"), self._access.token.encode("utf-8")
        )


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
