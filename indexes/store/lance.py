"""Imports LanceDB without its client of remote catalogues, which takes a third of the time; and
hides what it prints about damaged files.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"

#: The part of the client that sends requests. LanceDB itself only uses its data types.
_REQUESTS = f"{_CLIENT}.api"


def lancedb() -> Any:
    """The module ``lancedb``."""
    if "lancedb" in sys.modules:
        return sys.modules["lancedb"]
    with _without_remote_client():
        import lancedb
    return lancedb


class _EmptyModule(ModuleType):
    """A module that returns a placeholder for every name."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


class _Absent:
    """The placeholder for a class that was not imported."""


class _Finder:
    """Finds an empty module for each module that sends requests."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if name != _REQUESTS and not name.startswith(f"{_REQUESTS}."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=name == _REQUESTS)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """See :class:`importlib.abc.Loader`."""
        return _EmptyModule(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """See :class:`importlib.abc.Loader`; the module stays empty."""


def write_no_deletions(path: Path) -> None:
    """Write a list of deleted rows that names none, in the form that the file's suffix says.

    The forms are those of Lance: an Arrow file with one batch of row numbers, or a portable
    Roaring bitmap, which begins with the number 12346 and the number of its containers.

    Raises:
        OSError: if it cannot be written.
    """
    if path.suffix == ".bin":
        path.write_bytes((12346).to_bytes(4, "little") + bytes(4))
        return
    import pyarrow as pa

    schema = pa.schema([pa.field("row_id", pa.uint32(), nullable=False)])
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_pylist([], schema=schema))


@contextmanager
def quiet() -> Iterator[None]:
    """Discard what is written to the process's standard error within the block.

    Lance writes there when it meets damaged data, besides raising an error. Python cannot catch
    that, because Lance does not go through ``sys.stderr``. Other threads are silenced as well, so
    that the block should be short.
    """
    try:
        sys.stderr.flush()
        kept = os.dup(2)
    except (OSError, ValueError, AttributeError):
        # There is no standard error.
        yield
        return
    try:
        empty = os.open(os.devnull, os.O_WRONLY)
        os.dup2(empty, 2)
        os.close(empty)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


@contextmanager
def _without_remote_client() -> Iterator[None]:
    """Leave out the client's requests within the block; a later import of them works."""
    if _CLIENT in sys.modules:
        yield
        return
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in list(sys.modules):
            if name == _REQUESTS or name.startswith(f"{_REQUESTS}."):
                del sys.modules[name]
        if _CLIENT in sys.modules:
            _import_on_access(sys.modules[_CLIENT])


def _import_on_access(client: ModuleType) -> None:
    """Let the client import its missing parts when they are first accessed."""
    for name, value in list(vars(client).items()):
        if value is _Absent or isinstance(value, _EmptyModule):
            delattr(client, name)

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        requests = importlib.import_module(_REQUESTS)
        return requests if name == "api" else getattr(requests, name)

    client.__getattr__ = missing  # type: ignore[method-assign]
