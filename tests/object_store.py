"""A small object store of our own that speaks S3's protocol: list, head and get, no signatures."""

from __future__ import annotations

import hashlib
import threading
from contextlib import contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Iterator
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

#: Names of one page of a listing; small, so that tests see more than one page.
_PAGE = 3


class ObjectStore:
    """Buckets in memory, served over HTTP.

    Attributes:
        objects: ``bucket/name`` to bytes; change it as you like while it is served.
        asked: the requests so far, such as ``GET /bucket/a.png``.
        broken: names that are answered with an error of the server's.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.times: dict[str, float] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()

    def put(self, name: str, data: bytes, time: float = 1_750_000_000.0) -> None:
        """Store an object, as last changed at a time in seconds since 1970."""
        self.objects[name] = data
        self.times[name] = time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def log_message(self, *_: object) -> None:
        """Nothing: a test's output is its own."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path).lstrip("/")
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        self.store.asked.append(f"{self.command} /{name}")
        if "list-type" in asked:
            self._send(200, self._listing(name.rstrip("/"), asked), with_body)
        elif name in self.store.broken:
            self._send(403, _error("AccessDenied"), with_body)
        elif name in self.store.objects:
            self._object(name, with_body)
        elif any(known.startswith(name.rstrip("/") + "/") for known in self.store.objects):
            # A bucket is there; a folder within one is only a prefix.
            known_bucket = "/" not in name.rstrip("/")
            self._send(200 if known_bucket else 404, b"", with_body)
        else:
            self._send(404, _error("NoSuchKey"), with_body)

    def _object(self, name: str, with_body: bool) -> None:
        data, status = self.store.objects[name], 200
        headers = {
            "Last-Modified": formatdate(self.store.times[name], usegmt=True),
            "ETag": f'"{hashlib.md5(data).hexdigest()}"',
        }
        wanted = self.headers.get("Range")
        if wanted:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(int(last or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
            data, status = data[start : end + 1], 206
        self._send(status, data, with_body, headers)

    def _listing(self, bucket: str, asked: dict[str, str]) -> bytes:
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        after = asked.get("continuation-token", "")
        found: dict[str, str] = {}
        for name in sorted(self.store.objects):
            inner = name.removeprefix(bucket + "/")
            if inner == name or not inner.startswith(prefix):
                continue
            rest = inner[len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.partition(delimiter)[0] + delimiter
                found[folder] = (
                    f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>"
                )
                continue
            changed = formatdate(self.store.times[name], usegmt=True)
            found[inner] = (
                f"<Contents><Key>{escape(inner)}</Key><Size>{len(self.store.objects[name])}</Size>"
                f"<LastModified>{_iso(self.store.times[name])}</LastModified>"
                f"<ETag>{changed}</ETag><StorageClass>STANDARD</StorageClass></Contents>"
            )
        names = [name for name in sorted(found) if name > after]
        page, rest_of_them = names[:_PAGE], names[_PAGE:]
        more = (
            f"<IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>"
            if rest_of_them
            else "<IsTruncated>false</IsTruncated>"
        )
        body = "".join(found[name] for name in page)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{_PAGE}</MaxKeys>"
            f"<KeyCount>{len(page)}</KeyCount>{more}{body}</ListBucketResult>"
        ).encode()

    def _send(
        self, status: int, data: bytes, with_body: bool, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


def _iso(seconds: float) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


@contextmanager
def served(store: ObjectStore) -> Iterator[str]:
    """Serve a store on this machine.

    Yields:
        Its address, such as ``http://127.0.0.1:4711``.
    """
    handler = type("Handler", (_Handler,), {"store": store})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
