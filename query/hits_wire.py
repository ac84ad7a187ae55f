"""Hits as bytes for another process of CIES, which gets exactly the same hits.

In the documents of programs dates are texts; here each value keeps its type.
"""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import date, datetime
from typing import Any

from query.hits import Hit, Hits, Query

#: Keys of the objects that stand for dates and times; no column has such a name.
_DATE, _TIME = "$date", "$time"


def to_wire(hits: Hits) -> str:
    """Hits as one line of ASCII."""
    document = {**vars(hits), "query": vars(hits.query), "hits": [vars(hit) for hit in hits]}
    return json.dumps(document, default=_tagged)


def from_wire(line: str) -> Hits:
    """The inverse of :func:`to_wire`.

    Raises:
        ValueError: if it is no such line.
    """
    try:
        document = json.loads(line, object_hook=_untagged)
        query = Query(**_typed(Query, document.pop("query")))
        listed = tuple(Hit(**_typed(Hit, hit)) for hit in document.pop("hits"))
        return Hits(query, listed, **_typed(Hits, document))
    except (TypeError, AttributeError, KeyError, RecursionError) as error:
        raise ValueError("not the hits of this version of CIES") from error


def _tagged(value: Any) -> dict[str, str]:
    if isinstance(value, datetime):
        return {_TIME: value.isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    raise TypeError(f"a {type(value).__name__} has no form as JSON")


def _untagged(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        if isinstance(found.get(_TIME), str):
            return datetime.fromisoformat(found[_TIME])
        if isinstance(found.get(_DATE), str):
            return date.fromisoformat(found[_DATE])
    return found


def _typed(kind: type[Query] | type[Hit] | type[Hits], values: dict[str, Any]) -> dict[str, Any]:
    """Fields of a dataclass, with lists as the tuples that they were."""
    tuples = {one.name for one in fields(kind) if str(one.type).startswith("tuple[")}
    return {name: tuple(one) if name in tuples else one for name, one in values.items()}
