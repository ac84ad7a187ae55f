"""A small object store for tests with the protocols of S3 and Google: list, head and get.

Signatures are not checked.
"""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
import subprocess
import sys
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
        scheme: what an address in this store begins with.
    """

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.times: dict[str, float] = {}
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.scheme = "s3://"

    def address(self, name: str) -> str:
        """The address of ``bucket/name``."""
        return self.scheme + name

    def put(self, name: str, data: bytes, time: float = 1_750_000_000.0) -> None:
        """Store an object with a time of last change in seconds since 1970."""
        self.objects[name] = data
        self.times[name] = time


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    store: ObjectStore

    def log_message(self, *_: object) -> None:
        """Log nothing, to keep the output of tests clean."""

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        parts = urlsplit(self.path)
        name = unquote(parts.path).lstrip("/")
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if name.startswith("storage/v1/b/"):
            self._google(parts.path.removeprefix("/storage/v1/b/"), asked)
            return
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

    def _google(self, path: str, asked: dict[str, str]) -> None:
        """Google's JSON: ``BUCKET``, ``BUCKET/o`` for a listing, ``BUCKET/o/NAME``."""
        bucket, _, inner = path.partition("/o")
        name = f"{bucket}{unquote(inner)}"
        self.store.asked.append(f"GET /{name}")
        there = any(known.startswith(bucket + "/") for known in self.store.objects)
        if inner.strip("/") and name in self.store.broken:
            self._send(403, b'{"error": {"code": 403, "message": "ACCESS_DENIED"}}', True)
        elif inner.strip("/") and name in self.store.objects:
            if asked.get("alt") == "media":
                self._object(name, True)
            else:
                self._send_json(self._about(bucket, name))
        elif not there or inner.strip("/"):
            self._send(404, b'{"error": {"code": 404, "message": "Not Found"}}', True)
        elif path.endswith("/o"):
            found, more = self._names(bucket, asked, asked.get("pageToken", ""))
            answer: dict[str, object] = {
                "kind": "storage#objects",
                "items": [self._about(bucket, found[n]) for n in found if not n.endswith("/")],
                "prefixes": [name for name in found if name.endswith("/")],
            }
            self._send_json(answer | ({"nextPageToken": more} if more else {}))
        else:
            self._send_json({"kind": "storage#bucket", "name": bucket})

    def _about(self, bucket: str, name: str) -> dict[str, object]:
        data = self.store.objects[name]
        return {
            "kind": "storage#object",
            "name": name.removeprefix(bucket + "/"),
            "bucket": bucket,
            "size": str(len(data)),
            "generation": "1",
            "timeCreated": _iso(self.store.times[name]),
            "updated": _iso(self.store.times[name]),
            "md5Hash": base64.b64encode(hashlib.md5(data).digest()).decode(),
        }

    def _send_json(self, answer: dict[str, object]) -> None:
        self._send(200, json.dumps(answer).encode(), True, {"Content-Type": "application/json"})

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

    def _names(self, bucket: str, asked: dict[str, str], after: str) -> tuple[dict[str, str], str]:
        """One page of a listing: names and prefixes below the bucket, each to an object's name."""
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        found: dict[str, str] = {}
        for name in self.store.objects:
            inner = name.removeprefix(bucket + "/")
            if inner == name or not inner.startswith(prefix):
                continue
            rest = inner[len(prefix) :]
            if delimiter and delimiter in rest:
                inner = prefix + rest.partition(delimiter)[0] + delimiter
            found[inner] = name
        names = [name for name in sorted(found) if name > after]
        page = names[:_PAGE]
        return {name: found[name] for name in page}, page[-1] if names[_PAGE:] else ""

    def _listing(self, bucket: str, asked: dict[str, str]) -> bytes:
        found, more = self._names(bucket, asked, asked.get("continuation-token", ""))
        body = ""
        for inner, name in found.items():
            if inner.endswith("/"):
                body += f"<CommonPrefixes><Prefix>{escape(inner)}</Prefix></CommonPrefixes>"
                continue
            data, changed = self.store.objects[name], self.store.times[name]
            body += (
                f"<Contents><Key>{escape(inner)}</Key><Size>{len(data)}</Size>"
                f"<LastModified>{_iso(changed)}</LastModified>"
                f"<ETag>{formatdate(changed, usegmt=True)}</ETag>"
                "<StorageClass>STANDARD</StorageClass></Contents>"
            )
        truncated = (
            f"<IsTruncated>true</IsTruncated>"
            f"<NextContinuationToken>{escape(more)}</NextContinuationToken>"
            if more
            else "<IsTruncated>false</IsTruncated>"
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(asked.get('prefix', ''))}</Prefix>"
            f"<MaxKeys>{_PAGE}</MaxKeys><KeyCount>{len(found)}</KeyCount>{truncated}{body}"
            "</ListBucketResult>"
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


@contextmanager
def served_apart(store: ObjectStore) -> Iterator[str]:
    """Serve a copy of a store from another process, for clients that block all threads.

    Yields:
        As :func:`served`.
    """
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        pickle.dump((store.objects, store.times), process.stdin)
        process.stdin.flush()
        yield process.stdout.readline().decode().strip()
    finally:
        process.communicate()


def _serve_what_is_given() -> None:
    store = ObjectStore()
    store.objects, store.times = pickle.load(sys.stdin.buffer)
    with served(store) as address:
        print(address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    _serve_what_is_given()
