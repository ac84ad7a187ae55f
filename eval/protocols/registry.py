"""The registry of benchmarks: the built-in ones by name, and those of other packages.

A package adds a benchmark by an entry point of the group ``cies.benchmarks``: its name is the
benchmark's, and it refers to a :class:`eval.protocols.protocol.Protocol`:

    [project.entry-points."cies.benchmarks"]
    my-benchmark = "my_package:PROTOCOL"

Other packages are imported only when a name is not built in, or when all benchmarks are listed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from eval.protocols import folder
from eval.protocols.datasets import (
    circo,
    cirr,
    clevr4,
    cub200,
    fashioniq,
    genecis,
    inquire,
    lanz,
    sorce,
    uned,
)
from eval.protocols.protocol import Protocol
from indexes.errors import CiesError, UsageError
from query.question import similar_names

SCHEMA_VERSION = 1

#: The entry point group of other packages' benchmarks.
GROUP = "cies.benchmarks"

_MODULES = (
    folder,
    clevr4,
    cub200,
    lanz,
    uned,
    genecis,
    circo,
    cirr,
    fashioniq,
    inquire,
    sorce,
)

#: Name to protocol of the built-in benchmarks, in the order they are listed.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol for module in _MODULES for protocol in module.PROTOCOLS
}


def benchmark_names() -> list[str]:
    """Return the names of all benchmarks, without importing other packages."""
    return [*PROTOCOLS, *_entry_points()]


def find_benchmark(name: str) -> Protocol:
    """Return the protocol of a benchmark: a built-in one, or one of another package.

    Raises:
        UsageError: if there is no such benchmark; the message lists all.
        CiesError: if the other package does not work.
    """
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    points = _entry_points()
    if name not in points:
        names = [*PROTOCOLS, *points]
        raise UsageError(
            f"There is no benchmark '{name}'; there are {', '.join(names)}"
            f"{similar_names(name, names)}."
        )
    return _load(points[name])


def all_benchmarks(warn: Callable[[str], None]) -> list[Protocol]:
    """Return all protocols.

    Args:
        warn: called with a sentence for each benchmark of another package that does not work;
            it is left out.
    """
    found = list(PROTOCOLS.values())
    for point in _entry_points().values():
        try:
            found.append(_load(point))
        except CiesError as error:
            warn(str(error))
    return found


def _entry_points() -> dict[str, EntryPoint]:
    """Return other packages' benchmarks; a built-in one of the same name takes precedence."""
    return {point.name: point for point in entry_points(group=GROUP) if point.name not in PROTOCOLS}


def _load(point: EntryPoint) -> Protocol:
    package = point.dist.name if point.dist is not None else point.value
    try:
        protocol = point.load()
        if not isinstance(protocol, Protocol):
            raise TypeError(f"{point.value} is not an eval.protocols.protocol.Protocol")
        if protocol.name != point.name:
            raise ValueError(f"{point.value} has the name {protocol.name}")
    except Exception as error:  # whatever a foreign package raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CiesError(
            f"The benchmark {point.name} of the package {package} cannot be loaded ({reason}); "
            "update or uninstall the package."
        ) from error
    return protocol


def listing(protocols: Iterable[Protocol]) -> dict[str, Any]:
    """Return the document that ``cies bench list --json`` prints."""
    return {
        "schema_version": SCHEMA_VERSION,
        "protocols": [
            {
                "name": protocol.name,
                "about": protocol.about,
                "title": protocol.source.title,
                "link": protocol.source.link,
                "licence": protocol.source.licence,
                "note": protocol.source.note,
                "files": list(protocol.files),
                "options": [
                    {
                        "name": option.name,
                        "about": option.about,
                        "default": option.default,
                        "values": list(option.values),
                    }
                    for option in protocol.options
                ],
                "counts": dict(protocol.expected.counts),
            }
            for protocol in protocols
        ],
    }
