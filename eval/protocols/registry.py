"""All benchmarks by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
from indexes.errors import UsageError

SCHEMA_VERSION = 1

#: Name to protocol, in the order they are listed.
PROTOCOLS: Mapping[str, Protocol] = {
    protocol.name: protocol
    for family in (
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
    for protocol in family.PROTOCOLS
}


def protocol_of(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        UsageError: if there is none of this name; it names those there are.
    """
    if name not in PROTOCOLS:
        raise UsageError(f"There is no benchmark '{name}'; there are {', '.join(PROTOCOLS)}.")
    return PROTOCOLS[name]


def listing(protocols: Iterable[Protocol]) -> dict[str, Any]:
    """The document that ``cies bench list --json`` prints."""
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
