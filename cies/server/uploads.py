"""Pictures that clients sent, kept in memory for further searches."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict


class Uploads:
    """The latest uploads, by the SHA-256 of their bytes; the oldest are forgotten first."""

    def __init__(self, limit: int):
        """Store the limit.

        Args:
            limit: bytes of all uploads together.
        """
        self._limit = limit
        self._files: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def add(self, data: bytes) -> str:
        """Keep a file; returns its key."""
        key = hashlib.sha256(data).hexdigest()
        with self._lock:
            if key not in self._files:
                self._files[key] = data
                self._size += len(data)
            self._files.move_to_end(key)
            while self._size > self._limit and len(self._files) > 1:
                _, oldest = self._files.popitem(last=False)
                self._size -= len(oldest)
        return key

    def get(self, key: str) -> bytes | None:
        """The bytes of an upload, or ``None`` if there is none of this key (any more)."""
        with self._lock:
            if key in self._files:
                self._files.move_to_end(key)
            return self._files.get(key)
