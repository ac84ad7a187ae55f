"""Imports LanceDB, without the client of remote catalogues that takes a third of its time."""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_CLIENT = "lance_namespace_urllib3_client"

#: The part of the client that asks servers. LanceDB itself uses its data types only.
_ASKING = f"{_CLIENT}.api"


def lancedb() -> Any:
    """The module ``lancedb``."""
    if "lancedb" in sys.modules:
        return sys.modules["lancedb"]
    with _without_remote_client():
        import lancedb
    return lancedb


class _Nothing(ModuleType):
    """A module that has every name, and nothing behind it."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Absent


class _Absent:
    """Stands for what was not imported."""


class _Finder:
    """Finds nothing behind the modules that ask servers."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What Python's import asks of a finder."""
        if name != _ASKING and not name.startswith(f"{_ASKING}."):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=name == _ASKING)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """What Python's import asks of a loader."""
        return _Nothing(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run."""


@contextmanager
def _without_remote_client() -> Iterator[None]:
    """Within, the client's asking part is not there; whoever imports it later finds it whole."""
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
            if name == _ASKING or name.startswith(f"{_ASKING}."):
                del sys.modules[name]
        if _CLIENT in sys.modules:
            _made_whole_later(sys.modules[_CLIENT])


def _made_whole_later(client: ModuleType) -> None:
    """Have the client import what it lacks as soon as that is asked for."""
    for name, value in list(vars(client).items()):
        if value is _Absent or isinstance(value, _Nothing):
            delattr(client, name)

    def missing(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        asking = importlib.import_module(_ASKING)
        return asking if name == "api" else getattr(asking, name)

    client.__getattr__ = missing  # type: ignore[method-assign]
